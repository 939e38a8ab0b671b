/** One caption as it stands on the page: when, who, and what was said. */

import { clock, gap, speakerName, speakerSign } from "./words.js";

const HUES = 8; // colours there are; the ninth speaker shares the first one's, and has a sign of their own
const SHORT_S = 2; // a cough is no news; longer sounds without words are marked
const ARRIVAL_MS = 700;

const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** @param {import("./transcript.js").Gap} line */
export function gapRow(line) {
  const row = element("div", "gap", gap(line));
  row.hidden = line.reason.startsWith("suppressed") && line.end - line.start < SHORT_S;
  return row;
}

/**
 * A row for an utterance, to be filled by `fill`. The label is there from the start, though hidden: it may come
 * late, and nothing moves then.
 * @param {{start: number}} line
 * @param {"button" | "span"} tag of the label: only finished lines are for pressing
 */
export function utteranceRow({ start }, tag) {
  const row = element("div", "line");
  // The time would be read out with every caption; a screen reader's user finds it in the transcript.
  const time = element("time", "time", clock(start));
  time.dateTime = `PT${start.toFixed(2)}S`;
  time.ariaHidden = "true";
  const speaker = element(tag, "speaker");
  if (tag === "button") {
    speaker.type = "button";
    speaker.dataset.press = "";
    speaker.tabIndex = -1; // the captions make one of them the tab stop
    speaker.ariaHasPopup = "dialog";
  }
  speaker.append(sign(), element("span", "name"));
  const text = element("p", "text");
  text.append(element("span", "settled"), element("span", "tentative"));
  row.append(time, speaker, text);
  return row;
}

/**
 * @param {HTMLElement} row of utteranceRow
 * @param {{text: string, tentative?: string, speaker?: import("./roster.js").Label}} line
 * @param {boolean} heads whether a run of lines by one speaker begins here, so that the label is shown
 */
export function fill(row, { text, tentative = "", speaker }, heads) {
  write(row.querySelector(".settled"), text);
  write(row.querySelector(".tentative"), tentative);
  const label = row.querySelector(".speaker");
  label.hidden = !speaker || !heads;
  if (!speaker) return;
  row.classList.toggle("provisional", !speaker.settled);
  label.title = speaker.settled ? "Say who this is" : "Probably, and may still change. Say who this is";
  dress(row, speaker);
}

/** What changes in a node from now on is not read out: it stands where something was read out before. */
export function hush(node) {
  node.ariaLive = "off";
}

/** Draws the eye to what has changed, gently; not at all for readers who want it calm. */
export function arrive(node) {
  if (!calm.matches) node.animate([{ opacity: 0.15 }, { opacity: 1 }], { duration: ARRIVAL_MS, easing: "ease-out" });
}

/** Gives a node with a sign and a name those of a speaker. @param {import("./roster.js").Label} label */
export function dress(node, label) {
  node.dataset.speaker = label.id;
  node.dataset.hue = hue(label.id);
  write(node.querySelector(".sign"), speakerSign(label));
  write(node.querySelector(".name"), speakerName(label));
}

/** The sign beside a name, which tells speakers apart without colours. */
export function sign() {
  const made = element("span", "sign");
  made.ariaHidden = "true"; // the name says it
  return made;
}

/** Text is only ever written as text: nothing from the server can become markup. */
export function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Changes the text that is there instead of replacing it: what is replaced is read out as an addition. */
export function write(node, text) {
  if (node.textContent === text) return;
  if (node.firstChild) node.firstChild.data = text;
  else node.textContent = text;
}

/** 1 ... HUES: the colour of colours.css for a speaker. */
function hue(id) {
  const number = Number(/\d+$/.exec(id)?.[0] ?? 1);
  return String(((Math.max(number, 1) - 1) % HUES) + 1);
}
