// Mine: a user's own deliveries, a card each, the newest first.

import { call, follow, session } from "./api.js";
import { card, nameOf } from "./card.js";
import { alertOf, h, liveness, say } from "./dom.js";

const ACTIVE = ["RECEIVED", "GRANTED", "ORDERED", "AVAILABLE", "READY", "TRANSFERRING"];
const CHOICES = [["", "All"], ["active", "Under way"], ["DONE", "Ready"], ["ERROR", "Did not work"]];

export async function mine(content, { signal, query }) {
  const wanted = CHOICES.some(([name]) => name === query.get("show")) ? query.get("show") : "";
  const me = session.caller.name;
  const said = h("div", { role: "status" }, h("p", { class: "dim" }, "Looking for your deliveries…"));
  const cards = h("ul", { class: "mine" });
  const more = h("button", { type: "button", hidden: true, onclick: () => page() }, "Older deliveries");
  const live = liveness();
  content.append(h("h1", {}, "My deliveries"), choice(wanted), live.element, said, cards, h("p", { class: "actions" }, more));

  const shown = new Map(); // by id: the delivery as it was told last, its progress, its card
  const newest = new Map(); // by correlation id: what was asked for last under it
  let stanzas = null; // of the catalogue, once a card needs one
  const first = pathOf(wanted, me);
  let next = first;
  let listed = false; // whether the first page is there

  const matches = ({ state }) => !wanted || (wanted === "active" ? ACTIVE.includes(state) : state === wanted);

  // What is told of a delivery replaces what was known; its progress is told apart, and is of an attempt.
  function put({ progress, ...delivery }, { above }) {
    const known = shown.get(delivery.id);
    if (known && known.delivery.updatedAt > delivery.updatedAt) return;
    note(delivery, known?.delivery);
    if (!matches(delivery)) {
      remove(known);
      return;
    }
    const below = known ? null : [...cards.children].find((element) => element.dataset.at < delivery.requestedAt);
    if (!known && above && !below && next && listed) return; // it is on a page that was not asked for
    const one = known ?? { ...card(signal, again), delivery: null };
    one.progress = progress ?? one.progress;
    one.delivery = delivery;
    if (delivery.state !== "TRANSFERRING" || !delivery.worker || one.progress?.attempt !== delivery.attempt) one.progress = undefined;
    if (!known) {
      shown.set(delivery.id, one);
      one.element.dataset.at = delivery.requestedAt;
      cards.insertBefore(one.element, below ?? null);
    }
    paint(one);
  }

  // Of one id, what was asked for last is steered; a card before it says so.
  function note(delivery, before) {
    const last = newest.get(delivery.correlationId);
    if (!last || delivery.requestedAt >= last.requestedAt) newest.set(delivery.correlationId, delivery);
    if (last && last.id !== delivery.id && shown.has(last.id)) paint(shown.get(last.id));
    if (before && ACTIVE.includes(before.state) && !ACTIVE.includes(delivery.state)) {
      say(`${nameOf(delivery)}: ${delivery.state === "DONE" ? "ready." : "it did not work."}`);
    }
  }

  function remove(one) {
    if (!one) return;
    shown.delete(one.delivery.id);
    const lost = one.element.contains(document.activeElement);
    one.element.remove();
    if (lost) content.querySelector("h1").focus({ preventScroll: true });
  }

  function paint(one) {
    const { delivery, progress } = one;
    const last = newest.get(delivery.correlationId);
    one.show({ delivery, progress, superseded: last?.id === delivery.id ? undefined : last, stanza: delivery.code && stanzas?.[delivery.code] });
    if (delivery.code && !stanzas) meanings();
  }

  async function meanings() {
    stanzas = {}; // asked for once
    try {
      stanzas = (await import("./stanzas-users.js")).STANZAS;
      if (!signal.aborted) shown.forEach(paint);
    } catch { /* what the service says is shown instead */ }
  }

  let asking = false;
  async function page() {
    if (asking) return; // a button that is disabled would lose the focus
    asking = true;
    try {
      const found = await call("GET", next, { signal });
      const link = found.links.find(({ rel }) => rel === "next");
      next = link ? link.href.replace(/^.*?(?=\/deliveries)/, "") : null;
      more.hidden = !next;
      found.content.forEach((delivery) => put(delivery, { above: false }));
      tell();
    } catch (error) {
      if (!signal.aborted) failed(error, page);
    }
    asking = false;
  }

  // What the first page tells now: after what was asked for here, which was answered with `told`, and where a stream has
  // missed something.
  async function again(told) {
    if (signal.aborted) return;
    if (told) put(told, { above: true });
    try {
      const { content: found } = await call("GET", first, { signal });
      found.forEach((delivery) => put(delivery, { above: true }));
      tell();
    } catch (error) {
      if (!signal.aborted) failed(error, () => again());
    }
  }

  function failed(error, repeat) {
    said.replaceChildren(alertOf(error), h("p", {}, h("button", { type: "button", onclick: repeat }, "Look again")));
  }

  function tell() {
    said.replaceChildren(...(shown.size ? [] : wanted ? [h("p", {}, "None of yours is like that.")] : [
      h("p", {}, "You have asked for nothing yet, or it was long ago."),
      h("p", {}, h("a", { href: "#/new" }, "Ask for a delivery")),
    ]));
  }

  follow("/deliveries/events", signal, (event, told) => {
    if (event === "reload") again();
    else if (event === "progress") {
      const one = shown.get(told.id);
      if (!one || one.delivery.attempt !== told.attempt || !one.delivery.worker) return;
      one.progress = told;
      paint(one);
    } else if (told.user === me) {
      // Of an operator, the stream tells of all.
      put(told, { above: true });
      tell();
    }
  }, (standing) => {
    live.tell(standing);
    if (standing === "live" && listed) again(); // what happened in between
  });
  await page();
  listed = true;
}

function pathOf(wanted, me) {
  const query = new URLSearchParams({ user: me });
  for (const name of wanted === "active" ? ACTIVE : wanted ? [wanted] : []) query.append("state", name);
  return `/deliveries?${query}`;
}

function choice(wanted) {
  return h("ul", { class: "choices", "aria-label": "Which are shown" }, CHOICES.map(([name, words]) =>
    h("li", {}, h("a", { href: name ? `#/mine?show=${name}` : "#/mine", "aria-current": name === wanted ? "true" : undefined }, words))));
}
