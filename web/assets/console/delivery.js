// One delivery: where it stands, how it got there, why it failed, what it holds.

import { call, download, follow } from "./api.js";
import { activity, alertOf, bar, clock, codeOf, confirmed, h, labelled, lasting, liveness, offered, say, saved, seconds, size, state, suborders, time } from "./dom.js";

const CONTENT = {
  removing: () => "being removed from its target",
  removed: (d) => ["removed from its target ", time(d.removedAt)],
};
const FACTS = [
  ["User", (d) => d.user],
  ["Target", (d) => d.target],
  ["Requested", (d) => time(d.requestedAt)],
  ["Expires", (d) => (d.finishedAt ? "" : time(d.expiresAt))],
  ["Deadline", (d) => d.deadline && time(d.deadline)],
  ["Ended", (d) => time(d.finishedAt)],
  ["In this state since", (d) => (d.finishedAt ? "" : time(d.stateSince))],
  ["Order", (d) => d.orderId],
  ["Suborders", (d) => (d.finishedAt && d.totalSubOrders > 1 ? d.totalSubOrders : "")],
  ["Archive", (d) => d.archiveName],
  ["Folders", (d) => d.prefix],
  ["Files", (d) => (d.files ? `${d.files}, ${size(d.bytes)}` : "")],
  ["Labels", labelled],
  ["Attempt", (d) => d.attempt || ""],
  ["Worker", (d) => d.worker],
  ["Next attempt", (d) => (new Date(d.nextAttemptAt) > Date.now() ? time(d.nextAttemptAt) : "")],
  ["Priority", (d) => d.priority],
  ["Application", (d) => d.originApp],
  ["Address", (d) => d.url && h("code", {}, d.url)],
  ["Report", (d) => d.reportUrl && d.content !== "removed" && h("code", {}, d.reportUrl)],
  ["Manifest", (d) => d.manifestUrl && d.manifestUrl !== d.url && h("code", {}, d.manifestUrl)],
  ["MD5", (d) => d.md5 && h("code", {}, d.md5)],
  ["SHA-256", (d) => d.sha256 && h("code", {}, d.sha256)],
  ["Kept until", (d) => (d.expires && d.content !== "removed" ? time(d.expires) : "")],
  ["Content", (d) => CONTENT[d.content]?.(d)],
  ["Size of the archive", (d) => size(d.archiveBytes)],
];

