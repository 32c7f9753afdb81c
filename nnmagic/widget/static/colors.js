// Colour maps that the colour-blind can read, and the pooling that lets nothing odd vanish.
import { abs, clamped, floor, max, min, round } from "./format.js";

const MAPS = {
  diverging: [[20, 60, 130], [80, 150, 210], [247, 247, 247], [236, 145, 50], [140, 55, 0]],
  sequential: [[68, 1, 84], [65, 68, 135], [42, 120, 142], [34, 168, 132], [122, 209, 81], [253, 231, 37]],
  grey: [[0, 0, 0], [255, 255, 255]],
  mask: [[225, 225, 225], [40, 105, 175]],
};
export const NAN_COLOR = [200, 0, 200];
const INF_COLOR = [0, 0, 0];

/** @param {{kind: string, diverging: boolean}} picture @returns {string} the name of its colour map */
export const mapOf = ({ kind, diverging }) => (kind in MAPS ? kind : diverging ? "diverging" : "sequential");

/** @param {string} map its name @param {number} t in 0..1 @returns {number[]} red, green, blue */
export function colorAt(map, t) {
  const anchors = MAPS[map];
  const place = clamped(t, 0, 1) * (anchors.length - 1);
  const from = min(anchors.length - 2, floor(place));
  return anchors[from].map((low, i) => round(low + (place - from) * (anchors[from + 1][i] - low)));
}

/**
 * The map as 256 pixels, then those of Inf and NaN, as a canvas stores them.
 * @param {string} map @returns {Uint32Array}
 */
export function pixelTable(map) {
  const colors = Array.from({ length: 256 }, (_, i) => colorAt(map, i / 255));
  return new Uint32Array(Uint8Array.from([...colors, INF_COLOR, NAN_COLOR].flatMap((color) => [...color, 255])).buffer);
}

/** @param {number[]} color @returns {string} as CSS writes it */
export const cssColor = (color) => `rgb(${color.join(",")})`;

/** @param {string} map @returns {string} the map from left to right as a CSS gradient */
export const gradient = (map) => `linear-gradient(to right, ${MAPS[map].map(cssColor).join(", ")})`;

/**
 * The ends of the colour map: a diverging one is centred on zero, whatever the limits.
 * @param {{low: number, high: number, diverging: boolean}} limits the robust ones
 * @returns {[number, number]}
 */
export function mapEnds({ low, high, diverging }) {
  if (!diverging) return [low, high];
  const most = max(abs(low), abs(high));
  return [-most, most];
}

/** @returns {number} where a value lies between the ends of the map, clipped to 0..1 */
export function placeOf(value, [low, high]) {
  return high > low ? clamped((value / 2 - low / 2) / (high / 2 - low / 2), 0, 1) : 0.5;
}

/** @returns {""|"nan"|"+inf"|"-inf"|"above"|"below"} what a colour alone would not say */
export function oddness(value, [low, high]) {
  if (value >= low && value <= high) return "";
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "+inf" : "-inf";
  return value > high ? "above" : "below";
}

/** @returns {number} what goes first: NaN before Inf before the largest absolute value */
export function weight(value) {
  if (Number.isNaN(value)) return Infinity;
  return Number.isFinite(value) ? abs(value) : Number.MAX_VALUE;
}

/**
 * Choose for each cell of a smaller grid the value that stands for those it covers: the weightiest.
 * @param {ArrayLike<number>} values
 * @param {{start: number, rows: number, columns: number, rowStride: number}} area
 * @param {number} height rows of the smaller grid @param {number} width its columns
 * @param {(i: number) => number} weigh
 * @returns {Int32Array} indices into values, row by row
 */
export function pooled(values, { start, rows, columns, rowStride }, height, width, weigh = (i) => weight(values[i])) {
  const edges = (all, cells) => Array.from({ length: cells + 1 }, (_, edge) => floor((edge * all) / cells));
  const [tops, lefts] = [edges(rows, height), edges(columns, width)];
  const chosen = new Int32Array(height * width);
  for (let cell = 0; cell < chosen.length; cell++) {
    const [x, y] = [cell % width, floor(cell / width)];
    let most = -1;
    for (let row = tops[y]; row < tops[y + 1]; row++) {
      for (let column = lefts[x]; column < lefts[x + 1]; column++) {
        const i = start + row * rowStride + column;
        const own = weigh(i);
        if (own > most) [chosen[cell], most] = [i, own];
      }
    }
  }
  return chosen;
}
