// The list of groups. Only its visible rows are in the document, however many groups there are.
const ROW = 56;
const SPARE = 6;
const list = byId("v-list");
const rows = list.appendChild(make("div"));
rows.setAttribute("role", "presentation");
let drawn = "";

function row(group, place) {
  const element = make("div", undefined, "row");
  element.id = `v-row-${group.index}`;
  element.setAttribute("role", "option");
  element.setAttribute("aria-selected", String(place === state.place));
  element.setAttribute("aria-posinset", String(place + 1));
  element.setAttribute("aria-setsize", String(state.list.length));
  element.style.top = `${place * ROW}px`;
  element.dataset.place = String(place);
  const share = make("span", undefined, "share");
  share.append(make("span"));
  share.firstChild.style.width = `${(100 * group.right) / Math.max(1, group.completions.length)}%`;
  const head = make("div", undefined, "head");
  head.append(make("span", [nameOf(group), group.domain].filter(Boolean).join(" · ")));
  head.append(share, make("span", `${group.right}/${group.completions.length}`, "right"));
  element.append(head, make("div", group.question || group.id, "asked"));
  return element;
}

function drawList(force) {
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE);
  const last = Math.min(state.list.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + SPARE);
  const wanted = `${first} ${last} ${state.place}`;
  if (!force && wanted === drawn) return;
  drawn = wanted;
  rows.style.height = `${state.list.length * ROW}px`;
  rows.replaceChildren(...state.list.slice(first, last).map((group, index) => row(group, first + index)));
  const chosen = state.list[state.place];
  if (chosen && state.place >= first && state.place < last) list.setAttribute("aria-activedescendant", `v-row-${chosen.index}`);
  else list.removeAttribute("aria-activedescendant");
}

function bringIntoList() {
  const top = state.place * ROW;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
}
