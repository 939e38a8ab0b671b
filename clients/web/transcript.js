/**
 * A session's text as the server has told it so far. No page, no clock: messages in, what changed out.
 *
 * Durable messages count 1, 2, 3 ... in `seq`. One seen before is ignored, which makes replaying harmless;
 * a jump is reported as a hole, and whoever feeds the transcript then asks for what lies in it.
 *
 * Lines are in order of time. A revision may split an utterance: what its second speaker said becomes a line of
 * its own, whose number is higher than that of an utterance still open. So an open utterance is closed by nothing
 * but its own final, a gap, or the end.
 *
 * @typedef {import("./roster.js").Label} Label
 * @typedef {{kind: "utterance", utterance: number, start: number, end: number, text: string, rev: number,
 *            speaker?: Label}} Utterance   times in seconds
 * @typedef {{kind: "gap", start: number, end: number, reason: string}} Gap   times in seconds
 * @typedef {Utterance | Gap} Line
 *
 * `added` is news; `split` was there, in another line; `revised` looks different. All three are indexes as they
 * are after the change, ascending. All empty: only what is open has changed.
 * @typedef {{kind: "changed", added: number[], split: number[], revised: number[]}} Changed
 * @typedef {Changed | {kind: "reset"} | {kind: "ended", audioEnd: number} | {kind: "hole"} | {kind: "none"}} Change
 */

import { Roster } from "./roster.js";

const NOTHING = Object.freeze({ kind: "none" });
const SETTLE_AFTER_S = 30; // the server's default, until it has told its own

export class Transcript {
  constructor() {
    this.clear();
  }

  /** Forgets the session. */
  clear() {
    /** @type {Line[]} in order of time */
    this.lines = [];
    /** @type {Map<number, object>} open utterances: their last `partial`, by number */
    this.open = new Map();
    this.roster = new Roster();
    this.seq = 0; // of the last durable message taken in
    this.ended = false;
    this.known = new Map(); // utterance number -> its line
    this.unsettled = new Set(); // numbers of the utterances whose label may still change
    this.heard = 0; // seconds of audio that any message has spoken of
    this.settleAfter ??= SETTLE_AFTER_S;
  }

  /**
   * Takes in one message of PROTOCOL sections 1 and 2; those that say nothing about the text change nothing.
   * @param {object} message
   * @returns {Change}
   */
  apply(message) {
    if (message.type === "started") this.settleAfter = message.limits?.settle_after_s ?? SETTLE_AFTER_S;
    if (message.type === "snapshot") return this.#restore(message);
    if (message.type === "partial") return this.#reopen(message);
    if (!["final", "revise", "gap", "stopped"].includes(message.type)) return NOTHING;
    if (message.seq <= this.seq) return NOTHING;
    if (message.seq > this.seq + 1) return { kind: "hole" };
    this.seq = message.seq;
    switch (message.type) {
      case "final":
        this.open.delete(message.utterance);
        return this.#changed({ added: [this.#add(utterance(message))] }, message.end);
      case "revise":
        return message.utterance === undefined ? this.label(message.speaker) : this.#revise(message);
      case "gap":
        this.open.clear();
        return this.#changed({ added: [this.#add(gap(message))] }, message.end);
      default:
        this.ended = true;
        this.open.clear();
        this.#settle(Infinity);
        return { kind: "ended", audioEnd: message.audio_end };
    }
  }

  /**
   * Everything labelled with that id has this label from now on: a person named it, or the voice is a known one.
   * @param {Label} label
   * @returns {Change}
   */
  label(label) {
    const wears = ({ speaker }) => speaker?.id === label.id;
    const dressed = (line) => ({ ...line, speaker: { ...label, settled: label.settled || line.speaker.settled } });
    for (const [number, partial] of this.open) if (wears(partial)) this.open.set(number, dressed(partial));
    const revised = this.lines.filter(wears).map((line) => this.#replace(line, dressed(line)));
    return this.#changed({ revised });
  }

  #restore(snapshot) {
    if (snapshot.seq < this.seq) return NOTHING; // older than what is here
    this.clear();
    this.settleAfter = snapshot.settle_after_s ?? this.settleAfter;
    const gaps = (snapshot.gaps ?? []).map(gap);
    for (const line of [...snapshot.utterances.map(utterance), ...gaps]) this.#add(line);
    this.seq = snapshot.seq;
    this.ended = !snapshot.live;
    if (snapshot.partial) this.open.set(snapshot.partial.utterance, snapshot.partial);
    const ends = [...this.lines, ...this.open.values()].map(({ end }) => end);
    this.#settle(this.ended ? Infinity : ends.reduce((latest, end) => Math.max(latest, end), 0));
    return { kind: "reset" };
  }

  #reopen(partial) {
    if (this.ended || this.known.has(partial.utterance)) return NOTHING; // its final came first
    this.open.set(partial.utterance, partial);
    return this.#changed({}, partial.end);
  }

  #revise({ utterance: number, rev, text, end, speaker, split = [] }) {
    const before = this.known.get(number);
    if (!before || rev <= before.rev) return NOTHING;
    const line = { ...before, rev, text: text ?? before.text, end: end ?? before.end, speaker: speaker ?? before.speaker };
    const revised = [this.#replace(before, line)];
    return this.#changed({ revised, split: split.map((each) => this.#add(utterance(each))) });
  }

  /** @param {{added?: Line[], split?: Line[], revised?: Line[]}} lines @param {number} heard seconds of audio */
  #changed({ added = [], split = [], revised = [] }, heard = 0) {
    const settled = this.#settle(heard);
    const now = (lines) => lines.map((line) => this.#index(this.known.get(line.utterance) ?? line)).sort((a, b) => a - b);
    return { kind: "changed", added: now(added), split: now(split), revised: now([...revised, ...settled]) };
  }

  /** The audio has come so far: labels of what was said long before do not change any more. */
  #settle(heard) {
    this.heard = Math.max(this.heard, heard);
    const settled = [];
    for (const number of this.unsettled) {
      const line = this.known.get(number);
      if (line.end + this.settleAfter > this.heard) continue;
      settled.push(this.#replace(line, { ...line, speaker: { ...line.speaker, settled: true } }));
    }
    return settled;
  }

  #add(line) {
    this.lines.splice(this.#place(line), 0, line);
    this.#enter(line);
    return line;
  }

  #replace(before, line) {
    this.lines[this.#index(before)] = line;
    this.roster.remove(before);
    this.#enter(line);
    return line;
  }

  #enter(line) {
    if (line.kind !== "utterance") return;
    this.known.set(line.utterance, line);
    this.roster.add(line);
    if (line.speaker && !line.speaker.settled) this.unsettled.add(line.utterance);
    else this.unsettled.delete(line.utterance);
  }

  #index(line) {
    const after = this.#place(line);
    return this.lines.lastIndexOf(line, after - 1); // the one before, but for lines of one and the same time
  }

  /** Where a line belongs: after all that are not later. */
  #place(line) {
    let [low, high] = [0, this.lines.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isLater(this.lines[middle], line)) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** @returns {Utterance} */
function utterance({ utterance, start, end, text, rev = 0, speaker }) {
  return { kind: "utterance", utterance, start, end, text, rev, speaker };
}

/** @returns {Gap} */
function gap({ start, end, reason }) {
  return { kind: "gap", start, end, reason };
}

/** Whether `a` comes after `b`: by time, then by number; a gap is before the text of the same time. */
function isLater(a, b) {
  return a.start > b.start || (a.start === b.start && (a.utterance ?? -1) > (b.utterance ?? -1));
}
