// A trace's columns in 7-pixel characters: what leaves, what is cut, and who gets the room that is left.
import assert from "node:assert/strict";
import { test } from "node:test";
import { cellText, distinctEnds, fitted, measured } from "../../nnmagic/widget/static/columns.js";

const flag = "4 NaN, made here from values in -0.062 … 0.508";
const all = [
  { key: "type", title: "type", kind: "text", priority: 3, narrowest: null, strings: ["BatchNorm2d", "NonDynamicallyQuantizableLinear"], index: [0, 0, 1] },
  { key: "shape", title: "shape", kind: "text", priority: 0, narrowest: 22, strings: ["(1, 64, 112, 112)"], index: [0, 0, 0] },
  { key: "mean", title: "mean ± std", kind: "pair", priority: 1, first: [0.5, NaN], second: [-0.1, NaN] },
  { key: "zeros", title: "zeros", kind: "share", priority: 5, values: [0.5, 1] },
  { key: "flags", title: "flags", kind: "flags", priority: 0, narrowest: null, strings: ["", flag], index: [0, 1, 0] },
].map((column) => measured(column, false, [0, 1]));
const options = { tree: 22, least: 28, character: 7, wanted: new Set() };
const at = (room, more = {}) => fitted(all, { ...options, room, ...more });
const keys = ({ shown }) => shown.map(({ column }) => column.key);
const widths = ({ tree, shown }) => [tree, ...shown.map(({ width }) => width)];

test("where nothing is known of the room all columns show", () => {
  assert.deepEqual(keys(at(0)), ["type", "shape", "mean", "zeros", "flags"]);
});

test("a column is as wide as the texts of the rows that show, or as its title", () => {
  assert.deepEqual(all.map(({ full }) => full), [11, 17, 14, 7, flag.length + 3]);
});

test("where no row is flagged there is no room for a mark", () => {
  assert.equal(measured(all.at(-1).column, false, [0, 1], false).full, flag.length);
});

test("columns leave by priority, and layer, shape, mean and flags stay longest", () => {
  assert.deepEqual(keys(at(940)), ["type", "shape", "mean", "zeros", "flags"]);
  assert.deepEqual(keys(at(900)), ["type", "shape", "mean", "flags"]);
  for (const room of [780, 600, 400]) assert.deepEqual(keys(at(room)), ["shape", "mean", "flags"]);
});

test("no flag is cut beside blank space, and it is cut only where no column is left to leave", () => {
  for (let room = 300; room < 1200; room += 7) {
    const found = at(room);
    assert.ok(found.shown.length === 3 || found.shown.at(-1).width === flag.length + 3, `${room}: cut beside a column that could leave`);
    const used = 32 + 7 * widths(found).reduce((sum, width) => sum + width) + 12 * found.shown.length;
    const { width, full } = found.shown.at(-1);
    assert.ok(width === full || room - used < 7 || room < used, `${room}: ${width} of ${full}, ${used} used`);
  }
});

test("a narrow column comes back where a wide one left room", () => {
  const [type, ...others] = all;
  const narrow = { column: { key: "n", priority: 6 }, parts: [2], full: 2, least: 2 };
  assert.deepEqual(keys(fitted([type, ...others, narrow], { ...options, room: 820 })), ["shape", "mean", "flags", "n"]);
});

test("a column that was asked for stays, and others leave in its place", () => {
  assert.deepEqual(keys(at(780, { wanted: new Set(["zeros"]) })), ["shape", "mean", "zeros", "flags"]);
});

test("long names give way to columns, and get what is left", () => {
  assert.deepEqual(widths(at(700, { tree: 60 })), [28, 17, 14, 31]);
  for (const tree of [60, 160]) assert.equal(at(2200, { tree }).tree, tree);
});

test("names keep so much that their ends differ, and other columns leave for that", () => {
  const names = ["block.0", "block.1"].flatMap((block) => [`${block}.attention.projection.query.bias`, `${block}.mlp.bias`]);
  const least = distinctEnds(new Set(names));

  assert.equal(least, "…0.attention.projection.query.bias".length);
  assert.equal(distinctEnds(new Set(names.slice(1))), 28);
  assert.deepEqual(widths(at(760, { tree: 80, least })), [least, 17, 14, 98 - least - 31]);
});

const error = (key, priority) => ({ key, title: `${key} error`, kind: "error", priority, values: [0.1, 0.2], bounds: [0.5, 0.5] });
const compared = [
  error("output", 0),
  error("own", 0),
  error("other", 3),
  { key: "flags", title: "flags", kind: "flags", priority: 0, narrowest: null, strings: ["within rounding"], index: [0, 0] },
].map((column) => measured(column, false, [0, 1]));

test("errors lose their bars before a flag is cut, and after other columns have left", () => {
  const shown = (room) => fitted(compared, { ...options, tree: 14, room }).shown.map(({ column: { key }, width }) => [key, width]);

  assert.deepEqual(shown(670), [["output", 17], ["own", 17], ["other", 17], ["flags", 18]]);
  assert.deepEqual(shown(600), [["output", 17], ["own", 17], ["flags", 18]]);
  assert.deepEqual(shown(500), [["output", 17], ["own", 11], ["flags", 18]]);
  assert.deepEqual(shown(470), [["output", 14], ["own", 11], ["flags", 18]]);
  assert.deepEqual(shown(440), [["output", 14], ["own", 11], ["flags", 16]]);
});

test("integers of a pair are written as they came, and stand below the others", () => {
  const column = { key: "range", kind: "pair", title: "min … max", joiner: "…", first: [5, -0.5], second: [2981, 0.25], texts: { 0: "5 … 2,981" } };
  const { parts } = measured(column, false, [0, 1]);

  assert.equal(cellText({ ...column, parts }, 0), "     5 … 2,981");
  assert.equal(cellText({ ...column, parts }, 1), "-0.500 … 0.250");
});
