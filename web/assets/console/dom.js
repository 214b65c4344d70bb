// Making elements (never from HTML in strings: what strangers sent stays text), and saying figures.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return element;
}

export function size(bytes) {
  if (bytes === undefined || bytes === null) return "";
  let count = bytes;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (count < 1000) return unit === "B" ? `${count} B` : `${count.toFixed(1)} ${unit}`;
    count /= 1000;
  }
  return `${count.toFixed(2)} TB`;
}

export function seconds(count) {
  if (count === undefined || count === null) return "";
  if (count < 60) return `${count < 10 ? count.toFixed(1) : Math.round(count)} s`;
  if (count < 3600) return `${Math.floor(count / 60)} min ${Math.round(count % 60)} s`;
  if (count < 172800) return `${Math.floor(count / 3600)} h ${Math.round((count % 3600) / 60)} min`;
  return `${Math.round(count / 86400)} days`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric",
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZoneName: "short" });
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "always", style: "short" });

// A time with its zone, by the 24-hour clock, and how long ago that is, or in how long.
export function time(text) {
  if (!text) return "";
  return h("time", { datetime: text, title: text }, clock(text), " ", h("small", { "data-when": text }, near(text)));
}

export function clock(text) {
  return CLOCK.format(new Date(text));
}

function near(text) {
  const from = (new Date(text) - Date.now()) / 1000;
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (Math.abs(from) >= length) return `(${RELATIVE.format(Math.trunc(from / length), unit)})`;
  }
  return Math.abs(from) < 1 ? "(now)" : `(${RELATIVE.format(Math.trunc(from), "second")})`;
}

// In how long something is due.
function due(text) {
  const left = Math.ceil((new Date(text) - Date.now()) / 1000);
  return left > 0 ? `in ${whole(left)}` : "now";
}

function whole(count) {
  return count < 60 ? `${count} s` : seconds(count);
}

// For how long something has been so, which grows.
export function lasting(text) {
  return h("span", { "data-since": text }, since(text));
}

function since(text) {
  return whole(Math.max(0, Math.floor((Date.now() - new Date(text)) / 1000)));
}

// What is near, and what lasts, is told again while it is looked at.
setInterval(() => {
  if (document.hidden) return;
  const told = (name, say) => document.querySelectorAll(`[data-${name}]`).forEach((element) => {
    const words = say(element.dataset[name]);
    if (element.textContent !== words) element.textContent = words;
  });
  told("when", near);
  told("since", since);
  told("due", due);
}, 1000);

export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

// Has the browser save what was downloaded.
export function saved({ file, name }) {
  const address = URL.createObjectURL(file);
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

export function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}

export function state(name) {
  return h("span", { class: `state ${name}` }, name);
}

// What goes on in a state, in words; null: it has ended, or bytes flow, which the bar tells.
export function activity(delivery, progress) {
  const moves = delivery.activity === "moving" || delivery.activity === "stalled";
  if (moves && progress?.stalledFor) return h("span", { class: "stands" }, `stalled: no byte for ${seconds(progress.stalledFor)}`);
  if (delivery.activity === "paused") return h("span", { class: "stands" }, "paused");
  if (delivery.activity !== "retrying") return null;
  const tries = `${delivery.tries} ${delivery.tries === 1 ? "try" : "tries"} failed`;
  const next = delivery.nextAttemptAt;
  const when = h("time", { datetime: next, title: next, "data-due": next }, due(next));
  return h("span", { class: "stands" }, "retrying ", when, `, ${tries}`);
}

// A code leads to what it means.
export function codeOf(code) {
  return code && h("a", { class: "code", href: `#/help/${encodeURIComponent(code)}` }, code);
}

