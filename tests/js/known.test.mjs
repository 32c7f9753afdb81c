import assert from "node:assert/strict";
import { test } from "node:test";
import { knownOf } from "../../nnmagic/widget/static/known.js";

const table = {
  message: { 1: "FAILED inside" },
  columns: [
    { key: "type", title: "type", kind: "text", strings: ["Linear", ""], index: [0, 1] },
    { key: "mean", title: "mean ± std", kind: "pair", joiner: "±", first: [0.25, 0], second: [0.5, 0] },
    { key: "histogram", title: "histogram", kind: "histogram", values: new Uint8Array(20).fill(255, 0, 2), zero: [-1, -1] },
    { key: "trend", title: "iterations", kind: "histogram", values: new Uint8Array(20).fill(17, 3, 4), zero: [-1, -1] },
    { key: "none", title: "none", kind: "histogram", values: new Uint8Array(20), zero: [-1, -1] },
    { key: "zeros", title: "zeros", kind: "share", values: [0.5, NaN] },
    { key: "flags", title: "flags", kind: "text", strings: [""], index: [0, 0] },
  ],
};

test("what is known of a row are its cells that say something, its histogram and its history", () => {
  assert.deepEqual(knownOf(table, 0), [["type", "Linear"], ["mean ± std", "0.250 ± 0.500"],
    ["histogram", "", "M0 16v-15h5v15zM6 16v-15h5v15z"], ["iterations", "", "M18 16v-1h5v1z"], ["zeros", "50 %"]]);
});

test("of a row that failed it is that", () => {
  assert.deepEqual(knownOf(table, 1), [["", "FAILED inside"]]);
});
