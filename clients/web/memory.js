/**
 * What a tab must remember to go on with its session after a reload. It lives in sessionStorage: a reload keeps
 * it, closing the tab forgets it. Sound is not in it; what was heard between is told to the server as skipped.
 *
 * @typedef {object} Remembered
 * @property {string} session
 * @property {string} resumeToken
 * @property {number} rate samples per second
 * @property {number} captured samples since the session's first, when this was written
 * @property {number} at when this was written, milliseconds of Date.now()
 */

import { readJson, tab } from "./store.js";

const KEY = "amanuensis.producing";

/** @returns {Remembered | null} */
export function recall() {
  return readJson(tab, KEY);
}

/** @param {Remembered} remembered */
export function remember(remembered) {
  tab.setItem(KEY, JSON.stringify(remembered));
}

export function forget() {
  tab.removeItem(KEY);
}

/**
 * Position of the sample that would be heard now, had the page never gone away.
 * @param {Remembered} remembered
 * @param {number} now milliseconds of Date.now()
 */
export function positionNow({ captured, at, rate }, now) {
  return captured + Math.max(0, Math.round(((now - at) / 1_000) * rate));
}
