// What the page keeps of a loop while it runs: the iterations that it was told of, as points of each row's curves.
import { sameRow, typed } from "./rows.js";

const MOST_POINTS = 200;

/** What the points of a loop are added to, spread evenly over its iterations however long it runs. */
export function createPoints() {
  let kept = [];
  let latest = null;
  let [seen, stride] = [0, 1];
  return {
    /** @param {object} table the rows that a point is of @param {object} point @param {DataView[]} buffers */
    add(table, { iteration, curves, values, low, high }, buffers) {
      const [all, lows, highs] = [values, low, high].map((each) => typed(buffers[each], Float32Array));
      latest = { table, iteration, curves, values: all, low: lows, high: highs };
      if (seen++ % stride === 0) kept.push(latest);
      if (kept.length <= MOST_POINTS) return;
      kept = kept.filter((_, i) => i % 2 === 0);
      stride *= 2;
    },
    /** @returns {object[]} the curves of a row of a table: those that say more than one number does */
    curves(shown, shownRow) {
      const found = new Map();
      let [table, row] = [shown, shownRow];
      for (const point of new Set([...kept, latest].filter(Boolean))) {
        if (point.table !== table) [table, row] = [point.table, sameRow(shown, shownRow, point.table)];
        if (row < 0) continue;
        for (const [i, looks] of point.curves.entries()) {
          const value = point.values[row * point.curves.length + i];
          if (!Number.isFinite(value)) continue;
          const curve = found.get(looks.title) ?? { ...looks, iterations: [], values: [], low: [], high: [] };
          found.set(looks.title, curve);
          curve.iterations.push(point.iteration);
          curve.values.push(value);
          if (i > 0 || !Number.isFinite(point.low[row])) continue;
          curve.low.push(point.low[row]);
          curve.high.push(point.high[row]);
        }
      }
      return [...found.values()].filter(({ values }) => values.some((value) => value !== values[0]));
    },
  };
}
