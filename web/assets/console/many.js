// Many deliveries at once: what would be done is shown, then done to those that were shown, and told of each.

import { call } from "./api.js";
import { addressOf, alertOf, confirmed, h, say } from "./dom.js";

const SHOWN = 5; // ids that a question names
const REASONS = 50; // lines of a list of those that are left alone
const ACTS = {
  retry: { button: "Retry these…", ask: (what) => `Try ${what} again?`, yes: "Try again", done: (what) => `${what} will be tried again.`, none: "Nothing of this can be tried again." },
  cancel: { button: "Cancel these…", ask: (what) => `Cancel ${what}? Their clients are told that they failed.`, yes: "Cancel them", done: (what) => `${what} cancelled.`, none: "Nothing of this can be cancelled." },
};
const counted = (count) => (count === 1 ? "1 delivery" : `${count.toLocaleString("en")} deliveries`);

// The buttons; `done` hears that something was changed.
export function manyOf(filter, { done }) {
  const told = h("div", {});
  const buttons = Object.entries(ACTS).map(([act, words]) => h("button", {
    type: "button",
    onclick: async () => {
      try {
        await ask(act, words, filter, told, done);
      } catch (error) {
        told.replaceChildren(alertOf(error));
      }
    },
  }, words.button));
  return h("div", { class: "changes" }, h("div", { class: "actions" }, buttons), told);
}

async function ask(act, words, filter, told, done) {
  told.replaceChildren();
  const path = `/deliveries/${act}`;
  const { content: would, left, more } = await call("POST", path, { body: { filter, dryRun: true } });
  if (!would.length) {
    told.replaceChildren(h("div", { class: "waits", role: "status" }, h("p", {}, words.none), aside(left)));
    return;
  }
  const reason = act === "cancel" && h("input", { id: "many-reason", maxlength: 300, class: "whole" });
  const fields = [
    h("p", {}, would.slice(0, SHOWN).map(({ correlationId }) => correlationId).join(", "),
      would.length > SHOWN ? ` and ${(would.length - SHOWN).toLocaleString("en")} more` : ""),
    more && h("p", { class: "hint" }, "There are more that are like this: these are the newest. Do it again for the rest."),
    aside(left),
    reason && h("label", { for: "many-reason" }, "Reason, which their clients are told"), reason,
  ].filter(Boolean);
  if (!(await confirmed(words.ask(counted(would.length)), words.yes, ...fields))) return;
  const body = { filter, ids: would.map(({ id }) => id) };
  if (reason?.value) body.reason = reason.value;
  say("Working…");
  const acted = await call("POST", path, { body });
  say(words.done(counted(acted.content.length)));
  if (acted.left.length) {
    told.replaceChildren(h("div", { class: "problem", role: "alert" },
      h("p", {}, `${words.done(counted(acted.content.length))} ${counted(acted.left.length)} could not be:`), reasons(acted.left)));
  }
  done();
}

function aside(left) {
  if (!left.length) return null;
  return h("details", {}, h("summary", {}, `${counted(left.length)} ${left.length === 1 ? "is" : "are"} left alone`), reasons(left));
}

function reasons(left) {
  return h("ul", {}, left.slice(0, REASONS).map((one) => h("li", {},
    one.correlationId ? [h("a", { href: addressOf(one) }, one.correlationId), ": "] : [], one.why)),
  left.length > REASONS ? h("li", {}, `and ${left.length - REASONS} more`) : null);
}
