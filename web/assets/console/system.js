// The service itself: what runs and in which version, what it depends on, maintenance, what is paused, limits.

import { call, session } from "./api.js";
import { h, size, time } from "./dom.js";
import { look } from "./looking.js";
import { maintenance } from "./maintenance.js";
import { pauses } from "./pauses.js";

const LOOK = 5_000; // milliseconds between looks

export async function system(content, { signal }) {
  const [paused, kept, versions, parts, places, limits] = Array.from({ length: 6 }, () => h("div", {}));
  content.append(h("h1", {}, "System"), versions, parts, kept, paused, places, limits);
  pauses(paused, signal);
  const every = (place, ask, draw, hurry) => look(place, signal, { ask, every: LOOK, hurry, draw: (shown, told) => {
    const held = shown.contains(document.activeElement);
    shown.replaceChildren(...draw(told));
    if (held) shown.querySelector("button, a")?.focus();
  } });
  every(versions, () => running(signal), versionsOf);
  every(parts, () => call("GET", "/health/ready", { signal, accept: [503] }), (ready) => [partsOf(ready)]);
  // A target that is silent must not keep the rest from being seen. For administrators only.
  every(places, () => call("GET", "/health/targets", { signal, accept: [403] }), ({ content: targets }) => (targets ? [placesOf(targets)] : []));
  if (session.caller.tenant !== "instance") {
    every(kept, () => call("GET", "/maintenance", { signal, accept: [403] }), maintenance, "maintained");
    every(limits, () => call("GET", "/limits", { signal, accept: [403] }), (told) => (told.content?.http ? [limitsOf(told.content)] : []));
  }
}

async function running(signal) {
  const [live, workers] = await Promise.all([call("GET", "/health/live", { signal }), call("GET", "/workers", { signal })]);
  return { version: live.version, workers: workers.content.filter(({ alive }) => alive).map(({ version }) => version) };
}

function versionsOf({ version, workers }) {
  const counts = new Map();
  for (const one of workers) counts.set(one, (counts.get(one) || 0) + 1);
  const said = [...counts].map(([one, count]) => `${count} ${count === 1 ? "worker" : "workers"} of ${one}`).join(", ") || "no worker";
  const differ = [...counts.keys()].some((one) => one !== version);
  return [h("h2", {}, "Versions"),
    h("p", {}, `This process is of ${version}, beside `, h("a", { href: "#/workers" }, said), "."),
    differ ? h("p", { class: "waits" }, "Versions differ: an upgrade is under way, or a worker was left out.") : ""];
}

function partsOf(ready) {
  return h("div", {}, h("h2", {}, "Dependencies"), h("table", { class: "cards" },
    h("caption", {}, ready.status === "UP" ? "This process can work" : "This process can't work"),
    h("thead", {}, h("tr", {}, ["Part", "State", "Now", "Last error"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, Object.entries(ready.components).map(([name, part]) => h("tr", {},
      h("td", { "data-label": "Part" }, name),
      h("td", { "data-label": "State", class: part.status === "UP" ? "up" : "down" }, part.status),
      h("td", { "data-label": "Now" }, part.error || ""),
      h("td", { "data-label": "Last error" }, part.lastError ? [time(part.lastError.at), ` ${part.lastError.error}`] : ""))))));
}

function placesOf(targets) {
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

function limitsOf({ archive, request, http }) {
  const facts = [
    ["Files of an archive", archive.files.toLocaleString("en")],
    ["Size of an archive", size(archive.bytes)],
    ["Body of a request", size(request.bodyBytes)],
    ["Queries of an order", request.queries.toLocaleString("en")],
    ["Labels of a delivery", String(request.labels)],
    ["HTTP requests of a caller", `${http.requestsPerSecond} a second, ${http.burst} in a burst, ${http.atOnce} at once`],
  ];
  return h("div", {}, h("h2", {}, "Limits"), h("dl", {}, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]).flat()));
}
