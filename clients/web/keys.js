/** Single-key shortcuts. They rest while something is typed or a dialog is open, and can be switched off. */

import { settings } from "./settings.js";

/** @param {Record<string, () => void>} actions by key, lower case */
export function wireKeys(actions) {
  document.addEventListener("keydown", (event) => {
    const { key, target, ctrlKey, metaKey, altKey, repeat } = event;
    if (ctrlKey || metaKey || altKey || repeat || !settings.get("keys")) return;
    if (target.closest("input, select, textarea, [contenteditable]") || document.querySelector("dialog[open]")) return;
    const action = actions[key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
