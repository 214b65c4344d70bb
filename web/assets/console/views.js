// Names for filters of the page Deliveries: some are always there, others this browser keeps.

import { plainUser, session } from "./api.js";
import { confirmed, h, say } from "./dom.js";
import { hashOf } from "./filter.js";

// Another user of this browser is shown none of them: a filter may name persons.
const key = () => `rs-delivery-views ${JSON.stringify([session.caller.tenant, session.caller.name])}`;
const MOST = 20; // views that are kept
const MAX_NAME = 40; // characters

function ours() {
  const all = [["All", {}], ["Stuck", { activity: "retrying" }], ["Failed", { state: "ERROR", since: "168h" }]];
  return plainUser() ? all : [...all, ["My own", { user: session.caller.name }]];
}

// What the browser keeps; others may have written there, and it may keep nothing at all.
function kept() {
  try {
    const found = JSON.parse(localStorage.getItem(key()));
    return Array.isArray(found) ? found.filter((one) => one?.name && String(one.hash).startsWith("#/deliveries")) : [];
  } catch {
    return [];
  }
}

function keep(views) {
  try {
    localStorage.setItem(key(), JSON.stringify(views));
    return true;
  } catch {
    say("This browser keeps nothing: bookmark the page, its address has the filter.");
    return false;
  }
}

// The views, with the one of this address marked; and what keeps or forgets it.
export function viewsOf(wanted) {
  const here = hashOf(wanted);
  const place = h("div", { class: "views" });
  function draw(focus) {
    const own = kept();
    const built = ours().map(([name, of]) => ({ name, hash: hashOf(of) }));
    const known = own.find(({ hash }) => hash === here);
    const button = known
      ? h("button", { type: "button", onclick: () => keep(own.filter((one) => one !== known)) && draw(true) }, `Forget ${known.name}`)
      : h("button", { type: "button", hidden: built.some(({ hash }) => hash === here), onclick: () => save(here, draw) }, "Save this view…");
    place.replaceChildren(h("ul", { "aria-label": "Views" }, [...built, ...own].map(({ name, hash }) =>
      h("li", {}, h("a", { href: hash, "aria-current": hash === here ? "true" : null }, name)))), button);
    if (focus) button.focus();
  }
  draw();
  return place;
}

async function save(hash, draw) {
  const name = h("input", { id: "view-name", maxlength: MAX_NAME, required: true, class: "whole" });
  if (!(await confirmed("Save this filter in this browser?", "Save", h("label", { for: name.id }, "Name"), name))) return;
  const called = name.value.trim();
  if (!called) return;
  // The same name is the same view, with another filter.
  const others = kept().filter((one) => one.name !== called);
  if (others.length >= MOST) {
    say(`${MOST} views are kept: forget one first.`);
    return;
  }
  if (keep([...others, { name: called, hash }])) draw(true);
}
