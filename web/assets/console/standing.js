// Whether anything needs attention: a line on top of every page, and a number in the tab's title.

import { call, plainUser, session } from "./api.js";
import { h } from "./dom.js";

const LOOK = 10_000; // milliseconds between looks, also of a tab that is not seen: its title tells
const PATIENCE = 20_000; // milliseconds; a connection that hangs is no sign that all is well
let page = "";
let known = null; // what was told last: `found`, or why that `failed`

// The page is called this from now on.
export function entitle(name) {
  page = name;
  const count = known?.found ? problems(known.found).length : 0;
  document.title = `${count ? `(${count}) ` : ""}${page} – rs-delivery console`;
}

// Tells it in `place`, for as long as the page is shown.
export async function standing(place, signal) {
  if (!session.token || plainUser()) {
    known = null;
    place.replaceChildren();
    delete place.dataset.told;
    return;
  }
  let now;
  try {
    const either = AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]);
    now = { found: (await call("GET", "/attention", { signal: either })).content };
  } catch (error) {
    now = { failed: error.message };
  }
  if (signal.aborted) return;
  known = now;
  draw(place);
  entitle(page);
  window.dispatchEvent(new Event("attention"));
  setTimeout(() => { if (!signal.aborted) standing(place, signal); }, LOOK);
}

// Lets `hear` know all that needs attention, now and whenever there is news of it.
export function attended(hear, signal) {
  if (known) hear(known);
  window.addEventListener("attention", () => hear(known), { signal });
}

// What an operator wants so (a pause, a maintenance) is none.
function problems(found) {
  return found.filter(({ severity }) => severity === "problem");
}

function draw(place) {
  const [kind, glyph, text] = inWords();
  if (place.dataset.told === text) return; // a screen reader would tell it again
  place.dataset.told = text;
  place.replaceChildren(h("a", { class: kind, href: "#/" }, h("span", { "aria-hidden": "true" }, glyph), ` ${text}`));
}

function inWords() {
  if (known.failed) return ["down", "?", "What needs attention is not known"];
  const count = problems(known.found).length;
  if (!count) return ["up", "✔", "All is well"];
  return ["down", "✖", count === 1 ? "1 thing needs attention" : `${count} things need attention`];
}
