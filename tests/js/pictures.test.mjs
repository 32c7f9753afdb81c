// Colours, pooling, and where the parts of a picture go.
import assert from "node:assert/strict";
import { test } from "node:test";
import { colorAt, mapEnds, oddness, placeOf, pooled } from "../../nnmagic/widget/static/colors.js";
import { barsPath, binText, commonLimits, heightOf } from "../../nnmagic/widget/static/histogram.js";
import { layoutOf, oddText, trueIndex, valueAt } from "../../nnmagic/widget/static/pictures.js";
import { statisticTexts } from "../../nnmagic/widget/static/panel.js";
import { writtenRows } from "../../nnmagic/widget/static/written.js";

test("a diverging map is centred on zero", () => {
  const ends = mapEnds({ low: -1, high: 3, diverging: true });
  assert.deepEqual(ends, [-3, 3]);
  assert.equal(placeOf(0, ends), 0.5);
  assert.deepEqual(colorAt("diverging", 0.5), [247, 247, 247]);
  assert.deepEqual(mapEnds({ low: 1, high: 3, diverging: false }), [1, 3]);
  assert.equal(placeOf(1.7e308, [-1.7e308, 1.7e308]), 1);
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
  for (const kind of ["bars", "matrix", "mask", "grey", "channels", "heads"]) {
    for (const shape of [[], [1], [7], [3, 500], [1, 1, 9], [2, 300, 3, 1]]) {
      for (const width of [120, 600]) {
        const leading = shape.slice(0, Math.max(0, shape.length - ({ bars: 1, matrix: 2, mask: 2, grey: 2 }[kind] ?? 3))).map(() => 0);
        const { boxes, height } = layoutOf({ kind, shape, steps: shape.map(() => 1), axes: [] }, width, leading, 0);
        assert.ok(boxes.length > 0);
        for (const box of boxes) assert.ok(box.x + box.w <= width + 0.01 && box.y + box.h <= height + 0.01 && box.w > 0 && box.h > 0, `${kind} ${shape} ${width}`);
      }
    }
  }
});

test("one map that is very long or very wide can be seen, and any other keeps its proportions", () => {
  for (const kind of ["channels", "grey", "rgb", "kernels", "heads"]) {
    const sides = (rows, columns) => {
      const shape = kind === "grey" ? [rows, columns] : kind === "rgb" || kind === "kernels" ? [1, 3, rows, columns] : [1, 1, rows, columns];
      const { boxes: [{ w, h }], height } = layoutOf({ kind, shape, steps: shape.map(() => 1), axes: [] }, 600, shape.map(() => 0), 0);
      assert.equal(h, height);
      return [w, h];
    };
    assert.deepEqual(sides(1, 3992), [600, 12], kind);
    assert.deepEqual(sides(22, 1000), [600, 56], kind);
    assert.deepEqual(sides(3992, 1), [12, 330], kind);
    assert.deepEqual(sides(1000, 22), [56, 330], kind);
    assert.deepEqual(sides(2, 3), [36, 24], kind);
    assert.deepEqual(sides(28, 28), [330, 330], kind);
  }
});

test("the index under the pointer is that of the whole tensor", () => {
  assert.deepEqual(trueIndex(convolution, 96 + 2 * 16 + 4 + 3), [16, 8, 1, 3]);
  assert.equal(valueAt(convolution, 99), "batch 16, channel 0, row 0, column 3: 0");
  assert.equal(valueAt({ kind: "bars", shape: [1, 2], steps: [1, 1], axes: ["batch", "class"], names: ["Bag", "Coat"], values: [1, 0.25] }, 1), "Coat, batch 0, class 1: 0.25");
});

test("what is odd is said with its cell and counted, in the whole tensor too where that has more", () => {
  const sparse = { kind: "channels", shape: [1, 1, 2, 2], steps: [1, 1, 4, 3], full: [1, 1, 8, 6], axes: ["batch", "channel", "row", "column"], values: Float32Array.of(1, 2, NaN, 3) };
  assert.equal(valueAt(sparse, 2), "batch 0, channel 0, row 4, column 0: NaN in the 4 × 3 values from here");
  assert.equal(valueAt({ ...sparse, steps: [1, 1, 1, 1] }, 2), "batch 0, channel 0, row 1, column 0: NaN");
  assert.equal(valueAt(sparse, 3), "batch 0, channel 0, row 4, column 3: 3");
  const said = (odd) => oddText({ ...sparse, odd }, [1, 3]).replaceAll("\u00a0", " ").split("\u2002");
  assert.deepEqual(said([9, 0, 1200]), ["× NaN: 1 (9 in all)", "− -Inf: 0 (1,200 in all)"]);
  for (const odd of [[1, 0, 0], [], undefined]) assert.deepEqual(said(odd), ["× NaN: 1"]);
  assert.equal(oddText({ values: [1, 2], odd: [0, 0, 0] }, [1, 3]), "");
});

