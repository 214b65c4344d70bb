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

export function time(text) {
  if (!text) return "";
  return h("time", { datetime: text, title: text }, new Date(text).toLocaleString());
}

export function state(name) {
  return h("span", { class: `state ${name}` }, name);
}

export function bar(progress, label) {
  const total = progress.bytesTotal || 1;
  const percent = Math.min(100, (100 * progress.bytesDone) / total);
  const told = [`${percent.toFixed(0)} %`, `${size(progress.bytesDone)} of ${size(progress.bytesTotal)}`];
  if (progress.bytesPerSecond) told.push(`${size(progress.bytesPerSecond)}/s`);
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

export function confirmed(question, action, ...fields) {
  // A dialog of our own: its buttons say what they do. Resolves to whether it was confirmed.
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-labelledby": "question" },
      h("form", { method: "dialog" },
        h("p", { id: "question" }, question), fields,
        h("div", { class: "actions" },
          h("button", { value: "yes", class: "danger" }, action),
          h("button", { value: "no" }, "Go back"))));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
