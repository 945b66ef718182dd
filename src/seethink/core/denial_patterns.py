# ruff: noqa: E501  (a table of patterns reads better with one pattern per line)
"""The patterns of `denials.py`: statements that the image cannot be seen, language by language.

Each pattern is matched against one sentence in lower case with plain quotes and spaces. `{name}` stands for an entry of
WORDS. The word for the image must be followed by the end of the sentence or by one of a few continuations (`after`), so
that "I can't see the image label" and "the figure is not shown to scale" do not match.
"""

WORDS = {
    "noun": r"(?:images?|pictures?|photos?|photographs?|figures?|diagrams?|charts?|graphs?|screenshots?|drawings?|"
    r"illustrations?|visuals?|visual (?:content|input|information)|attachments?)(?: (?:content|contents|file|itself|data))?",
    # "the attached image", "any of the images": what may stand between the verb and the noun.
    "the": r"(?:(?:the|this|that|these|those|an?|any|your|its|actual|of|provided|attached|given|uploaded|input|original|"
    r"accompanying|referenced|mentioned|said|shown) )*",
    "i": r"(?<!if )(?:i|we)(?: (?:also|still|really|actually|simply|just|currently|honestly|personally))*",
    "cannot": r"(?:ca(?:n't|nt|n not)|cannot|could(?:n't| not)|(?:am|'m|are|'re|was|were) (?:not able|unable) to|"
    r"(?:do not|don't|did not|didn't) (?:have the ability to|get to)|have no way (?:to|of)|(?:am|'m|are|'re) incapable of)"
    r"(?: (?:actually|really|directly|physically|currently|even|literally))*",
    "see": r"(?:see|seeing|view|viewing|access|accessing|open|display|load|perceive|inspect|observe|visualize|visualise|"
    r"look at|looking at|read|interpret|process|analy[sz]e|examine|check)",
    # How a statement about the image as a whole goes on; "the image label" or "the image crossing ..." does not.
    "after": r"(?=\s*(?:$|[.,;:!?…)\]\"*]|'(?!s)|-|</|(?:and|but|so|or|here|there|directly|clearly|well|properly|myself|yet|"
    r"right now|now|at (?:all|the moment)|since|because|if|for some reason|you|that you|which|we|i|it|this|that (?:was|is)|"
    r"due to|in (?:this|the|our|my|your) (?:chat|conversation|message|prompt|question|problem|text|input|context|"
    r"current)|with (?:this|the|my|your) (?:message|question|problem|prompt)|provided|attached|given|mentioned|"
    r"referred|described|as (?:an?|i|it)\b|to (?:answer|solve|verify|check|be sure|work|me|us|look|see|refer|go by)|"
    r"available|from (?:here|the (?:problem|question|prompt))|let's|let me|then|otherwise|though|however|therefore|"
    r"unfortunately|either|anyway|yes)\b))",
    "gone": r"(?:provided|attached|included|given|supplied|uploaded|shared|available|accessible|visible|displayed|shown|"
    r"present|loaded|loading|rendered|rendering|here|there|viewable|embedded|sent|readable)",
    # "The die in the image is not visible" is not about the image.
    "subject": r"(?<!in )(?<!of )(?<!on )(?<!from )(?<!within )(?<!inside )\b(?:the|this|that|your|an|any|no)"
    r"(?: (?:provided|attached|given|actual|uploaded|input|original|accompanying|referenced|mentioned))*",
}