export function bar(progress, label) {
  const total = progress.bytesTotal || 1;
  const percent = Math.min(100, (100 * progress.bytesDone) / total);
  const told = [`${percent.toFixed(0)} %`, `${size(progress.bytesDone)} of ${size(progress.bytesTotal)}`];
  if (progress.bytesPerSecond) told.push(`${size(progress.bytesPerSecond)}/s`);
  if (progress.stalledFor) told.push(`no byte for ${seconds(progress.stalledFor)}`);
  if (progress.secondsLeft) told.push(`${seconds(progress.secondsLeft)} left`);
  return h("span", { class: "bar" },
    h("progress", { max: 100, value: percent.toFixed(1), "aria-label": `Progress of ${label}` }),
    h("small", {}, told.join(" · ")));
}

// Which suborders are there, and what is waited for, as the command line says it; null: nothing to tell.
export function suborders(delivery) {
  const { announcedSubOrders: announced, listedSubOrders: listed = 0, totalSubOrders: told = 0 } = delivery;
  if (!announced || delivery.finishedAt) return null;
  const total = Math.max(announced, told);
  if (delivery.parkedSince) {
    const more = total > listed;
    return h("span", {}, `${counted(listed, more ? total : 0)} in the archive; waits for `,
      more ? "the next one since " : "the next one, or the end of the order, since ", time(delivery.parkedSince));
  }
  if (!delivery.orderDone) return h("span", {}, `${counted(announced, total)} available`);
  return total > 1 ? h("span", {}, `all ${told || announced} suborders are available`) : null;
}

function counted(count, total) {
  const of = total > 1 ? ` of at least ${total}` : "";
  return `${count}${of} ${count === 1 && !of ? "suborder" : "suborders"} ${count === 1 ? "is" : "are"}`;
}

// Some ids no path can hold: then the page is that of the delivery's own id.
export function addressOf({ correlationId, id }) {
  const page = `#/delivery/${encodeURIComponent(correlationId)}`;
  return [".", "..", "events", "by-id"].includes(correlationId) ? `${page}?id=${id}` : page;
}

// Each leads to what else has it.
export function labelled({ labels }) {
  return labels && h("span", { class: "labels" }, labels.map((label) =>
    h("a", { href: `#/deliveries?${new URLSearchParams({ label })}` }, label)));
}

// Change only the cells that differ: a user with the focus on the link of a row keeps it.
export function refreshed(old, element) {
  [...old.children].forEach((cell, number) => {
    const wanted = element.children[number];
    if (cell.innerHTML !== wanted.innerHTML) cell.replaceChildren(...wanted.childNodes);
  });
  return old;
}

export function alertOf(error) {
  const reasons = error.reasons && error.reasons.length > 1
    ? h("ul", {}, error.reasons.map((reason) => h("li", {}, reason))) : null;
  return h("div", { class: "alert", role: "alert" }, reasons ? "Not done:" : error.message, reasons);
}

// Says whether what is shown is live; see `follow`.
export function liveness() {
  const element = h("p", { class: "dim", role: "status" });
  return {
    element,
    tell(standing) {
      const fine = standing === "live" || standing === "over";
      element.className = fine ? "dim" : "alert";
      element.textContent = { live: "Live: what happens is shown at once.", over: "" }[standing] ?? `Not live: ${standing}`;
    },
  };
}

let silence;
export function say(text) {
  const place = document.getElementById("said");
  place.textContent = text;
  clearTimeout(silence);
  silence = setTimeout(() => { place.textContent = ""; }, 6000);
}

// A dialog of our own: its buttons say what they do. Resolves to whether it was confirmed.
export function confirmed(question, action, ...fields) {
  return asked("danger", question, action, fields);
}

// The same for what changes nothing.
export function offered(question, action, ...fields) {
  return asked("main", question, action, fields);
}

// What a dialog asked on the page that is left is answered with no.
export function closeDialogs() {
  document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
}

function asked(kind, question, action, fields) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-labelledby": "question" },
      h("form", { method: "dialog" },
        h("p", { id: "question" }, question), fields,
        h("div", { class: "actions" },
          h("button", { value: "yes", class: kind }, action),
          h("button", { value: "no", formnovalidate: true }, "Go back"))));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
