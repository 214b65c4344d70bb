// Calls of the HTTP API, with the token of this browser tab.

const BASE = location.pathname.replace(/\/console\/?$/, "");
const KEY = "rs-delivery-token";
const CALLER = "rs-delivery-caller"; // who the service says that the token is of
const PROVIDER = "rs-delivery-of-provider"; // whether that token is of the identity provider
const EARLY = 30; // seconds before its end that a token is renewed
const RENEWAL = 10_000; // milliseconds that calls wait for that; less than `EARLY`, so the token is still good then

// Kept by this page alone, and gone when it is loaded again: a refresh token is worth more than a token.
let refreshToken = null;
let idToken = null;
let renewing = null;

// Where this page is: what the identity provider knows it by.
export function home() { return `${location.origin}${BASE}/console`; }

export class Refused extends Error {
  constructor(status, message, reasons) {
    super(message);
    this.status = status;
    this.reasons = reasons;
  }
}

export const session = {
  get token() { return sessionStorage.getItem(KEY); },
  set token(value) {
    if (value) sessionStorage.setItem(KEY, value);
    else [KEY, CALLER].forEach((kept) => sessionStorage.removeItem(kept));
    sessionStorage.removeItem(PROVIDER);
    refreshToken = idToken = null;
  },
  // Sign in with what the identity provider gave.
  take(given) {
    this.token = given.token;
    sessionStorage.setItem(PROVIDER, "yes");
    refreshToken = given.refreshToken || null;
    idToken = given.idToken || null;
  },
  // What is known of where the token comes from, for signing out there.
  get origin() { return { ofProvider: sessionStorage.getItem(PROVIDER) !== null, idToken }; },
  // The answer to `/me`: name, role, namedRole, tenant. Which claims they are in, the service alone knows.
  get caller() { return JSON.parse(sessionStorage.getItem(CALLER)) || {}; },
  set caller(value) { sessionStorage.setItem(CALLER, JSON.stringify(value)); },
  get role() { return this.caller.role; },
  // Of the token, in seconds since 1970; 0 where it does not say.
  get end() {
    try {
      const part = this.token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
      const bytes = Uint8Array.from(atob(part), (c) => c.charCodeAt(0));
      return JSON.parse(new TextDecoder().decode(bytes)).exp || 0;
    } catch {
      return 0;
    }
  },
};
// A tab that an earlier version of this page signed in does not know who it is of.
if (session.token && !session.role) session.token = null;

// Whether the user sees and asks for their own deliveries only.
export function plainUser() {
  return session.role === "REGISTERED_USER";
}

// Whether the user sees all of the tenant, and may change nothing of it.
export function looksOnly() {
  return session.role === "READ_ONLY";
}

async function request(method, path, { body, headers = {}, signal, token = session.token } = {}) {
  const all = { ...headers };
  if (token) all.Authorization = `Bearer ${token}`;
  if (body !== undefined) all["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(BASE + path, {
      method, headers: all, signal, body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The service does not answer. Is it running, and is the network up?");
  }
  return answer;
}

function refusalOf(answer, said) {
  const refused = new Refused(answer.status, said?.message || `The service answered ${answer.status}.`, said?.messages);
  refused.later = Number(answer.headers.get("Retry-After")) || null; // seconds
  return refused;
}

async function jsonOf(answer) {
  const text = await answer.text();
  try { return text ? JSON.parse(text) : null; } catch { return null; /* not ours */ }
}

// A late answer to an earlier token says nothing of the one that is used now.
function signOut(token, why) {
  if (!token || token !== session.token) return;
  session.token = null;
  window.dispatchEvent(new CustomEvent("signed-out", { detail: why }));
}

// Get another token before this one ends, once for all who wait; where that fails, it ends in its time.
async function renew() {
  if (!refreshToken || session.end - Date.now() / 1000 > EARLY) return;
  renewing ??= renewed().finally(() => { renewing = null; });
  await renewing;
}

