// What a code means, who can mend it, and what to do: the catalogue of errors.

import { h } from "./dom.js";

const FACTS = [["What it means", "means"], ["Does waiting help", "waiting"], ["Who can mend it", "who"],
  ["What to do", "do"], ["Is anything lost", "lost"]];

// What stands between backticks is what one types.
const marked = (text) => text.split("`").map((part, number) => (number % 2 ? h("code", {}, part) : part));

export async function help(content, { signal, rest: [code] }) {
  content.append(h("h1", {}, code ? `What ${code} means` : "Errors, by their codes"));
  const { STANZAS } = await import("./stanzas.js");
  if (signal.aborted) return;
  if (!code) {
    content.append(h("dl", { class: "codes" }, Object.entries(STANZAS).flatMap(([name, stanza]) =>
      [h("dt", {}, h("a", { href: `#/help/${name}` }, name)), h("dd", {}, stanza.title)])));
    return;
  }
  const stanza = Object.hasOwn(STANZAS, code) ? STANZAS[code] : null;
  content.append(...(stanza
    ? [h("p", {}, `${stanza.title}.`), h("dl", {}, FACTS.flatMap(([name, key]) =>
      [h("dt", {}, name), h("dd", {}, marked(stanza[key]))]))]
    : [h("p", {}, "This version of the console does not know the code.")]),
  h("p", {}, h("a", { href: "#/help" }, "All codes")));
}
