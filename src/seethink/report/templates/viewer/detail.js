// One group: its question, and its completions with every token shaded by its entropy.
const MARKS = { correct: "✓ correct", wrong: "✗ wrong", no_answer: "– no answer", error: "! not graded" };
const LEVELS = 10;
const LONG = 600;

const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(2);
const level = (entropy) => Math.min(LEVELS - 1, Math.floor((entropy / 100 / scale) * LEVELS));

function question(group) {
  const shown = group.images.map((image) => (typeof image === "number" ? picture(image) : make("p", image, "note")));
  const pictures = make("div", undefined, "pictures");
  pictures.append(...shown);
  const about = [nameOf(group), group.domain, group.difficulty, group.id].filter(Boolean).join(" · ");
  const choices = make("ol");
  group.choices.forEach((choice, index) => {
    const letter = String.fromCharCode(65 + index);
    const item = make("li", undefined, group.answer === letter || group.answer === choice ? "gold" : "");
    item.append(make("span", letter), make("span", choice));
    choices.append(item);
  });
  const answer = make("p", "Answer ", "answer");
  answer.append(make("b", group.answer || "none given"));
  const words = make("div", undefined, "words");
  words.append(make("p", about, "about"), make("p", group.question, "asked"), choices, answer);
  return shown.length ? [pictures, words] : [words];
}

function picture(index, alt = "The image of the question") {
  const image = new Image();
  image.alt = alt;
  image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth < 160));
  image.src = images[index];
  return image;
}

// The cards of the completions that meet the filter, and a button that shows the others.
function cards(group, places) {
  const shown = places ?? group.completions.map((_, place) => place);
  const hidden = group.completions.length - shown.length;
  const elements = shown.map((place) => completion(group.completions[place]));
  if (hidden) {
    const button = make("button", `Show the ${hidden} that the filter leaves out`, "rest");
    button.type = "button";
    button.addEventListener("click", () => { state.whole = true; show(); });
    elements.push(button);
  }
  return elements;
}

function completion(one) {
  const card = make("article", undefined, `completion ${one.verdict}`);
  card.classList.toggle("long", one.tokens.length > LONG);
  const header = make("header");
  const detail = Object.entries(one.parts).map(([name, value]) => `${name} ${value === null ? "–" : value}`);
  const about = detail.length ? ` (${detail.join(", ")})` : "";
  header.append(make("span", one.mark ?? MARKS[one.verdict], "verdict"));
  if (shaded) header.append(make("span", `reward ${one.reward === null ? "–" : one.reward.toFixed(2)}${about}`));
  if (one.advantage !== null) {
    const advantage = make("span", "advantage ");
    advantage.append(make("span", signed(one.advantage), one.advantage > 0 ? "up" : one.advantage < 0 ? "down" : ""));
    header.append(advantage);
  }
  if (one.extracted !== null) header.append(make("span", `answered ${one.extracted}`));
  const size = one.entropies ? `${one.tokens.length} tokens, mean entropy ${one.entropy.toFixed(2)}` : "no entropies recorded";
  header.append(make("span", one.size ?? size));
  if (one.replies) header.append(make("span", `${one.replies.length} tool ${one.replies.length === 1 ? "call" : "calls"}`));
  if (one.truncated) header.append(make("span", "truncated", "down"));
  if (one.hallucinated?.length) header.append(make("span", "says it cannot see", "down"));
  card.append(header, tokens(one));
  return card;
}

function tokens(one) {
  const text = make("div", undefined, "text");
  const critical = new Set(one.critical);
  const blind = inside(one.hallucinated ?? []);
  const found = inside(hits(one));
  const replies = one.replies ?? [];
  let home = text;
  one.tokens.forEach((token, index) => {
    for (const reply of replies.filter((reply) => reply.at === index)) home = text.appendChild(answered(reply)).parentNode;
    const [, space, word] = token.match(/^(\s*)([^]*)$/);
    const span = make("span", word || token);
    const shade = one.entropies ? level(one.entropies[index]) : 0;
    if (shade) span.classList.add(`h${shade}`);
    if (critical.has(index)) span.classList.add("critical");
    if (found.has(index)) span.classList.add("hit");
    if (one.entropies) span.dataset.entropy = (one.entropies[index] / 100).toFixed(2);
    if (!blind.has(index)) home = text;
    if (word) home.append(space);
    if (blind.has(index) && home === text) home = text.appendChild(make("mark", undefined, "blind"));
    home.append(span);
  });
  text.append(...replies.filter((reply) => reply.at >= one.tokens.length).map(answered));
  return text;
}

// What a tool said between two turns of the model. It is data: text is set as text, never as HTML.
function answered(reply) {
  const box = make("div", undefined, reply.failed ? "reply failed" : "reply");
  box.append(...reply.images.map((image) => (typeof image === "number" ? picture(image, "What the tool showed") : make("p", image, "note"))));
  box.append(make("p", reply.text));
  return box;
}

// The token indices within the [first, last] ranges.
function inside(ranges) {
  const places = new Set();
  for (const [first, last] of ranges) for (let place = first; place <= last; place += 1) places.add(place);
  return places;
}

// The tokens that contain the searched text.
function hits(one) {
  const wanted = state.filter.text.trim().toLowerCase();
  const ranges = [];
  if (!wanted) return ranges;
  const starts = [];
  let length = 0;
  for (const token of one.tokens) { starts.push(length); length += token.length; }
  for (let at = textOf(one).indexOf(wanted); at >= 0; at = textOf(one).indexOf(wanted, at + wanted.length)) {
    const first = starts.findLastIndex((start) => start <= at);
    ranges.push([first, starts.findLastIndex((start) => start < at + wanted.length)]);
  }
  return ranges;
}

function readToken(event) {
  const token = event.target;
  if (!(token instanceof HTMLElement) || token.dataset.entropy === undefined) return;
  const word = token.classList.contains("critical") ? ", critical word" : "";
  byId("v-token").textContent = `“${token.textContent.trim() || "space"}” ${token.dataset.entropy} nats${word}`;
}
