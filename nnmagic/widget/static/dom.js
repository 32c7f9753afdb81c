// Elements of the page: made, labelled, and listening to keys.

const PATIENCE_MS = 5000;
const NO_ANSWER = "no answer yet: the kernel is busy, or gone";

/**
 * Make an element; strings become text nodes, so nothing from a network is ever read as markup.
 * @param {string} tag
 * @param {object} attributes functions are listeners, false and null are left out
 * @param {...(Node|string)} children
 */
export function element(tag, attributes = {}, ...children) {
  const space = tag === "svg" || tag === "path" ? "2000/svg" : "1999/xhtml";
  const node = document.createElementNS(`http://www.w3.org/${space}`, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false && value !== null) node.setAttribute(name, value === true ? "" : value);
  }
  // JupyterLab's shortcuts look at the focused element itself before what it stands in.
  if (node.matches("button, input, select, [tabindex]")) node.setAttribute("data-lm-suppress-shortcuts", "true");
  node.append(...children);
  return node;
}

export const block = (look, ...children) => element("div", { class: look }, ...children);
export const inline = (look, ...children) => element("span", { class: look || null }, ...children);
export const part = (role, look, ...children) => element("div", { role, class: look }, ...children);
export const pressable = (label, name, click, attributes = {}) =>
  element("button", { type: "button", "data-nm": name, click, ...attributes }, label);

/**
 * A line that says what is waited for, and after a while that no answer came.
 * @param {string} look @param {() => void} unanswered
 */
export function waiting(look, unanswered = () => {}) {
  const el = part("status", look);
  let timer = 0;
  const stop = (text) => {
    clearTimeout(timer);
    if (text !== undefined) el.textContent = text;
  };
  return {
    el,
    /** Wait no longer, or as long as it takes; a text stands there from now on. */
    stop,
    start(text) {
      stop(text);
      timer = setTimeout(() => {
        stop(NO_ANSWER);
        unanswered();
      }, PATIENCE_MS);
    },
  };
}

/**
 * Keep how far an element is scrolled where it is taken out of the page and put back, as with a cell that moves: no event
 * tells of that but the one of its animation, which begins anew.
 * @param {HTMLElement} el @param {() => void} scrolled
 */
export function keptScroll(el, scrolled = () => {}) {
  let top = 0;
  el.addEventListener("scroll", () => {
    top = el.scrollTop;
    scrolled();
  }, { passive: true });
  el.addEventListener("animationstart", () => {
    el.scrollTop ||= top;
    scrolled();
  });
  return { reset() { el.scrollTop = top = 0; } };
}

/**
 * Do what a key asks for, and keep the notebook from hearing it.
 * @param {KeyboardEvent} event @param {Object<string, () => void>} actions by key
 */
export function answerKey(event, actions) {
  const action = actions[event.key];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  event.stopPropagation();
  action();
}

/**
 * A labelled slider.
 * @param {{label: string, max: number, value: number, id: string,
 *   text: (value: number) => string, change: (value: number) => void}} options
 */
export function slider({ label, max, value, id, text, change }) {
  const said = inline();
  const input = element("input", { type: "range", min: 0, max, "data-nm": id });
  const set = (shown) => {
    input.value = shown;
    said.textContent = text(shown);
    said.style.minWidth = `${text(Number(input.max)).length}ch`;
    input.setAttribute("aria-valuetext", text(shown));
  };
  input.addEventListener("input", () => {
    set(Number(input.value));
    change(Number(input.value));
  });
  set(value);
  return { el: element("label", { class: "nm-slider" }, inline("", label), input, said), input, set };
}
