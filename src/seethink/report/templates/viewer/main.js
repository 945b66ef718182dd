// Draws the whole viewer from its state, and holds every function that changes the state.
function show() {
  const group = state.list[state.place];
  byId("v-empty").hidden = Boolean(group);
  byId("v-empty").textContent = "No group passes these filters.";
  byId("v-rollout").hidden = !group;
  byId("v-place").textContent = group ? `${state.place + 1} of ${state.list.length}` : "0 of 0";
  byId("v-prev").disabled = !group || state.place === 0;
  byId("v-next").disabled = !group || state.place === state.list.length - 1;
  drawList(true);
  if (group) showGroup(group);
}

function showGroup(group) {
  const places = state.whole ? null : group.matching;
  byId("v-question").replaceChildren(...question(group));
  fillCompare(group);
  const body = byId("v-completions");
  body.classList.toggle("versus", state.other !== null);
  if (state.other) body.replaceChildren(comparison(group, state.other), column(group, places), column(state.other, null));
  else body.replaceChildren(make("p", summary(group), "group-line"), ...cards(group, places));
}

function summary(group) {
  const reward = mean(group.rewards);
  return `${group.right} of ${group.completions.length} correct` + (reward === null ? "" : `, mean reward ${reward.toFixed(2)}`);
}

function fillSelects() {
  const options = (id, pairs, chosen) => {
    const all = [["", "all"], ...pairs];
    byId(id).replaceChildren(...all.map(([value, text]) => new Option(text, value, false, value === chosen)));
    byId(id).parentElement.hidden = pairs.length < 2 && !chosen;
  };
  const distinct = (values) => [...new Set(values)].map((value) => [String(value), String(value)]);
  const here = groups.filter((group) => !state.filter.source || group.source === state.filter.source);
  options("v-source", distinct(groups.map((group) => group.source)), state.filter.source);
  options("v-step", distinct(known(here.map((group) => group.step)).sort((one, other) => one - other)), state.filter.step);
  options("v-domain", distinct(groups.map((group) => group.domain)), state.filter.domain);
  options("v-verdict", Object.entries(VERDICTS).map(([name, { label }]) => [name, label]), state.filter.verdict);
}

// The address follows the viewer from the reader's first action on.
function remember() {
  history.replaceState(null, "", address(state.list[state.place]));
}

function refine(change) {
  const group = state.list[state.place];
  Object.assign(state.filter, change);
  if ("source" in change) state.filter.step = "";
  filtered();
  const place = state.list.findIndex((one) => one.index >= (group?.index ?? 0));
  state.place = place < 0 ? Math.max(0, state.list.length - 1) : place;
  if (state.list[state.place] !== group) state.other = null;
  settle();
}

function filtered() {
  applyFilter();
  fillSelects();
  for (const button of byId("v-filters").children) {
    button.setAttribute("aria-pressed", String(state.filter.is.includes(button.dataset.filter)));
  }
  byId("v-search").value = state.filter.text;
  byId("v-reset").hidden = !isFiltered();
}

function settle() {
  state.whole = false;
  bringIntoList();
  show();
  remember();
}

function go(place) {
  if (place < 0 || place >= state.list.length || place === state.place) return;
  state.other = null;
  state.place = place;
  settle();
  const detail = byId("v-detail");
  if (detail.getBoundingClientRect().top < 0) detail.scrollIntoView();
}

function toggle(name) {
  const is = state.filter.is.includes(name) ? state.filter.is.filter((one) => one !== name) : [...state.filter.is, name];
  refine({ is });
}

// Opens the group in the address, without the filter where the filter would hide it.
function openAddress() {
  const asked = addressed();
  if (asked === null) return;
  state.filter = asked.filter;
  filtered();
  if (asked.group && !state.list.includes(asked.group)) {
    state.filter = { ...NONE };
    filtered();
  }
  state.place = Math.max(0, state.list.indexOf(asked.group));
  state.other = asked.group && others(asked.group).includes(asked.other) ? asked.other : null;
  state.whole = false;
  bringIntoList();
  show();
  if (asked.path && !asked.group) {
    byId("v-empty").hidden = false;
    byId("v-empty").textContent = "The linked group is not on this page.";
  }
  byId("rollouts").scrollIntoView();
}

function start() {
  for (const one of TOGGLES.filter((toggled) => !toggled.absent)) {
    const count = countOf(one);
    const button = make("button", one.label);
    Object.assign(button, { type: "button", title: one.about, disabled: count === 0 });
    button.dataset.filter = one.name;
    button.append(make("span", count.toLocaleString("en"), "many"));
    button.addEventListener("click", () => toggle(one.name));
    byId("v-filters").append(button);
  }
  for (let index = 0; index < LEVELS; index += 1) byId("v-scale").append(make("span", "", `h${index}`));
  byId("v-top").textContent = `≥ ${scale} nats`;
  listen();
  filtered();
  byId("viewer").hidden = false;
  show();
  openAddress();
}
