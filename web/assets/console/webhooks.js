// The tenant's webhooks: how each takes events, a ping, and what it never took, to be sent again.

import { call, session } from "./api.js";
import { addressOf, alertOf, confirmed, h, refreshed, say, time } from "./dom.js";

const MAY_PING = ["ADMIN", "PROJECT_ADMIN", "INSTANCE_ADMIN"];
const MEANING = {
  OK: "takes events",
  FAILING: "takes none of what it is sent",
  GONE: "answered 410: nothing is sent there any more",
  DISABLED: "is sent nothing",
  UNREADABLE: "is sent nothing: no key opens its secret; set it again",
};
const COLUMNS = ["Webhook", "State", "Last answer", "Waiting", "Dead", "Actions"];
const DEAD_COLUMNS = ["Event", "Delivery", "Happened", "Given up", "Tries", "Why"];
const MOST_AT_ONCE = 150; // events that are named in one request: a longer line is not read

const pathOf = (name) => `/webhooks/${encodeURIComponent(name)}`;

export async function webhooks(content, { signal, rest }) {
  const [name] = rest;
  const said = h("div", { role: "status" });
  content.append(
    h("h1", {}, name || "Webhooks"),
    name
      ? h("p", {}, h("a", { href: "#/webhooks" }, "All webhooks"))
      : h("p", {}, "Services that are told what becomes of this tenant's deliveries. They are set up in ",
        h("a", { href: "#/settings" }, "the settings"), "."),
    said);
  const overview = table(content, said, name, signal);
  if (!name) {
    await overview.look();
    return;
  }
  const dead = deadEvents(content, said, name, signal, overview.look);
  await Promise.all([overview.look(), dead()]);
}

// All of them, or the one of that name; looked at again every 5 seconds.
function table(content, said, only, signal) {
  const body = h("tbody", {});
  const caption = h("caption", {});
  const place = h("div", {});
  const rows = new Map(); // by name
  const whole = h("table", { class: "cards" }, caption,
    h("thead", {}, h("tr", {}, COLUMNS.map((column) => h("th", { scope: "col" }, column)))), body);
  content.append(place);
  let timer;

  async function look() {
    clearTimeout(timer);
    try {
      const { content: found } = await call("GET", "/webhooks", { signal });
      show(found.filter(({ name }) => !only || name === only));
    } catch (error) {
      if (signal.aborted) return;
      place.replaceChildren(alertOf(error));
    }
    if (!signal.aborted) timer = setTimeout(look, 5000);
  }

  function show(found) {
    if (!found.length) {
      rows.clear();
      body.replaceChildren();
      place.replaceChildren(h("p", {}, only
        ? "There is no webhook of that name any more."
        : "There are none. An administrator adds one to “Webhooks, by name”."));
      return;
    }
    const failing = found.filter(({ state }) => !["OK", "DISABLED"].includes(state)).length;
    caption.textContent = failing && !only ? `${failing} of ${found.length} ${failing === 1 ? "takes" : "take"} no events` : "";
    for (const [name, element] of rows) {
      if (found.some((webhook) => webhook.name === name)) continue;
      element.remove();
      rows.delete(name);
    }
    for (const webhook of found) {
      const element = row(webhook, said, look);
      const known = rows.get(webhook.name);
      if (known) refreshed(known, element);
      else rows.set(webhook.name, element);
      if (!known) body.append(element);
    }
    if (!whole.isConnected) place.replaceChildren(whole);
  }

  return { look };
}

function row(webhook, said, look) {
  const { name } = webhook;
  const buttons = [];
  if (MAY_PING.includes(session.role)) {
    buttons.push(h("button", { type: "button", "aria-label": `Send a ping to ${name}`, onclick: () => ping(name, said, look) },
      "Send a ping"));
  }
  if (webhook.dead) {
    buttons.push(h("button", {
      type: "button",
      "aria-label": `Send the dead events of ${name} again`,
      "data-count": webhook.dead, // what it asks for is asked for by this number
      onclick: () => again(name, [], webhook.dead, said, look),
    }, "Send again"));
  }
  const cells = [
    h("span", {}, h("a", { href: `#${pathOf(name)}` }, name), " ", h("span", { class: "dim" }, webhook.url)),
    h("span", {}, h("b", { class: classOf(webhook.state) }, webhook.state), h("br", {}), MEANING[webhook.state] || ""),
    answerOf(webhook),
    waitingOf(webhook),
    webhook.dead ? h("span", {}, String(webhook.dead)) : "0",
    h("span", { class: "actions changes" }, buttons),
  ];
  return h("tr", {}, cells.map((cell, number) => h("td", { "data-label": COLUMNS[number] }, cell)));
}

function classOf(state) {
  return { OK: "up", DISABLED: "dim" }[state] || "down";
}

