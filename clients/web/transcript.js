/**
 * A session's text as the server has told it so far. No page, no clock: messages in, what changed out.
 *
 * Durable messages count 1, 2, 3 ... in `seq`. One seen before is ignored, which makes replaying harmless;
 * a jump is reported as a hole, and whoever feeds the transcript then asks for what lies in it.
 *
 * @typedef {{kind: "utterance", utterance: number, start: number, end: number, text: string,
 *            speaker?: {id: string, name?: string, settled?: boolean}}} Utterance   times in seconds
 * @typedef {{kind: "gap", start: number, end: number, reason: string}} Gap   times in seconds
 * @typedef {Utterance | Gap} Line
 * @typedef {{kind: "reset"} | {kind: "added", index: number} | {kind: "changed", index: number}
 *         | {kind: "open"} | {kind: "ended", audioEnd: number} | {kind: "hole"} | {kind: "none"}} Change
 */

const NOTHING = Object.freeze({ kind: "none" });

export class Transcript {
  constructor() {
    this.clear();
  }

  /** Forgets the session. */
  clear() {
    /** @type {Line[]} in the order in which the server decided them */
    this.lines = [];
    /** @type {Map<number, object>} open utterances: their last `partial`, by number */
    this.open = new Map();
    this.seq = 0; // of the last durable message taken in
    this.ended = false;
    this.indexes = new Map(); // utterance number -> index in `lines`
    this.revisions = new Map(); // utterance number -> highest `rev` taken in
  }

  /**
   * Takes in one message of PROTOCOL sections 1 and 2; those that say nothing about the text change nothing.
   * @param {object} message
   * @returns {Change}
   */
  apply(message) {
    if (message.type === "snapshot") return this.#restore(message);
    if (message.type === "partial") return this.#reopen(message);
    if (!["final", "revise", "gap", "stopped"].includes(message.type)) return NOTHING;
    if (message.seq <= this.seq) return NOTHING;
    if (message.seq > this.seq + 1) return { kind: "hole" };
    this.seq = message.seq;
    switch (message.type) {
      case "final":
        return this.#settle(message);
      case "revise":
        return this.#revise(message);
      case "gap":
        this.lines.push({ kind: "gap", start: message.start, end: message.end, reason: message.reason });
        return { kind: "added", index: this.lines.length - 1 };
      default:
        this.ended = true;
        this.open.clear();
        return { kind: "ended", audioEnd: message.audio_end };
    }
  }

  #restore(snapshot) {
    if (snapshot.seq < this.seq) return NOTHING; // older than what is here
    const gaps = this.lines.filter((line) => line.kind === "gap"); // a snapshot holds utterances only
    this.clear();
    this.lines = [...snapshot.utterances.map((utterance) => ({ kind: "utterance", ...utterance })), ...gaps];
    this.lines.sort((a, b) => a.start - b.start);
    this.lines.forEach((line, index) => {
      if (line.kind !== "utterance") return;
      this.indexes.set(line.utterance, index);
      this.revisions.set(line.utterance, line.rev ?? 0);
    });
    this.seq = snapshot.seq;
    this.ended = !snapshot.live;
    if (snapshot.partial) this.open.set(snapshot.partial.utterance, snapshot.partial);
    return { kind: "reset" };
  }

  #reopen(partial) {
    if (this.ended || this.indexes.has(partial.utterance)) return NOTHING; // its final came first
    this.open.set(partial.utterance, partial);
    return { kind: "open" };
  }

  #settle({ utterance, start, end, text, speaker }) {
    for (const number of this.open.keys()) {
      if (number <= utterance) this.open.delete(number); // finals come in order: an older one will not come
    }
    this.indexes.set(utterance, this.lines.length);
    this.lines.push({ kind: "utterance", utterance, start, end, text, speaker });
    return { kind: "added", index: this.lines.length - 1 };
  }

  #revise({ utterance, rev, text, speaker }) {
    const index = this.indexes.get(utterance);
    if (index === undefined || rev <= (this.revisions.get(utterance) ?? 0)) return NOTHING;
    this.revisions.set(utterance, rev);
    const line = { ...this.lines[index] };
    if (text !== undefined) line.text = text;
    if (speaker !== undefined) line.speaker = speaker;
    this.lines[index] = line;
    return { kind: "changed", index };
  }
}
