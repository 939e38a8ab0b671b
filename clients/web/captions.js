/**
 * The transcript on the page: finished lines in a live region, the open one after it, and the scrolling.
 *
 * Only a window of the lines is in the page, so that an all-day session stays as light as a short one; the rest
 * is in the transcript, a button away. The page follows the newest line until its reader scrolls up.
 */

import { arrive, fill, gapRow, hush, utteranceRow } from "./rows.js";

const TAIL = 200; // lines in the page while it follows
const PAGE = 100; // lines one press of "earlier" or "later" brings
const MOST = 400; // lines in the page at any time
const NEAR_END = 60; // CSS pixels from the end that still count as being there

export class Captions {
  /**
   * @param {object} parts elements of the page
   * @param {HTMLElement} parts.scroller what scrolls
   * @param {HTMLElement} parts.log live region for finished lines
   * @param {HTMLElement} parts.open the utterances that are being spoken
   * @param {HTMLButtonElement} parts.earlier
   * @param {HTMLButtonElement} parts.later
   * @param {HTMLButtonElement} parts.jump
   * @param {import("./transcript.js").Transcript} transcript
   */
  constructor(parts, transcript) {
    Object.assign(this, parts);
    this.transcript = transcript;
    this.first = 0; // index of the first line in the page
    this.last = 0; // index after the last one
    this.missed = 0; // lines that came while the reader was elsewhere
    this.following = true;
    this.scrolledTo = 0;
    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.log.addEventListener("keydown", (event) => this.#step(event));
    this.earlier.addEventListener("click", () => this.#page(-1));
    this.later.addEventListener("click", () => this.#page(1));
    this.jump.addEventListener("click", () => this.follow());
    new ResizeObserver(() => this.#stick()).observe(this.scroller);
  }

  /** Shows what changed. @param {import("./transcript.js").Change} change */
  show(change) {
    switch (change.kind) {
      case "reset":
        this.#drawTail();
        this.follow();
        break;
      case "changed":
        for (const index of change.added) this.#insert(index);
        for (const index of change.split) this.#insert(index, true);
        for (const index of change.revised) this.#refresh(index);
        if (change.added.length + change.split.length) this.#trim();
        this.#buttons();
        break;
      case "ended":
        for (let index = this.first; index < this.last; index++) this.#refresh(index);
        break;
    }
    this.#drawOpen();
    this.#stick();
  }

  /** Goes to the newest line and stays with it. */
  follow() {
    const total = this.transcript.lines.length;
    this.following = true;
    this.missed = 0;
    if (this.last !== total || total - this.first > TAIL + PAGE) this.#drawTail();
    this.#buttons();
    this.#stick();
  }

  /** A line has come into the transcript; into the page as well, if it belongs to what is there. */
  #insert(index, quiet = false) {
    const isNewest = index === this.transcript.lines.length - 1;
    if (!this.following && isNewest) this.missed++;
    if (index < this.first) {
      this.first++;
      this.last++;
      return;
    }
    const full = !this.following && this.last - this.first >= MOST;
    if (index > this.last || (index === this.last && full)) return;
    const row = this.#row(index);
    if (quiet) {
      hush(row); // its words were read out with the line they come from
      arrive(row);
    }
    this.log.insertBefore(row, this.log.children[index - this.first] ?? null);
    this.last++;
    this.#refreshHead(index + 1);
  }

  #drawTail() {
    const total = this.transcript.lines.length;
    this.#draw(Math.max(0, total - TAIL), total);
  }

  /** Draws a window anew; nothing in it is announced, for none of it is news. */
  #draw(first, last) {
    this.log.ariaLive = "off";
    this.first = first;
    this.last = last;
    this.log.replaceChildren(...Array.from({ length: last - first }, (_, i) => this.#row(first + i)));
    this.#speakUpSoon();
  }

  #speakUpSoon() {
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => (this.log.ariaLive = "polite"), 500);
  }

  #trim() {
    if (!this.following || this.last - this.first <= TAIL + PAGE) return;
    this.#drop(this.last - TAIL, this.last);
  }