function answerOf(webhook) {
  const told = [];
  if (webhook.lastError) {
    told.push(webhook.lastError);
    if (webhook.failingSince) told.push("; it takes none since ", time(webhook.failingSince));
    if (webhook.triedAgainAt) told.push("; in a pause until ", time(webhook.triedAgainAt));
    told.push(". ");
  }
  if (webhook.lastSuccessAt) told.push("It took one on ", time(webhook.lastSuccessAt), ".");
  return h("span", {}, told.length ? told : "It has answered nothing yet.");
}

function waitingOf(webhook) {
  const told = [String(webhook.owed)];
  if (webhook.oldestOwedAt) told.push(", the oldest since ", time(webhook.oldestOwedAt));
  if (webhook.dropped) told.push(h("br", {}), h("span", { class: "down" }, `${webhook.dropped} are lost: too many waited`));
  return h("span", {}, told);
}

async function ping(name, said, look) {
  said.replaceChildren(h("p", { class: "dim" }, `A ping is sent to ${name}…`));
  try {
    const { ok, message } = await call("POST", `${pathOf(name)}/test`);
    said.replaceChildren(h("p", { class: ok ? "alert fine" : "alert" }, ok
      ? `${name} has taken the ping: ${message}. What waits for it is sent now.`
      : `${name} has not taken the ping: ${message}.`));
    await look();
  } catch (error) {
    said.replaceChildren(alertOf(error));
  }
}

// Send these events again; with no ids, all that are dead.
async function again(name, ids, count, said, look) {
  const what = `${count} dead ${count === 1 ? "event" : "events"}`;
  if (!(await confirmed(`Send ${what} to ${name} again?`, "Send again"))) return;
  try {
    let events = 0;
    for (let from = 0; from === 0 || from < ids.length; from += MOST_AT_ONCE) {
      const query = new URLSearchParams(ids.slice(from, from + MOST_AT_ONCE).map((id) => ["id", id]));
      events += (await call("POST", `${pathOf(name)}/resend?${query}`)).events;
    }
    say(`${events} ${events === 1 ? "is" : "are"} sent again.`);
    await look();
  } catch (error) {
    said.replaceChildren(alertOf(error));
  }
}

// What one never took, by pages; returns what reads it from its beginning.
function deadEvents(content, said, name, signal, look) {
  const place = h("div", {});
  content.append(h("h2", {}, "Dead events"), place);
  const body = h("tbody", {});
  const chosen = () => [...body.querySelectorAll("input:checked")].map((box) => box.value);
  const all = h("input", {
    type: "checkbox",
    "aria-label": "Choose all",
    onchange: () => body.querySelectorAll("input").forEach((box) => { box.checked = all.checked; }),
  });
  const send = h("button", {
    type: "button",
    onclick: async () => {
      const ids = chosen();
      if (!ids.length) {
        say("Choose some first.");
        return;
      }
      await again(name, ids, ids.length, said, async () => { await Promise.all([look(), read()]); });
    },
  }, "Send the chosen again");
  const more = h("button", { type: "button", hidden: true }, "More");
  let next;

  async function page() {
    const { content: found, links } = await call("GET", next, { signal });
    body.append(...found.map(line));
    const link = links.find(({ rel }) => rel === "next");
    next = link ? link.href.replace(/^.*?(?=\/webhooks)/, "") : null;
    more.hidden = !next;
  }
  more.addEventListener("click", async () => {
    try { await page(); } catch (error) { if (!signal.aborted) said.replaceChildren(alertOf(error)); }
  });

  async function read() {
    next = `${pathOf(name)}/dead`;
    body.replaceChildren();
    all.checked = false;
    try {
      await page();
    } catch (error) {
      if (!signal.aborted) place.replaceChildren(alertOf(error));
      return;
    }
    if (!body.children.length) {
      place.replaceChildren(h("p", {}, "There are none: it took what it was sent, or is sent it again."));
      return;
    }
    place.replaceChildren(h("div", { class: "actions changes" }, send),
      h("table", { class: "cards" },
        h("caption", {}, "The newest first"),
        h("thead", {}, h("tr", {}, h("th", { class: "changes" }, all), DEAD_COLUMNS.map((column) => h("th", { scope: "col" }, column)))),
        body),
      h("p", { class: "actions" }, more));
  }

  return read;
}

function line(dead) {
  const { correlationId, deliveryId } = dead;
  const cells = [
    dead.type.replace("fr.cnes.regards.delivery.", ""),
    h("a", { href: addressOf({ correlationId, id: deliveryId }) }, correlationId),
    time(dead.happenedAt),
    time(dead.diedAt),
    String(dead.tries),
    dead.lastError || "",
  ];
  return h("tr", {},
    h("td", { "data-label": "Choose", class: "changes" }, h("input", { type: "checkbox", "aria-label": `Choose ${dead.id}`, value: dead.id })),
    cells.map((cell, number) => h("td", { "data-label": DEAD_COLUMNS[number] }, cell)));
}
