/** The browser's two stores, or a stand-in that lasts as long as the page where the browser refuses them. */

function open(name) {
  try {
    const store = window[name];
    store.getItem(""); // a browser that blocks site data throws here or above
    return store;
  } catch {
    const kept = new Map(); // captions work without a memory; only reloads and preferences miss it
    return {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => void kept.set(key, value),
      removeItem: (key) => void kept.delete(key),
    };
  }
}

/** What this tab remembers until it is closed. */
export const tab = open("sessionStorage");

/** What this browser remembers. */
export const lasting = open("localStorage");

/**
 * Reads a value kept as JSON; null where there is none, or it is not ours.
 * @param {Storage} store
 * @param {string} key
 */
export function readJson(store, key) {
  try {
    return JSON.parse(store.getItem(key) ?? "null");
  } catch {
    return null; // written by something else under our name: as if it were not there
  }
}
