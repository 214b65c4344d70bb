// Dead letters: what could not be handled, and why; mend it, put it back, remove it.

import { call, looksOnly, session } from "./api.js";
import { alertOf, confirmed, h, say, size, time } from "./dom.js";

const PAGE_SIZE = 50;
const FILTERS = [
  ["reason", "Reason"],
  ["place", "Queue or topic"],
  ["correlationId", "Delivery"],
];

const pathOf = (id) => `/dead-letters/${encodeURIComponent(id)}`;
const counted = (count) => (count === 1 ? "1 dead letter" : `${count} dead letters`);

export async function deadLetters(content, { signal }) {
  const place = h("div", {});
  const page = { filter: {}, after: "", signal, place, draw: () => draw(page) };
  content.append(h("h1", {}, "Dead letters"), filters(page), place);
  await page.draw();
}

function filters(page) {
  const names = session.role === "INSTANCE_ADMIN" ? [...FILTERS, ["tenant", "Tenant"]] : FILTERS;
  const fields = names.map(([name, label]) => [name, label, h("input", { id: `find-${name}`, type: "search" })]);
  const mended = h("select", { id: "find-mended" },
    [["", "mended or not"], ["true", "mended"], ["false", "not mended"]].map(([value, text]) =>
      h("option", { value }, text)));
  return h("form", {
    class: "filters",
    onsubmit: async (event) => {
      event.preventDefault();
      page.filter = Object.fromEntries([...fields.map(([name, , input]) => [name, input.value.trim()]), ["mended", mended.value]]
        .filter(([, value]) => value));
      page.after = "";
      await page.draw();
    },
  },
  fields.map(([name, label, input]) => h("div", {}, h("label", { for: `find-${name}` }, label), input)),
  h("div", {}, h("label", { for: "find-mended" }, "State"), mended),
  h("button", {}, "Look"));
}

