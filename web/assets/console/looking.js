// Looking at a path of the API again and again, for as long as a page is shown and can be seen.

import { call } from "./api.js";
import { alertOf, h, time } from "./dom.js";

// `draw(place, content)` is called at first, and whenever there is something else to tell: what a user has
// selected, or has the focus on, stays. What was told before an error stays, too, with its time. `hurry`
// names what the window hears when something was done: then it is looked at again at once. In place of a path,
// `ask` gives what several of them tell.
export async function look(place, signal, { path, ask, every, draw, hurry }) {
  const trouble = h("div", {});
  const shown = h("div", {}, h("p", { class: "dim" }, "Asking…"));
  place.replaceChildren(trouble, shown);
  let told; // as text
  let at;
  let hurried = false;
  let wake = () => {};
  if (hurry) window.addEventListener(hurry, () => { hurried = true; wake(); }, { signal });
  document.addEventListener("visibilitychange", () => wake(), { signal });
  signal.addEventListener("abort", () => wake());
  while (!signal.aborted) {
    hurried = false;
    try {
      const content = ask ? await ask() : (await call("GET", path, { signal })).content;
      if (told === undefined) shown.replaceChildren();
      if (told !== JSON.stringify(content)) draw(shown, content);
      told = JSON.stringify(content);
      at = new Date().toISOString();
      trouble.replaceChildren();
    } catch (error) {
      if (signal.aborted) return;
      complain(trouble, error, at);
      if (told === undefined) shown.replaceChildren();
    }
    if (!hurried && !signal.aborted) await new Promise((done) => { wake = done; setTimeout(done, every); });
    while (document.hidden && !signal.aborted) await new Promise((done) => { wake = done; });
  }
}

function complain(place, error, at) {
  const message = String(error.message);
  if (place.firstChild && place.dataset.told === message) return; // a screen reader would tell it again
  place.dataset.told = message;
  place.replaceChildren(alertOf(error));
  if (at) place.append(h("p", { class: "dim" }, "What follows is of ", time(at)));
}
