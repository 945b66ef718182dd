"use strict";
// Filters of the items: benchmark, category, and how they were answered. Every choice hides what does not fit it.
const fields = ["bench", "category", "kind"].map((name) => document.getElementById("by-" + name)).filter(Boolean);
const items = [...document.querySelectorAll(".item")];
const count = document.getElementById("shown");

function fill(select, name) {
  const values = [...new Set(items.map((item) => item.dataset[name]))].sort();
  for (const value of values) select.add(new Option(value, value));
}

function show() {
  const wanted = fields.map((field) => [field.id.slice(3), field.value]);
  let shown = 0;
  for (const item of items) {
    item.hidden = !wanted.every(([name, value]) => value === "" || item.dataset[name] === value);
    if (!item.hidden) shown += 1;
  }
  if (count) count.textContent = shown + (shown === 1 ? " item" : " items");
}

for (const field of fields) {
  if (field.id === "by-category") fill(field, "category");
  field.addEventListener("change", show);
}
show();
