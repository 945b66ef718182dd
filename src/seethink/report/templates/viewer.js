"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const { images, groups, scale } = JSON.parse(byId("rollout-data").textContent);
  const FILTERS = [
    ["all", "All", () => true],
    ["mixed", "Mixed rewards", (group) => new Set(rewards(group)).size > 1],
    ["wrong", "All wrong", (group) => group.completions.length > 0 && right(group) === 0],
    ["critical", "Critical words", (group) => group.completions.some((one) => one.critical.length)],
  ];
  const VERDICTS = { correct: "✓ correct", wrong: "✗ wrong", no_answer: "– no answer", error: "! not graded" };
  const LEVELS = 10;
  const LONG = 600;
  const HASH = "#rollout/";
  const state = { filter: "all", list: groups, place: 0 };

  function rewards(group) {
    return group.completions.map((one) => one.reward).filter((reward) => reward !== null);
  }

  function right(group) {
    return group.completions.filter((one) => one.verdict === "correct").length;
  }

  function make(tag, text, name) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (name) element.className = name;
    return element;
  }

  const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(2);
  const stepName = (group) => (group.step === null ? group.source : `${group.source}, step ${group.step}`);
  const level = (entropy) => Math.min(LEVELS - 1, Math.floor((entropy / 100 / scale) * LEVELS));

  function link(group) {
    const parts = [group.source, group.step ?? "", group.id];
    return HASH + parts.map((part) => encodeURIComponent(part)).join("/");
  }

  function linked() {
    if (!location.hash.startsWith(HASH)) return null;
    return groups.find((group) => link(group) === location.hash) ?? undefined;
  }

  function pick(filter, group) {
    const [name, , test] = FILTERS.find(([known]) => known === filter);
    state.filter = name;
    state.list = groups.filter(test);
    const place = state.list.indexOf(group);
    state.place = place < 0 ? nearest(group) : place;
  }

  function nearest(group) {
    const after = state.list.findIndex((one) => one.index >= group.index);
    return after < 0 ? Math.max(0, state.list.length - 1) : after;
  }

  function go(place) {
    if (place < 0 || place >= state.list.length) return;
    state.place = place;
    show(true);
  }

  function show(moved) {
    const group = state.list[state.place];
    for (const button of byId("v-filters").children) {
      button.setAttribute("aria-pressed", String(button.dataset.filter === state.filter));
    }
    byId("v-empty").hidden = Boolean(group);
    byId("v-empty").textContent = "No group passes this filter.";
    byId("v-rollout").hidden = !group;
    byId("v-place").textContent = group ? `${state.place + 1} of ${state.list.length}` : "0 of 0";
    byId("v-prev").disabled = !group || state.place === 0;
    byId("v-next").disabled = !group || state.place === state.list.length - 1;
    fillSelects(group);
    if (!group) return;
    byId("v-question").replaceChildren(...question(group));
    byId("v-completions").replaceChildren(...answers(group));
    if (moved) history.replaceState(null, "", link(group));
  }

  function fillSelects(group) {
    const options = (select, pairs, chosen) => {
      select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value, false, value === chosen)));
      select.disabled = pairs.length === 0;
    };
    const steps = new Map();
    state.list.forEach((one, place) => steps.has(stepName(one)) || steps.set(stepName(one), place));
    const here = group && stepName(group);
    options(byId("v-step"), [...steps].map(([name, place]) => [String(place), name]), String(steps.get(here)));
    const prompts = [];
    state.list.forEach((one, place) => {
      if (stepName(one) === here) prompts.push([String(place), one.id || `prompt ${place + 1}`]);
    });
    options(byId("v-prompt"), prompts, String(state.place));
  }

  function question(group) {
    const shown = group.images.map((image) => (typeof image === "number" ? picture(image) : make("p", image, "note")));
    const about = [stepName(group), group.domain, group.difficulty].filter(Boolean).join(" · ");
    const list = make("ol");
    group.choices.forEach((choice, index) => {
      const letter = String.fromCharCode(65 + index);
      const gold = group.answer === letter || group.answer === choice;
      const item = make("li", undefined, gold ? "gold" : "");
      item.append(make("span", letter), make("span", choice));
      list.append(item);
    });
    const answer = make("p", "Answer ", "answer");
    answer.append(make("b", group.answer || "none given"));
    return [...shown, make("p", about, "about"), make("p", group.question, "asked"), list, answer];
  }

  function picture(index) {
    const image = new Image();
    image.alt = "The image of the question";
    image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth < 160));
    image.src = images[index];
    return image;
  }

  function answers(group) {
    const known = rewards(group);
    const mean = known.length ? known.reduce((sum, reward) => sum + reward, 0) / known.length : null;
    const text = `${right(group)} of ${group.completions.length} correct` +
      (mean === null ? "" : `, mean reward ${mean.toFixed(2)}`);
    return [make("p", text, "group-line"), ...group.completions.map(completion)];
  }

  function completion(one) {
    const card = make("article", undefined, `completion ${one.verdict}`);
    card.classList.toggle("long", one.tokens.length > LONG);
    const header = make("header");
    const detail = Object.entries(one.parts).map(([name, value]) => `${name} ${value === null ? "–" : value}`);
    const about = detail.length ? ` (${detail.join(", ")})` : "";
    header.append(make("span", VERDICTS[one.verdict], "verdict"));
    header.append(make("span", `reward ${one.reward === null ? "–" : one.reward.toFixed(2)}${about}`));
    if (one.advantage !== null) {
      const advantage = make("span", "advantage ");
      advantage.append(make("span", signed(one.advantage), one.advantage > 0 ? "up" : one.advantage < 0 ? "down" : ""));
      header.append(advantage);
    }
    if (one.extracted !== null) header.append(make("span", `answered ${one.extracted}`));
    header.append(make("span", one.entropies ? `${one.tokens.length} tokens` : "no entropies recorded"));
    if (one.truncated) header.append(make("span", "truncated", "down"));
    card.append(header, tokens(one));
    return card;
  }

  function tokens(one) {
    const text = make("div", undefined, "text");
    const critical = new Set(one.critical);
    one.tokens.forEach((token, index) => {
      const [, space, word] = token.match(/^(\s*)([^]*)$/);
      const span = make("span", word || token);
      const shade = one.entropies ? level(one.entropies[index]) : 0;
      if (shade) span.classList.add(`h${shade}`);
      if (critical.has(index)) span.classList.add("critical");
      if (one.entropies) span.dataset.entropy = (one.entropies[index] / 100).toFixed(2);
      text.append(word ? space : "", span);
    });
    return text;
  }

  function readToken(event) {
    const token = event.target;
    if (!(token instanceof HTMLElement) || token.dataset.entropy === undefined) return;
    const word = token.classList.contains("critical") ? ", critical word" : "";
    byId("v-token").textContent = `“${token.textContent.trim() || "space"}” ${token.dataset.entropy} nats${word}`;
  }

  function onKey(event) {
    const busy = event.target instanceof Element && event.target.closest("input, select, textarea");
    if (busy || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.key === "ArrowLeft") go(state.place - 1);
    if (event.key === "ArrowRight") go(state.place + 1);
  }

  function openLink() {
    const group = linked();
    if (group === null) return;
    if (group) pick("all", group);
    show(false);
    if (!group) {
      byId("v-empty").hidden = false;
      byId("v-empty").textContent = "The linked group is not among those in this page.";
    }
    byId("rollouts").scrollIntoView();
  }

  function start() {
    groups.forEach((group, index) => { group.index = index; });
    for (const [name, label, test] of FILTERS) {
      const button = make("button", label);
      button.type = "button";
      button.dataset.filter = name;
      button.append(make("span", String(groups.filter(test).length), "many"));
      button.addEventListener("click", () => {
        pick(name, state.list[state.place] ?? groups[0]);
        show(true);
      });
      byId("v-filters").append(button);
    }
    for (let index = 0; index < LEVELS; index += 1) byId("v-scale").append(make("span", "", `h${index}`));
    byId("v-top").textContent = `≥ ${scale} nats`;
    byId("v-prev").addEventListener("click", () => go(state.place - 1));
    byId("v-next").addEventListener("click", () => go(state.place + 1));
    for (const id of ["v-step", "v-prompt"]) byId(id).addEventListener("change", (event) => go(Number(event.target.value)));
    byId("v-completions").addEventListener("pointerover", readToken);
    byId("v-completions").addEventListener("click", readToken);
    document.addEventListener("keydown", onKey);
    window.addEventListener("hashchange", openLink);
    byId("viewer").hidden = false;
    show(false);
    openLink();
  }

  start();
})();
