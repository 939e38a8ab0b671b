/** How the page looks and answers to keys: chosen by the reader, kept by the browser. */

import { lasting, readJson } from "./store.js";

const KEY = "amanuensis.display";

/** Factors on the type size that the window's width suggests. */
export const SIZES = Object.freeze([0.7, 0.85, 1, 1.2, 1.45, 1.75, 2.1, 2.6]);

const DEFAULTS = Object.freeze({
  theme: "system", // system, light, dark
  contrast: false, // more of it than the theme has
  size: 2, // index into SIZES
  times: true,
  speakers: true, // label them, and ask for labels
  keys: true, // single-key shortcuts
  microphone: "", // device id, "" for the system's choice
});

export class Settings extends EventTarget {
  constructor() {
    super();
    this.values = { ...DEFAULTS, ...readJson(lasting, KEY) };
    this.apply();
  }

  get(name) {
    return this.values[name];
  }

  set(name, value) {
    this.values[name] = value;
    lasting.setItem(KEY, JSON.stringify(this.values));
    this.apply();
    this.dispatchEvent(new Event("change"));
  }

  /** @param {1 | -1} by */
  resize(by) {
    this.set("size", Math.max(0, Math.min(SIZES.length - 1, this.get("size") + by)));
  }

  apply() {
    const root = document.documentElement;
    root.dataset.theme = this.get("theme");
    root.dataset.contrast = this.get("contrast") ? "more" : "normal";
    root.dataset.times = this.get("times") ? "shown" : "hidden";
    root.dataset.speakers = this.get("speakers") ? "shown" : "hidden";
    root.style.setProperty("--scale", String(SIZES[this.get("size")] ?? 1));
  }
}

/** Made as the page loads, before it is painted, so that no other theme flashes up. */
export const settings = new Settings();
