// The tenant's settings, each a form: what is set, what the default is, try, save, put back.

import { call, looksOnly } from "./api.js";
import { alertOf, confirmed, h, isObject, say } from "./dom.js";
import { leave, taken } from "./left.js";
import { MASK, cleared, fits, marked, misfitOf, partOf, shownOf, withoutSecrets } from "./fields.js";
import { SETTINGS } from "./setting-schemas.js";

const GROUPS = {
  "Orders": ["request_ttl", "order_size_limit_bytes", "max_suborders", "quota"],
  "What is delivered": ["delivery_format", "archive_name", "prefix", "manifest", "report", "sha256", "compression_threshold"],
  "Where to": ["s3_server", "delivery_bucket", "build_bucket", "delivery_targets"],
  "What is delivered is kept": ["delivered_ttl", "link_ttl"],
  "Who is told": ["progress_events", "webhooks"],
};
const FURTHER = "Further";
// What few visits need is loaded when they do.
const later = (part) => import(`./${part}.js`);
const trail = async (query) => (await call("GET", `/audit?${new URLSearchParams(query)}`)).content;
// The id of the newest entry of the audit trail; undefined where that is not told: then it is not looked for what came after it.
const newest = () => trail({ limit: 1 }).then(([entry]) => entry?.id ?? 0, () => undefined);

export async function settings(content, { signal, query }) {
  content.append(h("h1", {}, "Settings"),
    h("p", {}, looksOnly() ? "Of this tenant." : "Of this tenant; a change holds for what begins after it."));
  const asking = h("p", { class: "dim" }, "Asking…");
  content.append(asking);
  const since = looksOnly() ? undefined : await newest(); // before the settings: what comes between is told, not missed
  const answers = await call("GET", "/settings", { signal }).finally(() => asking.remove());
  const unsaved = new Map(); // by title: what gives a draft of what was changed and not saved
  askBeforeLeaving(unsaved, signal);
  const { drafts, secretless } = taken();
  leave(() => [...unsaved.values()].map((draft) => draft()), signal);
  const groupOf = ({ content: { name } }) => Object.keys(GROUPS).find((group) => GROUPS[group].includes(name)) ?? FURTHER;
  for (const group of [...Object.keys(GROUPS), FURTHER]) {
    const own = answers.filter((answer) => groupOf(answer) === group);
    if (!own.length) continue;
    const order = GROUPS[group] ?? [];
    own.sort((one, other) => order.indexOf(one.content.name) - order.indexOf(other.content.name));
    content.append(h("h2", {}, group), h("div", { class: "settings" }, own.map((answer) => {
      const place = h("div", { class: isObject(answer.content.value) ? "broad" : null });
      draw(place, answer, unsaved, since, drafts.find(({ name }) => name === answer.content.name));
      return place;
    })));
  }
  if (drafts.length) {
    content.querySelector("p").after(h("p", { role: "status", class: "waits" }, "The session had ended.",
      unsaved.size ? ` What you had not saved is here again: ${[...unsaved.keys()].join(", ")}.` : "",
      secretless ? " Secrets were not kept: type them again." : ""));
  }
  const wanted = content.querySelector(`[data-setting="${CSS.escape(query.get("name") ?? "")}"]`);
  wanted?.scrollIntoView();
  wanted?.focus();
}

function askBeforeLeaving(unsaved, signal) {
  window.addEventListener("beforeunload", (event) => { if (unsaved.size) event.preventDefault(); }, { signal });
  window.addEventListener("leave", async (event) => {
    if (!unsaved.size) return;
    event.preventDefault();
    if (!(await confirmed(`Not saved: ${[...unsaved.keys()].join(", ")}.`, "Leave without saving")) || signal.aborted) return;
    unsaved.clear();
    event.detail();
  }, { signal });
}

