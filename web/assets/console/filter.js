// Which deliveries a page shows: the address has it all, the API is asked for it, what is told live is held against it.

import { h } from "./dom.js";

export const STATES = ["RECEIVED", "GRANTED", "ORDERED", "AVAILABLE", "READY", "TRANSFERRING", "DONE", "ERROR"];
export const ENDED = ["DONE", "ERROR"];
const ACTIVE = STATES.filter((name) => !ENDED.includes(name));
const NAMES = ["state", "activity", "text", "label", "code", "target", "user", "worker", "since"];
const LISTS = ["state", "activity", "label", "code"]; // what the API takes several of
const HOUR = 3_600_000; // milliseconds
const TIMES = { "": "at any time", "1h": "within an hour", today: "today", "24h": "within a day", "168h": "within a week" };

// What an address asks for, by name; a name that is missing is any.
export function wantedOf(query) {
  return Object.fromEntries(NAMES.map((name) => [name, query.get(name)?.trim()]).filter(([, value]) => value));
}

export function hashOf(wanted) {
  const query = new URLSearchParams(wantedOf(new URLSearchParams(wanted))).toString();
  return query ? `#/deliveries?${query}` : "#/deliveries";
}

// The same for the API. Times are counted back from now.
export function filterOf(wanted) {
  const filter = Object.fromEntries(Object.entries(wanted).map(([name, value]) => [name, LISTS.includes(name) ? [value] : value]));
  if (wanted.state === "active") filter.state = ACTIVE;
  if (wanted.since) filter.since = beginOf(wanted.since);
  return filter;
}

function beginOf(since) {
  if (since === "today") return new Date(new Date().setHours(0, 0, 0, 0)).toISOString();
  const [, hours] = since.match(/^(\d{1,5})h$/) || [];
  return hours ? new Date(Date.now() - hours * HOUR).toISOString() : since;
}

export function pathOf(filter) {
  return `/deliveries?${new URLSearchParams(Object.entries(filter).flatMap(([name, value]) => [value].flat().map((one) => [name, one])))}`;
}

export function fits(filter, delivery) {
  const { state, activity, label, code, target, user, worker, since, text } = filter;
  // A transfer without a byte for long is one that moves, too.
  const goesOn = delivery.activity === "stalled" && !activity?.includes("stalled") ? "moving" : delivery.activity;
  return (!state || state.includes(delivery.state)) &&
    (!activity || activity.includes(goesOn)) &&
    (!label || label.every((one) => delivery.labels?.includes(one))) &&
    (!code || code.includes(delivery.code)) &&
    (!target || delivery.target === target) &&
    (!user || delivery.user === user) &&
    (!worker || delivery.worker === worker) &&
    (!since || Date.parse(delivery.requestedAt) >= Date.parse(since)) &&
    (!text || JSON.stringify([delivery.correlationId, delivery.archiveName, delivery.errorType,
      delivery.errorMessage, delivery.lastCause]).toLowerCase().includes(text.toLowerCase()));
}

export function filters(wanted) {
  const input = (id) => h("input", { id, type: "search", value: wanted[id] || "" });
  const choice = (id, choices) => h("select", { id }, choices.map(([value, label]) =>
    h("option", { value, selected: value === (wanted[id] || "") }, label)));
  const since = Object.entries(TIMES);
  if (wanted.since && !Object.hasOwn(TIMES, wanted.since)) since.push([wanted.since, `since ${wanted.since}`]);
  const fields = {
    state: ["State", choice("state", [["", "all"], ["active", "under way"], ...STATES.map((name) => [name, name])])],
    text: ["Id, archive or cause", input("text")],
    label: ["Label", input("label")],
    activity: ["What goes on", choice("activity", [["", "anything"], ["moving", "moving"], ["stalled", "stalled"], ["retrying", "retrying"], ["waiting", "waiting"], ["paused", "paused"]])],
    code: ["Code", input("code")],
    target: ["Target", input("target")],
    user: ["User", input("user")],
    worker: ["Worker", input("worker")],
    since: ["Requested", choice("since", since)],
  };
  const shown = (names) => names.map((name) => h("div", {}, h("label", { for: name }, fields[name][0]), fields[name][1]));
  const [first, more] = [NAMES.filter((name) => ["state", "text", "label"].includes(name)), NAMES.filter((name) => !["state", "text", "label"].includes(name))];
  return h("form", {
    role: "search",
    onsubmit: (event) => {
      event.preventDefault();
      location.hash = hashOf(Object.fromEntries(NAMES.map((name) => [name, fields[name][1].value])));
    },
  },
  h("div", { class: "filters" }, shown(first), h("button", {}, "Show")),
  h("details", { open: more.some((name) => wanted[name]) }, h("summary", {}, "More filters"), h("div", { class: "filters" }, shown(more))));
}
