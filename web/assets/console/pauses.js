// The part of the page System: the pauses, each with its end, and a button that begins one.

import { call, session } from "./api.js";
import { alertOf, capital, confirmed, h, say, time } from "./dom.js";

const administersAll = () => session.role === "INSTANCE_ADMIN";
const pathOf = ({ scope, name }) => ({
  tenant: "/pauses/tenant",
  target: `/pauses/targets/${encodeURIComponent(name)}`,
  worker: `/pauses/workers/${encodeURIComponent(name)}`,
  instance: "/pauses/instance",
})[scope];

// The part of the page System: the pauses, each with its end, and a button that begins one.
export async function pauses(place, signal) {
  const list = h("div", {});
  async function look() {
    const { content } = await call("GET", "/pauses", { signal });
    list.replaceChildren(...(content.length ? content.map(shown) : [h("p", { class: "dim" }, "Nothing is paused.")]));
    window.dispatchEvent(new Event("paused"));
  }
  const again = () => look().catch((error) => { if (!signal.aborted) list.replaceChildren(alertOf(error)); });
  async function act(doing, said) {
    try {
      await doing();
      say(said);
    } catch (error) {
      say(error.message);
    }
    await again();
  }
  function shown(pause) {
    const running = pause.running === "stop" ? "what ran goes on later" : "what ran may finish";
    const own = pause.scope === "tenant" || pause.scope === "target";
    const mine = own ? pause.tenant === session.caller.tenant : administersAll();
    return h("div", { class: "waits" },
      h("p", {}, capital(pause.cause), ` (since `, time(pause.since), `; ${running})`),
      mine && h("button", {
        type: "button",
        class: "changes",
        onclick: () => act(() => call("DELETE", pathOf(pause)), "Resumed."),
      }, `Resume ${nameOf(pause)}`));
  }
  const begin = h("button", { type: "button", onclick: async () => {
    const wish = await asked(await subjectsOf(signal));
    if (wish) await act(() => call("PUT", pathOf(wish), { body: wish.body }), "Paused.");
  } }, "Pause…");
  place.append(h("h2", {}, "Pauses"), list, h("div", { class: "actions changes" }, begin));
  await again();
}

function nameOf({ scope, name }) {
  return { tenant: "the tenant's transfers", instance: "all transfers", target: `transfers to ${name}`, worker: `worker ${name}` }[scope];
}

// Pauses the transfers to one of the tenant's targets, if the user wants that; false: nothing was done.
export async function pauseTarget(name) {
  const wish = await asked([{ scope: "target", name }]);
  if (wish) await call("PUT", pathOf(wish), { body: wish.body });
  return Boolean(wish);
}

export async function resumeTarget(name) {
  await call("DELETE", pathOf({ scope: "target", name }));
}

// The same for a worker, which serves all tenants.
export async function drainWorker(name) {
  const wish = await asked([{ scope: "worker", name }]);
  if (wish) await call("PUT", pathOf(wish), { body: wish.body });
  return Boolean(wish);
}

export async function resumeWorker(name) {
  await call("DELETE", pathOf({ scope: "worker", name }));
}

async function subjectsOf(signal) {
  const [limits, workers] = await Promise.all([
    call("GET", "/limits", { signal, accept: [403] }),
    administersAll() ? call("GET", "/workers", { signal }) : null,
  ]);
  const subjects = [];
  if (limits?.content) {
    subjects.push({ scope: "tenant" });
    for (const name of limits.content.targets) subjects.push({ scope: "target", name });
  }
  for (const { id } of workers?.content ?? []) subjects.push({ scope: "worker", name: id });
  if (administersAll()) subjects.push({ scope: "instance" });
  return subjects;
}

// Which of them is to be paused, and how; null: nothing.
async function asked(subjects) {
  const what = h("select", { id: "pause-what" }, subjects.map((subject, number) =>
    h("option", { value: number }, subject.scope === "worker" ? `Worker ${subject.name}: drain it` : capital(nameOf(subject)))));
  const reason = h("input", { id: "pause-reason", maxlength: 500, class: "whole" });
  const hours = h("input", { id: "pause-hours", type: "number", min: 0, step: "any", "aria-describedby": "pause-until" });
  const running = h("select", { id: "pause-running" },
    h("option", { value: "" }, "As usual: transfers finish, a drained worker hands over"),
    h("option", { value: "finish" }, "It may finish"),
    h("option", { value: "stop" }, "It stops, and goes on later from where it is"));
  const label = (field, text) => h("label", { for: field.id }, text);
  const only = subjects.length === 1 && nameOf(subjects[0]);
  const [question, action] = only && subjects[0].scope === "worker"
    ? [`Drain ${only}? It takes nothing more; what it has goes on elsewhere.`, "Drain"]
    : [`Pause ${only || "transfers"}? What waits says why, and who paused it.`, "Pause"];
  if (!(await confirmed(question, action,
    ...(only ? [] : [label(what, "What"), what]), label(reason, "Reason"), reason,
    label(hours, "For so many hours"), hours, h("p", { class: "hint", id: "pause-until" }, "Empty: until it is resumed."),
    label(running, "What runs"), running))) return null;
  const body = { reason: reason.value };
  if (hours.value) body.forSeconds = Math.round(Number(hours.value) * 3600);
  if (running.value) body.running = running.value;
  return { ...subjects[what.value], body };
}
