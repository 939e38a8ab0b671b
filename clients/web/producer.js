/** A session made by this page: the microphone, its last 90 seconds, the connection, and what to remember. */

import { Capture } from "./capture.js";
import { forget, positionNow, remember } from "./memory.js";
import { Ring } from "./ring.js";
import { Stream } from "./stream.js";

const RING_S = 90; // longer than the server waits for a lost producer (60 s by default)
const REMEMBER_MS = 1_000;
const QUIET_PEAK = 0.001; // -60 dB; even a silent room is louder through an open microphone
const QUIET_S = 6;
const LOCK_MS = 2_000; // an old page of this tab may take a moment to go

export class Producer {
  /**
   * @param {object} options
   * @param {import("./api.js").Api} options.api
   * @param {() => number} options.lastSeq
   * @param {(message: object) => void} options.onMessage
   * @param {(state: string, detail: {error?: object, kept?: number}) => void} options.onState states of words.js
   * @param {(level: {rms: number, peak: number}) => void} options.onLevel ten times a second
   */
  constructor({ api, lastSeq, onMessage, onState, onLevel }) {
    Object.assign(this, { api, lastSeq, onMessage, onState, onLevel });
    this.capture = new Capture({
      audio: (samples, level) => this.#hear(samples, level),
      state: (state) => this.#microphone(state),
    });
    this.stream = null;
    this.ring = null;
    this.microphone = "open";
    this.quietS = 0;
    this.savedAt = 0;
    window.addEventListener("pagehide", () => this.#save());
    window.addEventListener("online", () => this.stream?.reconnect());
  }

  /** The session's name, "" before the server has given one. */
  get session() {
    return this.stream?.start.session ?? "";
  }

  get active() {
    return this.stream !== null;
  }

  /** How much has been captured, in seconds of the session. */
  get elapsed() {
    return this.stream ? this.ring.end / this.stream.rate : 0;
  }

  /**
   * Opens the microphone and then the connection. Throws CaptureProblem, with nothing left open.
   * @param {object} wish
   * @param {string} [wish.title]
   * @param {boolean} [wish.diarize] label speakers
   * @param {string} [wish.device] microphone
   * @param {import("./memory.js").Remembered} [wish.remembered] the session to go on with
   */
  async begin({ title, diarize, device, remembered } = {}) {
    this.onState("asking", {});
    this.ring = null;
    await this.capture.open({ device, rate: remembered?.rate });
    const { rate } = this.capture;
    this.remembered = remembered ?? null;
    this.ring = new Ring(rate * RING_S, remembered?.captured ?? 0);
    const start = remembered ? { session: remembered.session } : { diarize };
    if (!remembered && title) start.title = title;
    this.stream = new Stream({
      url: this.api.streamUrl,
      ring: this.ring,
      rate,
      start,
      resumeToken: remembered?.resumeToken,
      token: () => this.api.token,
      lastSeq: this.lastSeq,
      onMessage: this.onMessage,
      onState: (state, detail) => this.#connection(state, detail),
    });
    this.stream.open();
  }

  /** Ends the session: the first time politely, the second time at once. */
  stop() {
    if (!this.stream) return;
    if (this.stream.finishing) {
      this.stream.abandon();
      return;
    }
    forget(); // a reload from here on must not open the microphone again
    this.capture.close();
    this.stream.finish();
    this.#tell();
  }

  /** A durable message is missing: ask for it again. */
  reconnect() {
    this.stream?.reconnect();
  }

  /** After the browser paused the sound; from a key press or click. */
  wake() {
    if (this.microphone === "suspended") this.capture.resume();
  }

  #hear(samples, level) {
    if (!this.ring) return; // the microphone is open and `begin` goes on in a moment
    if (this.remembered) {
      const begun = positionNow(this.remembered, Date.now()) - samples.length;
      this.ring.moveTo(Math.max(this.ring.end, begun)); // what was said during the reload is skipped
      this.remembered = null;
    }
    this.ring.push(samples);
    this.stream?.pump();
    this.onLevel(level);
    const wasQuiet = this.quietS >= QUIET_S;
    this.quietS = level.peak < QUIET_PEAK ? this.quietS + samples.length / this.capture.rate : 0;
    if (wasQuiet !== this.quietS >= QUIET_S) this.#tell();
    if (performance.now() - this.savedAt > REMEMBER_MS) this.#save();
  }

  #save() {
    if (!this.stream?.resumeToken || this.stream.finishing) return;
    this.savedAt = performance.now();
    remember({
      session: this.session,
      resumeToken: this.stream.resumeToken,
      rate: this.capture.rate,
      captured: this.ring.end,
      at: Date.now(),
    });
  }

  #microphone(state) {
    this.microphone = state;
    this.#tell();
  }

  #connection(state, detail) {
    this.detail = detail;
    if (state === "live") this.#save();
    if (state === "stopped" || state === "failed") {
      forget();
      this.capture.close();
      this.stream = null;
      this.onState(state, detail);
      return;
    }
    this.#tell(state);
  }

  /** One state out of three: the connection's, the microphone's, and whether the end is near. */
  #tell(connection = this.stream?.state) {
    if (!this.stream) return;
    const kept = this.ring.length / this.stream.rate; // seconds
    if (this.stream.finishing) {
      this.onState(connection === "live" ? "finishing" : "finishing-waiting", {});
    } else if (connection !== "live") {
      const again = this.stream.attempt > 0; // "Connecting…" and "lost" in turn would only flicker
      this.onState(again ? "waiting" : connection, { ...this.detail, kept });
    } else if (this.microphone !== "open") {
      this.onState(this.microphone, {});
    } else {
      this.onState(this.quietS >= QUIET_S ? "quiet" : "live", {});
    }
  }
}

/**
 * Sees to it that a session has one producing tab: a duplicated tab has a copy of the first one's memory.
 * @param {string} session
 * @returns {Promise<(() => void) | null>} what gives the session free again; null where another tab has it
 */
export async function claim(session) {
  if (!navigator.locks) return () => {};
  return new Promise((resolve) => {
    const signal = AbortSignal.timeout(LOCK_MS);
    navigator.locks
      .request(`amanuensis.${session}`, { signal }, () => new Promise((release) => resolve(release)))
      .catch(() => resolve(null)); // the time is up
  });
}
