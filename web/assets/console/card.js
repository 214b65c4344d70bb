// A delivery as the user who asked for it sees it: one card, in words of theirs.

import { call, download } from "./api.js";
import { activity, addressOf, bar, clock, codeOf, confirmed, h, lasting, offered, say, size, time } from "./dom.js";

const UNNAMEABLE = [".", "..", "events", "by-id"]; // correlation ids that no path can hold
const PREPARED = { RECEIVED: "Asked for", GRANTED: "Being prepared", ORDERED: "Being prepared", AVAILABLE: "Being prepared",
  READY: "Waiting its turn", TRANSFERRING: "On its way" };

export function nameOf({ labels, archiveName, correlationId }) {
  return labels?.join(", ") || archiveName || correlationId;
}

// What goes on: a sign, words, and which of the colours. Colour never says it alone.
function standing(delivery, progress) {
  const { state, activity: does, content, code, finishedAt, stateSince, missing, parkedSince } = delivery;
  if (state === "DONE") {
    if (content) return ["·", "over", content === "removed" ? "No longer kept" : "Being removed", delivery.removedAt];
    return ["✔", "good", missing ? `Ready, without ${missing} ${missing === 1 ? "file" : "files"}` : "Ready", finishedAt];
  }
  if (state === "ERROR") return code === "CANCELLED" ? ["⊘", "over", "Cancelled", finishedAt] : ["✖", "bad", "Did not work", finishedAt];
  if (does === "paused") return ["‖", "late", "Paused"];
  if (does === "retrying") return ["↻", "late", "Delayed"];
  if (progress?.stalledFor) return ["▲", "late", "On its way, slow"];
  if (parkedSince) return ["○", "rests", "Being prepared"];
  if (does === "moving" || does === "stalled") return ["▶", "moves", progress?.phase === "completing" ? "On its way, almost done" : PREPARED[state]];
  return ["○", "rests", state === "TRANSFERRING" ? "Waiting its turn" : PREPARED[state], null, stateSince];
}

// Not over plain HTTP: there, browsers copy nothing.
function copying(text, what) {
  if (!navigator.clipboard) return null;
  return h("button", { type: "button", class: "copy", "aria-label": `Copy ${what}`, onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      say(`Copied: ${what}.`);
    } catch {
      say("The browser does not let this page copy.");
    }
  } }, "Copy");
}

function facts(delivery) {
  const { archiveBytes, bytes, files, md5, sha256, expires, state, content } = delivery;
  if (state !== "DONE" || content) return [];
  const sum = (name, value) => value && [name, [h("code", {}, value), " ", copying(value, `the ${name} of ${nameOf(delivery)}`)].filter(Boolean)];
  const known = [
    ["Size", `${size(archiveBytes ?? bytes)}${files ? `, ${files} ${files === 1 ? "file" : "files"}` : ""}`],
    sum("MD5", md5), sum("SHA-256", sha256),
    expires && ["Kept until", time(expires)],
  ];
  return [h("dl", {}, known.filter(Boolean).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))];
}

// Of an order that is made ready in parts: how many are in it.
function packed({ announcedSubOrders: announced = 0, listedSubOrders: listed = 0, totalSubOrders: total = 0, orderDone, finishedAt }) {
  const parts = Math.max(announced, total);
  if (finishedAt || parts < 2) return null;
  return `${listed} of ${orderDone ? "" : "at least "}${parts} parts are packed`;
}

// Why it waits or has failed, as the catalogue says it to users, and what they do. `superseded`: by which delivery.
function why(delivery, stanza, superseded) {
  const { state, code, errorMessage, lastCause, correlationId, tries, activity: does } = delivery;
  const failed = state === "ERROR";
  const waits = !failed && state !== "DONE" && (does === "paused" || does === "retrying" || does === "waiting");
  const words = failed ? errorMessage : waits ? lastCause : null;
  if (superseded && failed) {
    return [h("p", { class: "dim" }, "You have asked for it again since. ",
      h("a", { href: addressOf(superseded), "aria-label": `What becomes of it: ${nameOf(delivery)}` }, "What becomes of it"))];
  }
  if (!failed && !(waits && code)) return [];
  const said = words ? [h("details", {}, h("summary", {}, "What the service says"), h("p", {}, words),
    code ? h("p", {}, "Code: ", codeOf(code)) : null)] : [];
  const next = does === "retrying" && tries ? h("p", {}, activity(delivery)) : null;
  const id = failed && code !== "CANCELLED"
    ? h("p", { class: "id" }, "Id: ", h("code", {}, correlationId), " ", copying(correlationId, `the id of ${nameOf(delivery)}`) ?? "") : null;
  return [h("p", {}, stanza?.user ?? words ?? "The service does not say why."), h("p", {}, stanza?.userDoes ?? ""), next, id, ...said]
    .filter((part) => part && part.textContent);
}