ENGLISH = (
    r"\b{i} ?{cannot} {see} {the}{noun}{after}",
    r"\b{i} (?:do not|don't|did not|didn't|am not|'m not)(?: (?:actually|currently|really))*"
    r" (?:see|seeing|have|have access to|have a|receive|get) {the}{noun}{after}",
    r"\bi'm (?:not (?:able to see|seeing)|unable to (?:see|view|access|open|load|process)) {the}{noun}{after}",
    r"\b(?:i|we) (?:have|had) no (?:visual )?(?:access|view|way of seeing|way to see)(?: (?:to|of))? {the}{noun}{after}",
    r"\b(?:i|we) (?:have|see|got|received) no {noun}{after}",
    r"\b(?:i|we) (?:was|were|have|has)(?:n't| not| never)(?: been)? (?:given|provided|shown|sent)(?: with)? {the}{noun}{after}",
    r"\b(?:i|we) wish (?:i|we) could (?:actually )?see {the}{noun}{after}",
    r"\b{noun},? (?:but|yet|though|however)(?: there(?:'s| is))? (?:none|nothing|no such (?:thing|{noun}))(?: (?:is|was|has been))?"
    r" ?(?:{gone}){after}",
    r"{subject} {noun} (?:is|was|are|were|seems?|appears?)(?:n't| not)(?: (?:to be|actually|currently|been|being))*"
    r" {gone}(?! (?:to scale|as|on|but not)\b){after}",
    r"{subject} {noun} (?:has|have)(?:n't| not) been (?:{gone}){after}",
    r"{subject} {noun} (?:ca(?:n't|n not)|cannot|could(?:n't| not)) be"
    r" (?:seen|viewed|accessed|loaded|displayed|opened|shown|read|rendered|processed){after}",
    r"{subject} {noun} (?:did|does|will|would)(?:n't| not) (?:load|come through|show up|display|appear|open|render|"
    r"(?:seem|appear) to (?:be (?:here|there|attached|provided)|have (?:loaded|come through|been (?:attached|included|provided)))){after}",
    r"{subject} {noun} (?:failed to|fails to|won't|refuses to) (?:load|display|open|render|appear|come through){after}",
    r"{subject} {noun} (?:is|was|seems|appears|seems to be|appears to be) (?:missing|absent|unavailable|inaccessible|blank|"
    r"empty|invisible|broken|corrupted|completely (?:blank|black|white))"
    r"(?=\s*(?:$|[.,;:!?…)]|-|</|(?:and|but|so|or|here|from the (?:prompt|question|problem|input)|in (?:this|the|my)"
    r" (?:prompt|question|chat|conversation|message|problem|input))\b))",
    r"\b(?:there(?:'s| is| was| are)|there(?:'s| is| was) not an?|i see|with|since there(?:'s| is)|but) no (?:actual )?{noun}"
    r"(?: {gone}| to (?:look at|see|view|refer to)| (?:that )?(?:i|we) can see)?{after}",
    r"\bno {noun} (?:(?:is|was|were|are|has been|have been|seems to be|appears to be) )?{gone}"
    r"(?! (?:to scale|on|at|by|for [a-z]+ [a-z]+ in)\b){after}",
    r"\bthere (?:isn't|is not|wasn't|aren't) (?:an?|any) {noun}(?: {gone})?{after}",
    r"\bwithout (?:being able to (?:see|view|look at|access)|seeing|access to|having|actually seeing) {the}{noun}{after}",
    r"\bwithout (?:the|an|any)(?: actual)? {noun},? (?:i|we|it(?:'s| is)) (?:ca(?:n't|nnot)|can only|have to|must|need to|"
    r"will have to|impossible|hard|difficult|not possible)\b",
    r"\b(?:as|since|because|being|i am|i'm)(?: i'm| i am)? an? (?:text[- ](?:only|based)|language|ai|large language)(?: language| ai)?"
    r" (?:model|assistant|ai)[^.!?]{{0,60}}\b(?:ca(?:n't|nnot| not)|unable to|not able to|don't have)[^.!?]{{0,40}}\b{noun}\b",
    r"\b(?:please|kindly) (?:provide|upload|attach|share|send|re-?upload|resend) {the}{noun}\b",
    r"\b(?:if|could|can|would) you (?:could |can |would |please )*(?:provide|upload|attach|share|send|describe|re-?upload|"
    r"resend) {the}{noun}\b",
    r"\b{noun}[^.!?]{{0,50}}\b(?:but|and|which|that|however,?) (?:i|we) {cannot} {see} (?:it|them)\b",
    r"\b(?:mentions?|mentioned|refers? to|referred to|references?|says?|talks? about|asks? about) {the}{noun}[^.!?]{{0,40}}"
    r"\b(?:but|yet|though|however)[^.!?]{{0,30}}(?:not|n't|no|never|forgot)\b[^.!?]{{0,20}}\b(?:provided?|attach(?:ed)?|"
    r"included?|shared?|upload(?:ed)?|given?|see|here)\b",
    r"\b(?:i|we)(?:'ll| will|'d| would)?(?: (?:have|need) to| must| can only| should)? (?:guess|imagine|assume)"
    r" (?:what|how) {the}{noun} (?:shows?|looks?|contains?|depicts?|might|could|would)\b",
    r"\b(?:i|we) {cannot} (?:see|view) what(?:'s| is) (?:in|on|shown in) {the}{noun}{after}",
    r"\b(?:it|the model) {cannot} see {the}{noun}{after}",
)

