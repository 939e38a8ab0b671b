/** The page's dialogs: opening, closing, and the Display dialog's controls. */

import { microphones } from "./capture.js";
import { settings, SIZES } from "./settings.js";

const CHECKED = ["contrast", "times", "speakers", "keys"]; // settings that are on or off, and their boxes

/** @param {string} id of an element that is in the page @returns {HTMLElement} */
export const part = (id) => document.getElementById(id);

/** @param {string} name the part of the dialog's id before "-dialog" */
export function openDialog(name) {
  const dialog = part(`${name}-dialog`);
  if (!dialog.open) dialog.showModal();
  return dialog;
}

export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
}

/** Makes every dialog closable by its button and by a press beside it; Escape is the browser's. */
export function wireDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("pointerdown", (event) => {
      if (event.target === dialog) dialog.close();
    });
  }
  part("help").addEventListener("click", () => openDialog("help"));
  part("display").addEventListener("click", openDisplay);
}

/** Binds the Display dialog to the settings. @param {(device: string) => void} onMicrophone */
export function wireDisplay(onMicrophone) {
  part("size").max = SIZES.length - 1;
  for (const radio of document.querySelectorAll("input[name=theme]")) {
    radio.addEventListener("change", () => settings.set("theme", radio.value));
  }
  for (const name of CHECKED) {
    part(name).addEventListener("change", ({ target }) => settings.set(name, target.checked));
  }
  part("size").addEventListener("input", ({ target }) => settings.set("size", Number(target.value)));
  part("smaller").addEventListener("click", () => settings.resize(-1));
  part("larger").addEventListener("click", () => settings.resize(1));
  part("fullscreen").addEventListener("click", () => {
    closeDialogs();
    toggleFullscreen();
  });
  part("microphone").addEventListener("change", ({ target }) => {
    settings.set("microphone", target.value);
    onMicrophone(target.value);
  });
  settings.addEventListener("change", showSettings);
  showSettings();
}

export async function toggleFullscreen() {
  if (document.fullscreenElement) await document.exitFullscreen();
  else await document.documentElement.requestFullscreen?.();
}

/** Light or dark, whichever is not there now. */
export function toggleTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  settings.set("theme", dark ? "light" : "dark");
}

function showSettings() {
  for (const radio of document.querySelectorAll("input[name=theme]")) {
    radio.checked = radio.value === settings.get("theme");
  }
  for (const name of CHECKED) part(name).checked = settings.get(name);
  part("size").value = settings.get("size");
  part("size").ariaValueText = `${Math.round(100 * SIZES[settings.get("size")])} percent`;
  part("smaller").disabled = settings.get("size") === 0;
  part("larger").disabled = settings.get("size") === SIZES.length - 1;
}

async function openDisplay() {
  openDialog("display");
  const select = part("microphone");
  const found = await microphones();
  const options = found.map(({ deviceId, label }, i) => new Option(label || `Microphone ${i + 1}`, deviceId));
  select.replaceChildren(new Option("As the system", ""), ...options);
  select.value = settings.get("microphone");
  if (select.selectedIndex < 0) select.value = ""; // it is not plugged in now
}
