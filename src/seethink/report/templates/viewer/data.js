// The embedded data, and what is derived from it once: entropies, counts, and which groups share a prompt.
const byId = (id) => document.getElementById(id);
const { images, groups, scale, spans, shaded } = JSON.parse(byId("rollout-data").textContent);

const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);
const known = (values) => values.filter((value) => value !== null);

function quantile(values, share) {
  const sorted = known(values).sort((one, other) => one - other);
  return sorted.length ? sorted[Math.floor(share * (sorted.length - 1))] : null;
}

function nameOf(group) {
  return group.step === null ? group.source : `${group.source}, step ${group.step}`;
}

// The samples of two data sets can share an id: only the same question makes it the same prompt.
const promptOf = (group) => JSON.stringify([group.id, group.question]);

const samePrompt = new Map();
groups.forEach((group, index) => {
  group.index = index;
  group.rewards = known(group.completions.map((one) => one.reward));
  group.right = group.completions.filter((one) => one.verdict === "correct").length;
  for (const one of group.completions) {
    const at = one.entropies;
    one.entropy = at && at.length ? mean(at) / 100 : null;
    one.criticalEntropy = at && one.critical.length ? mean(one.critical.map((place) => at[place])) / 100 : null;
  }
  const prompt = promptOf(group);
  if (!samePrompt.has(prompt)) samePrompt.set(prompt, []);
  samePrompt.get(prompt).push(group);
});

const completions = groups.flatMap((group) => group.completions);
// The lowest quarter of all completions is confident; the highest quarter at critical words hesitates.
const limits = {
  confident: quantile(completions.map((one) => one.entropy), 0.25),
  hesitant: quantile(completions.map((one) => one.criticalEntropy), 0.75),
};

const others = (group) => !group.id ? [] : samePrompt.get(promptOf(group)).filter((one) => one !== group);

function textOf(one) {
  one.lower ??= one.tokens.join("").toLowerCase();
  return one.lower;
}

function askedOf(group) {
  group.lower ??= [group.id, group.question, group.answer, ...group.choices].join("\n").toLowerCase();
  return group.lower;
}

function make(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}
