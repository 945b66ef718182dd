// Which groups are listed. Where conditions are on completions, one completion of the group must meet all of them.
const nats = (value) => (value === null ? "" : `${value.toFixed(2)} nats`);

const TOGGLES = [
  { name: "split", label: "Split rewards", absent: !shaded, group: (group) => new Set(group.rewards).size > 1,
    about: "Groups whose completions have different rewards; GRPO learns from these groups alone." },
  { name: "confident", label: "Wrong but confident", absent: !shaded,
    one: (one) => one.verdict === "wrong" && one.entropy !== null && one.entropy <= limits.confident,
    about: `Wrong, with a mean token entropy of at most ${nats(limits.confident)}: the lowest quarter of all completions.` },
  { name: "hesitant", label: "High critical entropy", absent: !shaded,
    one: (one) => one.criticalEntropy !== null && one.criticalEntropy >= limits.hesitant,
    about: `A mean entropy at critical words of at least ${nats(limits.hesitant)}: the highest quarter of the completions with a critical word.` },
  { name: "critical", label: "Critical words", absent: !shaded, one: (one) => one.critical.length > 0,
    about: "At least one critical word." },
  { name: "hallucinated", label: "Hallucinated", one: (one) => one.hallucinated?.length > 0, absent: !spans,
    about: "Says that it cannot see the image." },
  { name: "again", label: "Prompt seen again", absent: !shaded, group: (group) => others(group).length > 0,
    about: "The same prompt was answered at another step or stage, so that the records can be compared." },
];

const VERDICTS = {
  correct: { label: "correct", one: (one) => one.verdict === "correct" },
  wrong: { label: "wrong", one: (one) => one.verdict === "wrong" },
  no_answer: { label: "no answer", one: (one) => one.verdict === "no_answer" },
  error: { label: "not graded", one: (one) => one.verdict === "error" },
  truncated: { label: "truncated", one: (one) => one.truncated },
  all_correct: { label: "all correct", group: (group) => group.right > 0 && group.right === group.completions.length },
  all_wrong: { label: "none correct", group: (group) => group.completions.length > 0 && group.right === 0 },
};

const NONE = { text: "", source: "", step: "", domain: "", verdict: "", is: [] };
const FIELDS = ["source", "step", "domain", "verdict"];
const state = { filter: { ...NONE }, list: groups, place: 0, other: null, whole: false };

const isFiltered = () => Boolean(state.filter.text || state.filter.is.length || FIELDS.some((name) => state.filter[name]));

function conditions(filter) {
  const chosen = TOGGLES.filter((toggle) => filter.is.includes(toggle.name));
  if (filter.verdict) chosen.push(VERDICTS[filter.verdict]);
  const ones = chosen.filter((condition) => condition.one).map((condition) => condition.one);
  const tests = chosen.filter((condition) => condition.group).map((condition) => condition.group);
  if (filter.source) tests.push((group) => group.source === filter.source);
  if (filter.step) tests.push((group) => String(group.step) === filter.step);
  if (filter.domain) tests.push((group) => group.domain === filter.domain);
  return { tests, ones, text: filter.text.trim().toLowerCase() };
}

// The indices of the completions that meet every condition; null where the group is not listed.
function matching(group, { tests, ones, text }) {
  if (!tests.every((test) => test(group))) return null;
  const asked = !text || askedOf(group).includes(text);
  if (!ones.length && asked) return group.completions.map((_, place) => place);
  const places = [];
  group.completions.forEach((one, place) => {
    if (ones.every((test) => test(one)) && (asked || textOf(one).includes(text))) places.push(place);
  });
  return places.length ? places : null;
}

function applyFilter() {
  const asked = conditions(state.filter);
  state.list = groups.filter((group) => {
    group.matching = matching(group, asked);
    return group.matching !== null;
  });
}

const countOf = (toggle) => groups.filter((group) => matching(group, conditions({ ...NONE, is: [toggle.name] }))).length;