async function draw(page) {
  const { place, signal } = page;
  const query = new URLSearchParams({ ...page.filter, size: PAGE_SIZE, ...(page.after && { after: page.after }) });
  let found;
  try {
    found = await call("GET", `/dead-letters?${query}`, { signal });
  } catch (error) {
    if (!signal.aborted) place.replaceChildren(alertOf(error));
    return;
  }
  const { content: letters, total, links } = found;
  if (!letters.length) {
    place.replaceChildren(h("p", {}, Object.keys(page.filter).length
      ? "There are none of these."
      : "There are none: every message and event was handled."));
    return;
  }
  const said = h("div", {});
  const boxes = letters.map((letter) => h("input", { type: "checkbox", "aria-label": `Choose ${letter.id}`, value: letter.id }));
  const all = h("input", {
    type: "checkbox",
    "aria-label": "Choose all",
    onchange: () => boxes.forEach((box) => { box.checked = all.checked; }),
  });
  const chosen = () => boxes.filter((box) => box.checked).map((box) => box.value);
  const acting = (label, question, action, path, done) => h("button", {
    type: "button",
    onclick: async () => {
      const ids = chosen();
      if (!ids.length) {
        say("Choose some first.");
        return;
      }
      if (await confirmed(question(counted(ids.length)), action)) await act(page, said, path, { ids }, done);
    },
  }, label);
  const next = links.find(({ rel }) => rel === "next");
  place.replaceChildren(said,
    h("div", { class: "actions changes" },
      acting("Put back", (what) => `Put ${what} back where they were?`, "Put back", "/dead-letters/requeue", "were put back."),
      acting("Remove", (what) => `Remove ${what} for good?`, "Remove", "/dead-letters/remove", "were removed."),
      h("button", { type: "button", onclick: () => putAllBack(page, said) }, "Put all of these back")),
    h("table", { class: "cards" },
      h("caption", {}, total === 1
        ? "One message or event could not be handled"
        : `${total} messages and events could not be handled`),
      h("thead", {}, h("tr", {}, h("th", { class: "changes" }, all),
        ["Reason", "Delivery", "Place", "When", "Content", "Mended"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, letters.map((letter, number) => row(page, letter, boxes[number])))),
    h("div", { class: "actions" },
      page.after ? h("button", { type: "button", onclick: () => turn(page, "") }, "First page") : "",
      next ? h("button", { type: "button", onclick: () => turn(page, afterOf(next)) }, "Next page") : ""));
}

const afterOf = ({ href }) => new URLSearchParams(href.split("?")[1]).get("after");

async function turn(page, after) {
  page.after = after;
  await page.draw();
}

function row(page, letter, box) {
  // Whose they are, for one who sees those of all tenants.
  const whose = [letter.tenant === session.caller.tenant ? null : letter.tenant, letter.correlationId]
    .filter(Boolean).join(" / ");
  const mended = letter.mendedBy ? h("span", {}, `by ${letter.mendedBy}, `, time(letter.mendedAt)) : null;
  const mend = looksOnly() ? mended || "" : h("details", {
    ontoggle: async () => {
      if (mend.open && mend.childElementCount === 1) mend.append(await mending(page, letter));
    },
  }, h("summary", {}, mended || "Mend"));
  return h("tr", {},
    h("td", { "data-label": "Choose", class: "changes" }, box),
    h("td", { "data-label": "Reason" }, letter.reason),
    h("td", { "data-label": "Delivery" }, whose),
    h("td", { "data-label": "Place" }, letter.place.split(".").slice(-2).join(".")),
    h("td", { "data-label": "When" }, time(letter.buriedAt)),
    h("td", { "data-label": "Content" }, h("details", {}, h("summary", {}, size(letter.bytes)),
      h("pre", { tabindex: 0, role: "group", "aria-label": `Content of ${letter.id}` }, letter.text))),
    h("td", { "data-label": "Mended" }, mend));
}

// What goes back in the place of its body.
async function mending(page, letter) {
  let whole;
  let etag;
  try {
    ({ body: whole, etag } = await call("GET", pathOf(letter.id), { signal: page.signal, whole: true }));
  } catch (error) {
    return alertOf(error);
  }
  const now = whole.mendedBody ?? whole.body;
  const body = h("textarea", { rows: 10, cols: 60, spellcheck: "false", "aria-label": `Another body of ${letter.id}` });
  body.value = now.text ?? "";
  const before = body.value; // as the field has it
  // A body that is no text stays where nothing is written. Where nothing is changed at all, the service says so.
  const written = () => {
    if (body.value !== before) return { text: body.value };
    return whole.mendedBody && { ...whole.mendedBody };
  };
  const tenant = h("input", { "aria-label": "Another tenant", placeholder: "tenant, as it came" });
  tenant.value = whole.mendedTenant ?? "";
  const force = h("input", { type: "checkbox" });
  const said = h("div", {});
  // What was written stays, beside what another has made of it: kept once more, it takes that one's place.
  async function meanwhile() {
    try {
      ({ body: whole, etag } = await call("GET", pathOf(letter.id), { signal: page.signal, whole: true }));
    } catch (error) {
      said.replaceChildren(alertOf(error));
      return;
    }
    const theirs = whole.mendedBody ?? whole.body;
    said.append(h("p", {}, whole.mendedTenant ? `It is for the tenant ${whole.mendedTenant} now, with this body:` : "Its body is now:"),
      h("pre", { tabindex: 0, role: "group", "aria-label": `Body of ${letter.id} as it is now` }, theirs.text ?? "It is no text."),
      h("p", {}, "Keep puts yours in its place."));
  }
  return h("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      try {
        await call("PUT", pathOf(letter.id), {
          headers: etag ? { "If-Match": etag } : {}, // what another has mended meanwhile is not written over
          body: { ...written(), force: force.checked, ...(tenant.value && { tenant: tenant.value }) },
        });
        say("It is mended; put it back now.");
        await page.draw();
      } catch (error) {
        said.replaceChildren(alertOf(error));
        if (error.status === 412) await meanwhile();
      }
    },
  },
  said,
  now.text === undefined ? h("p", {}, "It is no text: what is written here takes its place.") : "",
  body,
  session.role === "INSTANCE_ADMIN" && letter.id.startsWith("amqp:") ? tenant : "",
  h("label", {}, force, " although it would be refused again"),
  h("div", { class: "actions" }, h("button", {}, "Keep")));
}

async function putAllBack(page, said) {
  const body = { filter: page.filter };
  try {
    const { content, left } = await call("POST", "/dead-letters/requeue", { body: { ...body, dryRun: true } });
    const question = `Put ${counted(Object.keys(content).length + left)} back where they were?`;
    if (await confirmed(question, "Put back")) await act(page, said, "/dead-letters/requeue", body, "were put back.");
  } catch (error) {
    said.replaceChildren(alertOf(error));
  }
}

// Those that a filter finds, some at a time: what can't go back holds up nothing behind it.
async function act(page, said, path, body, done) {
  let count = 0;
  let failed = null;
  try {
    for (let after = 0; after !== undefined;) {
      const handled = await call("POST", path, { body: after ? { ...body, after } : body });
      count += Object.keys(handled.content).length;
      if (handled.failed) failed = { ...failed, ...handled.failed };
      after = handled.last;
    }
    say(`${count} ${done}`);
    await page.draw();
    if (failed) {
      page.place.prepend(alertOf({ message: "", reasons: ["Some wait on:", ...Object.values(failed)] }));
    }
  } catch (error) {
    said.replaceChildren(alertOf(error));
  }
}
