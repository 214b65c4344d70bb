// The service itself: what runs and in which version, what it depends on, maintenance, what is paused, limits.

import { call, session } from "./api.js";
import { inWords } from "./attention.js";
import { capital, h, size, time } from "./dom.js";
import { look } from "./looking.js";
import { maintenance } from "./maintenance.js";
import { pauses } from "./pauses.js";

const LOOK = 5_000; // milliseconds between looks

export async function system(content, { signal }) {
  const [paused, kept, versions, database, parts, places, limits] = Array.from({ length: 7 }, () => h("div", {}));
  content.append(h("h1", {}, "System"), versions, database, parts, kept, paused, places, limits);
  pauses(paused, signal);
  const every = (place, ask, draw, hurry) => look(place, signal, { ask, every: LOOK, hurry, draw: (shown, told) => {
    const held = shown.contains(document.activeElement);
    const open = shown.querySelector("details")?.open;
    shown.replaceChildren(...draw(told, open));
    if (held) shown.querySelector("button, a, summary")?.focus();
  } });
  every(versions, () => running(signal), versionsOf);
  every(database, () => call("GET", "/schema", { signal }), ({ content: schema }, open) => databaseOf(schema, open));
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

// What the database is to this process, and to each version of workers that runs beside it.
function databaseOf({ version, count, standing, sentence, advice, applied, workers }, open) {
  const [last] = applied;
  const same = standing === "same";
  const others = workers.filter((one) => one.standing !== "same");
  return [h("h2", {}, "Database"),
    h("div", { class: same ? undefined : "waits" },
      h("p", {}, `${capital(sentence)}.`), advice ? h("p", {}, inWords(capital(advice)), ".") : ""),
    others.length ? h("div", { class: "waits" }, h("p", {}, "These ", h("a", { href: "#/workers" }, "workers"), " know another schema:"),
      h("ul", {}, others.map((one) => h("li", {}, `${one.sentence}.`)))) : "",
    last ? h("p", {}, `This process (${version}) knows ${count} migrations; ${applied.length} are applied, the last `, time(last.appliedAt), ".") : "",
    h("details", { open: open || null }, h("summary", {}, "Migrations that are applied"),
      applied.length ? migrationsOf(applied) : h("p", {}, "There are none."))];
}

function migrationsOf(applied) {
  return tabled("The newest first", applied, [
    ["Number", ({ number }) => String(number)],
    ["Name", ({ name }) => name],
    ["Applied", ({ appliedAt }) => time(appliedAt)],
  ]);
}

const STATE = ["State", ({ status }) => status, ({ status }) => (status === "UP" ? "up kept" : "down kept")];

function partsOf(ready) {
  const parts = Object.entries(ready.components).map(([name, part]) => ({ name, ...part }));
  return h("div", {}, h("h2", {}, "Dependencies"), tabled(ready.status === "UP" ? "This process can work" : "This process can't work", parts, [
    ["Part", ({ name }) => name, () => "kept"],
    STATE,
    ["Now", ({ error }) => error],
    ["Last error", ({ lastError, error }) => lastError && [time(lastError.at), lastError.error === error ? "" : ` ${lastError.error}`]],
  ]));
}

function placesOf(targets) {
  return h("div", {}, h("h2", {}, "Targets"), targets.length ? tabled("Where this tenant's archives are put", targets, [
    ["Target", ({ name }) => name],
    ["Place", ({ bucket, endpoint }) => `${bucket} at ${endpoint}`],
    STATE,
    ["Now", ({ error }) => error],
    ["Held back", held],
  ]) : h("p", { class: "dim" }, "This tenant has none."));
}

// A column in which no row has anything to tell is left out.
function tabled(caption, rows, columns) {
  const kept = columns.filter(([, of]) => rows.some(of));
  return h("table", { class: "cards" },
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, kept.map(([name]) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, kept.map(([name, of, kind]) =>
      h("td", { "data-label": name, class: kind?.(row) }, of(row) || ""))))));
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
