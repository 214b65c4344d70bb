// Two who change one setting at the same time: what each made of it, for the second to choose.

import { h, isObject, time } from "./dom.js";
import { optionOf, resolved, wordsOf } from "./fields.js";

// What two people made of the same value. `entry`: of the audit trail, where a secret is another one by now.
export function dispute(schema, { base, theirs, mine, entry }, buttons) {
  const one = [...leavesOf(schema, theirs, "")].filter(([, words]) => words === "").length === 1;
  const masks = ["set", one ? "another one" : "set, perhaps another one", "as theirs"];
  const all = [base, theirs, mine].map((value, number) => new Map(leavesOf(schema, value, entry && masks[number])));
  const paths = [...new Set(all.flatMap((leaves) => [...leaves.keys()]))];
  const differ = paths.filter((path) => new Set(all.map((leaves) => leaves.get(path))).size > 1);
  const columns = ["Before", "Theirs", "Yours"];
  return h("div", { class: "alert" },
    h("p", {}, "Someone else changed this meanwhile; nothing of yours is saved yet."),
    entry ? h("p", {}, `${entry.actor} ${entry.action === "reset" ? "put it back to its default" : "set another secret"}, `, time(entry.at),
      ". No secret is shown: ask which of them is to hold.") : "",
    h("table", { class: "cards" },
      h("thead", {}, h("tr", {}, ["What", ...columns].map((column) => h("th", { scope: "col" }, column)))),
      h("tbody", {}, differ.map((path) => h("tr", {}, h("td", { "data-label": "What" }, path || "the value"),
        columns.map((column, number) => h("td", { "data-label": column }, all[number].get(path) ?? "nothing")))))),
    h("div", { class: "actions" }, buttons));
}

// What a value consists of: for each leaf, the path to it and what it is, in words; no secret is told.
// `masked`: what is said of one that is kept.
function* leavesOf(schema, value, masked, path = []) {
  const known = resolved(schema);
  const { properties = {}, additionalProperties = {} } = (known.oneOf && optionOf(known, value)) || known;
  if (!isObject(value)) yield [path.join(" › "), wordsOf(known, value, masked)];
  else for (const [name, inner] of Object.entries(value)) yield* leavesOf(properties[name] ?? additionalProperties, inner, masked, [...path, name]);
}
