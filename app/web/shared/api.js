// Calls to the gateway: JSON in and out, problems as exceptions, streams as iterators.

/** Where the gateway is: a proxy may have put it below a path. */
export const ROOT = new URL("../..", import.meta.url).href.slice(0, -1);

/** One of its links as an address of where this page is from: under its public name the page's policy may bar it. */
export const here = (link) => ROOT + link.slice(link.lastIndexOf("/v1/"));

/** What the gateway refused, in its own words (RFC 9457), or in RunComfy's shape as it answers below /v1/models. */
class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.error_message || body.title || `The gateway answered ${status}.`);
    this.status = status;
    this.code = body.code;
    this.errors = body.errors || [];
    this.body = body;
  }
}

/** What a call says that broke off, or was answered by somebody else; one that was called off stays what it is. */
const broken = (error) => (error.name === "AbortError" ? error : new Problem(0, { title: "The gateway cannot be reached.", code: "unreachable" }));

/** The credential of this tab; it is gone with the tab, and never part of a URL. */
export class Session {
  constructor(name) {
    this.name = name;
  }
  get token() {
    return sessionStorage.getItem(this.name);
  }
  signIn(token) {
    sessionStorage.setItem(this.name, token.trim());
  }
  signOut() {
    sessionStorage.removeItem(this.name);
  }
}

export class Api {
  /** `onSignedOut` is told when the gateway no longer knows the credential. */
  constructor(session, onSignedOut) {
    this.session = session;
    this.onSignedOut = onSignedOut;
  }

  get(path, options) {
    return this.call("GET", path, options);
  }
  post(path, body, options) {
    return this.call("POST", path, { ...options, body });
  }
  put(path, body) {
    return this.call("PUT", path, { body });
  }
  patch(path, body) {
    return this.call("PATCH", path, { body });
  }
  delete(path) {
    return this.call("DELETE", path);
  }

  /** Gives the parsed answer, or throws a Problem. A File is sent as it is. */
  async call(method, path, options) {
    const answer = await this.fetch(method, path, options);
    try {
      return answer.status === 204 ? null : await answer.json();
    } catch (error) {
      throw broken(error);
    }
  }

  async fetch(method, path, { body, headers = {}, signal } = {}) {
    const asIs = body === undefined || body instanceof Blob;
    let answer;
    try {
      answer = await fetch(ROOT + path, {
        method,
        signal,
        headers: {
          Authorization: `Bearer ${this.session.token}`,
          ...(asIs ? {} : { "Content-Type": "application/json" }),
          ...headers,
        },
        body: asIs ? body : JSON.stringify(body),
        cache: "no-store",
      });
    } catch (error) {
      throw broken(error);
    }
    if (answer.ok) return answer;
    const text = await answer.text();
    let problem;
    try {
      problem = JSON.parse(text);
    } catch {
      problem = {};
    }
    if (answer.status === 401) this.onSignedOut();
    throw new Problem(answer.status, problem);
  }

  /** Yields `{id, data}` of an event stream until it ends (EventSource sends no header). */
  async *events(path, { lastEventId, signal } = {}) {
    const headers = { Accept: "text/event-stream" };
    if (lastEventId) headers["Last-Event-ID"] = lastEventId;
    const answer = await this.fetch("GET", path, { headers, signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value.replace(/\r\n?/g, "\n");
      for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
        const event = parseEvent(text.slice(0, end));
        if (event) yield event;
      }
    }
  }
}

function parseEvent(block) {
  const event = { data: [] };
  for (const line of block.split("\n")) {
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (field === "data") event.data.push(value);
    else if (field === "id") event.id = value;
  }
  return event.data.length ? { ...event, data: JSON.parse(event.data.join("\n")) } : null;
}
