// Curves over the iterations of a run: one cursor goes over all of them, and a click shows its iteration.
import { clamped, max, min, numbers, round, withCommas } from "./format.js";
import { block, element, inline } from "./dom.js";
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

/** @returns {number} the place of an iteration in a list of ascending ones, or of the next one that is there */
export const placeIn = (iterations, iteration) => {
  const place = iterations.findIndex((each) => each >= iteration);
  return place < 0 ? iterations.length - 1 : place;
};

function curveFigure(title, id, cursor) {
  let [curve, scales, at] = [null, null, 0];
  const [band, mark, line, odd, bar] = ["curve-band", "curve-mark", "curve", "curve-odd", "zero"].map((look) => path(`nm-${look}`, ""));
  const svg = chart({
    kind: "curve",
    label: `${title} over the iterations; arrow keys read it, Enter shows the iteration`,
    id,
    point: (share) => cursor.point(round(curve.iterations[0] + share * (curve.iterations.at(-1) - curve.iterations[0]))),
    move: (by) => cursor.point(curve.iterations[clamped(at + by, 0, curve.iterations.length - 1)]),
    choose: () => cursor.choose(curve.iterations[at]),
  }, band, mark, line, odd, bar);
  const range = inline();
  const says = element("output", { class: "nm-readout nm-quiet" });
  return {
    title,
    el: block("nm-figure", element("b", {}, title), " ", range, svg, says),
    draw(shown) {
      curve = shown;
      scales = scalesOf(curve);
      const { iterations, values, low, high } = curve;
      band.setAttribute("d", linePath([...iterations, ...iterations.toReversed()], [...high, ...low.toReversed()], scales));
      mark.setAttribute("d", curve.mark === null ? "" : `M0 ${scales.y(curve.mark)}H${WIDTH}`);
      line.setAttribute("d", linePath(iterations, values, scales));
      odd.setAttribute("d", iterations.filter((_, i) => values[i] === null).map((each) => `M${scales.x(each)} 0v8`).join(""));
      const dashed = curve.mark === null ? "" : `; dashed: ${curve.mark}`;
      range.textContent = numbers(...scales.ends).join(" … ") + dashed;
    },
    /** Put the cursor at an iteration, or at the next one that is drawn. */
    point(iteration) {
      const { iterations, values } = curve;
      at = placeIn(iterations, iteration);
      bar.setAttribute("d", `M${scales.x(iterations[at])} 0V${HEIGHT}`);
      says.textContent = `iteration ${withCommas(iterations[at])}: ${values[at] === null ? "not finite, or unknown" : numbers(values[at])[0]}`;
    },
  };
}

/**
 * Curves side by side, drawn anew in their places as they grow.
 * @param {{id: string, cursor: {at: () => number, point: (iteration: number|null) => void, choose: (iteration: number) => void}}} options
 *   cursor: at: the iteration that all curves of the widget point at; point: moves it, null: back to the iteration that shows
 */
export function createCurves({ id, cursor }) {
  let figures = [];
  const el = element("div", { class: "nm-sides", pointerleave: () => cursor.point(null) });
  const point = (iteration) => { for (const figure of figures) figure.point(iteration); };
  return {
    el,
    point,
    /** @param {object[]} curves what is drawn from now on */
    show(curves) {
      if (curves.map(({ title }) => title).join() !== figures.map(({ title }) => title).join()) {
        figures = curves.map(({ title }, i) => curveFigure(title, `${id}-${i}`, cursor));
        el.replaceChildren(...figures.map((figure) => figure.el));
      }
      for (const [i, figure] of figures.entries()) figure.draw(curves[i]);
      point(cursor.at());
    },
  };
}