test("a histogram's path has a tick at zero and no bar for an empty bin", () => {
  assert.equal(barsPath([255, 0, 1], 0, 3, 1), "M6.5 0h1v16h-1zM0 16v-15h5v15zM14 16v-1h5v1z");
  assert.equal(barsPath([0, 0], 0, 2, -1), "");
});

const photo = { kind: "rgb", shape: [1, 3, 2, 2], steps: [1, 1, 1, 1], full: [1, 3, 2, 2], axes: ["batch", "channel", "row", "column"], values: Float32Array.from({ length: 12 }, (_, i) => i) };

test("a photograph is one picture of three planes, and a kernel a tile of them", () => {
  const { boxes, tiles } = layoutOf(photo, 300, [0], 0);
  assert.equal(tiles, 1);
  assert.equal(boxes[0].w, boxes[0].h);
  assert.equal(valueAt(photo, 3), "batch 0, row 1, column 1: 3, 7, 11");
  const kernels = layoutOf({ ...photo, kind: "kernels", shape: [5, 3, 2, 2] }, 300, [], 0);
  assert.deepEqual(kernels.boxes.map((box) => box.start), [0, 12, 24, 36, 48]);
});

test("a picture keeps its proportions, also where its axes were sampled by other steps", () => {
  const map = { kind: "channels", shape: [1, 1, 28, 14], steps: [1, 1, 1, 2], full: [1, 1, 28, 28], axes: [] };
  for (const shape of [[1, 1, 28, 14], [1, 9, 28, 14]]) {
    for (const width of [150, 300, 900]) {
      for (const box of layoutOf({ ...map, shape }, width, [0], 0).boxes) assert.ok(Math.abs(box.w - box.h) < 0.01, `${shape} ${width}`);
    }
  }
  const [weight] = layoutOf({ kind: "matrix", shape: [128, 112], steps: [4, 7], full: [512, 784], axes: [] }, 300, [], 0).boxes;
  assert.ok(Math.abs(weight.w / weight.h - 784 / 512) < 0.01);
});

test("a mask reads as true and false", () => {
  const mask = { kind: "mask", shape: [1, 2], steps: [1, 1], full: [1, 2], axes: ["query", "key"], values: Float32Array.of(1, 0) };
  assert.deepEqual([0, 1].map((at) => valueAt(mask, at)), ["query 0, key 0: True", "query 0, key 1: False"]);
});

test("histograms share an axis only where none is squeezed to less than a fifth", () => {
  assert.deepEqual(commonLimits([{ low: 0, high: 1 }, { low: -1, high: 3 }]), [-1, 3]);
  assert.equal(commonLimits([{ low: 0, high: 1 }, { low: 0, high: 6 }]), null);
  assert.equal(commonLimits([{ low: 0, high: 1 }, { low: 100, high: 101 }]), null);
  assert.equal(commonLimits([{ low: 0, high: 1 }]), null);
  assert.equal(commonLimits([{ low: 1, high: 1 }, { low: 1, high: 1 }]), null);
});

test("a bin tells its limits and its count, and a logarithm lifts the rare", () => {
  assert.equal(binText({ counts: [30, 10], low: 0, high: 1 }, 1), "0.500 … 1.000: 10 of 40 (25.0 %)");
  assert.equal(heightOf(1, 100, false), 0.01);
  assert.ok(heightOf(1, 100, true) > 0.1);
  assert.equal(heightOf(100, 100, true), 1);
});

test("integers are written out in rows, and what is left out is said", () => {
  assert.deepEqual(writtenRows({ shape: [2, 2], values: [1, 20, 300, 4] }), { lines: ["  1  20", "300   4"], left: "" });
  assert.deepEqual(writtenRows({ shape: [1, 3], values: [1, 20, 0.5] }).lines, ["1 20 0.5"]);
  assert.deepEqual(writtenRows({ shape: [2], values: [5.9819043597117595e29, 123456792] }).lines, ["5.981904e+29 123456792"]);
  const { lines, left } = writtenRows({ shape: [20, 1], values: Array(20).fill(16777217) });
  assert.equal(lines.length, 16);
  assert.equal(left, "the first 16 of 20 rows");
  assert.deepEqual(lines[0], "16777217");
});

test("what comes as texts is written as it came", () => {
  const names = ["4611686018427387905", "-5", "3", "0"];
  assert.deepEqual(writtenRows({ shape: [2, 2], values: Float64Array.of(2 ** 62, -5, 3, 0), names }).lines, ["4611686018427387905                  -5", "                  3                   0"]);
});

test("an integer has all its digits in the statistics only where they are true", () => {
  assert.deepEqual(statisticTexts({ min: -5, max: 16777217 }, "int64").slice(0, 2), ["-5", "16,777,217"]);
  assert.deepEqual(statisticTexts({ min: -5, max: 2 ** 62 }, "int64").slice(0, 2), ["-5.00e+00", "4.61e+18"]);
});
