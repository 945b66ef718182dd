// The address: #rollout/SOURCE/STEP/ID, a number where a step has the prompt twice, then the filter as a query.
const HASH = "#rollout/";

const links = new Map();
groups.forEach((group) => {
  const plain = [group.source, group.step ?? "", group.id].map((part) => encodeURIComponent(part)).join("/");
  let link = plain;
  for (let again = 2; links.has(link); again += 1) link = `${plain}/${again}`;
  group.link = link;
  links.set(link, group);
});

function address(group) {
  const query = new URLSearchParams();
  for (const name of ["text", ...FIELDS]) if (state.filter[name]) query.set(name, state.filter[name]);
  if (state.filter.is.length) query.set("is", state.filter.is.join("."));
  if (state.other) query.set("with", state.other.link);
  const text = query.toString();
  return HASH + (group ? group.link : "") + (text ? `?${text}` : "");
}

// The group, the filter and the comparison that the address names; null where it names no rollout.
function addressed() {
  if (!location.hash.startsWith(HASH)) return null;
  const [path, text = ""] = location.hash.slice(HASH.length).split("?", 2);
  const query = new URLSearchParams(text);
  const filter = { ...NONE, is: (query.get("is") ?? "").split(".").filter((name) => TOGGLES.some((one) => one.name === name)) };
  for (const name of ["text", ...FIELDS]) filter[name] = query.get(name) ?? "";
  if (!Object.hasOwn(VERDICTS, filter.verdict)) filter.verdict = "";
  return { path, group: links.get(path), filter, other: links.get(query.get("with")) ?? null };
}
