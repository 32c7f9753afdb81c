import assert from "node:assert/strict";
import { test } from "node:test";
import { asMarkdown, asText, asTsv } from "../../nnmagic/widget/static/copying.js";

const bars = (...values) => Uint8Array.from([...values, ...Array(10 - values.length).fill(0)]);
const columns = [
  { key: "type", title: "type", kind: "text", always: true, strings: ["", "Linear"], index: [0, 1, 1] },
  { key: "mean", title: "mean ± std", kind: "pair", joiner: "±", first: [0.25, -0.5, NaN], second: [1.5, 0.125, NaN] },
  { key: "histogram", title: "histogram", kind: "histogram", values: Uint8Array.of(...bars(255, 1), ...bars(0, 128, 255), ...bars()), zero: [1, -1, -1] },
  { key: "params", title: "parameters", kind: "count", values: [1234567, 42, NaN], texts: {} },
];
const table = {
  title: "layer", level: [0, 1, 1], labels: ["net", "a|b", "out"], label: [0, 1, 2], names: ["", "a|b", "out"], name: [0, 1, 2],
  message: { 2: "FAILED got (1, 4)" },
};
const view = { table, columns, rows: [0, 1, 2], isFlat: false };

test("a text has its columns one below the other", () => {
  assert.equal(asText(view), [
    "layer  type        mean ± std  histogram    parameters",
    "net             0.250 ± 1.500  █|▁              1.23 M",
    "  a|b  Linear  -0.500 ± 0.125   ▄█                  42",
    "  out  Linear  FAILED got (1, 4)",
  ].join("\n"));
});

test("what is copied is what shows: those rows, in that order, those columns, full names where it is flat", () => {
  assert.equal(asText({ table, columns: columns.slice(0, 1), rows: [1, 0], isFlat: true }), "layer  type\na|b    Linear\nnet");
});

test("the root of a tree goes by its label, which tells it from others of one name", () => {
  const trees = {
    table: { ...table, level: [0, 1, 0], labels: ["net(x) (line 2)", "0", "net(x) (line 3)"], names: ["net", "net:0"], name: [0, 1, 0], message: {} },
    columns: columns.slice(0, 1), rows: [0, 1, 2], isFlat: true,
  };
  const first = (text) => text.split("\n").slice(-3).map((line) => line.replace(/^\| /, "").split(/ \||\t| {2}/)[0]);
  for (const copy of [asText, asMarkdown, asTsv]) assert.deepEqual(first(copy(trees)), ["net(x) (line 2)", "net:0", "net(x) (line 3)"]);
});

test("Markdown has a line a row, and escapes what would end a cell", () => {
  assert.deepEqual(asMarkdown(view).split("\n"), [
    "| layer | type | mean ± std | histogram | parameters |",
    "| --- | --- | ---: | --- | ---: |",
    "| net |  | 0.250 ± 1.500 | █\\|▁ | 1.23 M |",
    "| a\\|b | Linear | -0.500 ± 0.125 | ▄█ | 42 |",
    "| out | Linear | FAILED got (1, 4) |  |  |",
  ]);
});

test("Markdown escapes what Python's escapes", () => {
  const names = ["\\`*_~$&<>|[]"];
  const view = { table: { title: "layer", level: [0], labels: names, label: [0], names, name: [0] }, columns: [], rows: [0], isFlat: true };
  assert.equal(asMarkdown(view).split("\n").at(-1), "| \\\\\\`\\*\\_\\~\\$\\&\\<\\>\\|\\[\\] |");
});

test("TSV has numbers in full, and two columns of a pair", () => {
  assert.deepEqual(asTsv(view).split("\n").map((line) => line.split("\t")), [
    ["layer", "type", "mean", "std", "histogram", "parameters"],
    ["net", "", "0.25", "1.5", "█|▁        ", "1234567"],
    ["a|b", "Linear", "-0.5", "0.125", " ▄█       ", "42"],
    ["out", "Linear", "FAILED got (1, 4)"],
  ]);
});
