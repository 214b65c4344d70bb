// The places that archives are put on: how it goes with each, what waits for it; pause, resume, try it.

import { session } from "./api.js";
import { tryTarget } from "./connection.js";
import { alertOf, codeOf, h, lasting, say, time } from "./dom.js";
import { hashOf } from "./filter.js";
import { look } from "./looking.js";
import { pauseTarget, resumeTarget } from "./pauses.js";

const LOOK = 5_000; // milliseconds between looks
const COLUMNS = ["Target", "State", "Deliveries", "Last failure", "What to do"];
const STATES = { works: ["✔", "up"], fails: ["✖", "down"], paused: ["‖", "stands"], unused: ["○", "dim"] };
const ADMINISTER = ["ADMIN", "PROJECT_ADMIN", "INSTANCE_ADMIN"];

export async function targets(content, { signal }) {
  const all = h("div", {});
  content.append(h("h1", {}, "Targets"),
    h("p", { class: "dim" }, "How it goes with each, by the attempts that ended there. None is asked for this: Test connection does."),
    all);
  const rows = new Map(); // by tenant and name
  await look(all, signal, { path: "/targets", every: LOOK, hurry: "paused", draw: (place, found) => draw(place, found, rows) });
}

function draw(place, found, rows) {
  const keyOf = ({ tenant, name }) => JSON.stringify([tenant, name]);
  const keys = found.map(keyOf);
  for (const one of found) {
    const key = keyOf(one);
    if (!rows.has(key)) rows.set(key, row());
    rows.get(key).show(one);
  }
  if (place.dataset.keys === keys.join()) return;
  place.dataset.keys = keys.join();
  place.replaceChildren(found.length ? h("table", { class: "cards targets" },
    h("caption", {}, found.length === 1 ? "1 target" : `${found.length} targets`),
    h("thead", {}, h("tr", {}, COLUMNS.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, keys.map((key) => rows.get(key).element))) : h("p", { class: "dim" }, "No tenant is served: there is no target."));
}

// A row, whose buttons stay, with the focus that they have, and what trying the target found.
function row() {
  let target;
  const tried = h("div", { role: "status" });
  const wait = h("button", { type: "button", class: "changes", onclick: () => act(async () => {
    if (target.state === "paused") {
      await resumeTarget(target.name);
      say("Resumed.");
    } else if (await pauseTarget(target.name)) {
      say("Paused.");
    } else return;
    window.dispatchEvent(new Event("paused"));
  }) });
  const test = h("button", { type: "button", class: "changes", onclick: () => act(async () => {
    tried.replaceChildren("Trying…");
    tried.replaceChildren(...await tryTarget(target.name));
  }) }, "Test connection");
  async function act(doing) {
    tried.replaceChildren();
    try {
      await doing();
    } catch (error) {
      tried.replaceChildren(alertOf(error));
    }
  }
  const buttons = h("td", { "data-label": "What to do" }, h("div", { class: "actions" }, wait, test), tried);
  const element = h("tr", {}, COLUMNS.slice(0, -1).map((name) => h("td", { "data-label": name })), buttons);
  return {
    element,
    show(one) {
      target = one;
      told(one).forEach((cell, number) => {
        const [known, wanted] = [element.children[number], h("td", {}, cell)];
        if (known.innerHTML !== wanted.innerHTML) known.replaceChildren(...wanted.childNodes);
      });
      const own = one.tenant === session.caller.tenant;
      const paused = one.state === "paused";
      // What is paused with all of its tenant, or of all, is resumed on the page System.
      wait.hidden = !own || (paused && one.pause?.scope !== "target");
      wait.textContent = paused ? "Resume" : "Pause…";
      wait.setAttribute("aria-label", paused ? `Resume transfers to ${one.name}` : `Pause transfers to ${one.name}…`);
      test.hidden = !own || !ADMINISTER.includes(session.role);
      test.setAttribute("aria-label", `Test connection to ${one.name}`);
    },
  };
}

function told(one) {
  const whose = one.tenant === session.caller.tenant ? "" : h("small", { class: "dim" }, ` of tenant ${one.tenant}`);
  const where = [one.type, one.place].filter(Boolean).join(", ");
  const [glyph, kind] = STATES[one.state] ?? ["?", "dim"];
  return [
    [h("b", {}, one.name), whose, where && h("div", { class: "dim" }, where)],
    [h("span", { class: kind }, h("span", { "aria-hidden": "true" }, `${glyph} `), one.state), ...since(one)],
    // What waits for a target is no one list: of those, some are tried again, some are paused.
    [listed(one, `${one.running} under way`, { activity: "moving" }), ", ", h("span", { class: "kept" }, `${one.waiting} waiting`),
      h("div", { class: "dim" }, `last hour: ${one.goodLastHour} went well, ${one.badLastHour} failed`)],
    failure(one),
  ];
}

// Its deliveries, in the list, which is of the caller's tenant.
function listed({ name, tenant }, text, wanted) {
  if (tenant !== session.caller.tenant) return h("span", { class: "kept" }, text);
  return h("a", { class: "kept", href: hashOf({ target: name, ...wanted }) }, text);
}

function since({ state, since: began, failures, lastGood, pause, attention }) {
  return [
    began && [" for ", lasting(began)],
    failures > 0 && h("div", {}, `${failures} ${failures === 1 ? "attempt" : "attempts"} failed`),
    pause && h("div", {}, pause.cause),
    pause && pause.scope !== "target" && h("div", {}, "It is resumed on the page ", h("a", { href: "#/system" }, "System"), "."),
    state !== "unused" && h("div", { class: "dim" }, lastGood ? ["last good: ", time(lastGood)] : "none went well yet"),
    attention && h("div", { class: "dim" }, "It needs attention: ", h("a", { href: "#/" }, "what to do")),
  ].flat().filter(Boolean);
}

function failure({ lastBad }) {
  if (!lastBad) return "";
  const cause = lastBad.cause ? `${lastBad.code ? ": " : ""}${lastBad.cause}` : "";
  return h("span", {}, codeOf(lastBad.code), cause, h("div", { class: "dim" }, time(lastBad.at)));
}
