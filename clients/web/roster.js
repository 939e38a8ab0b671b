/**
 * Who has spoken in a session, and for how long. No page: lines go in and out, speakers come out.
 *
 * @typedef {{id: string, name?: string, confidence?: number, settled?: boolean}} Label
 * @typedef {{label: Label, seconds: number}} Speaker
 */

export class Roster {
  constructor() {
    this.tallies = new Map(); // speaker's id -> {label, seconds, lines}
  }

  /** @param {{start: number, end: number, speaker?: Label}} line that is in the transcript now */
  add({ start, end, speaker }) {
    if (!speaker) return;
    const tally = this.tallies.get(speaker.id) ?? { seconds: 0, lines: 0 };
    tally.label = speaker;
    tally.seconds += end - start;
    tally.lines++;
    this.tallies.set(speaker.id, tally);
  }

  /** @param {{start: number, end: number, speaker?: Label}} line that was there as it is here */
  remove({ start, end, speaker }) {
    const tally = speaker && this.tallies.get(speaker.id);
    if (!tally) return;
    tally.seconds -= end - start;
    if (--tally.lines === 0) this.tallies.delete(speaker.id); // its voice was found to be another's
  }

  /** @param {string} id @returns {Label | undefined} */
  label(id) {
    return this.tallies.get(id)?.label;
  }

  /** @returns {Speaker[]} in order of appearance: S1, S2 ... S10 */
  get speakers() {
    return [...this.tallies.values()].sort((a, b) =>
      a.label.id.localeCompare(b.label.id, "en", { numeric: true }),
    );
  }
}
