// Asking for a delivery without an AMQP client.

import { call, plainUser, session } from "./api.js";
import { addressOf, alertOf, h, say, time } from "./dom.js";
import { forget, keep, restore } from "./draft.js";

// made by `make docs`: what files can be delivered as
const FORMATS = ["zip", "tar", "tar.zst", "files"];
// end of what files can be delivered as

export async function ask(content, { signal, query }) {
  const said = h("div", {});
  const plain = plainUser();
  const input = (id, more = {}) => h("input", { id, ...(more.hint ? { "aria-describedby": `${id}-hint` } : {}), ...more, hint: undefined });
  const fields = {
    labels: input("labels", { hint: true }),
    products: h("textarea", { id: "products", rows: 3, "aria-describedby": "products-hint" }),
    queries: h("textarea", { id: "queries", rows: 3, required: true, "aria-describedby": "queries-hint" }),
    data: input("data", { type: "checkbox" }),
    quicklooks: input("quicklooks", { type: "checkbox" }),
    pattern: input("pattern", { hint: true }),
    format: h("select", { id: "format" }, h("option", { value: "" }, "as the tenant's settings say"),
      FORMATS.map((name) => h("option", { value: name }, name))),
    archiveName: input("archive-name", { maxlength: 255, hint: true }),
    partial: input("partial", { type: "checkbox", hint: true }),
    target: input("target", { list: "targets", hint: true }),
    prefix: input("prefix", { maxlength: 255, hint: true }),
    deadline: input("deadline", { type: "datetime-local", hint: true }),
    id: input("id", { required: !plain, maxlength: 255, hint: true, value: plain ? "" : newId() }),
    user: input("user", { required: true, maxlength: 128, readonly: plain, value: session.caller.name }),
  };
  // One of both is needed.
  const needed = () => { fields.queries.required = !fields.products.value.trim(); };
  const targets = h("datalist", { id: "targets" });
  const json = h("pre", { tabindex: 0, role: "region", "aria-label": "The request, as programs send it" });
  const shown = h("details", {}, h("summary", {}, "As programs send it"), json);
  const write = () => { if (shown.open) json.textContent = JSON.stringify(bodyOf(fields), null, 2); };
  shown.addEventListener("toggle", write);
  const from = query.get("from");
  let touched = false;
  const send = sending(said, signal, () => bodyOf(fields));
  const form = h("form", {
    class: "wide",
    oninput: () => { touched = true; needed(); write(); keep(form, from); },
    onsubmit: (event) => { event.preventDefault(); send(event.submitter?.value); },
  },
  h("fieldset", {}, h("legend", {}, "What"), labelled("Labels", fields.labels, "Up to ten, with commas between; the delivery is "
    + "called by them on your page, and found by them."),
  labelled("Products", fields.products, "Ids, one a line."),
  labelled("Queries", fields.queries, 'For what is not asked for by its id: Lucene, one a line; for example tags:"july" AND version:2'),
  ticked("Data files", fields.data), ticked("Quicklooks", fields.quicklooks),
  labelled("File names", fields.pattern, "A regular expression, such as .*\\.tif. Empty, and nothing ticked: all that an order has.")),
  h("fieldset", {}, h("legend", {}, "How"), labelled("Format", fields.format),
    labelled("Name of the archive", fields.archiveName, "Such as {productId}-{date}, without its suffix; also "
      + "{correlationId}, {version} and {user}. Empty: as the tenant's settings say."),
    ticked("Deliver what there is", fields.partial, "Where some files can't be had, the others are delivered, "
      + "and each that is missing is named. Else it is all or nothing.")),
  h("fieldset", {}, h("legend", {}, "Where and when"), labelled("Target", fields.target, "Empty: the tenant's default."), targets,
    labelled("Folders", fields.prefix, "Before the folder of the correlation id, such as campaign/{user}. Empty: as the tenant's settings say."
      + (plain ? " Those of your own begin as your ids do." : "")),
    labelled("Deadline", fields.deadline, "Empty: the tenant's time. After it, the delivery ends in an error.")),
  h("fieldset", {}, h("legend", {}, "Who"), labelled("Correlation id", fields.id, plain
    ? `Empty: you are given one. Those of your own begin with ${session.caller.correlationIdPrefix}`
    : "Names the delivery; responses over AMQP carry it."),
  labelled("Ordering user", fields.user, "A known user of the tenant: files are fetched as they may be seen by them.")),
  shown,
  h("div", { class: "actions" }, h("button", { class: "main", value: "deliver" }, "Deliver"), h("button", { value: "check" }, "Check")));
  content.append(h("h1", {}, "New delivery"), said, form);
  known(targets, signal);
  if (restore(form, from)) {
    said.replaceChildren(h("div", { role: "status", class: "waits" }, h("p", {}, "What you had begun is here again."),
      h("button", { type: "button", onclick: empty }, "Begin with an empty form")));
  } else if (from) {
    await likeBefore(from, fields, said, signal, () => touched);
  }
  needed();
}

function empty() {
  forget();
  if (location.hash === "#/new") window.dispatchEvent(new Event("hashchange"));
  else location.hash = "#/new";
}

function newId() {
  return `console-${crypto.randomUUID?.().slice(0, 8) ?? Date.now()}`;
}

function labelled(text, field, hint) {
  return [h("label", { for: field.id }, text), field, hint && h("p", { class: "hint", id: `${field.id}-hint` }, hint)];
}

function ticked(text, field, hint) {
  return [h("div", { class: "choice" }, field, h("label", { for: field.id }, text)),
    hint && h("p", { class: "hint", id: `${field.id}-hint` }, hint)];
}

const linesOf = ({ value }) => value.split("\n").map((line) => line.trim()).filter(Boolean);
const asQuery = (product) => `productId:"${product.replace(/["\\]/g, "\\$&")}"`;

