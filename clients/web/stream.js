/**
 * A producer's connection: audio out of the ring, messages in, and back again after every loss.
 *
 * The ring is the truth about what was heard, `cursor` how much of it this connection has carried. After a loss
 * the server names the first sample it lacks, and the cursor goes back there. What the ring no longer has, the
 * server is told to skip.
 *
 * States: connecting -> live -> (waiting -> connecting -> live)* -> stopped | failed.
 */

import { retryDelay } from "./retry.js";

export const SUBPROTOCOL = "amanuensis.v1";

const BLOCK_S = 0.1; // one message
const AHEAD_S = 2; // audio handed to the socket and not yet sent; beyond it audio waits in the ring
const PING_MS = 4_000; // between markers, whose echo shows that the server is there
const SILENT_MS = 15_000; // without a message, the connection is taken for dead
const PUMP_MS = 50; // between looks at the socket's buffer while no audio arrives
const OPENING_MS = 10_000; // for the socket and `started`
const BUSY_TRIES = 20; // the server may not have noticed yet that the old connection is gone

/** Close codes after which trying again is of no use. */
const FINAL_CODES = new Set([1009, 4400, 4401, 4403, 4404]);

export class Stream {
  /**
   * @param {object} options
   * @param {string} options.url of /v1/stream, ws: or wss:
   * @param {import("./ring.js").Ring} options.ring filled by the caller, who then calls `pump`
   * @param {number} options.rate samples per second of the ring
   * @param {object} [options.start] further fields of `start`
   * @param {string} [options.resumeToken] continue `start.session` instead of creating one
   * @param {() => string} options.token access token, "" for none
   * @param {() => number} options.lastSeq last durable message the caller has
   * @param {(message: object) => void} options.onMessage
   * @param {(state: string, detail: {error?: object, retryMs?: number}) => void} options.onState
   * @param {(url: string, protocol: string) => WebSocket} [options.connect]
   */
  constructor({ url, ring, rate, start = {}, resumeToken = "", token, lastSeq, onMessage, onState, connect }) {
    Object.assign(this, { url, ring, rate, start, resumeToken, token, lastSeq, onMessage, onState });
    this.connect = connect ?? ((target, protocol) => new WebSocket(target, protocol));
    this.state = "new";
    this.cursor = 0; // position after the last sample given to the socket
    this.attempt = 0;
    this.busyTries = 0;
    this.finishing = false;
    this.stopSent = false;
    this.timers = {};
  }

  /** Opens the first connection. */
  open() {
    this.#connect();
  }

  /** Sends what the ring has and the socket will take. */
  pump() {
    if (this.state !== "live") return;
    const { ring, socket } = this;
    const ahead = this.rate * AHEAD_S * Int16Array.BYTES_PER_ELEMENT; // bytes
    while (this.cursor < ring.end && socket.bufferedAmount < ahead) {
      if (this.cursor < ring.start) {
        this.#send({ type: "skip", samples: ring.start - this.cursor });
        this.cursor = ring.start;
        continue;
      }
      const to = Math.min(ring.end, this.cursor + Math.round(this.rate * BLOCK_S));
      socket.send(ring.read(this.cursor, to)); // int16 of the machine: little-endian wherever browsers run
      this.cursor = to;
    }
    if (this.finishing && this.cursor >= ring.end && !this.stopSent) {
      this.stopSent = true;
      this.#send({ type: "stop" });
    }
  }

  /** No more audio will come: what is in the ring is sent, then the server is asked to finish. */
  finish() {
    this.finishing = true;
    this.timers.pump = setInterval(() => this.pump(), PUMP_MS);
    this.pump();
  }

  /** Drops the connection and tries no more. */
  abandon(state = "stopped", detail = {}) {
    this.#drop();
    clearTimeout(this.timers.retry);
    clearInterval(this.timers.pump);
    this.#enter(state, detail);
  }

  /** The network changed, or a message is missing: a fresh connection now, not when the old one is found dead. */
  reconnect() {
    if (["stopped", "failed", "new"].includes(this.state)) return;
    clearTimeout(this.timers.retry);
    this.#drop();
    this.#connect();
  }

  #connect() {
    this.#enter("connecting");
    this.error = null;
    this.stopSent = false;
    const socket = this.connect(this.url, SUBPROTOCOL);
    this.socket = socket;
    socket.onopen = () => this.#send(this.#startMessage());
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code }) => this.#lose(code);
    this.timers.opening = setTimeout(() => this.#lose(1006), OPENING_MS);
  }

  #startMessage() {
    const audio = { encoding: "pcm_s16le", sample_rate: this.rate, channels: 1 };
    const message = { type: "start", audio, ...this.start };
    if (this.token()) message.token = this.token();
    if (this.resumeToken) message.resume = { token: this.resumeToken, last_seq: this.lastSeq() };
    return message;
  }

  #receive(message) {
    this.heard = performance.now();
    if (message.type === "error" && message.fatal) this.error = message;
    if (message.type === "started") this.#begin(message);
    this.onMessage(message);
    if (message.type === "stopped") this.abandon("stopped");
  }

  #begin({ session, resume_token, next_sample }) {
    clearTimeout(this.timers.opening);
    this.start = { ...this.start, session };
    this.resumeToken = resume_token;
    // After a reload the page's own count may be behind what had already left it.
    if (next_sample > this.ring.end) this.ring.moveTo(next_sample);
    this.cursor = next_sample;
    this.timers.ping = setInterval(() => this.#ping(), PING_MS);
    this.#enter("live");
    this.pump();
  }

  /** A network that vanished closes no socket: silence in answer to markers is how it shows. */
  #ping() {
    if (performance.now() - this.heard > SILENT_MS) {
      this.#lose(1006);
      return;
    }
    this.attempt = this.busyTries = 0; // it has lasted: the next loss is a fresh one
    if (!this.stopSent) this.#send({ type: "marker", id: "alive" });
  }

  #lose(code) {
    this.#drop();
    const { error } = this;
    const first = !this.resumeToken;
    const busy = code === 4409 && !first && ++this.busyTries < BUSY_TRIES;
    if (FINAL_CODES.has(code) || (code === 4409 && !busy) || (code === 1013 && first)) {
      this.abandon("failed", { error: error ?? { code: CODES[code] ?? "closed" } });
      return;
    }
    if (code === 1000) {
      this.abandon("stopped"); // the server closes this way when the session is over
      return;
    }
    const wish = error?.retry_after_s ? error.retry_after_s * 1_000 : 0;
    const retryMs = Math.max(wish, retryDelay(this.attempt++));
    this.timers.retry = setTimeout(() => this.#connect(), retryMs);
    this.#enter("waiting", { error, retryMs });
  }

  /** Lets go of the socket without waiting for it: a dead network would take a minute to say so. */
  #drop() {
    clearTimeout(this.timers.opening);
    clearInterval(this.timers.ping);
    const { socket } = this;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #send(message) {
    this.socket.send(JSON.stringify(message));
  }

  #enter(state, detail = {}) {
    this.state = state;
    this.onState(state, detail);
  }
}

/** `error.code` of a close code, for a server that closed without an `error` message. */
export const CODES = Object.freeze({
  1009: "too_large",
  1012: "restarting",
  1013: "overloaded",
  4400: "bad_message",
  4401: "unauthorized",
  4403: "forbidden_origin",
  4404: "unknown_session",
  4408: "timeout",
  4409: "session_busy",
});
