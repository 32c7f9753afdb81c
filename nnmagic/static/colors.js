// Colour maps that the colour-blind can read, and the pooling that lets nothing odd vanish.

const DIVERGING = [[20, 60, 130], [80, 150, 210], [247, 247, 247], [236, 145, 50], [140, 55, 0]];
const SEQUENTIAL = [[68, 1, 84], [65, 68, 135], [42, 120, 142], [34, 168, 132], [122, 209, 81], [253, 231, 37]];
export const NAN_COLOR = [200, 0, 200];
const INF_COLOR = [0, 0, 0];

/** @param {boolean} diverging @param {number} t in 0..1 @returns {number[]} red, green, blue */
export function colorAt(diverging, t) {
  const anchors = diverging ? DIVERGING : SEQUENTIAL;
  const place = Math.min(1, Math.max(0, t)) * (anchors.length - 1);
  const from = Math.min(anchors.length - 2, Math.floor(place));
  return anchors[from].map((low, i) => Math.round(low + (place - from) * (anchors[from + 1][i] - low)));
}

/**
 * The map as 256 pixels, then those of Inf and NaN, as a canvas stores them.
 * @param {boolean} diverging @returns {Uint32Array}
 */
export function pixelTable(diverging) {
  const colors = Array.from({ length: 256 }, (_, i) => colorAt(diverging, i / 255));
  return new Uint32Array(Uint8Array.from([...colors, INF_COLOR, NAN_COLOR].flatMap((color) => [...color, 255])).buffer);
}

/** @param {number[]} color @returns {string} as CSS writes it */
export const cssColor = (color) => `rgb(${color.join(",")})`;

/** @param {boolean} diverging @returns {string} the map from left to right as a CSS gradient */
export function gradient(diverging) {
  const anchors = diverging ? DIVERGING : SEQUENTIAL;
  return `linear-gradient(to right, ${anchors.map(cssColor).join(", ")})`;
}

/**
 * The ends of the colour map: a diverging one is centred on zero, whatever the limits.
 * @param {{low: number, high: number, diverging: boolean}} limits the robust ones
 * @returns {[number, number]}
 */
export function mapEnds({ low, high, diverging }) {
  if (!diverging) return [low, high];
  const most = Math.max(Math.abs(low), Math.abs(high));
  return [-most, most];
}

/** @returns {number} where a value lies between the ends of the map, clipped to 0..1 */
export function placeOf(value, [low, high]) {
  return high > low ? Math.min(1, Math.max(0, (value - low) / (high - low))) : 0.5;
}

/** @returns {""|"nan"|"+inf"|"-inf"|"above"|"below"} what a colour alone would not say */
export function oddness(value, [low, high]) {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "+inf" : "-inf";
  if (value > high) return "above";
  return value < low ? "below" : "";
}

function weight(value) {
  if (Number.isNaN(value)) return Infinity;
  return Number.isFinite(value) ? Math.abs(value) : Number.MAX_VALUE;
}

/**
 * Choose for each cell of a smaller grid the value that stands for those it covers:
 * NaN before Inf before the largest absolute value.
 * @param {ArrayLike<number>} values
 * @param {{start: number, rows: number, columns: number, rowStride: number, columnStride: number}} area
 * @param {number} height rows of the smaller grid @param {number} width its columns
 * @returns {Int32Array} indices into values, row by row
 */
export function pooled(values, area, height, width) {
  const { start, rows, columns, rowStride, columnStride } = area;
  const chosen = new Int32Array(height * width);
  for (let y = 0; y < height; y++) {
    const [top, bottom] = [Math.floor((y * rows) / height), Math.floor(((y + 1) * rows) / height)];
    for (let x = 0; x < width; x++) {
      const [left, right] = [Math.floor((x * columns) / width), Math.floor(((x + 1) * columns) / width)];
      let [best, most] = [start + top * rowStride + left * columnStride, -1];
      for (let row = top; row < bottom; row++) {
        for (let column = left; column < right; column++) {
          const i = start + row * rowStride + column * columnStride;
          const own = weight(values[i]);
          if (own > most) [best, most] = [i, own];
        }
      }
      chosen[y * width + x] = best;
    }
  }
  return chosen;
}