// `since`: the newest entry of the audit trail when the answer was asked for; see `secretBy`. `draft`: what was typed
// before, which goes on.
function draw(place, answer, unsaved, since, draft) {
  const { name, description, value, defaultValue } = answer.content;
  const { title, tested, schema } = SETTINGS[name] ?? { title: name, schema: {} };
  const path = `/settings/${name}`;
  const simple = !isObject(value);
  const label = h("span", { id: `title-${name}` }, title);
  const origin = h("span", { class: "hint" }, isSet(answer) ? "(set)" : "(default)");
  const head = [h("legend", {}, label, " ", origin), h("p", { class: "hint" }, marked(description))];
  const standard = simple
    ? h("p", { class: "hint" }, "Default: ", shownOf(schema, defaultValue))
    : h("details", { class: "hint" }, h("summary", {}, "Default"), shownOf(schema, defaultValue));
  if (looksOnly()) {
    place.replaceChildren(h("fieldset", { "data-setting": name, tabindex: "-1" }, head, shownOf(schema, value), standard, historyOf(name)));
    return;
  }

  const history = historyOf(name);
  let stored = answer; // as it is known
  let base = value; // what is changed here
  let part; // what is edited, as a form or as JSON
  let before; // what was there before any of it was changed
  let seen = since; // the same, of what is changed here
  let calling = false;
  const shown = h("div", {});
  const found = h("div", { role: "status" });
  const button = (text, onclick, more) => h("button", { type: "button", onclick, ...more }, text);
  const save = h("button", { class: "main", hidden: true }, "Save");
  const undo = button("Undo", () => again(stored, "", since), { hidden: true });
  const json = button("", () => attempt(turn), { hidden: simple });

  const partFor = (held, raw) => (raw ? asJson(JSON.stringify(held, null, 2)) : partOf(schema, held, simple ? label : undefined));
  const asRead = (held) => canonical(fits(schema, held) ? partFor(held, false).read() : held);
  // As JSON, and as a form: one that can show all of it, or what it does not know would be lost.
  function turn() {
    const held = part.read();
    const toJson = json.dataset.now !== "json";
    const misfit = toJson ? undefined : misfitOf(schema, held);
    if (misfit !== undefined) throw new Error(`A form can't show ${misfit || "this"}: correct it, or save it as JSON.`);
    edit(partFor(held, toJson));
  }
  function edit(next) {
    part = next;
    const raw = part.text !== undefined;
    json.dataset.now = raw ? "json" : "form";
    json.textContent = raw ? "Edit as a form" : "Edit as JSON";
    shown.replaceChildren(part.shown);
  }
  // As a text; undefined where it can't be read, which is told when it is saved.
  function written() {
    try { return canonical(part.read()); } catch { return undefined; }
  }
  function follow() {
    const changed = written() !== before;
    save.hidden = undo.hidden = !changed;
    if (changed && seen === undefined && !unsaved.has(title)) newest().then((id) => { seen ??= id; });
    if (changed) unsaved.set(title, drafted);
    else unsaved.delete(title);
  }
  function drafted() {
    if (!part.text) return { name, base, seen, held: part.read(), bare: withoutSecrets(schema, part.read(), base) };
    let bare; // only of what is known where secrets are
    try { if (fits(schema, part.read())) bare = withoutSecrets(schema, part.read(), base); } catch { /* it can't be read */ }
    return { name, base, seen, text: part.text(), bare };
  }
  // The entry of who set another secret meanwhile: by its mask, it is the same as before.
  async function secretBy(theirs) {
    if (seen === undefined || !JSON.stringify([base, theirs]).includes(MASK)) return undefined;
    return (await trail({ subject: name, limit: 20 })).find(({ id, action }) => id > seen && ["set, with another secret", "reset"].includes(action));
  }
  function again(told, text, now) {
    if (text) say(text);
    unsaved.delete(title);
    // Only what is drawn again has lost the focus; elsewhere, the user is at work.
    const here = place.contains(document.activeElement);
    draw(place, told, unsaved, now);
    if (here) place.querySelector("input, select, textarea, summary, button").focus();
  }
  // What was changed is done; what was typed meanwhile stays as it is, to be saved.
  function goOn(told, text, now) {
    stored = told;
    base = told.content.value;
    before = asRead(base);
    since = seen = now;
    origin.textContent = isSet(told) ? "(set)" : "(default)";
    reset.hidden = !isSet(told);
    say(`${text} What you have typed since is not saved yet.`);
    follow();
  }
  async function attempt(act) {
    try {
      found.replaceChildren();
      cleared(shown);
      await act();
    } catch (error) {
      complain(error);
    }
  }
  // One call at a time; a button that is disabled would lose the focus.
  async function calls(act) {
    if (calling) return;
    calling = true;
    await attempt(act);
    calling = false;
  }
  // What the server says of a part is told there.
  function complain(error) {
    const rest = [];
    let first;
    for (const reason of error.reasons ?? [error.message]) {
      const [where] = reason.split(": ", 1);
      const here = error.status === 422 && (where === name || where.startsWith(`${name}.`));
      if (here) {
        const field = part.complain(where.slice(name.length + 1), reason.slice(where.length + 2));
        first ??= field;
      } else rest.push(reason);
    }
    found.replaceChildren(alertOf(rest.length ? { message: rest[0], reasons: rest } : new Error("Not done: see what is marked.")));
    first?.focus();
  }
  // Do what changes the setting, unless another changed it meanwhile: then say how, and ask.
  // `then`: what was written when it was asked for.
  async function change(mine, act, text, then = written()) {
    for (;;) {
      const { body: theirs, etag } = await call("GET", path, { whole: true });
      const entry = await secretBy(theirs.content.value);
      if (entry || canonical(theirs.content.value) !== canonical(base)) {
        const { dispute } = await later("dispute");
        found.replaceChildren(dispute(schema, { base, theirs: theirs.content.value, mine, entry }, [
          button("Take theirs", () => again(theirs, "Theirs is taken.", entry?.id ?? seen)),
          button("Put mine", () => calls(async () => {
            base = theirs.content.value;
            if (entry) seen = entry.id;
            await change(mine, act, text, then);
          }), { class: "danger" }),
        ]));
        found.querySelector("button").focus();
        return;
      }
      try {
        const told = await act({ "If-Match": etag });
        const now = await newest(); // with the entry of this
        (written() === then ? again : goOn)(told, text, now);
        return;
      } catch (error) {
        if (error.status !== 412) throw error;
      }
    }
  }
  function put() {
    const mine = part.read();
    return change(mine, (headers) => call("PUT", path, { headers, body: { name, value: mine } }), "Saved.");
  }

  const reset = button("Put back to default", () => calls(async () => {
    if (!(await confirmed(`Put ${title} back to its default?`, "Put back"))) return;
    await change(defaultValue, (headers) => call("DELETE", path, { headers }), "Put back to the default.");
  }), { hidden: !isSet(answer) });

  if (draft) {
    ({ base, seen } = draft);
    edit(draft.text === undefined ? partFor(draft.held, false) : asJson(draft.text));
  } else {
    edit(partFor(value, !fits(schema, value)));
  }
  before = asRead(base);
  if (draft) follow();
  const form = h("form", {
    "data-setting": name,
    tabindex: "-1",
    oninput: follow,
    onchange: follow,
    onsubmit: (event) => {
      event.preventDefault();
      calls(put);
    },
  },
  h("fieldset", {}, head, shown, standard, history, found,
    h("div", { class: "actions" }, save, undo,
      tested ? button("Test connection", () => calls(async () => {
        found.replaceChildren("Trying…");
        const { check } = await call("PUT", `${path}?check=only`, { body: { name, value: part.read() } });
        found.replaceChildren(...(await later("connection")).outcome(check));
      })) : null,
      json, reset)));
  // What is not filled in can't be shown while its entry is closed.
  form.addEventListener("invalid", ({ target }) => target.closest("details")?.setAttribute("open", ""), true);
  place.replaceChildren(form);
}

