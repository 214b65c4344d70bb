// Who works: each worker with what it carries now, and whether it is drained; drain it, resume it.

import { call, session } from "./api.js";
import { addressOf, alertOf, h, say, seconds, time } from "./dom.js";
import { hashOf } from "./filter.js";
import { look } from "./looking.js";
import { drainWorker, resumeWorker } from "./pauses.js";

const LOOK = 5_000; // milliseconds between looks
const MOST = 500; // transfers that one look asks for
const SHOWN = 8; // of a worker's transfers that are named
const COLUMNS = ["Worker", "State", "Slots", "What it carries", "Version", "Since"];
const ACTIONS = "What to do"; // a column of those who may do it

export async function workers(content, { signal }) {
  const all = h("div", {});
  // They serve all tenants: who administers one of them does not take them away from others.
  const drains = session.role === "INSTANCE_ADMIN";
  content.append(h("h1", {}, "Workers"),
    h("p", { class: "dim" }, "They serve all tenants. Deliveries are named where they are of this tenant.",
      drains ? "" : " An administrator of the instance drains and resumes them."), all);
  const rows = new Map(); // by id
  await look(all, signal, { ask: () => asked(signal), every: LOOK, hurry: "paused", draw: (place, found) => draw(place, found, rows, drains) });
}

async function asked(signal) {
  const [there, paused, moving] = await Promise.all([
    call("GET", "/workers", { signal }),
    call("GET", "/pauses", { signal }),
    // Who administers all tenants has no deliveries.
    session.caller.tenant === "instance" ? null : call("GET", `/deliveries?activity=moving&size=${MOST}`, { signal }),
  ]);
  const drained = new Map(paused.content.filter(({ scope }) => scope === "worker").map((pause) => [pause.name, pause]));
  const carried = grouped(moving?.content ?? []);
  return there.content.map((worker) => ({ ...worker, pause: drained.get(worker.id), carries: carried.get(worker.id) ?? [] }));
}

function grouped(deliveries) {
  const groups = new Map();
  for (const one of deliveries) groups.set(one.worker, [...groups.get(one.worker) ?? [], one]);
  return groups;
}

function draw(place, found, rows, drains) {
  const columns = drains ? [...COLUMNS, ACTIONS] : COLUMNS;
  const versions = new Set(found.filter(({ alive }) => alive).map(({ version }) => version));
  for (const one of found) {
    if (!rows.has(one.id)) rows.set(one.id, row(one.id, columns));
    rows.get(one.id).show(one, versions.size > 1);
  }
  const ids = found.map(({ id }) => id);
  const alive = found.filter((one) => one.alive);
  const sum = (name) => alive.reduce((total, one) => total + one[name], 0);
  const said = `${sum("running")} of ${sum("slots")} slots are taken, at ${alive.length} ${alive.length === 1 ? "worker" : "workers"}`;
  if (place.dataset.ids === JSON.stringify(ids)) {
    const caption = place.querySelector("caption");
    if (caption && caption.textContent !== said) caption.textContent = said;
    return;
  }
  place.dataset.ids = JSON.stringify(ids);
  place.replaceChildren(found.length ? h("table", { class: "cards" }, h("caption", {}, said),
    h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ids.map((id) => rows.get(id).element)))
    : h("p", { class: "problem" }, "No worker is there: start ", h("code", {}, "delivery worker"), "."));
}

// A row, whose button stays, with the focus that it has.
function row(id, columns) {
  let drained;
  const told = h("div", { role: "status" });
  const button = h("button", { type: "button", class: "changes", onclick: async () => {
    told.replaceChildren();
    try {
      if (drained) {
        await resumeWorker(id);
        say("Resumed.");
      } else if (await drainWorker(id)) {
        say("It is drained: it takes nothing more.");
      } else return;
      window.dispatchEvent(new Event("paused"));
    } catch (error) {
      told.replaceChildren(alertOf(error));
    }
  } });
  const element = h("tr", {}, columns.map((name) => h("td", { "data-label": name })));
  if (columns.includes(ACTIONS)) element.lastChild.append(h("div", { class: "actions" }, button), told);
  return {
    element,
    show(worker, differ) {
      drained = worker.pause;
      cellsOf(worker, differ).forEach((cell, number) => {
        const [known, wanted] = [element.children[number], h("td", {}, cell)];
        if (known.innerHTML !== wanted.innerHTML) known.replaceChildren(...wanted.childNodes);
      });
      button.textContent = drained ? "Resume" : "Drain…";
      button.setAttribute("aria-label", drained ? `Resume ${id}` : `Drain ${id}…`);
    },
  };
}

function cellsOf(worker, differ) {
  const { id, alive, pause, slots, running, version, carries } = worker;
  const state = alive ? h("span", { class: "up" }, "✔ alive") : h("span", { class: "down" }, `✖ silent for ${seconds(worker.silentFor)}`);
  const more = running - Math.min(carries.length, SHOWN);
  return [
    id,
    [state, pause ? h("div", { class: "stands" }, `‖ drained by ${pause.pausedBy}: ${pause.reason}`, ...(pause.until ? ["; until ", time(pause.until)] : [])) : null],
    h("span", { class: "slots" },
      h("progress", { max: Math.max(1, slots), value: running, "aria-label": `Slots of ${id} that are taken` }),
      h("small", {}, `${running} of ${slots}`)),
    [carries.slice(0, SHOWN).map((one) => h("div", {}, h("a", { href: addressOf(one) }, one.correlationId))),
      carries.length > SHOWN ? h("a", { href: hashOf({ worker: id }) }, `all ${carries.length}`)
        : more > 0 ? h("small", {}, carries.length ? `and ${more} of other tenants` : `${more} of other tenants`) : null].flat(),
    [version, differ ? h("div", { class: "stands" }, "▲ workers differ") : null],
    time(worker.startedAt),
  ];
}
