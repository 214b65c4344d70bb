// Signing in at the site's identity provider: authorization code with PKCE. The code is exchanged by the service, so that
// this page connects to nothing else, and no secret of a client is in it.

import { call, home, session } from "./api.js";

const PENDING = "rs-delivery-sign-in"; // what a sign-in began with, until the user comes back to this tab

function text64(bytes) {
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

const chance = (length) => text64(crypto.getRandomValues(new Uint8Array(length)));

// Send the user there.
export async function begin(signal) {
  if (!crypto.subtle) throw new Error("Open this page over HTTPS to sign in there: the browser allows it nowhere else.");
  const { issuer, authorizationEndpoint, parameters } = await call("GET", "/console/provider", { signal });
  const codeVerifier = chance(48);
  const [state, nonce] = [chance(24), chance(24)];
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(codeVerifier));
  const redirectUri = home();
  sessionStorage.setItem(PENDING, JSON.stringify({ issuer, state, nonce, codeVerifier, redirectUri, hash: location.hash }));
  location.assign(withQuery(authorizationEndpoint, {
    ...parameters, state, nonce, redirect_uri: redirectUri,
    code_challenge: text64(new Uint8Array(digest)), code_challenge_method: "S256",
  }));
}

// Sign the user in who comes back. A code that was not asked for in this tab may be of another user: it is left alone.
export async function arrive() {
  const given = new URLSearchParams(location.search);
  const pending = JSON.parse(sessionStorage.getItem(PENDING) || "{}");
  sessionStorage.removeItem(PENDING);
  history.replaceState(null, "", location.pathname + (pending.hash || ""));
  if (given.get("state") !== pending.state || (given.get("iss") || pending.issuer) !== pending.issuer) {
    throw new Error("This sign-in was not begun here, or too long ago. Sign in again.");
  }
  if (given.has("error")) {
    throw new Error(`The identity provider did not let you in: ${given.get("error_description") || given.get("error")}.`);
  }
  const { codeVerifier, redirectUri, nonce } = pending;
  const tokens = await call("POST", "/console/sign-in/code", {
    body: { code: given.get("code"), codeVerifier, redirectUri, nonce },
  });
  const { content } = await call("GET", "/me", { trial: tokens.token });
  session.take(tokens);
  session.caller = content;
}

// Return where the session ends at the provider, too; null where it is not the provider's, or that can't be told.
export async function wayOut({ ofProvider, idToken }) {
  if (!ofProvider) return null;
  try {
    const { endSessionEndpoint, parameters } = await call("GET", "/console/provider");
    if (!endSessionEndpoint) return null;
    const hint = idToken ? { id_token_hint: idToken } : {};
    return withQuery(endSessionEndpoint, {
      client_id: parameters.client_id, post_logout_redirect_uri: home(), ...hint,
    });
  } catch {
    return null; // signed out here it is anyway
  }
}

function withQuery(address, parameters) {
  const url = new URL(address);
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  return url.href;
}
