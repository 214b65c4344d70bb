// Where an operator begins: what is wrong, how much there is of what, who works, what became of it.

import { session } from "./api.js";
import { attention } from "./attention.js";
import { h, refreshed, seconds, size, state } from "./dom.js";
import { history } from "./history.js";
import { look } from "./looking.js";

const LOOK = 5_000; // milliseconds between looks
const WORDS = {
  RECEIVED: "the user is checked",
  GRANTED: "being ordered",
  ORDERED: "rs-order prepares it",
  AVAILABLE: "files are listed",
  READY: "in line",
  TRANSFERRING: "on its way",
  DONE: "within a day",
  ERROR: "within a day",
};
const GOING = {
  moving: "a worker is at it",
  stalled: "a worker is at it, no byte comes",
  retrying: "the last attempt was given up",
  waiting: "for a turn, rs-order or a quota",
  paused: "by an operator",
};
const ENDED = ["DONE", "ERROR"];

export async function overview(content, { signal, query }) {
  const [needed, counted, working, became] = ["div", "div", "div", "div"].map((tag) => h(tag, {}));
  content.append(h("h1", {}, "Overview"), needed,
    h("section", { "aria-label": "Deliveries by state" }, h("h2", {}, "Deliveries"), counted),
    h("section", { "aria-label": "Workers" }, h("h2", {}, "Workers"), working), became);
  attention(needed, signal);
  count(counted, signal);
  look(working, signal, { path: "/workers", every: LOOK, draw: crew });
  history(became, signal, query.get("step"));
}

function count(place, signal) {
  if (session.caller.tenant === "instance") {
    // Who administers all tenants has no deliveries.
    place.append(h("p", { class: "dim" }, "They are counted for one tenant: sign in with a token of it."));
    return;
  }
  look(place, signal, { path: "/stats", every: LOOK, draw: tiles });
}

function tiles(place, { active, ended }) {
  const going = Object.entries(GOING).map(([name, words]) => doing(name, words, active));
  const fresh = Object.entries(WORDS).map(([name, words]) => (ENDED.includes(name)
    ? over(name, words, ended.filter((one) => one.state === name))
    : waiting(name, words, active.find((one) => one.state === name))));
  const lists = [going, fresh];
  if (!place.firstChild) place.append(...lists.map((all) => h("ul", { class: "tiles" }, all.map((one) => h("li", {}, one)))));
  // Each link stays, and with it the focus.
  else place.querySelectorAll("li > a").forEach((link, number) => refreshed(link, lists.flat()[number]));
}

function doing(name, words, active) {
  const number = active.reduce((total, one) => total + (one[name] ?? 0), 0);
  const late = name === "stalled" && number > 0;
  const longest = Math.max(...active.map((one) => one.longestStalledSeconds ?? 0));
  return h("a", { href: `#/deliveries?activity=${name}` },
    h("b", {}, late ? h("span", { class: "stands" }, String(number)) : String(number)), h("span", { class: "state" }, name),
    h("small", {}, words, late ? `, the longest for ${seconds(longest)}` : ""));
}

function tile(name, number, words) {
  return h("a", { href: `#/deliveries?state=${name}` }, h("b", {}, String(number)), state(name), h("small", {}, words));
}

function waiting(name, words, found) {
  if (!found) return tile(name, 0, words);
  const parked = found.parked ? `; ${found.parked} for a suborder` : "";
  return tile(name, found.deliveries, `${words}, the oldest for ${seconds(found.oldestSeconds)}${parked}`);
}

function over(name, words, found) {
  const sum = (of) => found.reduce((total, one) => total + of(one), 0);
  const number = sum(({ deliveries }) => deliveries);
  if (!number) return tile(name, 0, words);
  const more = name === "DONE" ? size(sum(({ bytes }) => bytes))
    : found.map(({ errorType, deliveries }) => `${deliveries} ${errorType}`).join(", ");
  return tile(name, number, `${words}: ${more}`);
}

// Those that are there. Of others, what needs an operator tells, and the page Workers.
function crew(place, workers) {
  const there = workers.filter(({ alive }) => alive);
  const silent = workers.length - there.length;
  const sum = (name) => there.reduce((total, worker) => total + worker[name], 0);
  const said = there.length
    ? `${sum("running")} of ${sum("slots")} slots are taken, at ${there.length} ${there.length === 1 ? "worker" : "workers"}`
    : ["No worker is there: start ", h("code", {}, "delivery worker"), "."];
  const gone = silent ? h("span", {}, ". ", h("a", { href: "#/workers" }, `${silent} ${silent === 1 ? "is" : "are"} silent`)) : "";
  const summary = h("p", { class: there.length ? undefined : "problem" }, ...[said].flat(), gone);
  const rows = there.map((worker) => h("li", {}, h("span", {}, worker.id), slotsOf(worker)));
  const names = JSON.stringify(there.map(({ id }) => id));
  if (place.dataset.names === names) {
    const [before, list] = place.children;
    if (before.innerHTML !== summary.innerHTML) before.replaceChildren(...summary.childNodes);
    rows.forEach((row, number) => refreshed(list.children[number], row));
    return;
  }
  place.dataset.names = names;
  place.replaceChildren(summary, h("ul", { class: "crew", hidden: !rows.length }, rows));
}

function slotsOf({ id, running, slots }) {
  return h("span", { class: "slots" },
    h("progress", { max: Math.max(1, slots), value: running, "aria-label": `Slots of ${id} that are taken` }),
    h("small", {}, `${running} of ${slots}`));
}
