// Signing in: with a token, or with REGARDS' own users where that is configured.

import { call, session } from "./api.js";
import { alertOf, h } from "./dom.js";

async function accept(token, place) {
  session.token = token.trim().replace(/^Bearer\s+/i, "");
  try {
    await call("GET", "/stats", { trial: true });
  } catch (error) {
    session.token = null;
    place.replaceChildren(alertOf(error));
    return;
  }
  window.dispatchEvent(new Event("signed-in"));
}

export async function signIn(content) {
  content.append(h("h1", {}, "Sign in"));
  const { passwords } = await call("GET", "/console/options");
  const said = h("div", {});
  const token = h("input", { id: "token", type: "password", autocomplete: "off", required: true, "aria-describedby": "token-hint" });
  content.append(said);
  if (passwords) content.append(byPassword(said));
  content.append(h("form", {
    class: "wide",
    onsubmit: (event) => { event.preventDefault(); accept(token.value, said); },
  },
  h("fieldset", {}, h("legend", {}, "With a token"),
    h("label", { for: "token" }, "Token"), token,
    h("p", { class: "hint", id: "token-hint" },
      "A JSON Web Token of REGARDS, or what `delivery token` prints. It is kept until this tab is closed."),
    h("button", { class: "main" }, "Sign in"))));
}

function byPassword(said) {
  const field = (id, label, type, autocomplete) => {
    const input = h("input", { id, type, autocomplete, required: true });
    return { input, shown: [h("label", { for: id }, label), input] };
  };
  const tenant = field("tenant", "Tenant", "text", "organization");
  const user = field("user", "User", "email", "username");
  const password = field("password", "Password", "password", "current-password");
  return h("form", {
    class: "wide",
    onsubmit: async (event) => {
      event.preventDefault();
      try {
        const answer = await call("POST", "/console/sign-in", {
          body: { tenant: tenant.input.value, user: user.input.value, password: password.input.value },
        });
        await accept(answer.token, said);
      } catch (error) {
        said.replaceChildren(alertOf(error));
      }
    },
  },
  h("fieldset", {}, h("legend", {}, "With a REGARDS user"), tenant.shown, user.shown, password.shown,
    h("p", {}, h("button", { class: "main" }, "Sign in"))));
}