export async function delivery(content, { signal, rest, query }) {
  const [correlationId] = rest;
  const own = query.get("id"); // where no path can hold the correlation id
  const path = own
    ? `/deliveries/by-id/${encodeURIComponent(own)}` : `/deliveries/${encodeURIComponent(correlationId)}`;
  const head = h("div", {});
  const progress = h("div", {});
  const live = liveness();
  const facts = h("dl", {});
  const steps = h("ol", { class: "timeline" });
  const parts = h("div", {});
  const attempts = h("div", {});
  const missing = h("div", {});
  const files = h("div", {});
  const order = h("pre", { tabindex: 0, role: "region", "aria-label": "The order, as it was asked for" });
  const actions = h("div", { class: "actions changes" });
  content.append(h("h1", {}, correlationId), head, live.element, progress, actions, facts,
    missing, parts, attempts, h("h2", {}, "Timeline"), steps, h("h2", {}, "Order"), order, h("h2", {}, "Files"), files);

  let now = null;
  let asked = 0;
  let shown = 0;
  let looked = 0; // when it was asked for last
  let attended = null; // the delivery whose stream is followed
  let list = null; // of its files
  async function look() {
    const mine = ++asked;
    looked = Date.now();
    const { content: found } = await call("GET", path, { signal });
    if (mine < shown) return; // an earlier question that was answered later
    shown = mine;
    const before = now;
    now = found;
    const standing = activity(found, found.progress);
    head.replaceChildren(h("p", {}, "State: ", state(found.state), standing && ", ", standing), ...cause(found));
    progress.replaceChildren(...(found.progress ? [bar(found.progress, correlationId)] : []));
    parts.replaceChildren(...suborderTable(found));
    missing.replaceChildren(...missingTable(found));
    attempts.replaceChildren(...attemptTable(found));
    facts.replaceChildren(...FACTS.map(([name, value]) => [name, value(found)])
      .filter(([, value]) => value !== "" && value !== undefined && value !== null)
      .flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
    steps.replaceChildren(...timeline(found.history));
    order.textContent = JSON.stringify(found.order, null, 2);
    offer(actions, own ? [] : buttons(found, path, again, signal));
    attend();
    if (found.content === "removing") setTimeout(() => { if (!signal.aborted) again(); }, 5000);
    if (before?.id !== found.id) list = fileList(files, path, found.id, signal);
    await list(found);
  }
  const again = () => look().catch((error) => { if (!signal.aborted) head.append(alertOf(error)); });
  await look();

  // A stream is of one delivery: what is asked for again under the same id is another.
  function attend() {
    if (own || signal.aborted || attended?.id === now.id) return;
    attended?.stop.abort();
    const stop = new AbortController();
    signal.addEventListener("abort", () => stop.abort());
    attended = { id: now.id, stop };
    follow(`${path}/events?id=${now.id}`, stop.signal, (event, told) => {
      if (event === "progress") {
        if (now.state === "TRANSFERRING" && !now.parkedSince) progress.replaceChildren(bar(told, correlationId));
        // That a suborder is there, or in the archive, is no step of its own.
        if (now.segments && Date.now() - looked > 5000) again();
      } else if (event === "reload" || told.at > (now.history.at(-1)?.at || "")) {
        again();
      }
    }, live.tell);
  }
}

function cause(found) {
  if (found.errorType) {
    return [h("div", { class: "alert" }, h("b", {}, codeOf(found.code) || found.errorType), `: ${found.errorMessage}`,
      found.failsAgain ? h("p", {}, "It would fail again as it is: first see what the code means.") : null,
      found.code ? h("p", { class: "dim" }, `Its client was told ${found.errorType}.`) : null)];
  }
  const words = suborders(found);
  if (found.content === "removing" && found.contentCause) {
    return [h("div", { class: "alert" }, `It is still at its target: ${found.contentCause}`)];
  }
  if (found.parkedSince) return [h("p", { class: "waits" }, words)];
  const there = words ? [h("p", { class: "waits" }, words)] : [];
  if (found.lastCause) {
    // What waits may not have been tried: its target does not answer.
    const why = found.worker ? "The last attempt was put off" : "It waits";
    return [...there, h("div", { class: "alert" }, `${why}: `, codeOf(found.code), found.code ? ": " : "", found.lastCause)];
  }
  return there;
}

// What a delivery that takes a part is without: the first of these files, and how many more there are.
function missingTable({ missing: count, missingFiles: first = [] }) {
  if (!first.length) return [];
  const names = ["Name", "Size", "Why"];
  const rows = first.map((file) => [file.member ?? `${file.files} files that rs-order does not name`,
    size(file.bytes), file.cause]);
  const more = count - first.reduce((sum, file) => sum + file.files, 0);
  return [h("h2", {}, "Missing files"), h("table", { class: "cards" },
    h("caption", {}, `${count} ${count === 1 ? "file that was ordered is" : "files that were ordered are"} not delivered`),
    h("thead", {}, h("tr", {}, names.map((name, number) =>
      h("th", { scope: "col", class: number === 1 ? "number" : undefined }, name)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, number) =>
      h("td", { "data-label": names[number], class: number === 1 ? "number" : undefined }, cell)))))),
  more > 0 ? h("p", { class: "dim" }, `And ${more} more: the manifest names each.`) : null].filter(Boolean);
}

// Only of an order of which more than one suborder is known: of others there is nothing to tell.
function suborderTable(found) {
  const { segments = [], totalSubOrders: told = 0, orderDone } = found;
  if (Math.max(segments.length, told) < 2) return [];
  const rows = segments.map((one) => [
    one.subOrderId ?? "the rest of the order",
    one.archived ? "in the archive" : one.listedAt ? (found.worker ? "being archived" : "listed") : "available",
    time(one.announcedAt),
    one.files ?? "",
  ]);
  if (!orderDone && !found.finishedAt) {
    rows.push(["the next one", "awaited from rs-order", found.parkedSince ? time(found.parkedSince) : "", ""]);
  }
  if (!rows.length) return []; // it ended before any was available
  const names = ["Suborder", "State", "Since", "Files"];
  return [h("h2", {}, "Suborders"), h("table", { class: "cards" },
    h("caption", {}, "As rs-order makes them available; so they are archived"),
    h("thead", {}, h("tr", {}, names.map((name, number) =>
      h("th", { scope: "col", class: number === 3 ? "number" : undefined }, name)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, number) =>
      h("td", { "data-label": names[number], class: number === 3 ? "number" : undefined }, cell))))))];
}

const OUTCOMES = {
  done: "done", error: "ended in ERROR", postponed: "put off", parked: "waited for more", handed_over: "handed over",
  lost: "lost: its worker fell silent",
};

