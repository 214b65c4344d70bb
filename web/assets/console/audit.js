// The audit trail: who did what, when, to what; narrowed by the address, page by page, or as a file.

import { call, download } from "./api.js";
import { addressOf, alertOf, h, isObject, say, saved, time } from "./dom.js";

const COLUMNS = ["When", "Who", "What", "To what", "Change"];
const FILTERS = ["actor", "action", "subject", "since", "until"];
const ACTIONS = ["set", "set, with another secret", "reset", "try", "export", "cancel", "retry", "remove", "link", "pause", "resume",
  "requeue", "mend", "purge", "resend", "make token", "rotate keys", "apply"];
const WAYS = { COMMAND_LINE: "on the command line", AMQP: "over AMQP" };

export async function audit(content, { signal, query }) {
  const wanted = new URLSearchParams(FILTERS.map((name) => [name, query.get(name) ?? ""]).filter(([, text]) => text));
  const said = h("div", { role: "status" }, h("p", { class: "dim" }, "Asking…"));
  const body = h("tbody", {});
  const more = h("button", { type: "button", hidden: true }, "Older entries");
  const table = h("table", { class: "cards audit", hidden: true }, h("caption", {}, "The newest first"),
    h("thead", {}, h("tr", {}, COLUMNS.map((name) => h("th", { scope: "col" }, name)))), body);
  const file = h("button", { type: "button", onclick: async () => {
    try {
      say("It is downloaded…");
      saved(await download(`/audit?${joined(wanted, { format: "csv" })}`, signal));
      say("Downloaded.");
    } catch (error) {
      if (!signal.aborted) said.replaceChildren(alertOf(error));
    }
  } }, "Download as CSV");
  content.append(h("h1", {}, "Audit"), h("p", {}, "Who changed what of this tenant, however it was done."),
    folded(wanted, signal), said, table, h("p", { class: "actions" }, more, file));

  let next = `/audit?${joined(wanted, { limit: "50" })}`;
  let asking = false;
  async function page() {
    if (asking) return; // a button that is disabled would lose the focus
    asking = true;
    try {
      const found = await call("GET", next, { signal });
      body.append(...found.content.map(row));
      const link = found.links.find(({ rel }) => rel === "next");
      next = link ? link.href.replace(/^.*?(?=\/audit)/, "") : null;
      more.hidden = !next;
      table.hidden = !body.children.length;
      said.replaceChildren(...(table.hidden ? [h("p", {}, wanted.size ? "Nothing is like that." : "Nothing was changed yet.")] : []));
    } catch (error) {
      if (!signal.aborted) said.replaceChildren(alertOf(error));
    }
    asking = false;
  }
  more.addEventListener("click", page);
  await page();
}

const joined = (query, further) => new URLSearchParams([...query, ...Object.entries(further)]);

// On a phone, the form would take all that is seen at first: what it asks for is told, and the form is there when it is opened.
function folded(wanted, signal) {
  const wide = matchMedia("(min-width: 45.01rem)");
  const words = FILTERS.filter((name) => wanted.has(name)).map((name) => wanted.get(name)).join(", ");
  const place = h("details", { class: "folded", open: wide.matches }, h("summary", {}, words ? `Filters: ${words}` : "Filters"), filters(wanted));
  wide.addEventListener("change", () => { place.open = wide.matches; }, { signal });
  return place;
}

// What is asked for is in the address: it can be kept, sent, and gone back to.
function filters(wanted) {
  const field = (name, label, more) => h("div", {}, h("label", { for: name }, label), h("input", { id: name, name, value: wanted.get(name), ...more }));
  // In an address, a time is in UTC; in a field, it is by the reader's clock.
  const local = (name) => {
    const at = new Date(wanted.get(name) ?? "");
    return isNaN(at) ? undefined : new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
  };
  return h("form", {
    class: "filters narrowed",
    role: "search",
    onsubmit: (event) => {
      event.preventDefault();
      const given = [...new FormData(event.target)].map(([name, text]) => [name, text.trim()]).filter(([, text]) => text);
      location.hash = addressFor(given.map(([name, text]) => [name, ["since", "until"].includes(name) ? new Date(text).toISOString() : text]));
    },
  },
  field("actor", "Who", { autocomplete: "off" }), field("action", "What", { list: "actions", autocomplete: "off" }),
  h("datalist", { id: "actions" }, ACTIONS.map((value) => h("option", { value }))),
  field("subject", "To what", { autocomplete: "off" }),
  field("since", "From", { type: "datetime-local", value: local("since") }),
  field("until", "Until", { type: "datetime-local", value: local("until") }),
  h("button", { class: "main" }, "Search"), wanted.size ? h("a", { href: "#/audit" }, "Show all") : null);
}

const addressFor = (filter) => `#/audit?${new URLSearchParams(filter)}`;

function row(entry) {
  const cells = [
    time(entry.at),
    h("span", {}, h("a", { href: addressFor({ actor: entry.actor }) }, entry.actor), h("div", { class: "dim" }, WAYS[entry.role] ?? `over HTTP as ${entry.role}`)),
    h("a", { href: addressFor({ action: entry.action }) }, entry.action),
    h("span", {}, subjectOf(entry), h("div", {}, h("a", { class: "dim", href: addressFor({ subject: entry.subject }), "aria-label": `All that was done to ${entry.subject}` }, "its history"))),
    changeOf(entry),
  ];
  return h("tr", {}, cells.map((cell, number) => h("td", { "data-label": COLUMNS[number] }, cell)));
}

// What it was done to, as a link to where it is shown.
function subjectOf({ subject, action }) {
  const [, kind, name] = subject.match(/^(delivery|webhook|dead letter) (.+)$/s) ?? [];
  let href;
  if (kind === "delivery" && ![".", "..", "events", "by-id"].includes(name)) href = addressOf({ correlationId: name });
  else if (kind === "webhook") href = `#/webhooks/${encodeURIComponent(name)}`;
  else if (kind === "dead letter") href = "#/dead-letters";
  else if (subject.startsWith("the transfers of ")) href = "#/targets";
  else if (/^(set|reset|try)/.test(action) && subject !== "maintenance") href = `#/settings?${new URLSearchParams({ name: subject })}`;
  return href ? h("a", { href }, subject) : subject;
}

// What became of each part of a value.
function changeOf({ before, after }) {
  const [was, is] = [before, after].map((value) => new Map(leaves(value)));
  const paths = [...new Set([...was.keys(), ...is.keys()])].filter((path) => was.get(path) !== is.get(path));
  if (!paths.length) return "";
  const lines = paths.map((path) => h("li", {}, path && h("b", {}, `${path}: `),
    was.has(path) ? h("del", {}, was.get(path)) : null, was.has(path) && is.has(path) ? " → " : null, is.has(path) ? h("ins", {}, is.get(path)) : null));
  const list = h("ul", { class: "change" }, lines);
  return lines.length > 5 ? h("details", {}, h("summary", {}, `${lines.length} parts`), list) : list;
}

function* leaves(value, path = []) {
  if (value === null || value === undefined) return;
  if (isObject(value)) for (const [name, inner] of Object.entries(value)) yield* leaves(inner, [...path, name]);
  else yield [path.join(" › "), typeof value === "string" ? value : JSON.stringify(value)];
}
