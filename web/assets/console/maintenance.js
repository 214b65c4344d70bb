// The part of the page System: whether the tenant is in maintenance, what is said of it, and the buttons for it.

import { call, session } from "./api.js";
import { alertOf, confirmed, h, say, time } from "./dom.js";

const ADMINISTER = ["ADMIN", "PROJECT_ADMIN", "INSTANCE_ADMIN"];
const HOUR = 3_600_000; // milliseconds
const LONGEST = 8760; // hours: a year

export function maintenance({ content }) {
  if (!content) return []; // for administrators only
  const { tenant } = session.caller;
  const now = content[tenant] || {};
  const told = h("div", { role: "status" });
  const act = (path, wish, said) => async () => {
    try {
      const body = await wish();
      if (!body) return;
      await call("PUT", `/maintenance/${encodeURIComponent(tenant)}/${path}`, { body });
      say(said);
      window.dispatchEvent(new Event("maintained"));
    } catch (error) {
      told.replaceChildren(alertOf(error));
    }
  };
  const button = (words, onclick) => h("button", { type: "button", onclick }, words);
  const buttons = now.active ? [
    button("End maintenance…", act("disable", async () => (await confirmed("End the maintenance? What waited begins.", "End it")) && {}, "The maintenance is over.")),
    button("Change what is said…", act("enable", () => asked("What is said of the maintenance?", "Say it", now), "It is said.")),
  ] : [button("Begin maintenance…", act("enable", () => asked(
    "Begin a maintenance? New requests wait, and the HTTP API answers 503 but for what administrators need, until it is ended.",
    "Begin", {}), "The maintenance has begun."))];
  return [h("h2", {}, "Maintenance"), ...standing(tenant, now),
    ADMINISTER.includes(session.role) ? h("div", { class: "actions changes" }, buttons) : "", told];
}

function standing(tenant, { active, lastUpdate, reason, until, enabledBy }) {
  if (!active) {
    return [h("p", { class: "dim" }, `Tenant ${tenant} is in none`, ...(lastUpdate ? ["; the last one ended ", time(lastUpdate)] : []), ".")];
  }
  const late = until && new Date(until) < Date.now();
  return [h("div", { class: late ? "problem" : "waits" },
    h("p", {}, `Tenant ${tenant} is in maintenance since `, time(lastUpdate), enabledBy ? `, by ${enabledBy}` : "", "."),
    reason ? h("p", {}, reason) : "",
    h("p", {}, until ? [late ? "It should have been over: " : "It should be over: ", time(until)] : "When it should be over was not said."))];
}

// What is to be said of it; null: nothing is done.
async function asked(question, action, { reason = "", until }) {
  const left = until ? Math.max(0, Math.round((new Date(until) - Date.now()) / HOUR * 10) / 10) || "" : "";
  let typed = false; // until it is, what was said holds, to the second, also of an end that is over
  const why = h("input", { id: "maintenance-reason", maxlength: 300, class: "whole", value: reason });
  const hours = h("input", { id: "maintenance-hours", type: "number", min: 0, max: Math.max(LONGEST, left), step: "any", value: left, "aria-describedby": "maintenance-until", oninput: () => { typed = true; } });
  const label = (field, text) => h("label", { for: field.id }, text);
  if (!(await confirmed(question, action, label(why, "Reason"), why, label(hours, "For so many hours"), hours,
    h("p", { class: "hint", id: "maintenance-until" }, "It does not end by itself: after that, it is told that it goes on.")))) return null;
  const end = !typed ? until : Number(hours.value) && new Date(Date.now() + hours.value * HOUR).toISOString();
  return { ...(why.value.trim() && { reason: why.value }), ...(end && { until: end }) };
}