// A card stays as it is where nothing has changed: what is selected, and where the focus is.
export function card(signal, again) {
  const title = h("a", {});
  const stands = h("p", { class: "standing" });
  const moves = h("div", {});
  const reason = h("div", {});
  const known = h("div", {});
  const actions = h("div", { class: "actions changes" });
  const element = h("li", {}, h("h2", {}, title), stands, moves, reason, known, actions);
  const last = new Map();
  const fill = (place, key, make) => {
    const text = JSON.stringify(key);
    if (last.get(place) === text) return;
    last.set(place, text);
    const lost = place.contains(document.activeElement);
    place.replaceChildren(...make());
    if (lost) title.focus(); // no user is thrown back to the beginning of the page
  };
  return {
    element,
    show({ delivery, progress, stanza, superseded }) {
      const [sign, kind, words, ended, since] = standing(delivery, progress);
      element.className = `card ${kind}`;
      if (title.textContent !== nameOf(delivery)) title.textContent = nameOf(delivery);
      title.setAttribute("href", addressOf(delivery));
      fill(stands, [sign, words, ended, since], () => [h("span", { "aria-hidden": "true" }, `${sign} `), h("b", {}, words), " ",
        ended ? h("span", { class: "dim" }, time(ended)) : since ? h("span", { class: "dim" }, "for ", lasting(since)) : ""]);
      const parts = progress ? null : packed(delivery);
      fill(moves, [progress, parts], () => (progress ? [bar(progress, nameOf(delivery))] : parts ? [h("p", { class: "dim" }, parts)] : []));
      fill(reason, [delivery.state, delivery.activity, delivery.code, delivery.lastCause, delivery.errorMessage, delivery.tries,
        delivery.nextAttemptAt, stanza?.user, superseded?.id], () => why(delivery, stanza, superseded));
      fill(known, [nameOf(delivery), delivery.state, delivery.content, delivery.archiveBytes, delivery.md5, delivery.sha256, delivery.expires], () => facts(delivery));
      // A button that stays keeps the focus: a step before the end changes none.
      fill(actions, [delivery.id, delivery.finishedAt && delivery.state, delivery.content, delivery.failsAgain, retried(delivery), nameOf(delivery),
        superseded?.id], () => buttons(delivery, superseded, again, signal));
    },
  };
}

// Whether there is a later attempt, which may be made now.
function retried({ activity: does, nextAttemptAt }) {
  return does === "retrying" && Boolean(nextAttemptAt);
}

function buttons(delivery, superseded, again, signal) {
  const { correlationId, id, state, content, failsAgain } = delivery;
  if (UNNAMEABLE.includes(correlationId)) return []; // its page tells what can be done
  const name = nameOf(delivery);
  const path = `/deliveries/${encodeURIComponent(correlationId)}`;
  let acting = false; // a button that is disabled would lose the focus
  const button = (text, act, kind) => h("button", { type: "button", class: kind, "aria-label": `${text}: ${name}`, onclick: async () => {
    if (acting) return;
    acting = true;
    try {
      await act();
    } catch (error) {
      if (!signal.aborted) say(error.message);
    }
    acting = false;
  } }, text);
  const ask = (text, question, verb, said, kind) => button(text, async () => {
    if (!(await confirmed(question, text))) return;
    let told;
    try {
      told = await call("POST", `${path}/${verb}`);
      say(said);
    } finally {
      await again(told?.content);
    }
  }, kind);
  const changed = h("a", { href: `#/new?from=${id}`, "aria-label": `Change it and ask again: ${name}` }, "Change it and ask again");
  if (state === "DONE" && !content) {
    return [button("Download", () => fetched(delivery, path, signal), "main"), button("Link", () => linked(delivery, path, signal))];
  }
  if (superseded || content === "removing") return [];
  if (state === "ERROR" || content === "removed") {
    const question = failsAgain ? `${name} would end the same way as it is. Ask for it all the same?` : `Ask for ${name} again?`;
    return [ask("Ask again", question, failsAgain ? "retry?force=true" : "retry", "It is asked for again.", failsAgain ? undefined : "main"), changed];
  }
  const shown = [ask("Cancel", `End ${name} now?`, "cancel", "Cancelled.", "danger")];
  if (retried(delivery)) shown.unshift(ask("Try now", `Try ${name} at once?`, "retry", "It is tried now."));
  return shown;
}

// A link is made when it is asked for: none on a page has run out.
async function linked(delivery, path, signal) {
  const made = await call("POST", `${path}/link?id=${delivery.id}`);
  if (signal.aborted) return;
  const copies = Boolean(navigator.clipboard);
  const field = h("input", { id: "link", class: "whole", readonly: true, value: made.url });
  const what = delivery.format === "files" ? "its list of files" : "the file";
  const taken = await offered(`It leads to ${what}, and holds until ${clock(made.expires)}. Any person who has it has that.`,
    copies ? "Copy" : "Done", h("label", { for: "link" }, "Link"), field,
    h("details", {}, h("summary", {}, "In a shell"), h("pre", { tabindex: 0 }, shell(delivery, made))));
  if (taken && copies) {
    await navigator.clipboard.writeText(made.url);
    say("Copied.");
  }
}

// A download that breaks off is gone on with by the same line.
function shell(delivery, { url, md5 }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const file = delivery.format === "files" ? "manifest.json" : delivery.archiveName || "delivery";
  const lines = [`curl -fL -C - -o ${quoted(file)} ${quoted(url)}`];
  if (md5) lines.push(`echo ${quoted(`${md5}  ${file}`)} | md5sum -c`);
  return lines.join("\n");
}

// By a link, which the browser saves as it comes. Where there are none, through the service: that the page must keep
// until it is whole.
async function fetched(delivery, path, signal) {
  let address;
  let name = "";
  try {
    address = (await call("POST", `${path}/link?id=${delivery.id}`)).url;
  } catch (error) {
    if (error.status !== 403 && error.status !== 409) throw error;
    say("It is downloaded…");
    const had = await download(`${path}/content?id=${delivery.id}`, signal);
    address = URL.createObjectURL(had.file);
    name = had.name;
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  }
  if (signal.aborted) return;
  // What a link leads to is sent to be saved: the page stays.
  h("a", { href: address, download: name || true, rel: name ? undefined : "noreferrer" }).click();
  say(name ? "Downloaded." : `The browser downloads it${delivery.archiveBytes ? `: ${size(delivery.archiveBytes)}` : ""}.`);
}
