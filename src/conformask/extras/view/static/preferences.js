// Preferences that this browser keeps in localStorage: how hidden pixels are marked, whether shortcuts are on.

const storageKey = (name) => `conformask.${name}`;

/** Return a stored preference, or the fallback where none can be read. */
export function readPreference(name, fallback) {
  try {
    return JSON.parse(localStorage.getItem(storageKey(name))) ?? fallback;
  } catch {
    return fallback; // storage is blocked, or its content is not JSON
  }
}

/** Store a preference, if the browser allows it. */
export function writePreference(name, value) {
  try {
    localStorage.setItem(storageKey(name), JSON.stringify(value));
  } catch {
    // Storage is blocked or full: the preference lasts until the page is closed.
  }
}