  /** Takes lines outside [first, last) out of the page. */
  #drop(first, last) {
    for (; this.first < first; this.first++) this.log.firstElementChild.remove();
    for (; this.last > last; this.last--) this.log.lastElementChild.remove();
    this.#refreshHead(this.first);
  }

  /** Draws a line again that may have changed, and the label after it, which depends on it. */
  #refresh(index) {
    const line = this.transcript.lines[index];
    if (index < this.first || index >= this.last || line.kind === "gap") return;
    const row = this.log.children[index - this.first];
    const label = row.querySelector(".speaker");
    const before = label.hidden ? "" : label.textContent;
    if (row.querySelector(".settled").textContent !== line.text) hush(row); // read out once is enough
    this.#change(label, () => fill(row, line, this.#heads(index)));
    if (!label.hidden && label.textContent !== before) arrive(label);
    this.#refreshHead(index + 1);
  }

  /** Shows or hides the label of the first utterance from there on: another now stands before it. */
  #refreshHead(index) {
    const { lines } = this.transcript;
    while (index < this.last && lines[index].kind === "gap") index++;
    if (index >= this.last) return;
    const label = this.log.children[index - this.first].querySelector(".speaker");
    const hidden = !lines[index].speaker || !this.#heads(index);
    if (label.hidden === hidden) return;
    this.#change(label, () => (label.hidden = hidden));
  }

  /** Changes a label that is there already: silently, and without losing the focus to nowhere. */
  #change(label, how) {
    const focused = label === document.activeElement;
    hush(label);
    how();
    if (focused && label.hidden) this.scroller.focus({ preventScroll: true });
  }

  #page(direction) {
    this.following = false;
    const anchor = direction < 0 ? this.log.firstElementChild : this.log.lastElementChild;
    const before = anchor?.getBoundingClientRect().top ?? 0;
    const first = Math.max(0, this.first + (direction < 0 ? -PAGE : 0));
    const last = Math.min(this.transcript.lines.length, this.last + (direction > 0 ? PAGE : 0));
    this.log.ariaLive = "off";
    const [oldFirst, oldLast] = [this.first, this.last];
    this.first = first;
    this.last = last;
    for (let i = oldFirst - 1; i >= first; i--) this.log.prepend(this.#row(i));
    for (let i = oldLast; i < last; i++) this.log.append(this.#row(i));
    this.#refreshHead(oldFirst);
    if (direction < 0) this.#drop(first, Math.min(last, first + MOST));
    else this.#drop(Math.max(first, last - MOST), last);
    this.#buttons();
    if (anchor?.isConnected) this.scroller.scrollTop += anchor.getBoundingClientRect().top - before;
    this.#speakUpSoon();
  }

  #buttons() {
    this.earlier.hidden = this.first === 0;
    this.later.hidden = this.last === this.transcript.lines.length;
    this.open.hidden = !this.later.hidden;
    this.jump.hidden = this.following;
    this.jump.querySelector("span").textContent = this.missed ? ` · ${this.missed} new` : "";
    this.#setTabStop();
  }

  /** One label takes part in Tab, the newest or the one that has the focus; arrows go to the others. */
  #setTabStop() {
    const labels = this.log.querySelectorAll(".speaker:not([hidden])");
    const stop = this.log.contains(document.activeElement) ? document.activeElement : labels[labels.length - 1];
    if (stop === this.tabStop) return;
    if (this.tabStop) this.tabStop.tabIndex = -1;
    if (stop) stop.tabIndex = 0;
    this.tabStop = stop;
  }

  /** Arrow up and down, from speaker to speaker. */
  #step(event) {
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!by || !event.target.matches(".speaker")) return;
    event.preventDefault();
    const labels = [...this.log.querySelectorAll(".speaker:not([hidden])")];
    labels[labels.indexOf(event.target) + by]?.focus();
    this.#setTabStop();
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const atEnd = scrollHeight - clientHeight - scrollTop < NEAR_END && this.later.hidden;
    const upwards = scrollTop < this.scrolledTo - 1;
    this.scrolledTo = scrollTop;
    if (atEnd === this.following || (!atEnd && !upwards)) return;
    this.following = atEnd;
    if (atEnd) this.missed = 0;
    this.#buttons();
  }

  /** To the end before the next picture: however much came, it is laid out once. */
  #stick() {
    this.sticking ??= requestAnimationFrame(() => {
      this.sticking = null;
      this.#toEnd();
    });
  }

  #toEnd() {
    if (!this.following) return;
    const { scroller } = this;
    const end = scroller.scrollHeight - scroller.clientHeight;
    if (end - scroller.scrollTop < 1) return;
    scroller.scrollTop = end;
    this.scrolledTo = scroller.scrollTop;
  }

  #row(index) {
    const line = this.transcript.lines[index];
    if (line.kind === "gap") return gapRow(line);
    const row = utteranceRow(line, "button");
    fill(row, line, this.#heads(index));
    return row;
  }

  /** Whether a line begins a run of its speaker's lines, or the page. */
  #heads(index) {
    const before = index > this.first ? this.#speakerBefore(index) : undefined;
    return this.transcript.lines[index].speaker?.id !== before?.id;
  }

  #speakerBefore(index) {
    for (let i = index - 1; i >= 0; i--) {
      const line = this.transcript.lines[i];
      if (line.kind === "utterance") return line.speaker;
    }
    return undefined;
  }

  /** The utterances still open: their rows are kept and only what they say exchanged. */
  #drawOpen() {
    const rows = new Map([...this.open.children].map((row) => [Number(row.dataset.utterance), row]));
    for (const [number, row] of rows) if (!this.transcript.open.has(number)) row.remove();
    let before = this.#speakerBefore(this.transcript.lines.length);
    for (const [number, partial] of this.transcript.open) {
      let row = rows.get(number);
      if (!row) {
        row = utteranceRow(partial, "span");
        row.dataset.utterance = number;
        this.open.append(row);
      }
      fill(row, partial, partial.speaker?.id !== before?.id);
      before = partial.speaker;
    }
  }
}
