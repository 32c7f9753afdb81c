// What all widgets of a page remember together as long as the page's session lasts.

const REMEMBER = "nnmagic-remember";

/** @param {string} name @returns {string|null} what was remembered, null: nothing, or the page may keep nothing */
export function remembered(name) {
  try {
    return sessionStorage.getItem(`nnmagic-${name}`);
  } catch {
    return null;
  }
}

/** Remember a text, and tell the other widgets of the page. */
export function remember(name, text) {
  try {
    sessionStorage.setItem(`nnmagic-${name}`, text);
  } catch {
    // A page of its own origin, such as a sandboxed frame, keeps nothing.
  }
  document.dispatchEvent(new CustomEvent(REMEMBER, { detail: { name, text } }));
}

/** @param {string} name @param {(text: string) => void} told @param {AbortSignal} signal ends the listening */
export function onRemembered(name, told, signal) {
  document.addEventListener(REMEMBER, ({ detail }) => { if (detail.name === name) told(detail.text); }, { signal });
}
