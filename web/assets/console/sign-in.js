// Signing in: with a token; at the identity provider, or with REGARDS' own users, where that is configured.

import { call, session } from "./api.js";
import { alertOf, h } from "./dom.js";
import { begin } from "./provider.js";

// `why`: why the user must sign in again.
export async function signIn(content, { signal, why }) {
  const said = h("div", {}, why ? alertOf({ message: why }) : "");
  const users = h("div", {});
  const token = h("input", { id: "token", type: "password", autocomplete: "off", required: true, "aria-describedby": "token-hint" });
  const attempt = oneAtATime(said, signal);
  // All that needs no answer is there at once: the user may be typing already.
  content.append(h("h1", {}, "Sign in"), said, users, h("form", {
    class: "wide",
    onsubmit: (event) => { event.preventDefault(); attempt(async () => token.value); },
  },
  h("fieldset", {}, h("legend", {}, "With a token"),
    h("label", { for: "token" }, "Token"), token,
    h("p", { class: "hint", id: "token-hint" },
      "A JSON Web Token of REGARDS, or what `delivery token` prints. It is kept until this tab is closed."),
    h("button", { class: "main" }, "Sign in"))));
  const { passwords, provider } = await call("GET", "/console/options", { signal });
  if (provider) users.append(atProvider(provider, said, signal));
  if (passwords) users.append(byPassword(attempt));
}

// Returns what signs in with the token that it is given a way to; a second Enter changes nothing.
function oneAtATime(said, signal) {
  let trying = false;
  return async (find) => {
    if (trying) return;
    trying = true;
    try {
      const token = (await find()).trim().replace(/^Bearer\s+/i, "");
      const { content } = await call("GET", "/me", { trial: token, signal });
      session.token = token;
      session.caller = content;
      window.dispatchEvent(new Event("signed-in"));
    } catch (error) {
      if (!signal.aborted) said.replaceChildren(alertOf(error));
    }
    trying = false;
  };
}

function atProvider(issuer, said, signal) {
  return h("form", {
    class: "wide",
    onsubmit: async (event) => {
      event.preventDefault();
      try { await begin(signal); } catch (error) { if (!signal.aborted) said.replaceChildren(alertOf(error)); }
    },
  },
  h("fieldset", {}, h("legend", {}, "At your identity provider"),
    h("p", {}, h("button", { class: "main" }, `Sign in with ${new URL(issuer).host}`))));
}

function byPassword(attempt) {
  const field = (id, label, type, autocomplete) => {
    const input = h("input", { id, type, autocomplete, required: true });
    return { input, shown: [h("label", { for: id }, label), input] };
  };
  const tenant = field("tenant", "Tenant", "text", "organization");
  const user = field("user", "User", "email", "username");
  const password = field("password", "Password", "password", "current-password");
  return h("form", {
    class: "wide",
    onsubmit: (event) => {
      event.preventDefault();
      attempt(async () => (await call("POST", "/console/sign-in", {
        body: { tenant: tenant.input.value, user: user.input.value, password: password.input.value },
      })).token);
    },
  },
  h("fieldset", {}, h("legend", {}, "With a REGARDS user"), tenant.shown, user.shown, password.shown,
    h("p", {}, h("button", { class: "main" }, "Sign in"))));
}
