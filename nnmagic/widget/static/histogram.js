// Histograms: each on an axis of its own, or on one where the ranges are alike; and small ones.
import { clamped, floor, max, min, numbers, round, withCommas } from "./format.js";
import { HEIGHT, WIDTH, chart, path } from "./chart.js";
import { block, element, inline } from "./dom.js";

const ALIKE = 5;

/**
 * The outline of bars as the data of one SVG path, 16 high, a thin tick where zero lies.
 * @param {ArrayLike<number>} bins 0..255 @param {number} start @param {number} length
 * @param {number} zero how many bins are left of zero, -1: none
 */
export function barsPath(bins, start, length, zero) {
  let path = zero >= 0 ? `M${6 * zero + 0.5} 0h1v16h-1z` : "";
  for (let bin = 0; bin < length; bin++) {
    const full = bins[start + bin];
    if (!full) continue;
    const height = max(1, round((full * 15) / 255));
    path += `M${6 * bin + (zero >= 0 && bin >= zero ? 2 : 0)} 16v-${height}h5v${height}z`;
  }
  return path;
}

/**
 * A relative error as the data of one SVG path: a bar from 1e-8 to 1 on a logarithmic scale, and a tick at its bound.
 * @param {number} error NaN: unknown @param {number} bound NaN: there is none
 */
export function errorPath(error, bound) {
  if (!(error > 0)) return "";
  const x = (value) => clamped(7.75 * (Math.log10(value) + 8), 1, 62);
  const tick = bound > 0 ? `M${x(bound) - 1} 1h1v14h-1z` : "";
  return `M0 6h${x(error)}v5h-${x(error)}z${tick}`;
}

/**
 * One axis for all, if none would be squeezed to less than a fifth of it; else null.
 * @param {{low: number, high: number}[]} histograms @returns {[number, number]|null}
 */
export function commonLimits(histograms) {
  const [low, high] = [min(...histograms.map((each) => each.low)), max(...histograms.map((each) => each.high))];
  const narrowest = min(...histograms.map((each) => each.high - each.low));
  return histograms.length > 1 && low < high && high - low <= ALIKE * narrowest ? [low, high] : null;
}

/** @returns {number} how high a bar is, 0..1 */
export const heightOf = (count, most, isLog) => (isLog ? Math.log1p(count) / Math.log1p(most) : count / most);

/** @returns {string} what a bin holds: "0.120 … 0.150: 34 of 1,000 (3.4 %)" */
export function binText({ counts, low, high }, bin) {
  const edge = (i) => low + ((high - low) * i) / counts.length;
  const all = counts.reduce((sum, n) => sum + n, 0);
  const [from, to] = numbers(edge(bin), edge(bin + 1));
  return `${from} … ${to}: ${withCommas(counts[bin])} of ${withCommas(all)} (${((100 * counts[bin]) / max(1, all)).toFixed(1)} %)`;
}

/**
 * A histogram whose counts are read by the pointer or the arrow keys.
 * @param {{name: string, counts: number[], low: number, high: number, of: string}} histogram
 * @param {{limits: [number, number]|null, isLog: boolean, id: string}} options limits: of its axis
 * @returns {HTMLElement}
 */
export function histogramFigure(histogram, { limits, isLog, id }) {
  const { name } = histogram;
  const of = `over ${histogram.of}`;
  // Where all values are one, they stand in one narrow bar.
  const isOne = histogram.high <= histogram.low;
  const middle = histogram.low;
  const half = isOne ? max(Math.abs(middle) / 2, 0.5) : 0;
  const bins = isOne ? [histogram.counts.reduce((sum, n) => sum + n, 0)] : histogram.counts;
  const [left, right] = isOne ? [middle - half / 16, middle + half / 16] : [histogram.low, histogram.high];
  const [low, high] = limits ?? [histogram.low - half, histogram.high + half];
  const x = (value) => ((value - low) / (high - low)) * WIDTH;
  const edge = (bin) => x(left + ((right - left) * bin) / bins.length);
  const most = max(1, ...bins);
  const top = (n) => HEIGHT - (n ? max(1.5, heightOf(n, most, isLog) * (HEIGHT - 4)) : 0);
  const outline = bins.map((n, bin) => `L${edge(bin).toFixed(1)} ${top(n).toFixed(1)}L${edge(bin + 1).toFixed(1)} ${top(n).toFixed(1)}`);
  const marked = path("nm-hist-marked", "");
  const svg = chart({
    kind: "histogram",
    label: `histogram of ${name}, ${of}; arrow keys read its counts`,
    id,
    point(share) {
      const value = low + share * (high - low);
      show(value < left || value > right ? null : min(bins.length - 1, floor(((value - left) / (right - left)) * bins.length)));
    },
    move: (by) => show(clamped((at ?? (by > 0 ? -1 : bins.length)) + by, 0, bins.length - 1)),
  }, path("nm-hist-bars", `M${x(left).toFixed(1)} ${HEIGHT}${outline.join("")}L${x(right).toFixed(1)} ${HEIGHT}z`), marked);
  const axis = block("nm-limits nm-axis", ...numbers(low, high).map((text) => inline("", text)));
  if (low < 0 && high > 0) {
    svg.append(path("nm-zero", `M${x(0)} 0V${HEIGHT}`));
    const share = x(0) / WIDTH;
    if (share > 0.2 && share < 0.8) {
      const zero = inline("nm-axis-zero", "0");
      zero.style.left = `${100 * share}%`;
      axis.append(zero);
    }
  }
  const says = element("output", { class: "nm-readout nm-quiet" }, of);
  let at = null;

  function show(bin) {
    at = bin;
    const isIn = bin !== null && bin >= 0 && bin < bins.length;
    says.textContent = isIn ? (isOne ? `all are ${numbers(middle)[0]}` : binText(histogram, bin)) : of;
    marked.setAttribute("d", isIn ? `M${edge(bin)} ${HEIGHT}V0H${edge(bin + 1)}V${HEIGHT}z` : "");
  }

  for (const event of ["pointerleave", "blur"]) svg.addEventListener(event, () => show(null));
  return block("", element("b", {}, name), svg, axis, says);
}

/** @returns {SVGElement} the bars of so many bins as small as in a row of the table */
export const smallBars = (d, bins) => element("svg", { class: "nm-small-hist", viewBox: `0 0 ${6 * bins + 2} 16`, preserveAspectRatio: "none", "aria-hidden": "true" },
  element("path", { d }));

/** @returns {SVGElement} a parameter's histogram */
export function smallHistogram({ counts, low, high }) {
  const most = max(1, ...counts);
  const zero = low < 0 && high > 0 ? round((-low / (high - low)) * counts.length) : -1;
  return smallBars(barsPath(counts.map((n) => (255 * n) / most), 0, counts.length, zero), counts.length);
}
