/**
 * The transcript on the page: finished lines in a live region, the open one after it, and the scrolling.
 *
 * Only a window of the lines is in the page, so that an all-day session stays as light as a short one; the rest
 * is in the transcript, a button away. The page follows the newest line until its reader scrolls up.
 */

import { clock, gap, speakerName } from "./words.js";

const TAIL = 200; // lines in the page while it follows
const PAGE = 100; // lines one press of "earlier" or "later" brings
const MOST = 400; // lines in the page at any time
const SHORT_S = 2; // a cough is no news; longer sounds without words are marked
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
    this.earlier.addEventListener("click", () => this.#page(-1));
    this.later.addEventListener("click", () => this.#page(1));
    this.jump.addEventListener("click", () => this.follow());
    new ResizeObserver(() => this.#stick()).observe(this.scroller);
  }

  /** Shows what changed. @param {import("./transcript.js").Change} change */
  show(change) {
    switch (change.kind) {
      case "reset":
        this.follow();
        break;
      case "added":
        this.#added();
        break;
      case "changed":
        this.#redraw(change.index);
        this.#redraw(change.index + 1); // its label depends on the speaker before
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
    if (this.last !== total || total - this.first > TAIL + PAGE) this.#draw(Math.max(0, total - TAIL), total);
    this.#buttons();
    this.#stick();
  }

  #added() {
    const index = this.transcript.lines.length - 1;
    if (!this.following) this.missed++;
    const full = !this.following && this.last - this.first >= MOST;
    if (this.last === index && !full) {
      this.log.append(this.#line(index));
      this.last++;
    }
    if (this.following && this.last - this.first > TAIL + PAGE) this.#drop(this.last - TAIL, this.last);
    this.#buttons();
  }

  /** Draws a window anew; nothing in it is announced, for none of it is news. */
  #draw(first, last) {
    this.log.setAttribute("aria-live", "off");
    this.first = first;
    this.last = last;
    this.log.replaceChildren(...Array.from({ length: last - first }, (_, i) => this.#line(first + i)));
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => this.log.setAttribute("aria-live", "polite"), 500);
  }

  /** Takes lines outside [first, last) out of the page. */
  #drop(first, last) {
    for (; this.first < first; this.first++) this.log.firstElementChild.remove();
    for (; this.last > last; this.last--) this.log.lastElementChild.remove();
  }

  #redraw(index) {
    if (index < this.first || index >= this.last) return;
    this.log.children[index - this.first].replaceWith(this.#line(index));
  }

  #page(direction) {
    this.following = false;
    const anchor = direction < 0 ? this.log.firstElementChild : this.log.lastElementChild;
    const before = anchor?.getBoundingClientRect().top ?? 0;
    const first = Math.max(0, this.first + (direction < 0 ? -PAGE : 0));
    const last = Math.min(this.transcript.lines.length, this.last + (direction > 0 ? PAGE : 0));
    this.log.setAttribute("aria-live", "off");
    for (let i = this.first - 1; i >= first; i--) this.log.prepend(this.#line(i));
    for (let i = this.last; i < last; i++) this.log.append(this.#line(i));
    this.first = first;
    this.last = last;
    if (direction < 0) this.#drop(first, Math.min(last, first + MOST));
    else this.#drop(Math.max(first, last - MOST), last);
    this.#buttons();
    if (anchor?.isConnected) this.scroller.scrollTop += anchor.getBoundingClientRect().top - before;
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => this.log.setAttribute("aria-live", "polite"), 500);
  }

  #buttons() {
    this.earlier.hidden = this.first === 0;
    this.later.hidden = this.last === this.transcript.lines.length;
    this.open.hidden = !this.later.hidden;
    this.jump.hidden = this.following;
    this.jump.querySelector("span").textContent = this.missed ? ` · ${this.missed} new` : "";
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

  #line(index) {
    const line = this.transcript.lines[index];
    if (line.kind === "gap") {
      const row = element("div", "gap", gap(line));
      row.hidden = line.reason.startsWith("suppressed") && line.end - line.start < SHORT_S;
      return row;
    }
    return this.#utterance(line, this.#speakerBefore(index), [element("span", "settled", line.text)]);
  }

  /** @param {HTMLElement[]} text */
  #utterance({ start, speaker }, before, text) {
    const row = element("div", "line");
    // The time would be read out with every caption; a screen reader's user finds it in the transcript.
    const time = element("time", "time", clock(start));
    time.dateTime = `PT${start.toFixed(2)}S`;
    time.ariaHidden = "true";
    const paragraph = element("p", "text");
    if (speaker && speaker.id !== before?.id) {
      paragraph.append(element("span", "speaker", speakerName(speaker)), " ");
    }
    paragraph.append(...text);
    row.append(time, paragraph);
    return row;
  }

  #speakerBefore(index) {
    for (let i = index - 1; i >= 0; i--) {
      const line = this.transcript.lines[i];
      if (line.kind === "utterance") return line.speaker;
    }
    return undefined;
  }

  /** The utterances still open: their rows are kept and only their words exchanged. */
  #drawOpen() {
    const rows = new Map([...this.open.children].map((row) => [Number(row.dataset.utterance), row]));
    for (const [number, row] of rows) if (!this.transcript.open.has(number)) row.remove();
    const last = this.#speakerBefore(this.transcript.lines.length);
    for (const [number, partial] of this.transcript.open) {
      let row = rows.get(number);
      if (!row) {
        row = this.#utterance(partial, last, [element("span", "settled"), element("span", "tentative")]);
        row.dataset.utterance = number;
        this.open.append(row);
      }
      write(row.querySelector(".settled"), partial.text);
      write(row.querySelector(".tentative"), partial.tentative);
    }
  }
}

/** Text is only ever written as text: nothing from the server can become markup. */
function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
