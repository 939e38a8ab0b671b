/** Every sentence the page says about itself: what happens, and what to do about it. */

/** Why the microphone cannot be had: `reason` of CaptureProblem. */
export const MICROPHONE = Object.freeze({
  insecure:
    "Browsers give a microphone only to pages opened over https or on the same computer. " +
    "Open this page as http://localhost on the computer that runs the daemon, or put https in front of it. " +
    "Reading along works from here: choose a session under Sessions.",
  denied:
    "The browser did not allow the microphone. Press the microphone or lock symbol beside the address, " +
    "allow the microphone for this page, then press Start captions again.",
  none: "No microphone was found. Plug one in or switch it on, then press Start captions again.",
  busy:
    "The microphone is there but could not be opened; another program may hold it. " +
    "Close that program, then press Start captions again.",
  rate:
    "This browser cannot change to a microphone with another sampling rate within a session. " +
    "Press Stop, choose the microphone under Display, then Start captions again.",
  failed: "The sound could not be started. Reload the page; if that does not help, restart the browser.",
});

/** What to do about a refusal: PROTOCOL's `error.code`. The server's own message is shown where it is not here. */
const REFUSALS = Object.freeze({
  unauthorized: "This daemon asks for an access token. Enter it to go on.",
  unknown_session: "There is no such session here, or it closed while the connection was away. Sessions lists those there are.",
  session_busy: "Another page already sends sound to this session. Follow it from the list of sessions, or start one of your own.",
  overloaded: "The daemon already follows as many sessions as this computer can. Try again when one has ended.",
  elsewhere: "This session is being captioned in another tab. This tab follows it.",
});

/** @param {{code?: string, message?: string} | null} error */
export function refusal(error) {
  return REFUSALS[error?.code] ?? error?.message ?? "The daemon closed the connection. Press Start captions to try again.";
}

/** The status line of a page that captions. `kept` is how much sound the page holds, in seconds. */
export function producing(state, { kept = 0, error = null } = {}) {
  switch (state) {
    case "asking":
      return "Allow the microphone when the browser asks.";
    case "connecting":
      return "Connecting…";
    case "live":
      return "Listening";
    case "suspended":
      return "The browser paused the sound. Press any key or tap the page to go on.";
    case "lost":
      return "The microphone went away. Captions go on as soon as one is back.";
    case "quiet":
      return "No sound arrives from the microphone. Is it muted?";
    case "waiting":
      if (error?.code === "restarting") return "The daemon restarts. Nothing is lost; captions go on after it.";
      if (error?.code === "session_failed") return `${error.message} Trying again; the sound is kept in this page.`;
      return kept > 85
        ? "Connection lost. Trying again; only the last 90 seconds of sound are kept."
        : "Connection lost. Trying again; nothing is lost, the sound is kept in this page.";
    case "finishing":
      return "Finishing the last words…";
    case "finishing-waiting":
      return "Connection lost before the last words. Trying again; Stop now gives up.";
    case "stopped":
      return "Finished. The transcript is kept under Sessions.";
    case "continue":
      return "This session is still open. Press Continue to go on.";
    default:
      return "";
  }
}

/** The status line of a page that reads along. */
export function viewing(state) {
  switch (state) {
    case "connecting":
      return "Connecting…";
    case "live":
      return "Following live";
    case "waiting":
      return "Connection lost. Trying again; no text will be missing.";
    case "ended":
      return "This session has ended.";
    default:
      return "";
  }
}

/** What a status line says of the daemon's lag, in steps, so that it does not change all the time. */
export function lateness(seconds) {
  if (seconds < 2) return "";
  const about = seconds < 5 ? "a few" : `about ${5 * Math.round(seconds / 5)}`;
  return ` · ${about} seconds behind, the computer is busy`;
}

/** A line in place of text that does not exist. */
export function gap({ start, end, reason }) {
  const length = duration(end - start);
  if (reason === "overload") return `${length} not captioned: the computer was overloaded`;
  if (reason === "source_lost") return `${length} not heard: the microphone was away`;
  if (reason === "client_skipped") return `${length} not heard: the page or its connection was away`;
  return `${length} of sound without words`;
}

/** @param {{id: string, name?: string}} speaker S1, S2 ... */
export function speakerName({ id, name }) {
  return name ?? (/^S\d+$/.test(id) ? `Speaker ${id.slice(1)}` : id);
}

/** What stands for a speaker where there is no room: the number, or the initials of a name. */
export function speakerSign({ id, name }) {
  if (!name) return id.replace(/^S(?=\d)/, "").slice(0, 3);
  const words = name.trim().split(/\s+/);
  const letters = (word) => word.match(/[\p{L}\p{N}]/gu) ?? [...word];
  const upper = (letter = "") => letter.toLocaleUpperCase();
  if (words.length > 1) return upper(letters(words[0])[0]) + upper(letters(words.at(-1))[0]);
  const [first, second = ""] = letters(words[0]);
  return upper(first) + second;
}

/** Why a name was not kept. @param {{code?: string, message?: string}} error */
export function notNamed(error) {
  if (!error.code) return "The daemon does not answer, so the name is not saved yet. Try again when it is back.";
  return `The name was not saved. ${refusal(error)}`;
}

/** @param {number} seconds @returns {string} 0:07, 12:34, 1:02:03 */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** @param {number} seconds */
function duration(seconds) {
  if (seconds < 90) {
    const whole = Math.max(1, Math.round(seconds));
    return whole === 1 ? "1 second" : `${whole} seconds`;
  }
  return `${Math.round(seconds / 60)} minutes`;
}
