/**
 * A reader's connection: a session's messages, continued after every loss from the last one seen.
 *
 * States: connecting -> live -> (waiting -> connecting -> live)* -> ended | failed.
 */

import { retryDelay } from "./retry.js";
import { CODES } from "./stream.js";

const FINAL_CODES = new Set([4400, 4401, 4403, 4404]);

export class Viewer {
  /**
   * @param {object} options
   * @param {import("./api.js").Api} options.api
   * @param {string} options.session
   * @param {() => number} options.lastSeq last durable message the caller has; 0 asks for a snapshot
   * @param {(message: object) => void} options.onMessage
   * @param {(state: string, detail: {error?: object, retryMs?: number}) => void} options.onState
   */
  constructor({ api, session, lastSeq, onMessage, onState }) {
    Object.assign(this, { api, session, lastSeq, onMessage, onState });
    this.attempt = 0;
    this.closed = false;
    this.seen = false; // a snapshot has come
    this.over = false; // the session's last message has come
  }

  /** Connects, and again after every loss, until `close`. */
  async open() {
    this.closed = false;
    this.#enter("connecting");
    let url;
    try {
      url = await this.api.eventsUrl(this.session, this.seen ? this.lastSeq() : null);
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (this.closed) return;
    this.error = null;
    this.opened = false;
    this.#drop();
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.onopen = () => {
      this.opened = true;
      this.attempt = 0;
      this.#enter("live");
    };
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code }) => this.#lose(code);
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.#drop();
  }

  /** A message is missing, or the network changed: a fresh connection now. */
  reconnect() {
    if (this.closed || this.over) return;
    clearTimeout(this.timer);
    this.#drop();
    this.open();
  }

  #receive(message) {
    if (message.type === "error" && message.fatal) this.error = message;
    if (message.type === "snapshot") {
      this.seen = true;
      this.over = !message.live;
    }
    if (message.type === "stopped") this.over = true;
    this.onMessage(message);
    if (this.over) {
      this.close();
      this.#enter("ended");
    }
  }

  async #lose(code) {
    this.socket = null;
    if (this.closed) return;
    if (code === 1000) {
      this.over = true;
      this.close();
      this.#enter("ended");
      return;
    }
    if (FINAL_CODES.has(code)) {
      this.#fail(this.error ?? { code: CODES[code] });
      return;
    }
    if (!this.opened) {
      // A refused handshake tells a page nothing: an ordinary request tells why.
      try {
        await this.api.session(this.session);
      } catch (error) {
        if (["unauthorized", "unknown_session", "forbidden_origin"].includes(error.code)) {
          this.#fail(error);
          return;
        }
      }
      if (this.closed) return;
    }
    const retryMs = retryDelay(this.attempt++);
    this.timer = setTimeout(() => this.open(), retryMs);
    this.#enter("waiting", { error: this.error, retryMs });
  }

  #fail(error) {
    if (!error.code) {
      this.timer = setTimeout(() => this.open(), retryDelay(this.attempt++)); // nobody answered
      this.#enter("waiting", {});
      return;
    }
    this.close();
    this.#enter("failed", { error });
  }

  #drop() {
    const { socket } = this;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #enter(state, detail = {}) {
    this.onState(state, detail);
  }
}
