// A half-written form, kept by this tab until it is sent: a token that ends takes nothing of it.

import { session } from "./api.js";

const KEY = "rs-delivery-draft";

// Whose it is: another user of this tab is shown none of it.
const owner = () => JSON.stringify([session.caller.tenant, session.caller.name]);

const fieldsOf = (form) => [...form.elements].filter((field) => field.id && field.type !== "submit");

// `from`: the delivery that it was filled in like; null where there is none.
export function keep(form, from) {
  const fields = {};
  for (const field of fieldsOf(form)) fields[field.id] = field.type === "checkbox" ? field.checked : field.value;
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ owner: owner(), from, fields }));
  } catch { /* what is too long for the browser to keep is not kept */ }
}

export function forget() {
  sessionStorage.removeItem(KEY);
}

// Put back what was kept, not where the form is to be like another delivery; returns whether anything was.
export function restore(form, from) {
  let kept;
  try {
    kept = JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return false;
  }
  if (kept?.owner !== owner()) {
    forget();
    return false;
  }
  if (from && kept.from !== from) return false;
  for (const field of fieldsOf(form)) {
    if (!Object.hasOwn(kept.fields, field.id) || field.readOnly) continue;
    if (field.type === "checkbox") field.checked = kept.fields[field.id];
    else field.value = kept.fields[field.id];
  }
  return true;
}
