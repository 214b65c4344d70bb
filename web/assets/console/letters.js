// Dead letters: what could not be handled, and why; put it back.

import { call, session } from "./api.js";
import { alertOf, confirmed, h, say, size, time } from "./dom.js";

export async function deadLetters(content, { signal }) {
  const place = h("div", {});
  content.append(h("h1", {}, "Dead letters"), place);
  await draw(place, signal);
}

async function draw(place, signal) {
  const { content: found, truncated } = await call("GET", "/dead-letters", { signal });
  const more = truncated
    ? h("p", { class: "alert" }, "Not all are shown: there are more than a look takes. Put some back, or remove them",
      " with ", h("code", {}, "delivery dlq"), ", to see the others.")
    : "";
  if (!found.length) {
    place.replaceChildren(more || h("p", {}, "There are none: every message and event was handled."));
    return;
  }
  const boxes = found.map((letter) => h("input", { type: "checkbox", "aria-label": `Choose ${letter.id}`, value: letter.id }));
  const all = h("input", {
    type: "checkbox",
    "aria-label": "Choose all",
    onchange: () => boxes.forEach((box) => { box.checked = all.checked; }),
  });
  const said = h("div", {});
  const back = h("button", {
    type: "button",
    onclick: async () => {
      const ids = boxes.filter((box) => box.checked).map((box) => box.value);
      if (!ids.length) {
        say("Choose some first.");
        return;
      }
      if (!(await confirmed(`Put ${ids.length} dead letters back where they were?`, "Put back"))) return;
      try {
        await call("POST", "/dead-letters/requeue", { body: { ids } });
        say(`${ids.length} were put back.`);
        await draw(place, signal);
      } catch (error) {
        said.replaceChildren(alertOf(error));
      }
    },
  }, "Put back");
  // Whose they are, for one who sees those of all tenants.
  const whose = (letter) => [letter.tenant === session.claims.tenant ? null : letter.tenant, letter.correlationId]
    .filter(Boolean).join(" / ");
  place.replaceChildren(said, more, h("div", { class: "actions" }, back),
    h("table", { class: "cards" },
      h("caption", {}, found.length === 1
        ? "One message or event could not be handled"
        : `${found.length} messages and events could not be handled`),
      h("thead", {}, h("tr", {}, h("th", {}, all), ["Reason", "Delivery", "Place", "When", "Content"].map((name) =>
        h("th", { scope: "col" }, name)))),
      h("tbody", {}, found.map((letter, number) => h("tr", {},
        h("td", { "data-label": "Choose" }, boxes[number]),
        h("td", { "data-label": "Reason" }, letter.reason),
        h("td", { "data-label": "Delivery" }, whose(letter)),
        h("td", { "data-label": "Place" }, letter.place.split(".").slice(-2).join(".")),
        h("td", { "data-label": "When" }, time(letter.at)),
        h("td", { "data-label": "Content" }, h("details", {}, h("summary", {}, size(letter.bytes)),
          h("pre", { tabindex: 0, role: "group", "aria-label": `Content of ${letter.id}` }, letter.text))))))));
}
