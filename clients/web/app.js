/**
 * The page: what the reader presses, what the session says, and which of the modes this tab is in.
 *
 * Modes (data-mode on the root): idle; producing (this tab has the microphone); viewing (it follows a session);
 * done (its own session is over).
 */

import { Api } from "./api.js";
import { stayAwake } from "./awake.js";
import { Captions } from "./captions.js";
import { CaptureProblem } from "./capture.js";
import { closeDialogs, openDialog, part, toggleFullscreen, toggleTheme, wireDialogs, wireDisplay } from "./dialogs.js";
import { wireKeys } from "./keys.js";
import { forget, recall } from "./memory.js";
import { claim, Producer } from "./producer.js";
import { showSessions } from "./sessions.js";
import { settings } from "./settings.js";
import { Speakers } from "./speakers.js";
import { Transcript } from "./transcript.js";
import { Viewer } from "./viewer.js";
import { clock, lateness, MICROPHONE, producing, refusal, viewing } from "./words.js";

const FLASH_MS = 5_000;
const QUIETEST_DB = -60;

const root = document.documentElement;
const api = new Api();
const transcript = new Transcript();
const captions = new Captions(
  {
    scroller: part("captions"),
    log: part("log"),
    open: part("open"),
    earlier: part("earlier"),
    later: part("later"),
    jump: part("jump"),
  },
  transcript,
);
const speakers = new Speakers({
  legend: part("speakers-list"),
  transcript,
  save: (id, name) => api.nameSpeaker(session, id, name),
  onChange: show,
  onUnauthorized: (again) => refused({ code: "unauthorized" }, again),
});
const producer = new Producer({
  api,
  lastSeq: () => transcript.seq,
  onMessage: (message) => hear(message, producer),
  onState: showProducing,
  onLevel: showLevel,
});
let viewer = null;
let session = ""; // the one on the page
let release = null; // gives up this tab's claim to produce it
let retry = null; // what to do once a token has been entered

// Messages

function hear(message, from) {
  if (message.type === "started") adopt(message.session);
  if (message.type === "snapshot") showTitle(message.title ?? "");
  if (message.type === "status") {
    behind = message.degraded ? message.lag_s : 0;
    status(root.dataset.state, settled);
  }
  if (message.type === "snapshot") speakers.expect(message);
  const change = transcript.apply(message);
  if (change.kind === "hole") from.reconnect();
  else show(change);
}

/** @param {import("./transcript.js").Change} change */
function show(change) {
  captions.show(change);
  speakers.show();
}

/** The session has a name: it is put into the address, so that a reload and a copied address find it. */
async function adopt(name) {
  stopViewing();
  if (session === name && release) return;
  address(name);
  release = await claim(name);
}

function address(name) {
  session = name;
  part("share").hidden = part("save").hidden = !name;
  const link = name ? linkTo(name) : location.pathname;
  if (link !== location.href) history.replaceState(null, "", link);
}

// Producing

async function start(remembered) {
  notice("");
  if (!remembered) {
    stopViewing();
    transcript.clear();
    speakers.expect({ live: settings.get("speakers"), utterances: [] });
    show({ kind: "reset" });
    address("");
  }
  mode("producing");
  try {
    const title = remembered ? undefined : part("title").value.trim();
    await producer.begin({
      title,
      diarize: settings.get("speakers"),
      device: settings.get("microphone"),
      remembered,
    });
  } catch (error) {
    if (!(error instanceof CaptureProblem)) throw error;
    if (error.reason === "none" && settings.get("microphone")) {
      settings.set("microphone", ""); // the chosen one has left: the next try takes whatever is there
    }
    notice(MICROPHONE[error.reason]);
    if (remembered) {
      mode("paused");
      status("none", producing("continue"));
    } else {
      mode("idle");
      status("none", "");
    }
  }
}

function record() {
  if (root.dataset.mode === "viewing") return;
  if (producer.active) producer.stop();
  else if (root.dataset.mode !== "producing") start(root.dataset.mode === "paused" ? recall() : undefined);
}

function showProducing(state, detail) {
  const look = { live: "live", finishing: "live", asking: "idle", connecting: "idle", stopped: "none", failed: "none" };
  if (state === "stopped" || state === "failed") {
    release?.();
    release = null;
    mode(session ? "done" : "idle");
    showLevel({ rms: 0 });
  }
  if (state === "failed") refused(detail.error, start);
  status(look[state] ?? "warn", producing(state, detail));
  if (state.startsWith("finishing")) part("record-text").textContent = "Stop now";
}

function showLevel({ rms }) {
  const level = Math.max(0, Math.min(1, 1 - (20 * Math.log10(Math.max(rms, 1e-6))) / QUIETEST_DB));
  part("level").style.setProperty("--level", level.toFixed(2));
  part("meter").ariaValueNow = String(Math.round(100 * level));
  const elapsed = clock(producer.elapsed);
  if (part("elapsed").textContent !== elapsed) part("elapsed").textContent = elapsed;
}

/** After a reload: the text first, then the microphone. */
async function goOn(remembered) {
  mode("producing");
  release ??= await claim(remembered.session); // held already where a token was asked for in between
  if (!release) {
    follow(remembered.session);
    notice(refusal({ code: "elsewhere" }));
    return;
  }
  address(remembered.session);
  let asked = false;
  const arrived = (message) => {
    hear(message, viewer);
    if (message.type !== "snapshot" || !message.live || asked) return;
    asked = true;
    start(remembered);
  };
  watch(remembered.session, arrived, (state, { error }) => {
    if (producer.active || asked) return; // the microphone's own words are on the status line
    status("idle", viewing(state));
    if (state !== "ended" && state !== "failed") return;
    if (error?.code !== "unauthorized") forget();
    mode(state === "ended" ? "done" : "idle");
    if (error) refused(error, () => goOn(remembered));
  });
}

