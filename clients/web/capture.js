/** The microphone: opened, watched, and opened again when the device goes away. */

const REOPEN_MS = 1_000;
const SUSPENDED_AFTER_MS = 400; // a context that may run does so well within this

/** Why the microphone cannot be had; `reason` is a key of `MICROPHONE` in words.js. */
export class CaptureProblem extends Error {
  constructor(reason, cause) {
    super(reason, { cause });
    this.reason = reason;
  }
}

/** @param {DOMException} error from getUserMedia */
function reasonOf(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "denied";
    case "NotFoundError":
    case "OverconstrainedError":
      return "none";
    case "NotReadableError":
    case "AbortError":
      return "busy";
    default:
      return "failed";
  }
}

export class Capture {
  /**
   * @param {object} on
   * @param {(samples: Int16Array, level: {rms: number, peak: number}) => void} on.audio 100 ms, mono, at `rate`
   * @param {(state: "open" | "lost" | "suspended") => void} on.state
   */
  constructor(on) {
    this.on = on;
    this.context = null;
    this.stream = null;
    this.source = null;
    this.device = "";
    this.closed = true;
  }

  /** Samples per second of what `on.audio` gets. */
  get rate() {
    return this.context.sampleRate;
  }

  /**
   * Asks for the microphone and begins. Throws CaptureProblem.
   * @param {object} wish
   * @param {string} [wish.device] an id of `microphones()`; the system's choice without it
   * @param {number} [wish.rate] samples per second; the device's own without it. A session keeps its rate for
   *     life, so whoever continues one names it.
   */
  async open({ device = "", rate } = {}) {
    if (!window.isSecureContext || !navigator.mediaDevices) throw new CaptureProblem("insecure");
    this.closed = false;
    this.device = device;
    const stream = await this.#ask();
    try {
      this.context = new AudioContext({ latencyHint: "interactive", ...(rate && { sampleRate: rate }) });
      await this.context.audioWorklet.addModule(new URL("./worklet.js", import.meta.url));
      this.recorder = new AudioWorkletNode(this.context, "recorder", { numberOfInputs: 1, outputChannelCount: [1] });
      this.recorder.port.onmessage = ({ data: { pcm, rms, peak } }) => {
        if (!this.closed) this.on.audio(new Int16Array(pcm), { rms, peak });
      };
      this.recorder.connect(this.context.destination);
      this.#connect(stream);
    } catch (error) {
      stream.getTracks().forEach((track) => track.stop());
      await this.close();
      throw error instanceof CaptureProblem ? error : new CaptureProblem("failed", error);
    }
    this.context.onstatechange = () => this.#announce();
    navigator.mediaDevices.addEventListener("devicechange", this.#retry);
    if (this.context.state === "suspended") {
      await Promise.race([this.context.resume(), new Promise((done) => setTimeout(done, SUSPENDED_AFTER_MS))]);
    }
    this.#announce();
  }

  /** Goes on after the browser paused the sound; call it from a key press or a click. */
  async resume() {
    await this.context?.resume();
  }

  /** Takes another microphone without stopping. @param {string} device */
  async change(device) {
    this.device = device;
    if (this.closed) return;
    const stream = await this.#ask();
    this.#connect(stream);
    this.#announce();
  }

  async close() {
    this.closed = true;
    clearTimeout(this.timer);
    navigator.mediaDevices?.removeEventListener("devicechange", this.#retry);
    this.#disconnect();
    const { context } = this;
    this.context = null;
    if (context) {
      context.onstatechange = null;
      await context.close();
    }
  }

  async #ask() {
    // Echo cancellation and noise suppression are made for calls: they take distant voices for noise.
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: true, channelCount: 1 };
    if (this.device) audio.deviceId = { exact: this.device };
    try {
      return await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      throw new CaptureProblem(reasonOf(error), error);
    }
  }

  #connect(stream) {
    if (this.closed) {
      stream.getTracks().forEach((track) => track.stop());
      return;
    }
    let source;
    try {
      source = this.context.createMediaStreamSource(stream);
    } catch (error) {
      // Some browsers refuse a device whose rate differs from the context's, which is the session's.
      throw new CaptureProblem("rate", error);
    }
    this.#disconnect();
    this.stream = stream;
    this.source = source;
    this.source.connect(this.recorder);
    const [track] = stream.getAudioTracks();
    track.onended = () => this.#lose();
  }

  #disconnect() {
    this.source?.disconnect();
    this.stream?.getTracks().forEach((track) => {
      track.onended = null;
      track.stop();
    });
    this.source = this.stream = null;
  }

  #lose() {
    this.#disconnect();
    this.device = ""; // whatever is there now is better than waiting for the one that left
    this.#announce();
    this.timer = setTimeout(this.#retry, REOPEN_MS);
  }

  #retry = async () => {
    clearTimeout(this.timer);
    if (this.closed || this.source) return;
    try {
      this.#connect(await this.#ask());
    } catch {
      this.timer = setTimeout(this.#retry, REOPEN_MS); // `on.state` said "lost" and nothing has changed
    }
    this.#announce();
  };

  #announce() {
    if (this.closed || !this.context) return;
    if (this.context.state !== "running") this.on.state("suspended");
    else this.on.state(this.source ? "open" : "lost");
  }
}

/** The microphones there are. Their names are empty until one has been allowed. */
export async function microphones() {
  if (!navigator.mediaDevices) return [];
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter(({ kind, deviceId }) => kind === "audioinput" && deviceId && deviceId !== "default");
}
