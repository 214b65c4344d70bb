// What is paused, on every page.

import { call, plainUser, session } from "./api.js";
import { capital, h } from "./dom.js";

const LOOK = 10_000; // milliseconds between looks

// Tells in `place` what is paused, for as long as the page is shown.
export async function banner(place, signal) {
  if (signal.aborted) return;
  await tell(place, signal);
  setTimeout(() => banner(place, signal), LOOK);
}

export async function tell(place, signal) {
  if (!session.token || plainUser()) {
    place.replaceChildren();
    delete place.dataset.told;
    return;
  }
  try {
    const { content } = await call("GET", "/pauses", { signal });
    const told = content.map((pause) => `${capital(pause.cause)}.`);
    if (place.dataset.told === told.join("\n")) return; // a screen reader would tell it again
    place.replaceChildren(...told.map((text) => h("p", { class: "waits" }, text)));
    place.dataset.told = told.join("\n");
  } catch {
    // The page itself says what is away.
  }
}
