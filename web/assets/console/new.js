// Asking for a delivery without an AMQP client.

import { call, plainUser, session } from "./api.js";
import { addressOf, alertOf, h, say, time } from "./dom.js";

// made by `make docs`: what files can be delivered as
const FORMATS = ["zip", "tar", "tar.zst", "files"];
// end of what files can be delivered as

export async function ask(content, { signal }) {
  const said = h("div", {});
  const plain = plainUser();
  const id = h("input", {
    id: "id", required: !plain, maxlength: 255, "aria-describedby": "id-hint",
    value: plain ? "" : `console-${crypto.randomUUID?.().slice(0, 8) ?? Date.now()}`,
  });
  const idHint = h("p", { class: "hint", id: "id-hint" }, plain
    ? "Empty: you are given one." : "Names the delivery; responses over AMQP carry it.");
  const user = h("input", {
    id: "user", required: true, maxlength: 128, readonly: plain,
    value: session.caller.name,
  });
  const queries = h("textarea", { id: "queries", rows: 4, required: true, "aria-describedby": "queries-hint" });
  const target = h("input", { id: "target", "aria-describedby": "target-hint" });
  const format = h("select", { id: "format" },
    h("option", { value: "" }, "as the tenant's settings say"),
    FORMATS.map((name) => h("option", { value: name }, name)));
  const archiveName = h("input", { id: "archive-name", maxlength: 255, "aria-describedby": "archive-name-hint" });
  const prefix = h("input", { id: "prefix", maxlength: 255, "aria-describedby": "prefix-hint" });
  const prefixHint = h("p", { class: "hint", id: "prefix-hint" },
    "Before the folder of the correlation id, such as campaign/{user}. Empty: as the tenant's settings say.");
  const partial = h("input", { id: "partial", type: "checkbox", "aria-describedby": "partial-hint" });
  const labels = h("input", { id: "labels", "aria-describedby": "labels-hint" });
  const deadline = h("input", { id: "deadline", type: "datetime-local", "aria-describedby": "deadline-hint" });
  // A request that is sent twice is one delivery: the same text has the same key, until it is taken.
  let busy = false;
  let last = {};
  const keyOf = (text) => {
    if (last.text !== text) last = { text, key: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` };
    return last.key;
  };
  content.append(h("h1", {}, "New delivery"), said, h("form", {
    class: "wide",
    onsubmit: async (event) => {
      event.preventDefault();
      if (busy) return;
      const tries = event.submitter?.value === "check";
      const lines = queries.value.split("\n").map((line) => line.trim()).filter(Boolean);
      const body = { order: { user: user.value, queries: lines } };
      if (id.value.trim()) body.correlationId = id.value;
      const asked = {};
      if (format.value) asked.format = format.value;
      if (archiveName.value.trim()) asked.archiveName = archiveName.value.trim();
      if (prefix.value.trim()) asked.prefix = prefix.value.trim();
      if (partial.checked) asked.partial = true;
      const named = labels.value.split(",").map((label) => label.trim()).filter(Boolean);
      if (named.length) asked.labels = named;
      if (deadline.value) asked.deadline = new Date(deadline.value).toISOString();
      if (Object.keys(asked).length) body.delivery = asked;
      if (target.value.trim()) body.targetDelivery = target.value.trim();
      busy = true;
      try {
        if (tries) {
          const { content: told } = await call("POST", "/deliveries/validate", { body });
          if (signal.aborted) return;
          said.replaceChildren(judged(told));
          said.firstElementChild.scrollIntoView({ block: "nearest" });
          return;
        }
        const headers = { "Idempotency-Key": keyOf(JSON.stringify(body)) };
        const { content: taken } = await call("POST", "/deliveries", { body, headers });
        last = {};
        say("It was taken in.");
        // A user who has gone elsewhere meanwhile stays there.
        if (!signal.aborted) location.hash = addressOf(taken);
      } catch (error) {
        said.replaceChildren(alertOf(error));
        said.firstElementChild.scrollIntoView({ block: "nearest" });
      } finally {
        busy = false;
      }
    },
  },
  h("label", { for: "id" }, "Correlation id"), id, idHint,
  h("label", { for: "user" }, "Ordering user"), user,
  h("p", { class: "hint" }, "A known user of the tenant: files are fetched as they may be seen by them."),
  h("label", { for: "queries" }, "Queries"), queries,
  h("p", { class: "hint", id: "queries-hint" }, 'Lucene, one a line; for example productId:"URN…"'),
  h("label", { for: "format" }, "Format"), format,
  h("label", { for: "archive-name" }, "Name of the archive"), archiveName,
  h("p", { class: "hint", id: "archive-name-hint" }, "Such as {productId}-{date}, without its suffix; also "
    + "{correlationId}, {version} and {user}. Empty: as the tenant's settings say."),
  h("label", { for: "prefix" }, "Folders"), prefix, prefixHint,
  h("div", { class: "choice" }, partial, h("label", { for: "partial" }, "Deliver what there is")),
  h("p", { class: "hint", id: "partial-hint" }, "Where some files can't be had, the others are delivered, "
    + "and each that is missing is named. Else it is all or nothing."),
  h("label", { for: "target" }, "Target"), target,
  h("p", { class: "hint", id: "target-hint" }, "Empty: the tenant's default."),
  h("label", { for: "labels" }, "Labels"), labels,
  h("p", { class: "hint", id: "labels-hint" }, "Up to ten, with commas between; deliveries are found by them."),
  h("label", { for: "deadline" }, "Deadline"), deadline,
  h("p", { class: "hint", id: "deadline-hint" }, "Empty: the tenant's time. After it, the delivery ends in an error."),
  h("div", { class: "actions" },
    h("button", { class: "main", value: "deliver" }, "Deliver"),
    h("button", { value: "check" }, "Check"))));
  if (plain) {
    const { correlationIdPrefix } = session.caller;
    idHint.textContent = `Empty: you are given one. Those of your own begin with ${correlationIdPrefix}`;
    prefixHint.textContent += " Those of your own begin as your ids do.";
  }
}

// What would become of a request.
function judged({ granted, broken = [], problems = [], place, target, user, expiresAt }) {
  const notes = [...broken, ...problems];
  if (user?.known === null) notes.push(`Whether ${user.name} may order: ${user.message}`);
  if (target?.ok === null) notes.push(`Target ${target.name}: ${target.message}`);
  return h("div", { role: granted ? "status" : "alert", class: notes.length ? "alert" : null },
    h("p", {}, granted ? "It would be granted." : "It would be refused."),
    notes.length ? h("ul", {}, notes.map((note) => h("li", {}, note))) : null,
    granted && place ? h("p", {}, place.key.endsWith("/manifest.json") ? "Its list of files would go to " : "Its archive would go to ", h("code", {}, place.key),
      place.keyOfSeveral ? [", of several products to ", h("code", {}, place.keyOfSeveral)] : null,
      ", by ", time(expiresAt), " at the latest.") : null);
}
