// The console: which page is shown, and who is signed in.

import { looksOnly, plainUser, session } from "./api.js";
import { banner, tell } from "./banner.js";
import { alertOf, closeDialogs, h } from "./dom.js";
import { forget } from "./draft.js";
import { drop } from "./left.js";
import { entitle, standing } from "./standing.js";

const main = document.querySelector("main");
const nav = document.querySelector("nav");
const who = document.querySelector(".who");
const paused = document.getElementById("paused");
const stands = document.getElementById("standing");
const NOT_FOR_OPERATORS = ["#/settings", "#/audit"]; // who administer nothing
const OPERATORS_ONLY = ["#/", "#/targets", "#/workers", "#/settings", "#/audit", "#/webhooks", "#/dead-letters", "#/system"];
// A page's files are loaded when it is shown first.
const MOVED = { health: "system" }; // what bookmarks of earlier versions name
const PAGES = {
  overview: async () => (await import("./overview.js")).overview,
  mine: async () => (await import("./mine.js")).mine,
  deliveries: async () => (await import("./list.js")).list,
  delivery: async () => (await import("./delivery.js")).delivery,
  new: async () => (await import("./new.js")).ask,
  targets: async () => (await import("./targets.js")).targets,
  workers: async () => (await import("./workers.js")).workers,
  settings: async () => (await import("./settings.js")).settings,
  audit: async () => (await import("./audit.js")).audit,
  webhooks: async () => (await import("./webhooks.js")).webhooks,
  "dead-letters": async () => (await import("./letters.js")).deadLetters,
  system: async () => (await import("./system.js")).system,
  help: async () => (await import("./help.js")).help,
};

const provider = () => import("./provider.js");
const signIn = async () => (await import("./sign-in.js")).signIn;

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
  if (Object.hasOwn(MOVED, page)) {
    location.replace(`#/${MOVED[page]}`); // which is shown, then
    return;
  }
  const [home, listed] = plainUser() ? ["mine", "mine"] : ["overview", "deliveries"];
  const name = Object.hasOwn(PAGES, page) ? page : home;
  for (const link of nav.children) {
    link.hidden = (plainUser() && OPERATORS_ONLY.includes(link.hash)) || (looksOnly() && ["#/mine", "#/new"].includes(link.hash)) ||
      (session.role === "EXPLOIT" && NOT_FOR_OPERATORS.includes(link.hash));
    const here = link.hash === (name === "overview" ? "#/" : `#/${name}`) || (name === "delivery" && link.hash === `#/${listed}`);
    if (here) {
      link.setAttribute("aria-current", "page");
      // On a phone it is one line: in its middle.
      nav.scrollLeft = link.offsetLeft - nav.offsetLeft - (nav.clientWidth - link.offsetWidth) / 2;
    } else link.removeAttribute("aria-current");
  }
  const content = h("div", {});
  main.replaceChildren(content);
  standing(stands, signal);
  banner(paused, signal);
  try {
    const draw = await (known ? PAGES[name] : signIn)().catch(() => unloaded);
    if (signal.aborted) return;
    const shown = draw(content, { signal, why, rest: rest.map(decodeURIComponent), query: new URLSearchParams(query) });
    // Each page begins with its heading. At once: later, the focus may be elsewhere in the page.
    announce(content.querySelector("h1"), changed);
    await shown;
  } catch (error) {
    if (!signal.aborted) content.append(alertOf(error));
  }
}

async function unloaded(content) {
  content.append(h("h1", {}, "This page could not be loaded"));
  throw new Error("Is the service running, and is the network up? Load the console again.");
}

function announce(heading, changed) {
  entitle(heading.textContent);
  heading.tabIndex = -1;
  // A screen reader tells where it is now; at first, it reads the page from its beginning.
  if (changed) heading.focus({ preventScroll: true });
}

// Whether the page that is shown may be left; one with changes that are not saved asks first, then goes on.
function leaves(further) {
  return window.dispatchEvent(new CustomEvent("leave", { cancelable: true, detail: further }));
}

who.querySelector("button").addEventListener("click", async ({ target }) => {
  if (!leaves(() => target.click())) return;
  const { origin } = session;
  session.token = null;
  forget();
  drop();
  show();
  const way = await (await provider()).wayOut(origin);
  if (way) location.assign(way);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part after # names a page here
  main.focus();
});
// Whether the user comes back from the identity provider.
function comesBack() {
  const given = new URLSearchParams(location.search);
  return given.has("state") && (given.has("code") || given.has("error"));
}

window.addEventListener("paused", () => tell(paused, leaving.signal));
window.addEventListener("signed-out", (event) => show({ why: event.detail }));
window.addEventListener("signed-in", () => show());
window.addEventListener("hashchange", ({ oldURL, newURL }) => {
  if (leaves(() => location.assign(newURL))) show();
  else history.replaceState(null, "", oldURL);
});
if (comesBack()) {
  main.replaceChildren(h("h1", {}, "Signing in"));
  provider().then(({ arrive }) => arrive()).then(() => show({ changed: false }), (error) => show({ changed: false, why: error.message }));
} else {
  show({ changed: false });
}
