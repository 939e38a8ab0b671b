/** The list of sessions. */

import { clock } from "./words.js";

const dates = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/**
 * Fills a list with links to sessions, newest first.
 * @param {HTMLElement} list
 * @param {object[]} sessions as GET /v1/sessions gives them
 * @param {string} current the session on the page, "" for none
 */
export function showSessions(list, sessions, current) {
  list.replaceChildren(...sessions.map((session) => row(session, session.session === current)));
}

function row(session, current) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.href = `?session=${encodeURIComponent(session.session)}`;
  if (current) link.setAttribute("aria-current", "page");
  const name = document.createElement("span");
  name.className = "name";
  name.textContent = session.title || "Untitled session";
  const facts = document.createElement("span");
  facts.className = "facts";
  facts.textContent = [
    dates.format(new Date(session.created * 1_000)),
    ...(session.decided_s >= 1 ? [clock(session.decided_s)] : []),
  ].join(" · ");
  link.append(name, facts);
  if (session.live) {
    const live = document.createElement("span");
    live.className = "badge";
    live.textContent = "Live";
    link.append(live);
  }
  item.append(link);
  return item;
}