// Viewing

function follow(name) {
  mode("viewing");
  address(name);
  watch(name, (message) => hear(message, viewer), (state, { error }) => {
    status({ live: "live", waiting: "warn", connecting: "idle" }[state] ?? "none", viewing(state));
    if (error && state === "failed") refused(error, () => follow(name));
  });
}

function watch(name, onMessage, onState) {
  stopViewing();
  viewer = new Viewer({ api, session: name, lastSeq: () => transcript.seq, onMessage, onState });
  viewer.open();
}

function stopViewing() {
  viewer?.close();
  viewer = null;
}

// What is on the page besides captions

function mode(name) {
  root.dataset.mode = name;
  part("record").hidden = name === "viewing";
  part("record-text").textContent = { producing: "Stop", paused: "Continue" }[name] ?? "Start captions";
  part("fresh").hidden = name !== "viewing";
  part("title").readOnly = name === "viewing";
  stayAwake(name === "producing" || name === "viewing");
}

let flashing = 0;
let settled = ""; // what the status line says when nothing flashes
let behind = 0; // the daemon's lag, in seconds; 0 while it keeps up

/** Says where things stand; news of that kind ends a flash. @param {"live"|"warn"|"idle"|"none"} look */
function status(look, words) {
  root.dataset.state = look;
  if (words !== settled) {
    clearTimeout(flashing);
    flashing = 0;
    settled = words;
  }
  const line = look === "live" ? settled + lateness(behind) : settled;
  if (!flashing && part("status").textContent !== line) part("status").textContent = line;
}

/** Says something on the status line for a moment. */
function flash(words) {
  clearTimeout(flashing);
  part("status").textContent = words;
  flashing = setTimeout(() => {
    flashing = 0;
    status(root.dataset.state, settled);
  }, FLASH_MS);
}

function notice(words) {
  part("notice").hidden = !words;
  part("notice-text").textContent = words;
}

/** @param {{code?: string, message?: string}} error @param {() => void} again */
function refused(error, again) {
  if (error?.code !== "unauthorized") {
    notice(refusal(error));
    return;
  }
  retry = () => again();
  part("token").value = "";
  openDialog("token");
}

function showTitle(title) {
  if (document.activeElement !== part("title")) part("title").value = title;
  document.title = title ? `${title} · Amanuensis` : "Amanuensis: live captions";
}

function linkTo(name) {
  const link = new URL(location.pathname, location.href);
  link.searchParams.set("session", name);
  return link.href;
}

async function copyLink() {
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  try {
    await navigator.clipboard.writeText(linkTo(session));
    flash(local ? "Link copied. It works on this computer only, as the page was opened here." : "Link copied.");
  } catch {
    notice(`The browser does not let this page copy. This is the link: ${linkTo(session)}`);
  }
}

async function download(format) {
  closeDialogs();
  try {
    const address = URL.createObjectURL(await api.transcript(session, format));
    const link = document.createElement("a");
    link.href = address;
    link.download = `${(part("title").value.trim() || session).replace(/[^\p{L}\p{N}._-]+/gu, "-")}.${format}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
    flash(`Downloaded as ${link.download}.`);
  } catch (error) {
    refused(error, () => download(format));
  }
}

async function listSessions() {
  openDialog("list");
  const said = part("list-state");
  said.textContent = "Loading…";
  try {
    const sessions = await api.sessions();
    showSessions(part("sessions"), sessions, session);
    said.textContent = sessions.length ? "" : "None yet. The first one begins when someone starts captions.";
  } catch (error) {
    said.textContent = "";
    closeDialogs();
    refused(error, listSessions);
  }
}

async function rename() {
  const title = part("title").value.trim();
  showTitle(title);
  if (!session || root.dataset.mode === "viewing") return; // before a session it goes along with `start`
  try {
    await api.setTitle(session, title || null);
  } catch (error) {
    refused(error, rename);
  }
}

function enterToken() {
  api.token = part("token").value.trim();
  closeDialogs();
  const go = retry;
  retry = null;
  go?.();
}

function wire() {
  wireDialogs();
  speakers.wire(part("captions"));
  wireDisplay((device) =>
    producer.capture.change(device).catch((error) => notice(MICROPHONE[error.reason] ?? MICROPHONE.failed)),
  );
  part("record").addEventListener("click", record);
  part("share").addEventListener("click", copyLink);
  part("save").addEventListener("click", () => openDialog("save"));
  part("list").addEventListener("click", listSessions);
  part("title").addEventListener("change", rename);
  part("title").addEventListener("keydown", ({ key }) => key === "Enter" && part("record").focus());
  part("notice-close").addEventListener("click", () => notice(""));
  part("token-go").addEventListener("click", enterToken);
  part("token").addEventListener("keydown", ({ key }) => key === "Enter" && enterToken());
  for (const button of document.querySelectorAll("[data-format]")) {
    button.addEventListener("click", () => download(button.dataset.format));
  }
  for (const type of ["pointerdown", "keydown"]) document.addEventListener(type, () => producer.wake());
  window.addEventListener("online", () => viewer?.reconnect());
  wireKeys({
    r: record,
    j: () => captions.follow(),
    "+": () => settings.resize(1),
    "=": () => settings.resize(1),
    "-": () => settings.resize(-1),
    d: toggleTheme,
    f: toggleFullscreen,
    s: listSessions,
    "?": () => openDialog("help"),
  });
}

function begin() {
  wire();
  const asked = new URLSearchParams(location.search).get("session");
  const remembered = recall();
  if (remembered && (!asked || asked === remembered.session)) goOn(remembered);
  else if (asked) follow(asked);
  else mode("idle");
}

begin();
