// Calls of the HTTP API, with the token of this browser tab.

const BASE = location.pathname.replace(/\/console\/?$/, "");
const KEY = "rs-delivery-token";

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
    else sessionStorage.removeItem(KEY);
  },
  get claims() {
    try {
      const part = this.token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
      const bytes = Uint8Array.from(atob(part), (c) => c.charCodeAt(0));
      return JSON.parse(new TextDecoder().decode(bytes));
    } catch {
      return {};
    }
  },
};

// Whoever sees and asks for their own deliveries only.
export function plainUser() {
  return session.claims.role === "REGISTERED_USER";
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

// `trial`: a token that is not this tab's yet.
export async function call(method, path, options = {}) {
  const token = options.trial || session.token;
  const answer = await request(method, path, { ...options, token });
  const text = await answer.text();
  let said = null;
  try { said = text ? JSON.parse(text) : null; } catch { /* not ours */ }
  if (!answer.ok && !(options.accept || []).includes(answer.status)) {
    // A late answer to an earlier token says nothing of the one that is used now.
    if (answer.status === 401 && token && token === session.token) {
      session.token = null;
      window.dispatchEvent(new Event("signed-out"));
    }
    throw new Refused(answer.status, said?.message || `The service answered ${answer.status}.`, said?.messages);
  }
  return options.whole ? { body: said, etag: answer.headers.get("ETag") } : said;
}

// Follow server-sent events (EventSource can't send a token). Comes again, with the last id,
// until the signal is aborted or the server says that there is nothing more (204).
export async function follow(path, signal, hear) {
  let last = "";
  while (!signal.aborted) {
    try {
      const headers = last ? { "Last-Event-ID": last } : {};
      const answer = await request("GET", path, { headers, signal });
      if (answer.status === 204) return;
      if (!answer.ok) throw new Refused(answer.status, "no stream");
      for await (const event of events(answer.body)) {
        if (event.id) last = event.id;
        if (event.data) hear(event.event, JSON.parse(event.data));
      }
    } catch (error) {
      if (signal.aborted || error.status === 401 || error.status === 403 || error.status === 404) return;
    }
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
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
}
