// A part of a form for each kind of value, made of its JSON schema; and the same value, to read only.

import { SHARED } from "./setting-schemas.js";
import { capital, h, isObject } from "./dom.js";

const NAMES = { s3_server: "S3 server", sas: "SAS", url: "URL" };
export const MASK = "*******"; // what a secret reads as
const ADDED = "Typed to what stands for the stored secret: delete all that is there, then type the new one.";
const LONG = 4096; // characters, from which a text has several lines
let ids = 0;

// What a schema says, with what it refers to.
export function resolved({ $ref, ...own }) {
  return $ref ? { ...SHARED[$ref.replace(/.*\//, "")], ...own } : own;
}

export function labelOf(name) {
  return NAMES[name] ?? capital(name).replaceAll("_", " ");
}

const typeOf = ({ properties: { type } }) => type.const;

// Of several kinds of objects, the one that a value is of; one without a type is of the optional one.
export function optionOf(schema, value) {
  return schema.oneOf.map(resolved).find((option) => (value?.type ? typeOf(option) === value.type : option.properties.type.optional));
}

// Whether a form can show a value and give it back as it is: a later version may know of more.
export function fits(schema, value) {
  return misfitOf(schema, value) === undefined;
}

// The path to what a form can't show; "" where that is the value itself, undefined where there is none.
export function misfitOf(schema, value) {
  const known = resolved(schema);
  if (value === undefined) return undefined;
  if (known.oneOf) {
    const option = optionOf(known, value);
    return option ? misfitOf(option, value) : "";
  }
  if (known.properties || known.additionalProperties) {
    if (!isObject(value)) return "";
    for (const [name, inner] of Object.entries(value)) {
      const place = known.properties ? Object.hasOwn(known.properties, name) && known.properties[name] : known.additionalProperties;
      const misfit = place ? misfitOf(place, inner) : "";
      if (misfit !== undefined) return misfit ? `${name}.${misfit}` : name;
    }
    return undefined;
  }
  return isOf(known, value) ? undefined : "";
}

function isOf({ items, enum: words, const: word, type = "string" }, value) {
  if (items) return Array.isArray(value) && value.every((inner) => fits(items, inner));
  if (words) return words.includes(value);
  if (word) return word === value;
  return typeof value === (type === "integer" ? "number" : type);
}

// `label`: in words, or the id of the element that has them. A part has `shown`; `read`, which gives its value,
// undefined for one that is left out; and `complain`, which shows what the server says of a path in it
// ("host", "archive.s3_server.port") and gives the control to go to.
export function partOf(schema, value, label) {
  const known = resolved(schema);
  const given = value ?? known.default ?? undefined;
  if (known.oneOf) return choice(known, given);
  if (known.properties) return group(known, given, label);
  if (known.additionalProperties) return entries(known, given ?? {});
  if (known.items) return several(known, given, label);
  return single(known, given, label);
}

function trouble(id) {
  return h("p", { class: "problem", id: `${id}-problem`, hidden: true });
}

function told(place, text) {
  place.append(h("span", {}, text), h("br", {}));
  place.hidden = false;
}

// Takes back what was complained of in an element, or in all that is in it.
export function cleared(shown) {
  for (const place of shown.querySelectorAll(".problem")) {
    place.replaceChildren();
    place.hidden = true;
  }
  for (const field of shown.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
}

// Whether a text is a mask with more before it or behind it.
function addedToMask(text) {
  return text !== MASK && (text.startsWith(MASK) || text.endsWith(MASK));
}

function hintOf({ description }, more) {
  return [marked(description), more].filter(Boolean).flatMap((part, number) => (number ? [" ", part] : [part]));
}

// `What stands so` is code.
export function marked(text) {
  return text && h("span", {}, text.split("`").map((part, number) => (number % 2 ? h("code", {}, part) : part)));
}

function boundsOf({ type, minimum = 0, maximum, exclusiveMaximum }) {
  const highest = maximum ?? exclusiveMaximum - 1;
  if (type === "number") return { minimum, maximum: highest, step: "any" };
  return { minimum, maximum: Math.min(highest || Infinity, Number.MAX_SAFE_INTEGER), step: 1 };
}

function single(schema, value, label) {
  const id = `part-${++ids}`;
  const problem = trouble(id);
  const numeric = schema.type === "integer" || schema.type === "number";
  const { minimum, maximum, step } = boundsOf(schema);
  const secret = schema.format === "password";
  const stored = secret && value !== undefined;
  const range = numeric && (maximum < 2 ** 31 - 1 ? `${minimum} to ${counted(maximum)}.` : `${minimum} or more.`);
  const hint = hintOf(schema, range || (stored && "The stored one is kept until you type another."));
  const beside = schema["x-unit"] && h("output", { class: "dim", for: id });
  const common = {
    id,
    "aria-labelledby": label.id,
    "aria-describedby": [hint.length && `${id}-hint`, problem.id].filter(Boolean).join(" "),
    required: schema.type !== "boolean" && !schema.optional && (numeric || schema.minLength > 0),
    autocomplete: "off",
    onfocus: stored && (() => input.select()), // a mask is replaced, not added to
  };
  let input;
  if (schema.type === "boolean") {
    input = h("input", { ...common, type: "checkbox", role: "switch", checked: value });
  } else if (schema.enum) {
    input = h("select", common, schema.optional && h("option", { value: "" }, "none"),
      schema.enum.map((one) => h("option", { selected: one === value }, one)));
  } else if (schema.maxLength >= LONG) {
    input = h("textarea", { ...common, rows: 3, spellcheck: "false", class: secret && "secret" }, value ?? "");
  } else if (numeric) {
    input = h("input", { ...common, type: "number", min: minimum, max: maximum, step, value });
  } else {
    input = h("input", { ...common, type: secret ? "password" : "text", spellcheck: "false", maxlength: schema.maxLength, value });
  }
  const read = () => {
    if (schema.type === "boolean") return input.checked;
    if (input.value === "" && (numeric || schema.optional)) return numeric ? null : undefined;
    return numeric ? Number(input.value) : input.value;
  };
  const compare = () => { if (beside) beside.textContent = inOther(schema["x-unit"], read()); };
  compare();
  const shown = h("div", { class: "part" },
    label.id ? null : h("label", { for: id }, label),
    beside ? h("span", { class: "measured" }, input, h("span", {}, schema["x-unit"]), beside) : input,
    hint.length === 0 ? null : h("p", { class: "hint", id: `${id}-hint` }, hint),
    problem);
  const complain = (_path, text) => {
    told(problem, text);
    input.setAttribute("aria-invalid", "true");
    return input;
  };
  input.addEventListener("input", () => {
    compare();
    cleared(shown);
    const added = secret && addedToMask(input.value) ? ADDED : "";
    input.setCustomValidity(added);
    if (added) complain("", added);
  });
  return { shown, read, complain };
}

// Several of some words; all of them, where the value is left out.
function several(schema, value, label) {
  const id = `part-${++ids}`;
  const problem = trouble(id);
  const box = (text, checked) => {
    const input = h("input", { type: "checkbox", checked, value: text });
    return { input, shown: h("label", { class: "choice" }, input, text) };
  };
  const all = box("all, also those that come later", value === undefined);
  const words = schema.items.enum.map((word) => box(word, value?.includes(word)));
  const follow = () => words.forEach(({ input }) => { input.disabled = all.input.checked; });
  all.input.addEventListener("change", follow);
  follow();
  return {
    shown: h("fieldset", { class: "inner" }, h("legend", {}, label), problem,
      schema.optional && all.shown, words.map(({ shown }) => shown)),
    read: () => (all.input.checked ? undefined : words.filter(({ input }) => input.checked).map(({ input }) => input.value)),
    complain(_path, text) {
      told(problem, text);
      return all.input;
    },
  };
}

// The longest name that a path begins with, and the rest; names may have dots.
function split(names, path) {
  const name = names.filter((one) => path === one || path.startsWith(`${one}.`)).sort((one, other) => other.length - one.length)[0];
  return name === undefined ? [] : [name, path.slice(name.length + 1)];
}

function complaining(problem, shown, parts) {
  return (path, text) => {
    const [name, rest] = split(Object.keys(parts), path);
    if (name !== undefined) return parts[name].complain(rest, text);
    told(problem, text);
    return shown.querySelector("input, select, textarea, button");
  };
}

function group(schema, value = {}, label = null, without = []) {
  const problem = trouble(`part-${++ids}`);
  const parts = Object.fromEntries(Object.entries(schema.properties).filter(([name]) => !without.includes(name)).map(([name, inner]) => [
    name, partOf(inner, value[name], labelOf(name)),
  ]));
  const nested = typeof label === "string";
  const inside = [nested ? h("legend", {}, label) : null, nested && schema.description ? h("p", { class: "hint" }, schema.description) : null,
    problem, h("div", { class: "parts" }, Object.values(parts).map(({ shown }) => shown))];
  const shown = nested ? h("fieldset", { class: "inner" }, inside) : h("div", {}, inside);
  return {
    shown,
    read: () => Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, part.read()]).filter(([, inner]) => inner !== undefined)),
    complain: complaining(problem, shown, parts),
  };
}

// An object of one of several kinds.
function choice(schema, value) {
  const options = schema.oneOf.map(resolved);
  const typed = value?.type !== undefined;
  const select = h("select", {}, options.map((option) => h("option", {}, typeOf(option))));
  const place = h("div", {});
  const left = {}; // by type: what was there when another one was chosen
  let option;
  let inner;
  const draw = (chosen, held) => {
    option = chosen;
    inner = group(option, held, null, ["type"]);
    place.replaceChildren(inner.shown);
  };
  select.addEventListener("change", () => {
    const [before, held] = [option, inner.read()];
    left[typeOf(before)] = held;
    const chosen = options.find((one) => typeOf(one) === select.value);
    draw(chosen, { ...left[typeOf(chosen)], ...common(before, chosen, held) });
  });
  draw(optionOf(schema, value), value);
  select.value = typeOf(option);
  return {
    shown: h("div", {}, h("div", { class: "part" }, h("label", {}, "Type ", select)), place),
    read: () => ({ ...(typed || !option.properties.type.optional ? { type: select.value } : {}), ...inner.read() }),
    complain: (path, text) => inner.complain(path, text),
  };
}

// Of a value of one kind, what one of another kind has as well. No secret: it opens something else there.
function common(before, chosen, held) {
  const both = Object.entries(chosen.properties).filter(([name, inner]) =>
    Object.hasOwn(before.properties, name) && resolved(inner).format !== "password" && fits(inner, held[name]));
  return Object.fromEntries(both.filter(([name]) => held[name] !== undefined).map(([name]) => [name, held[name]]));
}

// Objects by their names, which are given to new ones.
function entries(schema, value) {
  const problem = trouble(`part-${++ids}`);
  const parts = {};
  const place = h("div", {});
  const shown = h("div", {}, problem, place);
  const changed = () => {
    shown.dispatchEvent(new Event("input", { bubbles: true }));
    none.hidden = Object.keys(parts).length > 0;
  };
  const add = (name, held, open) => {
    const part = partOf(schema.additionalProperties, held);
    const element = h("details", { class: "entry", open }, h("summary", {}, h("b", {}, name), " ", h("span", { class: "dim" }, placeOf(held))),
      part.shown,
      h("div", { class: "actions" }, h("button", {
        type: "button",
        "aria-label": `Remove ${name}`,
        onclick: () => {
          delete parts[name];
          element.remove();
          changed();
          fresh.focus();
        },
      }, "Remove")));
    parts[name] = {
      ...part,
      complain(path, text) {
        element.open = true;
        return part.complain(path, text);
      },
    };
    place.append(element);
    return element;
  };
  const none = h("p", { class: "dim" }, "There are none.");
  for (const [name, held] of Object.entries(value)) add(name, held, false);
  none.hidden = Object.keys(parts).length > 0;
  const fresh = h("input", { maxlength: schema.propertyNames?.maxLength, autocomplete: "off", "data-apart": true });
  const begin = () => {
    const name = fresh.value.trim();
    if (!name || Object.hasOwn(parts, name)) {
      fresh.setCustomValidity(name ? `There is one of the name ${name}.` : "Give it a name first.");
      fresh.reportValidity();
      return;
    }
    const element = add(name, undefined, true);
    fresh.value = "";
    changed();
    element.querySelector("select, input").focus();
  };
  fresh.addEventListener("input", (event) => {
    event.stopPropagation(); // a name that is being typed is no change yet
    fresh.setCustomValidity("");
  });
  fresh.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    begin();
  });
  shown.append(none, h("div", { class: "row" }, h("label", {}, "Name of a new one ", fresh), h("button", { type: "button", onclick: begin }, "Add")));
  return {
    shown,
    read: () => Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, part.read()])),
    complain: complaining(problem, shown, parts),
  };
}

