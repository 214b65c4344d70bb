// What needs an operator now: the sentences of the service, since when, and what to do.

import { call, plainUser, session } from "./api.js";
import { h, seconds, time } from "./dom.js";

const LOOK = 10_000; // milliseconds between looks
const PAGES = {
  STATE_STUCK: ({ subject }) => `#/deliveries?state=${subject}`,
  QUOTA_AWAITED: ({ subject }) => `#/deliveries?state=${subject}`,
  SUBORDER_AWAITED: () => "#/deliveries?state=TRANSFERRING",
  DEAD_LETTER: () => "#/dead-letters",
};

// Tells it in `place`, for as long as the page is shown. What is paused, the banner of every page tells.
export async function attention(place, signal) {
  if (plainUser() || !session.token || signal.aborted) return;
  try {
    const { content } = await call("GET", "/attention", { signal });
    draw(place, content.filter(({ code }) => code !== "PAUSED"));
  } catch (error) {
    if (signal.aborted) return;
    draw(place, [], `What needs you is not known: ${error.message}`);
  }
  if (!signal.aborted) setTimeout(() => attention(place, signal), LOOK);
}

function draw(place, found, failed) {
  const told = JSON.stringify([found, failed]);
  if (place.dataset.told === told) return; // what a user has selected, or has the focus on, stays
  place.dataset.told = told;
  const calm = failed ?? (found.length ? "" : "Nothing needs you.");
  place.replaceChildren(h("section", { "aria-label": "What needs you" },
    found.map(finding), calm && h("p", { class: failed ? "problem" : "dim" }, calm)));
}

function finding(one) {
  const page = PAGES[one.code]?.(one);
  const whose = one.tenant && session.caller.tenant !== one.tenant ? `Tenant ${one.tenant}: ` : "";
  return h("div", { class: one.severity === "problem" ? "problem finding" : "waits finding" },
    h("p", {}, h("b", {}, `${whose}${one.sentence}`), one.since && h("span", { class: "dim" }, ...lasting(one.since))),
    one.cause && h("p", {}, one.cause),
    h("p", { class: "dim" }, inWords(one.advice)),
    page && h("p", {}, h("a", { href: page }, "Show")));
}

function lasting(since) {
  const lasted = (Date.now() - new Date(since)) / 1000;
  return [" since ", time(since), lasted < 60 ? "" : ` (${seconds(lasted)})`];
}

// Commands are set as such.
function inWords(text) {
  return text.split("`").map((part, number) => (number % 2 ? h("code", {}, part) : part));
}
