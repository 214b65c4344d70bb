// What was typed on the page Settings when the session ended: for the same user, who signs in again. It may hold secrets:
// this page alone keeps it, and no longer than until then.

import { session } from "./api.js";

let left = null;

const ownerOf = ({ tenant, name }) => JSON.stringify([tenant, name]);

// Have what `draftsOf` gives kept, should the page be left because the session ends.
export function leave(draftsOf, signal) {
  const owner = ownerOf(session.caller);
  signal.addEventListener("abort", () => { if (!session.token) left = { owner, drafts: draftsOf() }; });
}

// What was left, once; none of it where another user left it.
export function taken() {
  const drafts = left?.owner === ownerOf(session.caller) ? left.drafts : [];
  left = null;
  return drafts;
}