// The newest first. Of those that follow each other and ended alike, one is shown with how many there are.
function attemptTable({ attempts = [] }) {
  if (!attempts.length) return [];
  const alike = (one, other) => one && ["worker", "outcome", "code", "cause"].every((name) => one[name] === other[name]);
  const groups = [];
  for (const attempt of attempts) {
    if (alike(groups.at(-1)?.at(-1), attempt)) groups.at(-1).push(attempt);
    else groups.push([attempt]);
  }
  const names = ["Attempt", "Began", "Worker", "Took", "Archived", "Came to"];
  const numbers = [3, 4];
  const rows = groups.map((group) => {
    const [newest, first] = [group[0], group.at(-1)];
    const took = newest.ended ? seconds((new Date(newest.ended) - new Date(newest.began)) / 1000) : "";
    const outcome = newest.ended ? (OUTCOMES[newest.outcome] ?? newest.outcome) : "under way";
    return [
      group.length === 1 ? newest.attempt : `${first.attempt} to ${newest.attempt}, alike`,
      time(newest.began), newest.worker, took, size(newest.bytes),
      [outcome, newest.code, newest.cause].filter(Boolean).join(": "),
    ];
  });
  const number = (place) => (numbers.includes(place) ? "number" : undefined);
  return [h("h2", {}, "Attempts"), h("table", { class: "cards" },
    h("caption", {}, "Of its transfer, the newest first; of those that are alike, the newest is shown"),
    h("thead", {}, h("tr", {}, names.map((name, place) => h("th", { scope: "col", class: number(place) }, name)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, place) =>
      h("td", { "data-label": names[place], class: number(place) }, cell))))))];
}

const NEWS = {
  "content.expires-soon": "Its content expires within a day",
  "content.removed": "Its content was removed from its target",
};

function timeline(history) {
  return history.map((step, number) => {
    const following = history[number + 1];
    const runs = !following && !["DONE", "ERROR"].includes(step.state);
    const spent = following && !following.news ? (new Date(following.at) - new Date(step.at)) / 1000 : null;
    if (step.news) {
      return h("li", { class: step.state }, NEWS[step.news] || step.news, " ", h("span", { class: "dim" }, time(step.at)));
    }
    return h("li", { class: step.state }, state(step.state),
      step.attempt ? `, attempt ${step.attempt}` : "",
      step.cause === undefined ? "" : [", put off: ", codeOf(step.code), step.code ? ": " : "", step.cause], " ", h("span", { class: "dim" }, time(step.at)),
      runs ? h("span", { class: "dim" }, ", for ", lasting(step.at), " until now") : "",
      spent === null ? "" : h("span", { class: "dim" }, `, for ${seconds(spent)}`));
  });
}

// Buttons that stay are left as they are, and keep the focus. Where it was on one that goes, it
// goes to the heading: no user is thrown back to the beginning of the page.
function offer(actions, possible) {
  const focused = document.activeElement;
  const lost = actions.contains(focused);
  const named = (button) => `${button.textContent} ${button.dataset.id}`; // of which delivery, too
  const kept = new Map([...actions.children].map((button) => [named(button), button]));
  const wanted = possible.map((button) => kept.get(named(button)) || button);
  for (const button of kept.values()) if (!wanted.includes(button)) button.remove();
  wanted.forEach((button, place) => {
    if (actions.children[place] !== button) actions.insertBefore(button, actions.children[place] || null);
  });
  if (lost && !focused.isConnected) actions.parentElement.querySelector("h1").focus({ preventScroll: true });
}

function buttons(found, path, again, signal) {
  let acting = false; // a button that is disabled would lose the focus
  const act = (name, verb, question, said) => h("button", {
    type: "button",
    class: verb === "retry" ? undefined : "danger",
    onclick: async () => {
      if (acting) return;
      const reason = h("input", { id: "reason", maxlength: 200 });
      const fields = verb === "cancel"
        ? [h("label", { for: "reason" }, "Reason (told to the client)"), reason] : [];
      if (!(await confirmed(question, name, ...fields))) return;
      acting = true;
      try {
        const query = reason.value ? `?${new URLSearchParams({ reason: reason.value })}`
          : verb === "retry" && found.failsAgain ? "?force=true" : "";
        const answer = verb === "content"
          ? await call("DELETE", `${path}/content?id=${found.id}`) : await call("POST", `${path}/${verb}${query}`);
        const ends = verb === "cancel" && !answer.content.finishedAt;
        say(ends ? "It is being completed: it ends when that has failed, and is done if it has not." : said);
      } catch (error) {
        say(error.message);
      }
      acting = false;
      await again();
    },
  }, name);
  const shown = [];
  if (!found.finishedAt) {
    shown.push(act("Cancel", "cancel", `End ${found.correlationId} now? Its client is told ERROR.`, "Cancelled."));
  }
  if (found.state === "DONE" && found.content !== "removed") {
    shown.push(act("Remove content", "content",
      `Remove what ${found.correlationId} has delivered from its target? Its client can't get it any more.`,
      "It is being removed."));
  }
  if (found.state === "ERROR" || found.content === "removed") {
    if (found.reportUrl && !found.content) shown.push(...had(found, path, signal, " the report"));
    shown.push(act("Try again", "retry", found.failsAgain
      ? `${found.correlationId} would fail again as it did (${found.code}: ${found.errorMessage}). Have that mended first. Ask for it all the same?`
      : `Ask for ${found.correlationId} again? Its client hears of it again.`, "It is asked for again."));
  } else if (found.state === "DONE") {
    shown.push(...had(found, path, signal));
  } else if (found.nextAttemptAt) {
    shown.push(act("Try now", "retry", `Try ${found.correlationId} at once?`, "It is tried now."));
  }
  for (const button of shown) button.dataset.id = found.id;
  return shown;
}

