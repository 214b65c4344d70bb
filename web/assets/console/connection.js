// Trying the connection to a target: what each check of it found.

import { call } from "./api.js";
import { h } from "./dom.js";

// Tries one of the tenant's targets as it is set; nothing is saved.
export async function tryTarget(name) {
  const { content: further } = await call("GET", "/settings/delivery_targets");
  const own = Object.hasOwn(further.value, name);
  // Any other name means the default one.
  const { name: setting, value } = own ? further : (await call("GET", "/settings/s3_server")).content;
  const body = { name: setting, value: own ? { [name]: value[name] } : value };
  return outcome((await call("PUT", `/settings/${setting}?check=only`, { body })).check);
}

export function outcome(check) {
  return Object.entries(check || {}).flatMap(([label, steps]) => steps.map((step) =>
    h("p", { class: step.ok ? "up" : "down" }, `${label}, ${step.check}: ${step.ok ? "good" : step.message}`)));
}
