// What needs an operator now: the sentences of the service, since when, and what to do.

import { session } from "./api.js";
import { clock, h, lasting } from "./dom.js";
import { attended } from "./standing.js";

const PAGES = {
  TRANSFERS_FAIL: () => "#/targets",
  WORKER_SILENT: () => "#/workers",
  STATE_STUCK: ({ subject }) => `#/deliveries?state=${subject}`,
  QUOTA_AWAITED: ({ subject }) => `#/deliveries?state=${subject}`,
  SUBORDER_AWAITED: () => "#/deliveries?state=TRANSFERRING",
  DEAD_LETTER: () => "#/dead-letters",
  WEBHOOK_FAILS: () => "#/webhooks",
  EVENT_GIVEN_UP: () => "#/webhooks",
  MAINTENANCE: () => "#/system",
  MAINTENANCE_FORGOTTEN: () => "#/system",
};

const OF_ONE_TENANT = /^#.(deliveries|webhooks)/;

// Tells it in `place`, for as long as the page is shown. What is paused, the banner of every page tells.
export function attention(place, signal) {
  place.replaceChildren(region(h("p", { class: "dim" }, "Asking…")));
  attended(({ found = [], failed }) => draw(place, found.filter(({ code }) => code !== "PAUSED"), failed), signal);
}

function region(...told) {
  return h("section", { "aria-label": "What needs you" }, ...told);
}

function draw(place, found, failed) {
  const told = JSON.stringify([found, failed]);
  if (place.dataset.told === told) return; // what a user has selected, or has the focus on, stays
  place.dataset.told = told;
  const calm = failed ? `What needs you is not known: ${failed}` : found.length ? "" : "Nothing needs you.";
  place.replaceChildren(region(found.map(finding), calm && h("p", { class: failed ? "problem" : "calm" }, calm)));
}

function finding(one) {
  const others = one.tenant && session.caller.tenant !== one.tenant;
  const found = PAGES[one.code]?.(one);
  const page = others && OF_ONE_TENANT.test(found) ? null : found; // those are of the caller's tenant
  const whose = others ? `Tenant ${one.tenant}: ` : "";
  return h("div", { class: one.severity === "problem" ? "problem finding" : "waits finding" },
    h("p", {}, h("b", {}, `${whose}${one.sentence}`), one.since && h("span", { class: "dim" }, ...began(one.since))),
    one.cause && h("p", {}, one.cause),
    h("p", { class: "dim" }, inWords(one.advice)),
    page && h("p", {}, h("a", { href: page }, "Show")));
}

function began(since) {
  return [" since ", h("time", { datetime: since }, clock(since)), " (", lasting(since), ")"];
}

// Commands are set as such.
export function inWords(text) {
  return text.split("`").map((part, number) => (number % 2 ? h("code", {}, part) : part));
}
