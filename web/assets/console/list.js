// The live list of deliveries.

import { call, follow, plainUser } from "./api.js";
import { activity, addressOf, alertOf, bar, codeOf, h, labelled, lasting, liveness, refreshed, seconds, size, state, suborders, time } from "./dom.js";
import { ENDED, filterOf, filters, fits, pathOf, wantedOf } from "./filter.js";
import { manyOf } from "./many.js";
import { viewsOf } from "./views.js";

const COLUMNS = ["Delivery", "State", "Progress", "User", "Size", "Requested", "Cause"];

function age(delivery) {
  if (ENDED.includes(delivery.state) || !delivery.stateSince) return "";
  return h("span", { class: "dim" }, ", for ", lasting(delivery.stateSince));
}

const nothing = () => h("p", {}, "No delivery is like that.");

function row({ delivery, progress }) {
  // What it waits for is told beside its progress.
  const why = delivery.errorMessage || (delivery.parkedSince ? "" : delivery.lastCause);
  const cause = why && h("span", {}, codeOf(delivery.code) || delivery.errorType, delivery.code || delivery.errorType ? ": " : "", why);
  const standing = activity(delivery, progress);
  const cells = [
    h("span", {}, h("a", { href: addressOf(delivery) }, delivery.correlationId), labelled(delivery)),
    h("span", {}, state(delivery.state), age(delivery), standing && h("br", {}), standing),
    progress ? bar(progress, delivery.correlationId) : suborders(delivery) || "",
    delivery.user,
    delivery.files ? size(delivery.bytes) : "",
    time(delivery.requestedAt),
    cause || "",
  ];
  return h("tr", {}, cells.map((cell, number) =>
    h("td", { "data-label": COLUMNS[number], class: number === 4 ? "number" : undefined }, cell)));
}

