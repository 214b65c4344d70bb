// The console: which page is shown, and who is signed in.

import { plainUser, session } from "./api.js";
import { alertOf, h } from "./dom.js";
import { delivery } from "./delivery.js";
import { health } from "./health.js";
import { deadLetters } from "./letters.js";
import { list } from "./list.js";
import { ask } from "./new.js";
import { settings } from "./settings.js";
import { signIn } from "./sign-in.js";

const main = document.querySelector("main");
const nav = document.querySelector("nav");
const who = document.querySelector(".who");
const OPERATORS_ONLY = ["#/settings", "#/dead-letters", "#/health"];
const PAGES = { deliveries: list, delivery, new: ask, settings, "dead-letters": deadLetters, health };

let leaving = new AbortController();

async function show({ changed = true, why } = {}) {
  leaving.abort(); // whatever the last page follows
  leaving = new AbortController();
  const { signal } = leaving;
  const known = Boolean(session.token);
  nav.hidden = who.hidden = !known;
  if (known) {
    const { email, sub, tenant, role } = session.claims;
    who.firstElementChild.textContent = `${email || sub || "somebody"}, ${role}, tenant ${tenant}`;
  }
  const [path, query] = location.hash.slice(2).split("?");
  const [page, ...rest] = path.split("/");
  // Who administers all tenants has no deliveries.
  const home = session.claims.tenant === "instance" ? "dead-letters" : "deliveries";
  const name = Object.hasOwn(PAGES, page) ? page : home;
  for (const link of nav.children) {
    link.hidden = plainUser() && OPERATORS_ONLY.includes(link.hash);
    const here = link.hash === `#/${name}` || (name === "delivery" && link.hash === "#/deliveries");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const content = h("div", {});
  main.replaceChildren(content);
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

who.querySelector("button").addEventListener("click", () => {
  session.token = null;
  show();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part after # names a page here
  main.focus();
});
window.addEventListener("signed-out", (event) => show({ why: event.detail }));
window.addEventListener("signed-in", () => show());
window.addEventListener("hashchange", () => show());
show({ changed: false });
