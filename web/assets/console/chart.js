// Charts: drawings of our own, each with the same as a table. null is what is not known: a gap, and no zero.

import { clock, h } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDE = 10; // units of the drawing that a bucket is wide
const HIGH = 90; // units that a drawing is high

// A chart of `series` (`name`, `values`, and how a value is said), whose buckets begin `step` seconds apart.
// `said` is what it shows in words, for those who do not see it, and in its caption for all.
export function chart({ title, said, drawing, series, begins, step, open }) {
  const [first, last] = [at(begins, step, 0), at(begins, step, series[0].values.length - 1)];
  drawing.setAttribute("aria-label", `${title}: ${said}`);
  return h("figure", {},
    h("figcaption", {}, h("b", {}, title), ` ${said}`),
    drawing,
    h("p", { class: "axis dim", "aria-hidden": "true" }, h("span", {}, short(first, step)), h("span", {}, short(last, step))),
    h("details", { "data-of": title, open }, h("summary", {}, `${title}, as a table`), table(title, series, begins, step)));
}

// One above the axis, and where there is one, another below it.
export function bars(up, down = []) {
  const axis = down.length ? (HIGH * 2) / 3 : HIGH - 1;
  const most = Math.max(1, ...up, ...down);
  const svg = empty(up.length);
  up.forEach((value, number) => {
    const x = number * WIDE + 1;
    const add = (kind, y, height) => height && svg.append(s("rect", { class: kind, x, y, width: WIDE - 2, height }));
    const high = (axis * (value ?? 0)) / most;
    add("good", axis - high, high);
    add("bad", axis, ((HIGH - axis) * (down[number] ?? 0)) / most);
  });
  svg.append(s("path", { class: "axis", d: `M0 ${axis}H${WIDE * up.length}` }));
  return svg;
}

// A line, with the ground below it. What is not known lifts the pen.
export function line(values) {
  const most = Math.max(1, ...values);
  const point = (value, number) => `${number * WIDE + WIDE / 2} ${(HIGH - 2 - ((HIGH - 8) * value) / most).toFixed(1)}`;
  const svg = empty(values.length);
  let part = [];
  const put = () => {
    if (!part.length) return;
    const [begin, end] = [part[0], part.at(-1)].map((place) => place.split(" ")[0]);
    svg.append(s("path", { class: "below", d: `M${begin} ${HIGH}L${part.join("L")}L${end} ${HIGH}Z` }));
    svg.append(s("path", { class: "line", d: `M${part.join("L")}${part.length > 1 ? "" : "h0.1"}` }));
    part = [];
  };
  values.forEach((value, number) => { if (value === null) put(); else part.push(point(value, number)); });
  put();
  svg.append(s("path", { class: "axis", d: `M0 ${HIGH - 1}H${WIDE * values.length}` }));
  return svg;
}

function empty(buckets) {
  return s("svg", { viewBox: `0 0 ${WIDE * buckets} ${HIGH}`, class: "chart", role: "img", preserveAspectRatio: "none" });
}

function s(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// The newest first. A bucket in which nothing was, is left out.
function table(title, series, begins, step) {
  const buckets = series[0].values.map((_, number) => number).reverse()
    .filter((number) => series.some(({ values }) => values[number] !== 0));
  const columns = ["Since", ...series.map(({ name }) => name)];
  return h("table", { class: "cards" },
    h("caption", {}, buckets.length ? `${title}: what is not zero, the newest first` : `${title}: nothing`),
    h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, buckets.map((number) => h("tr", {},
      [clock(at(begins, step, number)), ...series.map(({ values, say = String }) =>
        (values[number] === null ? "not known" : say(values[number])))]
        .map((text, column) => h("td", { "data-label": columns[column] }, text))))));
}

export function at(begins, step, number) {
  return new Date(new Date(begins).getTime() + number * step * 1000).toISOString();
}

// Days are those of UTC, as the service counts them.
export function short(text, step) {
  const day = step >= 86_400;
  return new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: day ? "UTC" : undefined,
    ...(day ? {} : { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }) }).format(new Date(text));
}