export async function list(content, { signal, query }) {
  const wanted = wantedOf(query);
  const filter = filterOf(wanted);
  const counts = h("ul", { class: "counts", "aria-label": "Deliveries by state" });
  const body = h("tbody", {});
  const more = h("button", { type: "button", hidden: true }, "Older deliveries");
  const said = h("div", {});
  const live = liveness();
  content.append(h("h1", {}, "Deliveries"), counts, viewsOf(wanted), filters(wanted), live.element,
    plainUser() || wanted.activity === "stalled" ? "" : manyOf(filter, { done: () => reload() }), said,
    h("table", { class: "cards" },
      h("caption", {}, "The newest first"),
      h("thead", {}, h("tr", {}, COLUMNS.map((name, number) =>
        h("th", { scope: "col", class: number === 4 ? "number" : undefined }, name)))),
      body),
    h("p", { class: "actions" }, more));

  const shown = new Map(); // by id: the delivery as it was told last, its progress, and its row
  const current = new Map(); // by correlation id: the newest of them
  // What is told of a delivery is all there is to tell: it replaces what was known, so that a cause
  // that is over goes. Progress is told apart, and is that of an attempt.
  function put({ progress, ...delivery }, { first }) {
    const known = shown.get(delivery.id);
    if (!first && known && known.delivery.updatedAt > delivery.updatedAt) return; // told since it was asked for
    if (!fits(filter, delivery)) {
      known?.element.remove();
      shown.delete(delivery.id);
      return;
    }
    const one = { delivery, progress: progress || known?.progress, element: known?.element };
    if (delivery.state !== "TRANSFERRING" || !delivery.worker || one.progress?.attempt !== delivery.attempt) {
      one.progress = undefined;
    }
    show(one, { first });
    shown.set(delivery.id, one);
    const newest = current.get(delivery.correlationId);
    if (!newest || delivery.requestedAt >= newest.requestedAt) current.set(delivery.correlationId, delivery);
  }

  function show(one, { first } = {}) {
    const element = row(one);
    if (one.element) refreshed(one.element, element);
    else if (first) body.prepend(element);
    else body.append(element);
    one.element ||= element;
  }

  const first = pathOf(filter);
  let next = first;
  let asking = false;
  let begun = 0; // how often it has begun again
  async function page() {
    if (asking) return; // a button that is disabled would lose the focus
    asking = true;
    const mine = begun;
    try {
      const found = await call("GET", next, { signal });
      if (mine === begun) take(found);
    } catch (error) {
      if (!signal.aborted && mine === begun) said.replaceChildren(alertOf(error));
    }
    asking = false;
    if (mine !== begun && !signal.aborted) await page(); // what came was asked for before that
  }
  function take(found) {
    found.content.forEach((delivery) => put(delivery, { first: false }));
    const link = found.links.find(({ rel }) => rel === "next");
    next = link ? link.href.replace(/^.*?(?=\/deliveries)/, "") : null;
    more.hidden = !next;
    said.replaceChildren(...(shown.size ? [] : [nothing()]));
  }
  more.addEventListener("click", page);
  // More has happened than a stream tells: begin as if the page had just been opened.
  async function reload() {
    begun += 1;
    shown.clear();
    current.clear();
    body.replaceChildren();
    next = first;
    await page();
  }
  function hear(event, told) {
    if (event === "state") {
      said.replaceChildren();
      put(told, { first: true });
    } else if (event === "reload") {
      reload();
    } else if (event === "progress") {
      const one = shown.get(told.id ?? current.get(told.correlationId)?.id);
      if (one && one.delivery.worker && one.delivery.attempt === told.attempt) {
        one.progress = told;
        show(one);
      }
      if (wanted.activity === "stalled") stalls(told, one);
    }
  }
  // Where those are looked for that stall: one comes, or goes, by what its worker tells.
  const stalling = new Set(); // attempts that were looked for
  function stalls(told, one) {
    const name = `${told.id} ${told.attempt}`;
    if (!told.stalledFor) {
      stalling.delete(name);
      if (!one) return;
      one.element.remove();
      shown.delete(one.delivery.id);
      if (!shown.size) said.replaceChildren(nothing());
    } else if (!one && !stalling.has(name)) {
      stalling.add(name);
      reload();
    }
  }
  const older = () => shown.forEach((one) => show(one));
  if (plainUser()) {
    // The stream and the figures are of the whole tenant.
    await page();
    lookAgain(first, signal, live, (found) => {
      if (found.length) said.replaceChildren();
      found.reverse().forEach((delivery) => put(delivery, { first: true }));
      older();
    });
    return;
  }
  follow("/deliveries/events", signal, hear, live.tell);
  await Promise.all([page(), countAgain(counts, signal, older)]);
}

function lookAgain(path, signal, live, take) {
  live.element.textContent = "Looked at again every 5 seconds.";
  setTimeout(async () => {
    if (signal.aborted) return;
    try {
      const { content } = await call("GET", path, { signal });
      live.element.className = "dim";
      take(content);
      lookAgain(path, signal, live, take);
    } catch (error) {
      if (signal.aborted) return;
      lookAgain(path, signal, live, take);
      live.tell(error.message);
    }
  }, 5000);
}

async function countAgain(counts, signal, older) {
  try {
    const { content } = await call("GET", "/stats", { signal });
    const active = content.active.map((one) => [one.state, one.deliveries, `, the oldest for ${seconds(one.oldestSeconds)}`
      + (one.parked ? `; ${one.parked} of them ${one.parked === 1 ? "waits" : "wait"} for a suborder, the longest for ${seconds(one.oldestParkedSeconds)}` : "")]);
    const ended = {};
    for (const one of content.ended) ended[one.state] = (ended[one.state] || 0) + one.deliveries;
    const day = Object.entries(ended).map(([name, count]) => [name, count, " within a day"]);
    counts.replaceChildren(...[...active, ...day].map(([name, count, more]) =>
      h("li", {}, h("b", {}, String(count)), " ", state(name), h("span", { class: "dim" }, more))));
  } catch { /* the list tells */ }
  older();
  if (!signal.aborted) setTimeout(() => { if (!signal.aborted) countAgain(counts, signal, older); }, 5000);
}
