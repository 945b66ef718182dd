# ruff: noqa: E501  (a table of patterns reads better with long lines)
"""The patterns of `hedges.py`: the words that deny an answer, leave it open, or put another one beside it."""

from __future__ import annotations

import re

_IS = r"(?:is|was|are|were|be|seems?|looks?|sounds?|remains?|would be|must be|has to be)"
_WRONG = (
    r"(?:wrong|incorrect|false|untrue|impossible|invalid|mistaken|unlikely|doubtful|excluded|eliminated|rejected|"
    r"discarded|ruled out|out of the question|a mistake|an error|a distractor|错误|错)"
)
DENIAL = re.compile(
    rf"\b(?:not|never|neither|nor|cannot|except|excluding|besides|unlike|anything but|everything but|all but|hardly|doubt|"
    rf"far from|rather than|instead of|other than|opposed to|different from|opposite of|no way|no longer|eliminat\w*|"
    rf"exclud\w*|reject\w*|discard\w*|dismiss\w*|rul(?:e|es|ed|ing) (?:\w+ )?out|{_WRONG})\b|n't\b|不|非|错|無|没",
    re.I,
)
"""Somewhere in a clause: it speaks against what it names."""

_RULED_OUT = r"(?:rul(?:e|ed) out|eliminated?|excluded?|rejected?|discarded?|dismiss(?:ed)?)\b"

_ADVERB = (
    r"(?:possibly|really|actually|definitely|certainly|surely|clearly|even|ever|simply|just|exactly|necessarily|quite)"
)
_FILLER = (
    r"(?:\s|[:$*`\"'(\[{]|\\\(|\\\[|\\boxed|\\text|\b(?:be|being|equals?|equal to|to|the|(?-i:an?)|that|answer|option|choice|"
    rf"value|result|number|letter|correct|right|final|about|is|was|it|it's|say|choose|pick|{_ADVERB})\b)*$"
)
DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|never|neither(?!:)|nor|cannot|without|except(?: for)?|excluding|unlike|besides|doubt(?: that)?|"
    r"(?:anything|everything|all|nothing|none|any\w*) (?:but|except)|far from|rather than|instead of|other than|"
    r"different from|opposed to|opposite of|no way|no longer|unlikely|"
    r"not (?:true|right|correct|the case|likely|possible|sure|certain)|"
    r"rul(?:e|es|ed|ing) out|eliminat\w+|exclud\w+|reject\w*|discard\w*|dismiss\w*|"
    r"(?:wrong|incorrect|false|impossible|untrue)(?: (?:answer|option|choice|one|value))?(?: (?:is|would be|that))?)"
    r"|n't(?: (?:think|believe|say))?|不是|并非|不选|不選|不为|非)" + _FILLER,
    re.I,
)
"""At the end of what comes before an answer: it is the one that is denied."""

DENIED_AFTER = re.compile(
    rf"^[\s$(\[)\]}}*\"'`.,;:-]*(?:\\\)|\\\])?\s*(?:"
    rf"(?:(?:can|could|may|might|must|should|would|will|is to|has to) )?{_IS}(?:\s\w+)?\s(?:not\b|no(?: longer)?\b|out\b|{_WRONG})"
    rf"|{_IS}n't\b|(?:has|have|had|gets?|got) (?:\w+ )?{_RULED_OUT}|{_IS} (?:the |an? )?(?:only |one |first |other )*"
    r"(?:(?:option|choice|answer|letter|one)s?\b )?(?:(?:(?:that|which|who)\b|(?:is|was|has|can|could|must|should|to|be|been|"
    rf"would|should|will|get|gets|I|we|you)\b) )*{_RULED_OUT}"
    r"|(?:can|could|do|does|did|wo|would|should)(?:n't|\s?not)\b|fails?\b"
    rf"|can\s?not\b|{_WRONG}[\s.)!]*$|\?\s*(?:no|nope|not|wrong)\b|是?(?:错|不对|不正确|错误))",
    re.I,
)
"""At the start of what comes after an answer: `... is wrong`, `... cannot be`."""

