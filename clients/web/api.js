/** The daemon's HTTP side, as far as the page needs it. */

import { tab } from "./store.js";

const BASE = new URL("../", import.meta.url); // where the daemon lives, also behind a path prefix
const TOKEN_KEY = "amanuensis.token";

/** A refusal. `code` is PROTOCOL's, or "" where nobody answered. */
export class ApiError extends Error {
  constructor(message, code, status, options) {
    super(message, options);
    this.code = code;
    this.status = status; // HTTP, 0 where nobody answered
  }
}

export class Api {
  /** The access token; kept for this tab only, and never put into a URL. */
  get token() {
    return tab.getItem(TOKEN_KEY) ?? "";
  }

  set token(value) {
    if (value) tab.setItem(TOKEN_KEY, value);
    else tab.removeItem(TOKEN_KEY);
  }

  get streamUrl() {
    return this.#socketUrl("v1/stream").href;
  }

  /** Where a session's messages come from. @param {number | null} after null asks for a snapshot first */
  async eventsUrl(session, after) {
    const url = this.#socketUrl(`v1/sessions/${encodeURIComponent(session)}/events`);
    if (after !== null) url.searchParams.set("after", String(after));
    if (this.token) url.searchParams.set("ticket", (await this.#ask("v1/tickets", { method: "POST" })).ticket);
    return url.href;
  }

  /** @returns {Promise<object[]>} newest first */
  async sessions() {
    return (await this.#ask("v1/sessions")).sessions;
  }

  session(id) {
    return this.#ask(`v1/sessions/${encodeURIComponent(id)}`);
  }

  setTitle(id, title) {
    return this.#change(id, { title });
  }

  /** @param {string} speaker S1, S2 ... @param {string | null} name null takes it away @returns {Promise<object>} the session */
  nameSpeaker(id, speaker, name) {
    return this.#change(id, { speakers: { [speaker]: name } });
  }

  /** @param {"txt" | "srt" | "vtt" | "md" | "json"} format @returns {Promise<Blob>} */
  async transcript(id, format) {
    const response = await this.#fetch(`v1/sessions/${encodeURIComponent(id)}/transcript.${format}`);
    return response.blob();
  }

  #change(id, what) {
    return this.#ask(`v1/sessions/${encodeURIComponent(id)}`, {
      method: "PATCH",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(what),
    });
  }

  async #ask(path, options) {
    return (await this.#fetch(path, options)).json();
  }

  async #fetch(path, { headers = {}, ...options } = {}) {
    if (this.token) headers = { ...headers, authorization: `Bearer ${this.token}` };
    let response;
    try {
      response = await fetch(new URL(path, BASE), { ...options, headers });
    } catch (cause) {
      throw new ApiError("The daemon does not answer.", "", 0, { cause });
    }
    if (response.ok) return response;
    const said = await response.json().then(({ error }) => error, () => null); // a proxy's page is no JSON
    throw new ApiError(said?.message ?? `The server answered ${response.status}.`, said?.code ?? "refused", response.status);
  }

  #socketUrl(path) {
    const url = new URL(path, BASE);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    return url;
  }
}
