// Errors on a logarithmic scale, 62 wide from 1e-8 to 1.
import assert from "node:assert/strict";
import { test } from "node:test";
import { errorPath } from "../../nnmagic/widget/static/histogram.js";

test("an error is a bar on a logarithmic scale, with a tick where its bound lies", () => {
  assert.equal(errorPath(1e-4, NaN), "M0 6h31v5h-31z");
  assert.equal(errorPath(1, 1e-4), "M0 6h62v5h-62zM30 1h1v14h-1z");
  assert.deepEqual([errorPath(Infinity, NaN), errorPath(1e-30, NaN)], ["M0 6h62v5h-62z", "M0 6h1v5h-1z"]);
});

test("no error, and an unknown one, draw nothing", () => {
  assert.deepEqual([errorPath(0, 1e-4), errorPath(NaN, 1e-4)], ["", ""]);
});
