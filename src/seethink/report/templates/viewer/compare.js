// Two records of the same prompt side by side: two steps of a run, or two checkpoints' evaluations.
const MEASURES = [
  ["correct", (group) => group.right / group.completions.length, (value) => `${Math.round(100 * value)} %`],
  ["mean reward", (group) => mean(group.rewards), (value) => value.toFixed(2)],
  ["mean entropy, nats", (group) => mean(known(group.completions.map((one) => one.entropy))), (value) => value.toFixed(2)],
  ["at critical words", (group) => mean(known(group.completions.map((one) => one.criticalEntropy))), (value) => value.toFixed(2)],
  ["tokens", (group) => mean(group.completions.map((one) => (one.entropies ? one.tokens.length : NaN))), (value) => value.toFixed(0)],
];

function fillCompare(group) {
  const select = byId("v-compare");
  const found = others(group);
  byId("v-comparing").hidden = found.length === 0;
  const options = found.map((one) => new Option(nameOf(one), one.link, false, one === state.other));
  select.replaceChildren(new Option("nothing", "", false, state.other === null), ...options);
}

function compareWith(other) {
  state.other = other;
  show();
  remember();
}

// The next record of the same prompt; after the last of them, none.
function compareNext() {
  const group = state.list[state.place];
  if (!group) return;
  const found = others(group);
  compareWith(found[found.indexOf(state.other) + 1] ?? null);
}

function comparison(left, right) {
  const table = make("table", undefined, "versus-table");
  const head = table.createTHead().insertRow();
  for (const text of ["", nameOf(left), nameOf(right), "change"]) head.append(make("th", text, text ? "num" : ""));
  const body = table.createTBody();
  for (const [label, measure, shown] of MEASURES) {
    const [from, to] = [measure(left), measure(right)];
    if (from === null || to === null || Number.isNaN(from + to)) continue;
    const line = body.insertRow();
    line.append(make("th", label), make("td", shown(from), "num"), make("td", shown(to), "num"));
    const change = shown(Math.abs(to - from));
    const none = change === shown(0);
    line.append(make("td", none ? change : (to > from ? "+" : "−") + change, "num"));
  }
  const scroll = make("div", undefined, "scroll");
  scroll.append(table);
  return scroll;
}

function column(group, places) {
  const element = make("div", undefined, "side");
  element.append(make("h3", nameOf(group)), ...cards(group, places));
  return element;
}