CHINESE = (
    r"(?:看不到|看不见|看不了|无法(?:直接)?(?:看到|看见|查看|访问|读取|打开|显示|识别)|不能(?:直接)?(?:看到|看见|查看)|没法(?:看到|查看)|"
    r"没(?:有)?看到|未(?:能)?看到)(?:任何|这个|这张|这幅|那张|该|此|你|您|所|提供|给出|上传|附|的|原|题目?中?的?)*"
    r"(?:图片|图像|图表|照片|图形|附图|配图|插图|图)(?![中里上内形的表像片例案])(?:内容)?",
    r"(?:没有|未|并未|并没有|尚未)(?:提供|给出|附上|附|上传|显示|附带)(?:任何|具体|相应|对应|的)*(?:图片|图像|图表|照片|图形|附图|图)"
    r"(?![中里上内形的表像片例案])",
    r"(?:图片|图像|照片|图表|附图|图)(?:并)?(?:没有|未(?:能)?|无法|不能)(?:成功|正常|正确)?(?:显示|加载|提供|给出|上传|附上|打开|看到|查看)"
    r"(?:出来)?(?=\s*(?:$|[,，。.;；!！?？、）)]|所以|因此|我))",
    r"(?:由于|因为)?(?:没有|缺少|缺失)(?:图片|图像|照片|附图|图)(?=\s*(?:$|[,，。.;；、)]|的情况|信息|所以|我))",
    r"(?:图片|图像|照片)(?:缺失|不可见|丢失)|请(?:您|你)?(?:提供|上传|发送)(?:一下)?(?:图片|图像|照片|附图)",
)

JAPANESE = (
    r"(?:画像|図|写真|イラスト|グラフ)(?:を|は|が)(?:直接|実際に)?(?:見え(?:ない|ません)|見られ(?:ない|ません)|見ることができ(?:ない|ません)|"
    r"見ることはでき(?:ない|ません)|確認でき(?:ない|ません)|確認することができ(?:ない|ません)|表示され(?:ない|ません|てい(?:ない|ません))|"
    r"提供されてい(?:ない|ません)|添付されてい(?:ない|ません)|(?:あり|ござい)ません)",
)

KOREAN = (
    r"(?:이미지|그림|사진|도표|그래프)(?:를|을|가|이|는|은)? ?(?:직접 |실제로 )?(?:볼 수(?:가)? ?없|확인할 수(?:가)? ?없|보이지 ?않|보지 못|제공되지 ?않|"
    r"첨부되지 ?않|표시되지 ?않|안 ?보)",
)

_END = r"(?=\s*(?:$|[.,;:!?…)\]-]|</|(?:{0})\b))"


def _ends(words: str) -> str:
    return _END.format(words)


