// Who changed a setting last.

import { h, time } from "./dom.js";

export function lastChanges(name, entries) {
  if (!entries.length) return ["It was not changed yet, or longer ago than the audit trail goes."];
  return [...entries.map(({ at, actor, action }) => h("div", {}, time(at), ` ${actor}: ${action}`)),
    h("a", { href: `#/audit?${new URLSearchParams({ subject: name })}` }, "What was changed")];
}