async function renewed() {
  const [used, before] = [refreshToken, idToken];
  try {
    const answer = await request("POST", "/console/sign-in/refresh", {
      body: { refreshToken: used }, token: null, signal: AbortSignal.timeout(RENEWAL),
    });
    const given = await jsonOf(answer);
    if (used !== refreshToken) return; // signed out, or in, meanwhile
    if (answer.ok) session.take({ ...given, refreshToken: given.refreshToken || used, idToken: given.idToken || before });
    else if (answer.status === 401) refreshToken = null;
  } catch { /* the next call tries it again */ }
}

// `trial`: a token that is not this tab's yet.
export async function call(method, path, options = {}) {
  if (!options.trial) await renew();
  const token = options.trial || session.token;
  const answer = await request(method, path, { ...options, token });
  const said = await jsonOf(answer);
  if (!answer.ok && !(options.accept || []).includes(answer.status)) {
    const refused = refusalOf(answer, said);
    if (answer.status === 401) signOut(token, refused.message);
    throw refused;
  }
  return options.whole ? { body: said, etag: answer.headers.get("ETag") } : said;
}

// Download a file. The browser keeps it as it comes (a page can send no token otherwise), then saves it by its name.
export async function download(path, signal) {
  await renew();
  const token = session.token;
  const answer = await request("GET", path, { signal, token });
  if (!answer.ok) {
    const refused = refusalOf(answer, await jsonOf(answer));
    if (answer.status === 401) signOut(token, refused.message);
    throw refused;
  }
  const told = answer.headers.get("Content-Disposition") || "";
  const [, whole] = told.match(/filename\*=UTF-8''([^;]+)/) || [];
  const [, plain] = told.match(/filename="([^"]*)"/) || [];
  let file;
  try {
    file = await answer.blob();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The download broke off. Try it again.");
  }
  return { file, name: whole ? decodeURIComponent(whole) : plain || "download" };
}

// Follow server-sent events (EventSource can't send a token). Comes again, with the last id, until
// the signal is aborted, the server says that there is nothing more (204), or that it is of no use.
// `tell` hears how it stands: "live", "over", or why it is neither.
export async function follow(path, signal, hear, tell = () => {}) {
  let last = "";
  let hurried = false; // the last end was followed by a new request at once
  let late; // tells that the answer to it is
  while (!signal.aborted) {
    await renew();
    const token = session.token;
    let pause = 2; // seconds
    try {
      const headers = last ? { "Last-Event-ID": last } : {};
      const answer = await request("GET", path, { headers, signal, token }).finally(() => clearTimeout(late));
      if (answer.status === 204) { tell("over"); return; }
      if (!answer.ok) throw refusalOf(answer, await jsonOf(answer));
      tell("live");
      let heard = false;
      const since = Date.now();
      for await (const event of events(answer.body)) {
        if (event.id) { last = event.id; heard = true; }
        if (event.event === "expired") throw new Refused(401, JSON.parse(event.data).message);
        if (event.data) hear(event.event, JSON.parse(event.data));
      }
      // It ends after the last step of a delivery, too: the next answer tells whether that was it.
      // (Not time after time: who ends each stream after an event would be asked without a pause.)
      hurried = heard && (!hurried || Date.now() - since > 10000);
      const say = () => { if (!signal.aborted) tell("the stream has ended; it is begun again"); };
      if (hurried) {
        pause = 0.2;
        late = setTimeout(say, 2000);
      } else {
        say();
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401) {
        await renew();
        if (session.token && session.token !== token) continue;
        signOut(token, error.message);
        return;
      }
      if (error.status === 403 || error.status === 404) { tell(error.message); return; }
      pause = error.later || pause;
      tell(error.status === undefined ? "the connection broke; it is made again" : error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, pause * 1000));
  }
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      left += value;
      const blocks = left.split("\r\n\r\n");
      left = blocks.pop();
      for (const block of blocks) {
        const event = {};
        for (const line of block.split("\r\n")) {
          const colon = line.indexOf(": ");
          if (colon > 0) event[line.slice(0, colon)] = line.slice(colon + 2);
        }
        yield event;
      }
    }
  } finally {
    // A reader that stops leaves nothing open: it would count among the caller's streams.
    reader.cancel().catch(() => {});
  }
}