_RIGHT = r"(?:right|correct|true|it|the (?:right |correct )?(?:answer|one))"
TAKEN_BACK = re.compile(
    r"^\W*(?:(?:no|wait|hmm|actually|oops|sorry|but|however|on second thought|or not|hold on)\W+)*(?:"
    r"(?:it|that|this|which|(?:my|the|this|that) (?:answer|result|value|choice))"
    rf"(?:(?:'s|\s{_IS})(?:\s\w+)?\s(?:{_WRONG}|not {_RIGHT})|\s(?:isn't|wasn't) {_RIGHT})\b"
    r"|scratch that\b|(?:wait|no|oops|sorry|actually|or not)\b(?=\W*$|,))",
    re.I,
)
ANOTHER_TOO = re.compile(
    r"^[\s$)\]}*\"'`.,;:(-]*(?:\\\)|\\\])?\s*(?:(?:and/)?or\b|also\b|as well as\b|alternatively\b|maybe\b|perhaps\b|"
    r"possibly\b|(?:but|and) (?:also|maybe|perhaps|possibly)\b|或|也|(?<=\s)/\s)"
    r"|\b(?:could|might|may) (?:also|as well|equally) be\b"
    r"|\b(?:also|equally) (?:be|possible|correct|right|valid|true|acceptable|works?|fits?)\b",
    re.I,
)
ALTERNATIVE = re.compile(r"^[\s$)\]}*,;(]*(?:\\\)|\\\])?\s*(?:and/)?or\s((?:[^,.;\n]|\.(?=\d)){1,60})", re.I)
"""After an answer: another way to give it, or another answer."""
ALTERNATIVE_BEFORE = re.compile(r"([^\s,;.]{1,60})[\s,]+(?:and/)?or[\s$\\(\[*{]*$", re.I)
NEXT_LINE = re.compile(r"\W*\n\W*(?:and/)?or\b", re.I)
OPEN = re.compile(r"\b(?:if not|unless|otherwise|or else)\b", re.I)
"""An answer under a condition, with another one besides."""
SAME_AGAIN = re.compile(
    r"^[\s$)\]}*,;(]*(?:\\\)|\\\])?\s*or,?\s(?:equivalently|approximately|about|roughly|simply|rather|in other words|"
    r"in (?:\w+ )?(?:form|terms|notation|degrees|radians)|written|expressed|simplified)\b",
    re.I,
)
RESTATED = re.compile(
    r"\b(?:it|the (?:right |correct |true |real |actual |final )?(?:answer|value|result|one))"
    r"(?:\s(?:is|was|must be|should be|equals|could be|might be|may be)|'s)\s(?:actually |really |in fact |also )?"
    r"([^.,;\n]{1,60})",
    re.I,
)
CONTRAST = re.compile(
    r"(?:,?\s+(?:rather than|instead of|as opposed to|(?:and|but) (?:definitely |certainly |clearly )?not|unlike)|,\s+not"
    r"|(?<!\bis)(?<!\bare)(?<!\bwas)(?<!were)(?<!\bbe)(?<!\bdo)(?<!\bdoes)(?<!\bdid)(?<!\bwill)(?<!\bcan)(?<!would)(?<!should)"
    r"(?<!could)(?<!might)(?<!\bhas)(?<!answer)(?<!\bit)\s\(?not)"
    r"\s+(?:an?\s+|the\s+|option\s+)?[^,;()]{1,60}?\)?(?=[.!]?\s*$|[,;.]\s)",
    re.I,
)
TURN = re.compile(
    r"\b(?:it\s(?:is|was)\s)?(?:not|n't|isn't|neither)\s[^.;]{1,60}?,?\s(?:but|rather|instead)(?:\s(?:rather|it is|it's))?:?\s"
    r"|\b(?:rather than|instead of|unlike)\s[^.;,]{1,60}?,\s",
    re.I,
)
CLAUSE = re.compile(
    r"(?<=[\w)$}\]*])[.!?]+\s+(?=[A-Z$\\(*])|;\s+|,?\s+(?:so|thus|hence|therefore|consequently|leaving|which leaves|which means|meaning|"
    r"that leaves|however|(?<!anything )(?<!everything )(?<!\ball )(?<!nothing )but)\b[,:]?\s*|(?<!\bor)(?<!\band)(?<!\beither)(?<!\bthat)(?<!\bway),?\s+(?=(?:it's|it is|the (?:correct |right |final )?answer is)\b)|[。；！]|因此|所以|故",
    re.I,
)
"""Between two clauses that may say different things of one answer."""


