// The console: which page is shown, and who is signed in.

import { looksOnly, plainUser, session } from "./api.js";
import { alertOf, closeDialogs, h } from "./dom.js";
import { delivery } from "./delivery.js";
import { forget } from "./draft.js";
import { health } from "./health.js";
import { help } from "./help.js";
import { deadLetters } from "./letters.js";
import { list } from "./list.js";
import { mine } from "./mine.js";
import { ask } from "./new.js";
import { banner, tell } from "./pauses.js";
import { arrive, comesBack, wayOut } from "./provider.js";
import { settings } from "./settings.js";
import { signIn } from "./sign-in.js";
import { webhooks } from "./webhooks.js";

const main = document.querySelector("main");
const nav = document.querySelector("nav");
const who = document.querySelector(".who");
const paused = document.getElementById("paused");
const OPERATORS_ONLY = ["#/settings", "#/webhooks", "#/dead-letters", "#/health"];
const PAGES = { mine, deliveries: list, delivery, new: ask, settings, webhooks, "dead-letters": deadLetters, health, help };

let leaving = new AbortController();

async function show({ changed = true, why } = {}) {
  leaving.abort(); // whatever the last page follows
  closeDialogs();
  leaving = new AbortController();
  const { signal } = leaving;
  const known = Boolean(session.token);
  nav.hidden = who.hidden = !known;
  document.body.classList.toggle("looks-only", known && looksOnly());
  if (known) {
    const { name, role, namedRole, tenant } = session.caller;
    const counts = namedRole ? `${namedRole} (${role})` : role;
    who.firstElementChild.textContent = `${name}, ${counts}, tenant ${tenant}`;
  }
  const [path, query] = location.hash.slice(2).split("?");
  const [page, ...rest] = path.split("/");
  // Who administers all tenants has no deliveries.
  const listed = plainUser() ? "mine" : "deliveries";
  const home = session.caller.tenant === "instance" ? "dead-letters" : listed;
  const name = Object.hasOwn(PAGES, page) ? page : home;
  for (const link of nav.children) {
    link.hidden = (plainUser() && OPERATORS_ONLY.includes(link.hash)) || (looksOnly() && ["#/mine", "#/new"].includes(link.hash));
    const here = link.hash === `#/${name}` || (name === "delivery" && link.hash === `#/${listed}`);
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const content = h("div", {});
  main.replaceChildren(content);
  banner(paused, signal);
  try {
    const shown = known
      ? PAGES[name](content, { signal, rest: rest.map(decodeURIComponent), query: new URLSearchParams(query) })
      : signIn(content, signal, why);
    // Each page begins with its heading. At once: later, the focus may be elsewhere in the page.
    announce(content.querySelector("h1"), changed);
    await shown;
  } catch (error) {
    if (!signal.aborted) content.append(alertOf(error));
  }
}

function announce(heading, changed) {
  document.title = `${heading.textContent} – rs-delivery console`;
  heading.tabIndex = -1;
  // A screen reader tells where it is now; at first, it reads the page from its beginning.
  if (changed) heading.focus({ preventScroll: true });
}

who.querySelector("button").addEventListener("click", async () => {
  const { origin } = session;
  session.token = null;
  forget();
  show();
  const way = await wayOut(origin);
  if (way) location.assign(way);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part after # names a page here
  main.focus();
});
window.addEventListener("paused", () => tell(paused, leaving.signal));
window.addEventListener("signed-out", (event) => show({ why: event.detail }));
window.addEventListener("signed-in", () => show());
window.addEventListener("hashchange", () => show());
if (comesBack()) {
  main.replaceChildren(h("h1", {}, "Signing in"));
  arrive().then(() => show({ changed: false }), (error) => show({ changed: false, why: error.message }));
} else {
  show({ changed: false });
}
