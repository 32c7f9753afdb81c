import assert from "node:assert/strict";
import { test } from "node:test";
import { linePath, scalesOf } from "../../nnmagic/widget/static/curves.js";

const curve = { iterations: [10, 20, 30], values: [1, null, 100], low: [], high: [], is_log: true, mark: null };

test("a logarithmic curve goes from its least value to its greatest, with a gap where it is unknown", () => {
  const scales = scalesOf({ ...curve, values: [1, 10, 100] });
  assert.deepEqual(scales.ends, [1, 100]);
  assert.deepEqual([10, 20, 30].map(scales.x), [0, 160, 320]);
  assert.deepEqual([1, 10, 100].map((value) => Math.round(scales.y(value))), [61, 32, 3]);
  assert.equal(linePath(curve.iterations, curve.values, scalesOf(curve)), "M0.0 61.0M320.0 3.0");
});

test("a zero on a logarithmic axis lies at its lower end", () => {
  const { y } = scalesOf({ ...curve, values: [0, 1, 100] });
  assert.equal(y(0), 61);
});

test("the axis holds the band and the mark too", () => {
  assert.deepEqual(scalesOf({ ...curve, values: [1, 2, 3], low: [0.5, 1, 2], high: [2, 3, 5], mark: 0.25 }).ends, [0.25, 5]);
});