// What was delivered: a link, which stays on the page until it is left, and the file itself.
function had(found, path, signal, what = "") {
  const which = `?id=${found.id}`;
  let busy = false;
  const once = (act) => async () => {
    if (busy) return;
    busy = true;
    try {
      await act();
    } catch (error) {
      say(error.message);
    }
    busy = false;
  };
  const link = once(async () => {
    const made = await call("POST", `${path}/link${which}`);
    if (signal.aborted) return; // a user who has gone elsewhere meanwhile is shown none
    const field = h("input", { id: "link", class: "whole", readonly: true, value: made.url });
    const question = `It holds until ${clock(made.expires)}. Any client that has it has the file.`;
    const copies = Boolean(navigator.clipboard); // browsers have none over plain HTTP
    const taken = await offered(question, copies ? "Copy" : "Done", h("label", { for: "link" }, "Link"), field);
    if (taken && copies) {
      await navigator.clipboard.writeText(made.url);
      say("Copied.");
    }
  });
  const save = once(async () => {
    say("It is downloaded…");
    saved(await download(`${path}/content${which}`));
    say("Downloaded.");
  });
  return [h("button", { type: "button", onclick: link }, what ? `Link to${what}` : "Link"),
    h("button", { type: "button", onclick: save }, `Download${what}`)];
}

// The files of one delivery, page by page. An archive that grows by suborders has more of them later: those that are
// shown stay, and so does the reader's place.
function fileList(place, path, id, signal) {
  const caption = h("caption", {});
  const body = h("tbody", {});
  const more = h("button", { type: "button", hidden: true, onclick: () => read(next) }, "More files");
  const table = h("table", {}, caption, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Name"),
    h("th", { scope: "col", class: "number" }, "Size"))), body);
  let next = `${path}/files?id=${id}`; // the page to be read; null: the last one ended with the list
  let last = null; // the page that was read before: more may come into it
  let seen = null; // what was listed when it was read
  place.replaceChildren(h("p", { class: "dim" }, "They are known once a suborder is listed."));

  async function read(address) {
    const { content, links } = await call("GET", address, { signal });
    if (address === last?.address) last.rows.forEach((row) => row.remove());
    else if (address !== next) return; // it was asked for twice
    const rows = content.map((file) => h("tr", {}, h("td", {}, file.member),
      h("td", { class: "number" }, size(file.bytes))));
    body.append(...rows);
    last = { address, rows };
    const link = links.find(({ rel }) => rel === "next");
    next = link ? link.href.replace(/^.*?(?=\/deliveries)/, "") : null;
    more.hidden = !next;
  }

  return async function show(found) {
    if (!found.files) {
      if (found.finishedAt) place.replaceChildren(h("p", { class: "dim" }, "None was listed before it ended."));
      return;
    }
    if (!table.isConnected) place.replaceChildren(table, h("p", {}, more));
    caption.textContent = filesKnown(found);
    const listed = `${found.files} ${found.listedSubOrders}`;
    if (listed === seen) return;
    if (more.hidden) await read(next ?? last.address);
    seen = listed;
  };
}

function filesKnown({ files, segments = [], state, orderDone, finishedAt }) {
  const listed = segments.reduce((sum, segment) => sum + (segment.files ?? 0), 0);
  const whole = orderDone && listed >= files && segments.every((segment) => segment.listedAt);
  if (!segments.length || state === "DONE" || whole) return files === 1 ? "1 file, as it is in the archive" : `${files} files, as they are in the archive`;
  return `${finishedAt ? "Listed" : "Listed so far"}: ${listed < files ? `${listed} of ${files}` : listed} files`;
}