function bodyOf(fields) {
  const { value: pattern } = fields.pattern;
  const kinds = [fields.data.checked && "RAWDATA", fields.quicklooks.checked && "QUICKLOOK"].filter(Boolean);
  const order = { user: fields.user.value, queries: [...linesOf(fields.products).map(asQuery), ...linesOf(fields.queries)] };
  if (kinds.length || pattern.trim()) {
    order.filters = { dataTypes: kinds.length ? kinds : ["RAWDATA", "QUICKLOOK"] };
    if (pattern.trim()) order.filters.filenameRegExp = pattern.trim();
  }
  const body = { order };
  if (fields.id.value.trim()) body.correlationId = fields.id.value;
  const asked = {};
  if (fields.format.value) asked.format = fields.format.value;
  if (fields.archiveName.value.trim()) asked.archiveName = fields.archiveName.value.trim();
  if (fields.prefix.value.trim()) asked.prefix = fields.prefix.value.trim();
  if (fields.partial.checked) asked.partial = true;
  const named = fields.labels.value.split(",").map((label) => label.trim()).filter(Boolean);
  if (named.length) asked.labels = named;
  if (fields.deadline.value) asked.deadline = new Date(fields.deadline.value).toISOString();
  if (Object.keys(asked).length) body.delivery = asked;
  if (fields.target.value.trim()) body.targetDelivery = fields.target.value.trim();
  return body;
}

// Returns what sends the form, or only checks it. What would be refused is not sent; what would be granted, and wait or
// fail, is sent by another press.
function sending(said, signal, made) {
  let busy = false;
  let warned = null; // the text that was objected to, and may be sent all the same
  // A request that is sent twice is one delivery: the same text has the same key, until it is taken.
  let last = {};
  const tell = (...shown) => {
    said.replaceChildren(...shown);
    said.firstElementChild.scrollIntoView({ block: "nearest" });
  };
  async function agreed(body, text) {
    // Whether the first try came through is not known: then it is "active", and is answered by itself.
    if (last.text === text || warned === text) return true;
    const { content: told } = await call("POST", "/deliveries/validate?probe=false", { body });
    if (signal.aborted) {
      say("It was not sent: the page was left.");
      return false;
    }
    if (told.granted && !told.problems) return true;
    if (told.granted) warned = text;
    tell(judged(told, told.granted ? "Deliver it all the same by another press." : null));
    return false;
  }
  return async (what) => {
    if (busy) return;
    busy = true;
    const body = made();
    const text = JSON.stringify(body);
    try {
      if (what === "check") {
        const { content: told } = await call("POST", "/deliveries/validate", { body });
        if (!signal.aborted) tell(judged(told));
      } else if (await agreed(body, text)) {
        if (last.text !== text) last = { text, key: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` };
        const { content: taken } = await call("POST", "/deliveries", { body, headers: { "Idempotency-Key": last.key } });
        last = {};
        forget();
        say("It was taken in.");
        // A user who has gone elsewhere meanwhile stays there.
        if (!signal.aborted) location.hash = plainUser() ? "#/mine" : addressOf(taken);
      }
    } catch (error) {
      tell(alertOf(error));
    }
    busy = false;
  };
}

// The names that one may choose from; others are refused, in words.
async function known(targets, signal) {
  try {
    const { content: limits } = await call("GET", "/limits", { signal });
    targets.append(...limits.targets.map((name) => h("option", { value: name })));
  } catch { /* they are typed, then */ }
}

// Fill the form as a delivery was asked for before, but over nothing that was written meanwhile.
async function likeBefore(id, fields, said, signal, touched) {
  try {
    const { content: before } = await call("GET", `/deliveries/by-id/${encodeURIComponent(id)}`, { signal });
    if (touched()) {
      said.replaceChildren(h("p", { role: "status", class: "dim" }, "It is not as it was asked for before: you had begun to write."));
      return;
    }
    const { queries = [], filters = {} } = before.order ?? {};
    fields.queries.value = queries.join("\n");
    fields.data.checked = Boolean(filters.dataTypes?.includes("RAWDATA"));
    fields.quicklooks.checked = Boolean(filters.dataTypes?.includes("QUICKLOOK"));
    fields.pattern.value = filters.filenameRegExp ?? "";
    fields.format.value = before.format ?? "";
    fields.partial.checked = Boolean(before.partial);
    fields.labels.value = (before.labels ?? []).join(", ");
    fields.target.value = before.target ?? "";
    said.replaceChildren(h("p", { role: "status", class: "dim" }, "As it was asked for before. Change what is to be different."));
  } catch (error) {
    if (!signal.aborted) said.replaceChildren(alertOf(error));
  }
}

// What would become of a request.
function judged({ granted, broken = [], problems = [], retryAfter, place, target, user, expiresAt }, more) {
  const notes = [...broken, ...problems];
  if (user?.known === null) notes.push(`Whether ${user.name} may order: ${user.message}`);
  if (target?.ok === null) notes.push(`Target ${target.name}: ${target.message}`);
  return h("div", { role: granted ? "status" : "alert", class: notes.length ? "alert" : null },
    h("p", {}, granted ? "It would be granted." : retryAfter ? "It would be refused for now." : "It would be refused."),
    notes.length ? h("ul", {}, notes.map((note) => h("li", {}, note))) : null,
    more && h("p", {}, more),
    granted && place ? h("p", {}, place.key.endsWith("/manifest.json") ? "Its list of files would go to " : "Its archive would go to ", h("code", {}, place.key),
      place.keyOfSeveral ? [", of several products to ", h("code", {}, place.keyOfSeveral)] : null,
      ", by ", time(expiresAt), " at the latest.") : null);
}