OTHERS = (
    # Spanish, Portuguese
    r"\bno (?:puedo|podemos|logro|consigo|es posible|soy capaz de)(?: realmente| directamente)? (?:ver|visualizar|acceder a|"
    r"abrir|observar) (?:la|el|esta|este|esa|ese|ninguna?|una?|tu|su)? ?(?:imagen|figura|foto|fotografía|gráfic[oa]|diagrama)"
    + _ends("y|pero|así|directamente|que|porque|ya|adjunta|proporcionada|por|para"),
    r"\b(?:no (?:veo|tengo(?: acceso a)?|hay)) (?:la|ninguna?|una?|esta) (?:imagen|figura|foto|gráfic[oa]|diagrama)"
    r"(?: (?:adjunt[oa]|disponible|proporcionad[oa]))?"
    + _ends("y|pero|así|que|porque|ya|aquí"),
    r"\bla (?:imagen|figura|foto) no (?:está (?:disponible|visible|adjunta|presente)|se (?:muestra|carga|ve|cargó|puede ver)|"
    r"(?:fue|ha sido) (?:proporcionada|adjuntada|incluida)|aparece)"
    + _ends("y|pero|así|que|porque|aquí"),
    r"\bnão (?:consigo|posso|é possível|podemos) (?:ver|visualizar|acessar|enxergar|abrir) (?:a|o|esta|essa|nenhuma?|uma?)? ?"
    r"(?:imagem|figura|foto|gráfico|diagrama)" + _ends("e|mas|então|que|porque|diretamente|pois"),
    r"\ba (?:imagem|figura) não (?:está (?:disponível|visível|anexada)|foi (?:fornecida|anexada|carregada)|aparece)"
    + _ends("e|mas|então|que|porque|aqui"),
    # French
    r"\b(?:je|nous|on) (?:ne )?(?:peux|peut|pouvons|parviens|arrive|suis)(?: malheureusement| réellement)? (?:pas|incapable)"
    r"(?: à| de)? (?:voir|visualiser|accéder à|ouvrir|consulter|afficher) (?:l'|la |le |cette |une |aucune |ce )"
    r"(?:image|figure|photo|schéma|graphique|diagramme)" + _ends("et|mais|donc|directement|car|fournie|jointe"),
    r"\bje n'ai pas (?:accès à )?(?:l'|la |le |cette |d')?(?:image|figure|photo|schéma)" + _ends("et|mais|donc|car|jointe"),
    r"\bje ne vois (?:pas|aucune)(?: de| d'| l'| la| le| cette)? ?(?:image|figure|photo|schéma)" + _ends("et|mais|donc|car|jointe"),
    r"\bl'image n(?:'est|'a) pas (?:été )?(?:visible|disponible|fournie|affichée|jointe|chargée|accessible)"
    + _ends("et|mais|donc|car|ici"),
    r"\baucune (?:image|figure|photo) (?:n'est |n'a été )?(?:fournie|jointe|visible|disponible)" + _ends("et|mais|donc|car"),
    # German
    r"\b(?:ich|wir) (?:kann|können|konnte) (?:leider )?(?:das|die|dieses|diese|kein|keine|ein) (?:bild|foto|abbildung|diagramm|"
    r"grafik|figur|zeichnung)(?: (?:leider|nicht|hier|gar|direkt|aber|selbst))* (?:sehen|erkennen|öffnen|anzeigen|ansehen|"
    r"betrachten)\b",
    r"\b(?:ich|wir) (?:das|die|dieses|kein) (?:bild|foto|abbildung|diagramm|grafik)(?: leider)?(?: nicht)? (?:sehen|erkennen|öffnen) "
    r"(?:kann|können|konnte)\b",
    r"\b(?:ich|wir) (?:sehe|sehen|habe|haben) (?:leider )?(?:(?:das|die) (?:bild|abbildung|grafik) (?:leider )?nicht|"
    r"keine? (?:bild|abbildung|grafik))" + _ends("und|aber|also|daher|weil|vor"),
    r"\b(?:das|dieses) bild (?:ist (?:leider )?nicht (?:sichtbar|verfügbar|vorhanden|beigefügt|angehängt|zu sehen)|"
    r"(?:wird|wurde) (?:leider )?nicht (?:angezeigt|geladen|mitgeliefert|bereitgestellt)|fehlt(?: leider)?)" + _ends("und|aber|also|daher|hier"),
    r"\bes ist kein bild (?:vorhanden|beigefügt|angehängt|sichtbar|zu sehen)\b",
    # Italian
    r"\bnon (?:riesco a|posso|è possibile|possiamo) (?:vedere|visualizzare|accedere a|aprire) (?:l'|la |il |nessuna |questa )"
    r"(?:immagine|figura|foto|grafico|diagramma)" + _ends("e|ma|quindi|perché|direttamente|allegata"),
    r"\bl'immagine non (?:è (?:visibile|disponibile|allegata|presente)|è stata (?:fornita|allegata))" + _ends("e|ma|quindi"),
    # Russian
    r"(?<!\w)(?:я |мы )?не (?:вижу|видим|могу (?:увидеть|видеть|посмотреть|открыть|просмотреть))(?: само| это| этого| эту| данного)?"
    r" (?:изображени[ея]|картинк[уи]|рисун(?:ок|ка)|фотографи[юи]|фото|диаграмм[уы]|график[а]?)"
    + _ends("и|но|поэтому|так|потому"),
    r"(?:изображение|картинка|рисунок) (?:не (?:предоставлен[оа]?|загружен[оа]?|видн[оаы]|отображается|прикреплен[оа]?|приложен[оа]?)|"
    r"отсутствует)" + _ends("и|но|поэтому|так|здесь"),
)  # fmt: skip

HINT = (
    r"n't|n'a|not|no |cannot|without|unable|incapable|missing|absent|inaccess|unavail|blank|empty|invisible|broken|corrupt|"
    r"completely|failed|fails|refuse|please|kindly|you|guess|imagine|assume|wish|never|[不没无未缺请丢尚]|ない|ません|없|않|안 |못|"
    r"nicht|kein|fehl|pas|aucun|incapable|non|não|не |отсут"
)
NOUN = (
    r"imag|pictur|photo|figur|diagram|chart|graph|screenshot|drawing|illustration|visual|attachment|图|照片|画像|図|写真|イラスト|"
    r"グラフ|이미지|그림|사진|도표|그래프|foto|gráfic|schéma|bild|abbildung|grafik|zeichnung|immagin|изображ|картинк|рисун|фото|диаграм|график"
)
"""Every statement has a HINT and a NOUN; testing for them first saves most sentences the slow patterns."""
