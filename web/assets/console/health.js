// Whether everything works: dependencies, and the tenant's targets.

import { call } from "./api.js";
import { alertOf, h, time } from "./dom.js";
import { pauses } from "./pauses.js";

export async function health(content, { signal }) {
  const place = h("div", {});
  const aside = h("div", {}); // a target that is silent must not keep the rest from being seen
  const paused = h("div", {});
  content.append(h("h1", {}, "Health"), paused, place, aside);
  pauses(paused, signal);
  draw(aside, signal, async () => {
    const { content: targets } = await call("GET", "/health/targets", { signal, accept: [403] }); // for administrators only
    return targets ? [places(targets)] : [];
  });
  await draw(place, signal, async () => {
    const ready = await call("GET", "/health/ready", { signal, accept: [503] });
    return [parts(ready), h("p", {}, h("a", { href: "#/workers" }, "Workers"), " have a page of their own.")];
  });
}

async function draw(place, signal, look) {
  try {
    place.replaceChildren(...(await look()));
  } catch (error) {
    if (signal.aborted) return;
    place.replaceChildren(alertOf(error));
  }
  if (!signal.aborted) setTimeout(() => { if (!signal.aborted) draw(place, signal, look); }, 5000);
}

function parts(ready) {
  return h("table", { class: "cards" },
    h("caption", {}, ready.status === "UP" ? "This process can work" : "This process can't work"),
    h("thead", {}, h("tr", {}, ["Part", "State", "Now", "Last error"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, Object.entries(ready.components).map(([name, part]) => h("tr", {},
      h("td", { "data-label": "Part" }, name),
      h("td", { "data-label": "State", class: part.status === "UP" ? "up" : "down" }, part.status),
      h("td", { "data-label": "Now" }, part.error || ""),
      h("td", { "data-label": "Last error" }, part.lastError ? [time(part.lastError.at), ` ${part.lastError.error}`] : "")))));
}

function places(targets) {
  return h("div", {}, h("h2", {}, "Targets"), h("table", { class: "cards" },
    h("caption", {}, "Where this tenant's archives are put"),
    h("thead", {}, h("tr", {}, ["Target", "Place", "State", "Now", "Held back"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, targets.map((target) => h("tr", {},
      h("td", { "data-label": "Target" }, target.name),
      h("td", { "data-label": "Place" }, `${target.bucket} at ${target.endpoint}`),
      h("td", { "data-label": "State", class: target.status === "UP" ? "up" : "down" }, target.status),
      h("td", { "data-label": "Now" }, target.error || ""),
      h("td", { "data-label": "Held back" }, held(target)))))));
}

function held({ heldBack, error }) {
  if (!heldBack) return "";
  return ["new transfers since ", time(heldBack.since), heldBack.cause === error ? "" : `: ${heldBack.cause}`];
}
