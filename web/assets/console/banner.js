// What is paused, and which tenants are in maintenance, on every page.

import { call, plainUser, session } from "./api.js";
import { capital, h } from "./dom.js";
import { attended } from "./standing.js";

const LOOK = 10_000; // milliseconds between looks
const MAINTENANCE = ["MAINTENANCE", "MAINTENANCE_FORGOTTEN"];

let paused = []; // sentences
let maintained = [];

// Tells it in `place`, for as long as the page is shown.
export function banner(place, signal) {
  attended(({ found }) => {
    if (!found) return; // it may go on
    maintained = found.filter(({ code }) => MAINTENANCE.includes(code)).map(inWords);
    draw(place);
  }, signal);
  return follow(place, signal);
}

async function follow(place, signal) {
  if (signal.aborted) return;
  await tell(place, signal);
  setTimeout(() => follow(place, signal), LOOK);
}

function inWords({ code, tenant, cause }) {
  const over = code === "MAINTENANCE_FORGOTTEN" ? " It should be over." : "";
  return `Tenant ${tenant} is in maintenance${cause ? `, ${cause}` : ""}.${over}`;
}

export async function tell(place, signal) {
  if (!session.token || plainUser()) {
    [paused, maintained] = [[], []];
    draw(place);
    return;
  }
  try {
    const { content } = await call("GET", "/pauses", { signal });
    paused = content.map((pause) => `${capital(pause.cause)}.`);
    draw(place);
  } catch {
    // The page itself says what is away.
  }
}

function draw(place) {
  const told = [...maintained, ...paused];
  if ((place.dataset.told ?? "") === told.join("\n")) return; // a screen reader would tell it again
  place.replaceChildren(...told.map((text) => h("p", { class: "waits" }, text)));
  place.dataset.told = told.join("\n");
}
