import assert from "node:assert/strict";
import { test } from "node:test";
import { createPoints } from "../../nnmagic/widget/static/points.js";
import { placeIn } from "../../nnmagic/widget/static/curves.js";

const bytes = (numbers) => new DataView(Float32Array.from(numbers).buffer);
const table = { count: 2, names: ["net", "0"], name: [0, 1], parents: [-1, 0], labels: [], label: [] };
const curves = [{ title: "mean", is_log: false, mark: null }, { title: "weight.update ratio", is_log: true, mark: 1e-3 }];
const point = (iteration) => ({ iteration, curves, values: 0, low: 1, high: 2 });
const buffers = (n) => [bytes([n, NaN, 2 * n, 0.5 ** n]), bytes([NaN, n]), bytes([NaN, 3 * n])];

test("points become the curves of the row of a key, the first one with its band", () => {
  const points = createPoints();
  for (const n of [1, 2]) points.add(table, point(10 * n), buffers(n));

  assert.deepEqual(points.curves(table, 1), [
    { ...curves[0], iterations: [10, 20], values: [2, 4], low: [1, 2], high: [3, 6] },
    { ...curves[1], iterations: [10, 20], values: [0.5, 0.25], low: [], high: [] },
  ]);
  assert.deepEqual(points.curves(table, 0).map(({ title }) => title), ["mean"]);
});

test("the points of a long loop are thinned evenly and end with the latest", () => {
  const points = createPoints();
  for (let n = 0; n < 1003; n++) points.add(table, point(n), buffers(n));

  const { iterations } = points.curves(table, 1)[0];
  assert.ok(iterations.length <= 202);
  assert.deepEqual(iterations.slice(0, 3), [0, 8, 16]);
  assert.equal(iterations.at(-1), 1002);
});

test("the rows of a later point may be others", () => {
  const points = createPoints();
  points.add(table, point(1), buffers(1));
  const two = { ...table, count: 4, names: ["other", "other:0", "net", "net:0"], name: [0, 1, 2, 3], parents: [-1, 0, -1, 2] };
  const unknown = bytes([NaN, NaN, NaN, NaN]);
  points.add(two, point(3), [bytes([0, NaN, 9, NaN, 0, NaN, 7, NaN]), unknown, unknown]);

  assert.deepEqual(points.curves(two, 3)[0].values, [2, 7]);
  assert.deepEqual(points.curves(two, 1), []);
});

test("a cursor stands at an iteration, or at the next one that is there", () => {
  const iterations = [0, 1, 2, 8, 16, 21];
  assert.deepEqual([0, 2, 3, 17, 99].map((each) => placeIn(iterations, each)), [0, 2, 3, 5, 5]);
});
