// What became of deliveries, by the hour or by the day: what ended, what was delivered, what had not ended.

import { session } from "./api.js";
import { at, bars, chart, line, short } from "./chart.js";
import { h, size } from "./dom.js";
import { look } from "./looking.js";

const LOOK = 60_000; // milliseconds between looks
const STEPS = [["hour", "#/", "two days, by the hour"], ["day", "#/?step=day", "90 days, by the day"]];

// Tells it in `place`, for as long as the page is shown; `step` is hour or day.
export function history(place, signal, step) {
  const told = h("div", {});
  const wanted = step === "day" ? "day" : "hour";
  place.replaceChildren(h("section", { "aria-label": "What became of deliveries" },
    h("h2", {}, "What became of deliveries"),
    h("p", { class: "choices" }, STEPS.map(([name, href, words]) =>
      h("a", { href, "aria-current": name === wanted && "true" }, words))),
    told));
  look(told, signal, { path: wanted === "day" ? "/stats/history?step=day" : "/stats/history", every: LOOK, draw });
}

function draw(place, found) {
  const opened = new Set([...place.querySelectorAll("details[open]")].map(pathOf));
  const isOpen = (...path) => opened.has(path.join("\n"));
  if (!found.length) place.replaceChildren(h("p", { class: "dim" }, "No tenant is served."));
  else if (found.length === 1) place.replaceChildren(charts(found[0], (title) => isOpen(title)));
  // Of many, those are drawn that are looked at.
  else place.replaceChildren(...found.map((one) => folded(one, isOpen(one.tenant) || one.tenant === session.caller.tenant, isOpen)));
}

function pathOf(details) {
  const around = details.parentElement.closest("details");
  return around ? `${around.dataset.of}\n${details.dataset.of}` : details.dataset.of;
}

function folded(one, open, isOpen) {
  const whole = h("details", { "data-of": one.tenant, class: "tenant" },
    h("summary", {}, `Tenant ${one.tenant}: ${ended(one)}`));
  whole.addEventListener("toggle", () => {
    if (whole.open && !whole.querySelector("figure")) whole.append(charts(one, (title) => isOpen(one.tenant, title)));
  });
  whole.open = open;
  return whole;
}

function charts(one, isOpen) {
  const lost = one.failed.map((failed, number) => (failed ?? 0) + (one.cancelled[number] ?? 0));
  const draws = (title, said, drawing, ...series) =>
    chart({ title, said, drawing, series, begins: one.begins, step: one.step, open: isOpen(title) });
  return h("div", { class: "charts" },
    draws("Ended", ended(one), bars(one.done, lost), { name: "Ended well", values: one.done },
      { name: "Failed", values: one.failed }, { name: "Cancelled", values: one.cancelled }),
    draws("Delivered", `${size(sum(one.bytes))}${most(one, "bytes", size)}`, bars(one.bytes),
      { name: "Delivered", values: one.bytes, say: size }),
    draws("Not ended", `${one.active.at(-1) ?? "not known"} now${most(one, "active", String)}`, line(one.active),
      { name: "Not ended by its end", values: one.active }));
}

function ended(one) {
  return `${sum(one.done)} ended well, ${sum(one.failed)} failed, ${sum(one.cancelled)} were cancelled`;
}

function most(one, name, say) {
  const highest = Math.max(0, ...one[name]);
  if (!highest) return "";
  return `, most: ${say(highest)} (${short(at(one.begins, one.step, one[name].indexOf(highest)), one.step)})`;
}

function sum(values) {
  return values.reduce((total, value) => total + (value ?? 0), 0);
}
