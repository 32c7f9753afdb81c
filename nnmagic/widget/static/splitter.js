// The line between the table and the panel, which the pointer and the keyboard move.
import { clamped, round } from "./format.js";
import { answerKey, element } from "./dom.js";
import { remember, remembered } from "./session.js";

const USUAL_SHARE = 52;
const [LEAST_SHARE, MOST_SHARE] = [25, 80];
const SHARE_STEP = 2;

/**
 * @param {HTMLElement} main what has the table and the panel side by side
 * @param {string} controls the id of the table
 * @returns {HTMLElement} a separator whose value is the table's share of the width, in percent
 */
export function createSplitter(main, controls) {
  const el = element("div", { role: "separator", class: "nm-splitter", tabindex: 0, "data-nm": "splitter", "aria-label": "width of the table",
    "aria-orientation": "vertical", "aria-controls": controls, "aria-valuemin": LEAST_SHARE, "aria-valuemax": MOST_SHARE, title: "drag, or press the arrow keys; double-click: as at first" });
  let share = USUAL_SHARE;

  function show(wanted) {
    share = clamped(Number(wanted) || USUAL_SHARE, LEAST_SHARE, MOST_SHARE);
    el.setAttribute("aria-valuenow", round(share));
    el.setAttribute("aria-valuetext", `table ${round(share)} %`);
    main.style.setProperty("--nm-share", `${share}%`);
  }

  function move(wanted) {
    show(wanted);
    remember("table-share", String(share));
  }

  el.addEventListener("keydown", (event) => answerKey(event, {
    ArrowLeft: () => move(share - SHARE_STEP),
    ArrowRight: () => move(share + SHARE_STEP),
    Home: () => move(LEAST_SHARE),
    End: () => move(MOST_SHARE),
    Enter: () => move(USUAL_SHARE),
  }));
  el.addEventListener("dblclick", () => move(USUAL_SHARE));
  el.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    el.focus();
    el.setPointerCapture(event.pointerId);
  });
  el.addEventListener("pointermove", (event) => {
    if (!el.hasPointerCapture(event.pointerId)) return;
    const { left, width } = main.getBoundingClientRect();
    move((100 * (event.clientX - left)) / width);
  });
  show(remembered("table-share"));
  return el;
}
