// The tenant's settings: what is set, what the default is, try, save, put back.

import { call, looksOnly } from "./api.js";
import { outcome } from "./connection.js";
import { alertOf, confirmed, h, say } from "./dom.js";

// made by `make docs`: the settings of a tenant
const TITLES = {
  "request_ttl": "Time to live of requests (hours)",
  "s3_server": "S3 server",
  "build_bucket": "Build bucket (not used)",
  "delivery_bucket": "Bucket of archives",
  "order_size_limit_bytes": "Largest order (bytes)",
  "max_suborders": "Suborders of an order, at most",
  "delivery_format": "Format of deliveries",
  "archive_name": "Name of archives",
  "prefix": "Folders of archives",
  "manifest": "Manifest beside archives",
  "report": "Report of failed deliveries",
  "sha256": "SHA-256 beside MD5",
  "compression_threshold": "Compression threshold",
  "progress_events": "Progress over AMQP",
  "delivered_ttl": "Deliveries are kept (hours)",
  "link_ttl": "Links to what is delivered (hours)",
  "quota": "Quotas",
  "delivery_targets": "Further targets, by name",
  "webhooks": "Webhooks, by name"
};
const TESTED = ["s3_server", "delivery_targets"];
// end of the settings of a tenant

export async function settings(content, { signal }) {
  content.append(h("h1", {}, "Settings"),
    h("p", {}, looksOnly() ? "Of this tenant." : "Of this tenant; a change holds for what begins after it."));
  for (const { content: setting, links } of await call("GET", "/settings", { signal })) {
    content.append(card(setting, links));
  }
}

function card(setting, links) {
  const place = h("div", {});
  draw(place, setting, links);
  return place;
}

function draw(place, setting, links, said = null) {
  const { name, value } = setting;
  const isSet = links.some(({ rel }) => rel === "delete");
  const editor = editorOf(name, value);
  const found = h("div", { role: "status" }, said);
  const again = (answer, text) => {
    say(text);
    // Only what is drawn again has lost the focus; elsewhere, the user is at work.
    const here = place.contains(document.activeElement);
    draw(place, answer.content, answer.links);
    if (here) place.querySelector("button")?.focus();
  };
  const attempt = async (act) => {
    try {
      await act();
    } catch (error) {
      found.replaceChildren(alertOf(error));
    }
  };
  const buttons = [h("button", { class: "main" }, "Save")];
  if (TESTED.includes(name)) {
    buttons.push(h("button", {
      type: "button",
      onclick: () => attempt(async () => {
        found.replaceChildren("Trying…");
        const answer = await call("PUT", `/settings/${name}?check=only`, { body: { name, value: editor.read() } });
        found.replaceChildren(...outcome(answer.check));
      }),
    }, "Test connection"));
  }
  if (isSet) {
    buttons.push(h("button", {
      type: "button",
      onclick: () => attempt(async () => {
        if (!(await confirmed(`Put ${TITLES[name] || name} back to its default?`, "Put back"))) return;
        again(await call("DELETE", `/settings/${name}`), "Put back to the default.");
      }),
    }, "Put back to default"));
  }
  place.replaceChildren(h("form", {
    class: "wide",
    "data-setting": name,
    onsubmit: (event) => {
      event.preventDefault();
      attempt(async () => {
        again(await call("PUT", `/settings/${name}`, { body: { name, value: editor.read() } }), "Saved.");
      });
    },
  },
  h("fieldset", { disabled: looksOnly() },
    h("legend", {}, TITLES[name] || name, " ", h("span", { class: "hint" }, isSet ? "(set)" : "(default)")),
    h("p", { class: "hint" }, setting.description),
    editor.shown,
    h("p", { class: "hint" }, "Default: ", h("code", {}, JSON.stringify(setting.defaultValue))),
    found,
    h("div", { class: "actions changes" }, buttons))));
}

function editorOf(name, value) {
  const id = `set-${name}`;
  if (typeof value === "number") {
    const input = h("input", { id, type: "number", min: 0, step: 1, required: true, value });
    return { shown: labelled(id, "Value", input), read: () => Number(input.value) };
  }
  if (typeof value === "string") {
    const input = h("input", { id, required: true, value });
    return { shown: labelled(id, "Value", input), read: () => input.value };
  }
  if (typeof value?.secret === "string") {  // a server: of named targets, "secret" may be one
    const inputs = Object.fromEntries(Object.entries(value).map(([field, held]) => [field, h("input", {
      id: `${id}-${field}`,
      required: true,
      type: field === "secret" ? "password" : typeof held === "number" ? "number" : "text",
      autocomplete: "off",
      value: held,
    })]));
    return {
      shown: Object.entries(inputs).map(([field, input]) => labelled(`${id}-${field}`, field, input)),
      read: () => Object.fromEntries(Object.entries(inputs).map(([field, input]) =>
        [field, input.type === "number" ? Number(input.value) : input.value])),
    };
  }
  const input = h("textarea", { id, rows: 8, spellcheck: "false" }, JSON.stringify(value, null, 2));
  return {
    shown: labelled(id, "JSON", input),
    read: () => {
      try {
        return JSON.parse(input.value);
      } catch (error) {
        throw new Error(`This is not JSON: ${error.message}`);
      }
    },
  };
}

function labelled(id, label, input) {
  return h("div", {}, h("label", { for: id }, label), input);
}
