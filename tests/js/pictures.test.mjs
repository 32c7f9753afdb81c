// Colours, pooling, and where the parts of a picture go.
import assert from "node:assert/strict";
import { test } from "node:test";
import { colorAt, mapEnds, oddness, placeOf, pooled } from "../../nnmagic/widget/static/colors.js";
import { barsPath, layoutOf, trueIndex, valueAt } from "../../nnmagic/widget/static/pictures.js";

test("a diverging map is centred on zero", () => {
  const ends = mapEnds({ low: -1, high: 3, diverging: true });
  assert.deepEqual(ends, [-3, 3]);
  assert.equal(placeOf(0, ends), 0.5);
  assert.deepEqual(colorAt(true, 0.5), [247, 247, 247]);
  assert.deepEqual(mapEnds({ low: 1, high: 3, diverging: false }), [1, 3]);
});

test("odd values are told apart", () => {
  assert.deepEqual([NaN, Infinity, -Infinity, 2, -2, 0].map((value) => oddness(value, [-1, 1])), ["nan", "+inf", "-inf", "above", "below", ""]);
});

test("pooling keeps NaN before Inf before the largest absolute value", () => {
  const values = [1, -5, 2, 3, /**/ 0, NaN, Infinity, 9, /**/ Infinity, 1, 2, -4, /**/ 1, 1, 3, 1];
  const area = { start: 0, rows: 4, columns: 4, rowStride: 4 };
  assert.deepEqual([...pooled(values, area, 2, 2)], [5, 6, 8, 11]);
  assert.deepEqual([...pooled(values, area, 4, 4)], [...values.keys()]);
});

const convolution = { kind: "channels", shape: [2, 6, 4, 4], steps: [16, 4, 1, 1], full: [32, 24, 4, 4], axes: ["batch", "channel", "row", "column"], values: new Float32Array(192) };

test("tiles begin at their channel of the chosen item", () => {
  const layout = layoutOf(convolution, 300, [1], 0);
  assert.deepEqual(layout.boxes.map((box) => box.start), [96, 112, 128, 144, 160, 176]);
  assert.deepEqual(layout.boxes.map((box) => box.title), ["0", "4", "8", "12", "16", "20"]);
  assert.ok(layout.boxes.every((box) => box.x >= 0 && box.x + box.w <= 300.01 && box.y + box.h <= layout.height));
});

test("every part of a picture fits its width, whatever the shape", () => {
  for (const kind of ["bars", "matrix", "channels", "heads"]) {
    for (const shape of [[], [1], [7], [3, 500], [1, 1, 9], [2, 300, 3, 1]]) {
      for (const width of [120, 600]) {
        const leading = shape.slice(0, Math.max(0, shape.length - { bars: 1, matrix: 2, channels: 3, heads: 3 }[kind])).map(() => 0);
        const { boxes, height } = layoutOf({ kind, shape, steps: shape.map(() => 1), axes: [] }, width, leading, 0);
        assert.ok(boxes.length > 0);
        for (const box of boxes) assert.ok(box.x + box.w <= width + 0.01 && box.y + box.h <= height + 0.01 && box.w > 0 && box.h > 0, `${kind} ${shape} ${width}`);
      }
    }
  }
});

test("the index under the pointer is that of the whole tensor", () => {
  assert.deepEqual(trueIndex(convolution, 96 + 2 * 16 + 4 + 3), [16, 8, 1, 3]);
  assert.equal(valueAt(convolution, 99), "batch 16, channel 0, row 0, column 3: 0");
  assert.equal(valueAt({ kind: "bars", shape: [1, 2], steps: [1, 1], axes: ["batch", "class"], names: ["Bag", "Coat"], values: [1, 0.25] }, 1), "Coat, batch 0, class 1: 0.25");
});

test("a histogram's path has a tick at zero and no bar for an empty bin", () => {
  assert.equal(barsPath([255, 0, 1], 0, 3, 1), "M6.5 0h1v16h-1zM0 16v-15h5v15zM14 16v-1h5v1z");
  assert.equal(barsPath([0, 0], 0, 2, -1), "");
});
