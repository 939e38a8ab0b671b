/** Keeps the screen on while captions are being read. */

let wanted = false;
let lock = null;

/** @param {boolean} on */
export async function stayAwake(on) {
  wanted = on;
  if (!on) {
    await lock?.release();
    lock = null;
    return;
  }
  if (lock && !lock.released) return;
  try {
    lock = await navigator.wakeLock?.request("screen");
  } catch {
    lock = null; // a low battery or a hidden page forbids it; captions do not depend on it
  }
}

document.addEventListener("visibilitychange", () => {
  if (wanted && document.visibilityState === "visible") stayAwake(true); // hiding the page released it
});
