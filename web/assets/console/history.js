// What became of deliveries: bars by the hour, those that ended well up, the others down; and the same as a table.

import { call, plainUser, session } from "./api.js";
import { alertOf, clock, h, size } from "./dom.js";

const LOOK = 60_000; // milliseconds between looks
const SVG = "http://www.w3.org/2000/svg";
const BAR = 10; // units of the drawing that a bucket is wide
const [UP, DOWN] = [60, 30]; // units above the axis, and below it

// Tells it in `place`, for as long as the page is shown.
export async function history(place, signal) {
  if (plainUser() || signal.aborted) return;
  try {
    const { content } = await call("GET", "/stats/history", { signal });
    draw(place, content);
  } catch (error) {
    if (signal.aborted) return;
    place.replaceChildren(alertOf(error));
    delete place.dataset.told;
  }
  if (!signal.aborted) setTimeout(() => history(place, signal), LOOK);
}

function draw(place, found) {
  const told = JSON.stringify(found);
  if (place.dataset.told === told) return; // what a user has opened, or has the focus on, stays
  place.dataset.told = told;
  const opened = new Set([...place.querySelectorAll("details[open]")].map((each) => each.dataset.of));
  place.replaceChildren(h("section", { "aria-label": "What ended" }, h("h2", {}, "What ended in the last two days"),
    found.map((one) => figure(one, opened.has(one.tenant)))));
}

function figure(one, open) {
  const whose = one.tenant === session.caller.tenant ? "" : `Tenant ${one.tenant}: `;
  const said = `${whose}${sum(one.done)} ended well (${size(sum(one.bytes))}), ${sum(one.failed)} failed, ${sum(one.cancelled)} were cancelled`;
  return h("figure", {}, h("figcaption", {}, said), bars(one, said),
    h("details", { "data-of": one.tenant, open }, h("summary", {}, "By the hour, as a table"), table(one)));
}

function sum(values) {
  return values.reduce((total, value) => total + (value ?? 0), 0);
}

function bars(one, said) {
  const most = Math.max(1, ...one.done, ...one.done.map((_, number) => lost(one, number)));
  const svg = s("svg", { viewBox: `0 0 ${BAR * one.done.length} ${UP + DOWN}`, class: "chart", role: "img",
    "aria-label": said, preserveAspectRatio: "none" });
  one.done.forEach((done, number) => {
    if (done === null) return; // it is not known: no bar, as the table says
    const [up, down] = [(UP * done) / most, (DOWN * lost(one, number)) / most];
    const x = number * BAR + 1;
    if (done) svg.append(s("rect", { class: "good", x, y: UP - up, width: BAR - 2, height: up }));
    if (down) svg.append(s("rect", { class: "bad", x, y: UP, width: BAR - 2, height: down }));
  });
  svg.append(s("path", { class: "axis", d: `M0 ${UP}H${BAR * one.done.length}` }));
  return svg;
}

function lost(one, number) {
  return (one.failed[number] ?? 0) + (one.cancelled[number] ?? 0);
}

function s(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// The newest first. An hour in which nothing was, is left out.
function table(one) {
  const columns = [["Since", begins], ["Ended well", number("done")], ["Failed", number("failed")],
    ["Cancelled", number("cancelled")], ["Delivered", ({ bytes }, at) => (bytes[at] === null ? "not known" : size(bytes[at]))],
    ["Not ended by then", number("active")]];
  const hours = one.done.map((_, at) => at).reverse()
    .filter((at) => [one.done, one.failed, one.cancelled, one.active].some((values) => values[at] !== 0));
  return h("table", { class: "cards" },
    h("caption", {}, hours.length ? "Hours in which something ended, or was under way" : "Nothing ended, and nothing is under way"),
    h("thead", {}, h("tr", {}, columns.map(([name]) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, hours.map((at) => h("tr", {},
      columns.map(([name, say]) => h("td", { "data-label": name }, say(one, at)))))));
}

function begins({ begins: first, step }, at) {
  return clock(new Date(new Date(first).getTime() + at * step * 1000).toISOString());
}

function number(name) {
  return (one, at) => (one[name][at] === null ? "not known" : String(one[name][at]));
}