UNSETTLED = re.compile(
    r"(?:\b(?:or|not|never|neither|nor|between|and|plus|minus|negative|twice|thrice|double|triple|times|than|without|"
    r"except|excluding|besides|unlike|unlikely|cannot|versus|vs\.?|until|till|before|after|no longer|no way|different from|wrong|incorrect|false|"
    r"reject|eliminate|exclude|discard|dismiss|rule out|avoid|doubt)|n't|as well as|instead of|opposed to|"
    r"\b(?:anything|everything|all|nothing|none|any \w+) but|\b(?:divided|multiplied) by|\bfar from|"
    r"\b(?:half|third|quarter|fifth|tenth|square|cube|root|reciprocal|inverse|opposite|negative|double|triple|multiple|"
    r"factor|fraction|power)s? of|\bat (?:least|most)|\bup to|\b(?:under|over|below|above|beyond)|不是|非|不)"
    rf"(?:\s+(?:about|equal to|to|be|it is|it's|that|the|a|an|number|value|of|say|answer|choose|pick|conclude|{_ADVERB}))*[:,]?$"
    r"|(?:[<>≠≤≥±×÷*^+|~]|\\(?:neq?|leq?|geq?|lt|gt|pm|mp|times|cdot|div|not)|!=|≠)$|(?<![(\w.])-?\d[\d.,]*$|(?<!from )(?<![\w.])\d[\d.,]* to$"
    rf"|\b(?:answer|it|result|value)(?:'s| is| was) (?:{_ADVERB} )?(?:not|never)\b,[^.;]{{0,40}},$",
    re.I,
)
UNCLAIMED = re.compile(
    r"\b(?:suppos\w+|imagin\w+|assum\w+|pretend\w*|unless|whether|either|"
    r"(?:some|people|they|others|everyone|everybody|somebody|someone|nobody|no one)(?: people)?(?: would| might| may)? "
    r"(?:says?|said|thinks?|claims?|believes?|calls?)|"
    r"(?:do|does|did|would|can|could)(?:n't|\snot) (?:think|believe|say|see|know|claim|agree)|"
    r"(?:false|untrue|wrong|incorrect|impossible|unlikely|doubtful|not true|not the case|not clear|not certain|not likely) that|"
    r"doubt|deny|denies)\b|\bif\b[^,]*$",
    re.I,
)
"""Before a value in its sentence: nobody claims it here."""
DENIED_THINGS = re.compile(
    r"^\s*(?:(?:had|has|have|is|are|was|were)\s)?(?:hardly|barely|scarcely|never|almost|nearly)\b|^\s*[a-z]+(?: [a-z]+)? (?:is|are|was|were|do|does|did)(?:n't|\snot)\b",
    re.I,
)
"""After a number: `3 balls are not red`."""
BESIDES = re.compile(
    r"\b(?:could|might|may) (?:also|as well|equally)\b|\balso (?:shows?|has|have|is|are|contains?|be)\b|^also\b", re.I
)
"""In a sentence after another one: it gives a second answer."""
MORE = re.compile(r"\b(?:also|maybe|perhaps|possibly|alternatively)(?:\s+(?:it's|it is|be))?,?$", re.I)
INTERJECTION = re.compile(
    r"(?:sure|ok|okay|well|so|thus|hence|therefore|finally|great|right|correct|done|hmm|alright|answer|final answer|"
    r"solution|explanation|conclusion|result|reasoning|yes|no|step \d+|note|of course|certainly|absolutely)[.!:]?$",
    re.I,
)
SENTENCE_END = re.compile(r"(?<=[\w)$}*])[.!?]\s+(?=[A-Z$\\(\d])|,?\s+(?:because|since|as it)\s")
SETTLES = re.compile(r"\b(?:no|wait|actually|sorry|correction|rather|instead|oops|on second thought)\b", re.I)
NOT_BARE = re.compile(r"[=*+?]|:(?!\d)|(?<!\d):|\$\$|\\[\[\]]|\\begin|\.\s|\w+\s.*\.$")
"""In a line that belongs to an argument."""
BULLET = re.compile(r"(?:\d{1,2}[.)]|[-*•])\s+")
