// The keyboard, the pointer and the address bar.
const KEYS = {
  j: () => go(state.place + 1),
  k: () => go(state.place - 1),
  ArrowRight: () => go(state.place + 1),
  ArrowLeft: () => go(state.place - 1),
  c: compareNext,
  "/": () => { byId("v-search").focus(); byId("v-search").select(); },
  "?": () => byId("v-keys").showModal(),
};
const LIST_KEYS = {
  ArrowDown: () => go(state.place + 1),
  ArrowUp: () => go(state.place - 1),
  PageDown: () => go(Math.min(state.list.length - 1, state.place + 10)),
  PageUp: () => go(Math.max(0, state.place - 10)),
  Home: () => go(0),
  End: () => go(state.list.length - 1),
};

function onKey(event) {
  const writing = event.target instanceof Element && event.target.closest("input, select, textarea, dialog");
  if (writing || event.altKey || event.ctrlKey || event.metaKey) return;
  const act = event.target === list && Object.hasOwn(LIST_KEYS, event.key) ? LIST_KEYS[event.key]
    : Object.hasOwn(KEYS, event.key) && (event.key.length > 1 || byId("v-letters").checked) ? KEYS[event.key] : null;
  if (!act) return;
  event.preventDefault();
  act();
}

function listen() {
  let waiting = 0;
  byId("v-search").addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => refine({ text: event.target.value }), 120);
  });
  byId("v-search").addEventListener("keydown", (event) => {
    if (event.key !== "Escape" && event.key !== "Enter") return;
    event.preventDefault();
    clearTimeout(waiting);
    refine({ text: event.key === "Escape" ? "" : event.target.value });
    list.focus({ preventScroll: true });
  });
  for (const name of FIELDS) byId(`v-${name}`).addEventListener("change", (event) => refine({ [name]: event.target.value }));
  byId("v-reset").addEventListener("click", () => { refine({ ...NONE }); list.focus({ preventScroll: true }); });
  byId("v-prev").addEventListener("click", () => go(state.place - 1));
  byId("v-next").addEventListener("click", () => go(state.place + 1));
  byId("v-help").addEventListener("click", () => byId("v-keys").showModal());
  byId("v-compare").addEventListener("change", (event) => compareWith(links.get(event.target.value) ?? null));
  list.addEventListener("scroll", () => requestAnimationFrame(() => drawList(false)), { passive: true });
  list.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-place]");
    if (chosen) go(Number(chosen.dataset.place));
  });
  byId("v-completions").addEventListener("pointerover", readToken);
  byId("v-completions").addEventListener("click", readToken);
  document.addEventListener("keydown", onKey);
  window.addEventListener("hashchange", openAddress);
  window.addEventListener("resize", () => drawList(true));
}

start();
