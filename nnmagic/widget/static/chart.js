// A small chart that the pointer and the arrow keys read.
import { answerKey, element } from "./dom.js";

export const [WIDTH, HEIGHT] = [320, 64];

export const path = (look, d) => element("path", { class: look, d, "vector-effect": "non-scaling-stroke" });

/**
 * @param {{kind: string, label: string, id: string, point: (share: number) => void, move: (by: number) => void, choose: (() => void)|null}} options
 *   point: the pointer is at this part of the width; move: an arrow key was pressed, by -1 or 1; choose: a click, or Enter
 * @param {...SVGElement} paths in a box of WIDTH x HEIGHT
 */
export function chart({ kind, label, id, point, move, choose = null }, ...paths) {
  const svg = element("svg", { class: "nm-hist", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", tabindex: 0,
    role: "application", "aria-roledescription": kind, "aria-label": label, "data-nm": id, click: choose }, ...paths);
  svg.addEventListener("pointermove", (event) => {
    const { left, width } = svg.getBoundingClientRect();
    point((event.clientX - left) / width);
  });
  svg.addEventListener("keydown", (event) => answerKey(event, { ArrowLeft: () => move(-1), ArrowRight: () => move(1), Enter: choose }));
  return svg;
}