// Where an entry is, on its one line.
function placeOf(held = {}) {
  const { s3_server: server, bucket, container, account, host, path, url, type } = held;
  return [type, url, server?.host ?? account ?? host, bucket ?? container ?? path].filter(Boolean).join(" · ");
}

// A number in the unit that people count in.
function inOther(unit, count) {
  if (!count) return "";
  if (unit === "hours") {
    const [days, hours] = [Math.floor(count / 24), Math.round(count % 24)];
    const words = [days && `${counted(days)} ${days === 1 ? "day" : "days"}`, hours && `${hours} h`];
    return days ? `= ${words.filter(Boolean).join(" ")}` : "";
  }
  const step = Math.min(Math.floor(Math.log2(count) / 10), 6);
  const amount = count / 2 ** (10 * step);
  return step ? `= ${Number(amount.toFixed(2))} ${["", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][step]}` : "";
}

function counted(number) { return number.toLocaleString("en"); }

// A value to read.
export function shownOf(schema, value) {
  const known = resolved(schema);
  if (!fits(schema, value)) return h("pre", {}, JSON.stringify(value, null, 2));
  if (value === undefined) return h("span", { class: "dim" }, known.items ? "all" : "not set");
  const option = known.oneOf ? optionOf(known, value) : known;
  if (option.properties) {
    return h("dl", {}, Object.entries(value).flatMap(([name, inner]) => [h("dt", {}, labelOf(name)), h("dd", {}, shownOf(option.properties[name], inner))]));
  }
  if (known.additionalProperties) {
    const all = Object.entries(value);
    if (!all.length) return h("span", { class: "dim" }, "none");
    return h("dl", {}, all.flatMap(([name, inner]) => [h("dt", {}, h("b", {}, name)), h("dd", {}, shownOf(known.additionalProperties, inner))]));
  }
  if (known.items) return value.join(", ");
  return value === "" ? h("span", { class: "dim" }, "empty") : wordsOf(known, value);
}

export function wordsOf({ format, "x-unit": unit }, value, masked = "set") {
  if (typeof value === "boolean") return value ? "on" : "off";
  if (typeof value === "number") return [Number.isInteger(value) && !Number.isSafeInteger(value) && "about", counted(value), unit, unit && inOther(unit, value)].filter(Boolean).join(" ");
  if (format === "password") return value === MASK ? masked : "another one";
  return typeof value === "string" ? value : JSON.stringify(value);
}

// A value, with none of the secrets that were typed: those that `base` has are masked, as before.
export function withoutSecrets(schema, value, base) {
  const known = resolved(schema);
  const { properties = {}, additionalProperties = {} } = (known.oneOf && optionOf(known, value)) || known;
  if (!isObject(value)) return known.format !== "password" ? value : [value, base].includes(MASK) ? MASK : undefined;
  const same = base?.type === value.type ? base : undefined; // a secret of another kind opens something else
  const inner = Object.entries(value).map(([name, one]) => [name, withoutSecrets(properties[name] ?? additionalProperties, one, same?.[name])]);
  return Object.fromEntries(inner.filter(([, one]) => one !== undefined));
}
