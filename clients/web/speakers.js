/** The speakers of the session on the page: the legend above the captions, and the dialog that names one. */

import { openDialog, part } from "./dialogs.js";
import { dress, element, sign, write } from "./rows.js";
import { clock, notNamed } from "./words.js";

const QUOTES = 2; // of the one to be named, so that it is known who that is
const EARLY = 5; // finished lines of a live session that may all be without a label and still get theirs

export class Speakers {
  /**
   * @param {object} options
   * @param {HTMLElement} options.legend the list
   * @param {import("./transcript.js").Transcript} options.transcript
   * @param {(id: string, name: string | null) => Promise<object>} options.save gives the session as it is then
   * @param {(change: import("./transcript.js").Change) => void} options.onChange
   * @param {(again: () => void) => void} options.onUnauthorized a token is needed first
   */
  constructor({ legend, transcript, save, onChange, onUnauthorized }) {
    Object.assign(this, { legend, transcript, save, onChange, onUnauthorized });
    this.chips = new Map(); // speaker's id -> item of the legend
    this.asked = ""; // whose name is asked for
  }

  /**
   * Keeps room for labels where they are to be expected, so that nothing moves when the first one comes.
   * @param {{live: boolean, utterances: object[]}} session
   */
  expect({ live, utterances }) {
    const labelled = utterances.some(({ speaker }) => speaker);
    document.documentElement.dataset.labels = labelled || (live && utterances.length < EARLY) ? "some" : "none";
  }

  /** Shows who has spoken so far, and who is speaking. */
  show() {
    const { speakers } = this.transcript.roster;
    const partial = [...this.transcript.open.values()].at(-1);
    if (speakers.length || partial?.speaker) document.documentElement.dataset.labels = "some";
    const ids = new Set(speakers.map(({ label }) => label.id));
    for (const [id, chip] of this.chips) if (!ids.has(id)) this.#remove(id, chip);
    speakers.forEach((speaker, place) => this.#chip(speaker, place, partial?.speaker?.id));
    part("speakers-none").hidden = speakers.length > 0;
  }

  /** Makes labels answer to presses, Enter and F2. @param {HTMLElement} captions */
  wire(captions) {
    for (const place of [captions, this.legend]) {
      place.addEventListener("click", ({ target }) => {
        const pressed = target.closest("[data-press]");
        if (pressed) this.ask(pressed.closest("[data-speaker]").dataset.speaker);
      });
    }
    document.addEventListener("keydown", (event) => {
      if (event.key !== "F2" || document.querySelector("dialog[open]")) return;
      const id = event.target.closest("[data-speaker]")?.dataset.speaker ?? this.#latest();
      if (!id) return;
      event.preventDefault();
      this.ask(id);
    });
    part("speaker-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#name(part("speaker-name").value.trim() || null);
    });
    part("speaker-clear").addEventListener("click", () => this.#name(null));
  }

  /** Asks who a speaker is. */
  ask(id) {
    const label = this.transcript.roster.label(id);
    if (!label) return; // so far only words that may change say there is such a speaker
    this.asked = id;
    dress(part("speaker-dialog"), label);
    part("speaker-said").replaceChildren(...this.#quotes(id));
    part("speaker-name").value = label.name ?? "";
    part("speaker-clear").hidden = !label.name;
    part("speaker-problem").textContent = "";
    openDialog("speaker");
    part("speaker-name").select();
  }

  async #name(name) {
    const [id, dialog] = [this.asked, part("speaker-dialog")];
    part("speaker-problem").textContent = "";
    part("speaker-save").disabled = true;
    try {
      const { speakers } = await this.save(id, name);
      // Who reads a session that is over hears no more of it; to all others the same comes as a revision.
      this.onChange(this.transcript.label(speakers.find((speaker) => speaker.id === id)));
      if (this.asked === id) dialog.close();
    } catch (error) {
      if (error.code !== "unauthorized") {
        part("speaker-problem").textContent = notNamed(error);
        return;
      }
      dialog.close();
      this.onUnauthorized(() => {
        this.ask(id);
        part("speaker-name").value = name ?? "";
        this.#name(name);
      });
    } finally {
      part("speaker-save").disabled = false;
    }
  }

  #latest() {
    return this.transcript.lines.findLast(({ speaker }) => speaker)?.speaker.id;
  }

  #quotes(id) {
    const theirs = this.transcript.lines.filter(({ speaker }) => speaker?.id === id).slice(-QUOTES);
    return theirs.map(({ start, text }) => {
      const item = document.createElement("li");
      item.append(element("time", "", clock(start)), element("q", "", text));
      return item;
    });
  }

  #chip({ label, seconds }, place, speaking) {
    let chip = this.chips.get(label.id);
    if (!chip) {
      chip = document.createElement("li");
      const button = element("button", "chip");
      button.type = "button";
      button.ariaHasPopup = "dialog";
      button.title = "Say who this is";
      button.dataset.press = "";
      button.append(sign(), element("span", "name"), element("span", "talk"));
      chip.append(button);
      this.chips.set(label.id, chip);
    }
    dress(chip, label);
    chip.classList.toggle("speaking", label.id === speaking);
    write(chip.querySelector(".talk"), clock(seconds));
    if (this.legend.children[place] !== chip) this.legend.insertBefore(chip, this.legend.children[place] ?? null);
  }

  #remove(id, chip) {
    this.chips.delete(id);
    chip.remove();
  }
}
