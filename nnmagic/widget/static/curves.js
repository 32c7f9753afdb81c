// Curves over the iterations of a run: one cursor goes over all of them, and a click shows its iteration.
import { clamped, max, min, numbers, round, withCommas } from "./format.js";
import { block, element } from "./dom.js";
import { HEIGHT, WIDTH, chart, path } from "./chart.js";

/**
 * Where the points of a curve lie.
 * @param {{iterations: number[], values: (number|null)[], low: (number|null)[], high: (number|null)[], is_log: boolean, mark: number|null}} curve
 * @returns {{x: (iteration: number) => number, y: (value: number) => number, ends: [number, number]}}
 */
export function scalesOf({ iterations, values, low, high, is_log, mark }) {
  const write = (value) => (is_log ? Math.log10(value) : value);
  const all = [...values, ...low, ...high, mark].filter((value) => value !== null && Number.isFinite(write(value)));
  const ends = [min(...all), max(...all)];
  const [first, bottom, top] = [iterations[0], ...ends.map(write)];
  return {
    ends,
    x: (iteration) => ((iteration - first) / max(1, iterations.at(-1) - first)) * WIDTH,
    y: (value) => HEIGHT - 3 - ((clamped(write(value), bottom, top) - bottom) / (top - bottom || 1)) * (HEIGHT - 6),
  };
}

/** @returns {string} the path of a line that has gaps where a value is not finite */
export function linePath(iterations, values, { x, y }) {
  let isGap = true;
  return values.map((value, i) => {
    const start = isGap ? "M" : "L";
    isGap = value === null;
    return isGap ? "" : `${start}${x(iterations[i]).toFixed(1)} ${y(value).toFixed(1)}`;
  }).join("");
}

function curveFigure(curve, id, { point, choose }) {
  const { iterations, values } = curve;
  const scales = scalesOf(curve);
  const band = linePath([...iterations, ...iterations.toReversed()], [...curve.high, ...curve.low.toReversed()], scales);
  const odd = iterations.filter((_, i) => values[i] === null).map((at) => `M${scales.x(at)} 0v8`).join("");
  const cursor = path("nm-zero", "");
  const svg = chart({
    kind: "curve",
    label: `${curve.title} over the iterations; arrow keys read it, Enter shows the iteration`,
    id,
    point: (share) => point(round(iterations[0] + share * (iterations.at(-1) - iterations[0]))),
    move: (by) => point(iterations[clamped(at + by, 0, iterations.length - 1)]),
    choose: () => choose(iterations[at]),
  }, path("nm-hist-marked", band), path("nm-curve-mark", curve.mark === null ? "" : `M0 ${scales.y(curve.mark)}H${WIDTH}`),
  path("nm-curve", linePath(iterations, values, scales)), path("nm-curve-odd", odd), cursor);
  const says = element("output", { class: "nm-readout nm-quiet" });
  let at = 0;
  const range = numbers(...scales.ends).join(" … ");
  return {
    el: block("", element("b", {}, curve.title), ` ${range}${curve.mark === null ? "" : `; dashed: ${curve.mark}`}`, svg, says),
    /** Put the cursor at an iteration, or at the next one that is drawn. */
    point(iteration) {
      at = clamped(iterations.findIndex((each) => each >= iteration), 0, iterations.length - 1);
      cursor.setAttribute("d", `M${scales.x(iterations[at])} 0V${HEIGHT}`);
      says.textContent = `iteration ${withCommas(iterations[at])}: ${values[at] === null ? "not finite, or unknown" : numbers(values[at])[0]}`;
    },
  };
}

/**
 * @param {object[]} curves
 * @param {{id: string, at: number, choose: (iteration: number) => void}} options at: the iteration that shows
 * @returns {HTMLElement}
 */
export function createCurves(curves, { id, at, choose }) {
  const point = (iteration) => { for (const figure of figures) figure.point(iteration); };
  const figures = curves.map((curve, i) => curveFigure(curve, `${id}-${i}`, { point, choose }));
  const el = block("nm-sides", ...figures.map((figure) => figure.el));
  el.addEventListener("pointerleave", () => point(at));
  point(at);
  return el;
}
