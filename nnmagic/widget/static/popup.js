// A button that opens a short list below it: of boxes to check, or of things to do.
import { min } from "./format.js";
import { answerKey, element, inline, pressable } from "./dom.js";

/**
 * @param {{uid: string, label: string, role: string, items: () => HTMLElement[], signal: AbortSignal}} options
 *   role: "menu", or "group" of boxes; items: makes the entries, each with one element to focus; signal: ends the listening
 */
export function createPopup({ uid, label, role, items, signal }) {
  const id = `${uid}-${label}`;
  const list = element("div", { class: "nm-menu", id, role, "aria-label": label, hidden: true });
  const button = pressable(label, label, () => open(list.hidden), { "aria-expanded": "false", "aria-controls": id, "aria-haspopup": role === "menu" && "menu" });
  const el = inline("nm-anchor", button, list);
  const entries = () => [...list.querySelectorAll("input, button")];

  function open(isOpen) {
    list.hidden = !isOpen;
    button.setAttribute("aria-expanded", isOpen);
    if (!isOpen) return;
    list.replaceChildren(...items());
    // It begins below its button, or as far before that as it needs to end with the toolbar.
    list.style.left = "0";
    const root = el.closest(".nnmagic");
    const [menu, toolbar, all] = [list, el.parentNode, root].map((each) => each.getBoundingClientRect());
    list.style.left = `${min(0, toolbar.right - menu.right)}px`;
    // The room below stays: what is pressed to close the list must not move under the pointer.
    root.style.minHeight = `${menu.bottom - all.top + 8}px`;
    entries()[0]?.focus();
  }

  function close() {
    if (list.hidden) return;
    open(false);
    button.focus();
  }

  function focusOn(place) {
    const all = entries();
    all.at(place % all.length).focus();
  }

  list.addEventListener("keydown", (event) => {
    const at = entries().indexOf(event.target);
    answerKey(event, { Escape: close, ArrowDown: () => focusOn(at + 1), ArrowUp: () => focusOn(at - 1) });
  });
  for (const name of ["pointerdown", "focusin"]) {
    document.addEventListener(name, (event) => {
      if (!list.hidden && !el.contains(event.composedPath()[0])) open(false);
    }, { signal });
  }
  return { el, button, close };
}