const isSet = ({ links }) => links.some(({ rel }) => rel === "delete");

// Who changed it last, asked for when it is opened.
function historyOf(name) {
  const place = h("div", {}, "Asking…");
  return h("details", { class: "hint", ontoggle: async ({ target }) => {
    if (!target.open) return;
    try {
      place.replaceChildren(...(await later("last-changes")).lastChanges(name, await trail({ subject: name, limit: 3 })));
    } catch (error) {
      place.replaceChildren(alertOf(error));
    }
  } }, h("summary", {}, "Last changes"), place);
}

// As a text that does not depend on the order of names.
function canonical(value) {
  return JSON.stringify(value, (_name, inner) => (isObject(inner) ? Object.fromEntries(Object.entries(inner).sort()) : inner));
}

function asJson(text) {
  const problem = h("p", { class: "problem", id: `json-${Math.random()}`, hidden: true });
  const input = h("textarea", { rows: 12, spellcheck: "false" }, text);
  return {
    shown: h("div", { class: "part" }, h("label", {}, "JSON ", input), problem),
    read() {
      try {
        return JSON.parse(input.value, exact);
      } catch (error) {
        throw error instanceof SyntaxError ? new Error(`This is not JSON: ${error.message}`) : error;
      }
    },
    text: () => input.value,
    complain(where, said) {
      problem.append(h("span", {}, where ? `${where}: ${said}` : said), h("br", {}));
      problem.hidden = false;
      return input;
    },
  };
}

// Refuses a number that would be another one by the time it is sent.
function exact(_name, value) {
  if (typeof value === "number" && Math.abs(value) > Number.MAX_SAFE_INTEGER) {
    throw new RangeError(`Numbers can be up to ${Number.MAX_SAFE_INTEGER.toLocaleString("en")} here: a larger one would be rounded. Use the command line for it.`);
  }
  return value;
}
