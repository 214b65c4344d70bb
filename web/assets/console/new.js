// Asking for a delivery without an AMQP client.

import { call, session } from "./api.js";
import { alertOf, h, say } from "./dom.js";

export async function ask(content, { signal }) {
  const said = h("div", {});
  const id = h("input", { id: "id", required: true, maxlength: 255, value: `console-${crypto.randomUUID?.().slice(0, 8) ?? Date.now()}` });
  const user = h("input", { id: "user", required: true, maxlength: 128, value: session.claims.email || "" });
  const queries = h("textarea", { id: "queries", rows: 4, required: true, "aria-describedby": "queries-hint" });
  const target = h("input", { id: "target", "aria-describedby": "target-hint" });
  content.append(h("h1", {}, "New delivery"), said, h("form", {
    class: "wide",
    onsubmit: async (event) => {
      event.preventDefault();
      const lines = queries.value.split("\n").map((line) => line.trim()).filter(Boolean);
      const body = { correlationId: id.value, order: { user: user.value, queries: lines } };
      if (target.value.trim()) body.targetDelivery = target.value.trim();
      try {
        await call("POST", "/deliveries", { body });
        say("It was taken in.");
        // Whoever has gone elsewhere meanwhile stays there.
        if (!signal.aborted) location.hash = `#/delivery/${encodeURIComponent(id.value)}`;
      } catch (error) {
        said.replaceChildren(alertOf(error));
        said.firstElementChild.scrollIntoView({ block: "nearest" });
      }
    },
  },
  h("label", { for: "id" }, "Correlation id"), id,
  h("p", { class: "hint" }, "Names the delivery; responses over AMQP carry it."),
  h("label", { for: "user" }, "Ordering user"), user,
  h("p", { class: "hint" }, "A known user of the tenant: files are fetched as they may be seen by them."),
  h("label", { for: "queries" }, "Queries"), queries,
  h("p", { class: "hint", id: "queries-hint" }, 'Lucene, one a line; for example productId:"URN…"'),
  h("label", { for: "target" }, "Target"), target,
  h("p", { class: "hint", id: "target-hint" }, "Empty: the tenant's default."),
  h("button", { class: "main" }, "Deliver")));
}
