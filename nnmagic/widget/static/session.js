// What the widgets of a page remember as long as the page's session lasts.

/** @param {string} name @returns {string|null} what was remembered, null: nothing, or the page may keep nothing */
export function remembered(name) {
  try {
    return sessionStorage.getItem(`nnmagic-${name}`);
  } catch {
    return null;
  }
}

/** Remember a text for the widgets that are shown from now on. */
export function remember(name, text) {
  try {
    sessionStorage.setItem(`nnmagic-${name}`, text);
  } catch {
    // A page of its own origin, such as a sandboxed frame, keeps nothing.
  }
}
