// What was typed on the page Settings when the session ended: for the same user, who signs in again. All of it as long as
// this page is not loaded again; after that, as an identity provider has it, all but secrets.

import { session } from "./api.js";

const KEY = "rs-delivery-left";
let left = null;

const ownerOf = ({ tenant, name }) => JSON.stringify([tenant, name]);

// Have what `draftsOf` gives kept, should the page be left because the session ends. Of a draft, `bare` has no secrets.
export function leave(draftsOf, signal) {
  const owner = ownerOf(session.caller);
  signal.addEventListener("abort", () => {
    if (session.token) return;
    const drafts = draftsOf();
    left = { owner, drafts };
    const stored = drafts.filter(({ bare }) => bare !== undefined).map(({ name, base, seen, bare }) => ({ name, base, seen, held: bare }));
    try {
      if (stored.length) sessionStorage.setItem(KEY, JSON.stringify({ owner, drafts: stored, secretless: true }));
    } catch { /* what is too long for the browser to keep is not kept */ }
  });
}

// What was left, once; none of it where another user left it.
export function taken() {
  const kept = left ?? JSON.parse(sessionStorage.getItem(KEY));
  drop();
  return kept?.owner === ownerOf(session.caller) ? kept : { drafts: [] };
}

export function drop() {
  left = null;
  sessionStorage.removeItem(KEY);
}
