// A residual block inside a network:  0 root · 1 a · 2 block · 3 block.x · 4 block.y · 5 block.add · 6 head
import assert from "node:assert/strict";
import { test } from "node:test";
import { createLanes, lanesOf, lanesWidth, linesPath, runsAt, runsOf } from "../../nnmagic/widget/static/lanes.js";
import { familyOf, shownRows } from "../../nnmagic/widget/static/rows.js";

const none = (count) => new Int32Array(count).fill(-1);
const column = { values: none(7), edges: Uint32Array.of(1, 3, 3, 4, 1, 5, 4, 5, 5, 6), lanes: 2 };
const level = [0, 1, 1, 2, 2, 2, 1];
const family = familyOf(level);

function places(...folded) {
  const table = { count: level.length, ...family };
  const rows = shownRows(table, { folded: level.map((_, row) => (folded.includes(row) ? 1 : 0)), matches: null, order: null });
  const found = new Int32Array(level.length).fill(-1);
  rows.forEach((row, place) => { found[row] = place; });
  return [found, rows.length];
}

const shown = (...folded) => runsOf(column, family, ...places(...folded));

test("a lane runs from what was made to the last row that gets it", () => {
  const { below, taken, marks } = shown();
  assert.deepEqual([...below], [0n, 1n, 1n, 3n, 3n, 1n, 0n]);
  assert.deepEqual([...taken], [0n, 0n, 0n, 1n, 2n, 3n, 1n]);
  assert.deepEqual([...marks], [-1, 0, -1, 1, 1, 0, 0]);
});

test("a folded row stands for what is inside", () => {
  const { runs, marks, below } = shown(2);
  assert.deepEqual(runs, [{ from: 1, to: 2, lane: 0 }, { from: 2, to: 3, lane: 0 }]);
  assert.deepEqual([...marks], [-1, 0, 0, 0]);
  assert.deepEqual([...below], [0n, 1n, 1n, 0n]);
  assert.deepEqual(shown(0).runs, []);
});

test("what calls in one folded row make for those in another runs once", () => {
  const each = { values: none(8), edges: Uint32Array.of(1, 5, 2, 6, 3, 7) };
  const parents = Int32Array.of(-1, 0, 0, 0, -1, 4, 4, 4);
  const { runs, below } = runsOf(each, { parents }, Int32Array.of(0, -1, -1, -1, 1, -1, -1, -1), 2);
  assert.deepEqual([runs, [...below]], [[{ from: 0, to: 1, lane: 0 }], [1n, 0n]]);
});

test("what is lit up are the runs that begin or end in a row", () => {
  assert.deepEqual(runsAt(shown(), 5).map(({ from, to }) => [from, to]), [[1, 5], [4, 5], [5, 6]]);
  assert.deepEqual(runsAt(shown(), 2), []);
});

test("the rows at the other ends are found from the nearest on", () => {
  const lanes = createLanes();
  lanes.show(column, family, ...places());
  assert.deepEqual([lanes.ends(5, true), lanes.ends(1, false), lanes.ends(6, false)], [[4, 1], [3, 5], []]);
  lanes.show(column, family, null, 7);
  assert.deepEqual(lanes.ends(5, true), []);
});

test("a row that returns what it got lies on its lane", () => {
  const edges = Uint32Array.of(0, 1, 0, 2);
  const marksWhere = (...values) => runsOf({ values, edges }, { parents: Int32Array.of(-1, -1, -1) }, Int32Array.of(0, 1, 2), 3).marks;
  assert.deepEqual([marksWhere(-1, 0, -1), marksWhere(-1, -1, -1)], [[0, 0, 0], [0, 1, 0]]);
});

test("what comes from further down has no lane, and is found", () => {
  const back = { values: none(2), edges: Uint32Array.of(1, 0, 0, 1), lanes: 1 };
  const table = { parents: Int32Array.of(-1, -1) };
  const { below, used, marks } = runsOf(back, table, Int32Array.of(0, 1), 2);
  assert.deepEqual([[...below], [...used], marks], [[1n, 0n], [1, 0], [0, 0]]);
  const lanes = createLanes();
  lanes.show(back, table, Int32Array.of(0, 1), 2);
  assert.deepEqual([lanes.ends(0, true), lanes.ends(1, false)], [[1], [0]]);
});

test("lines go down, begin, end and turn to the mark", () => {
  const x = (lane) => 10 * lane;
  assert.equal(linesPath(0, { above: 1n, below: 1n, taken: 1n }, x), "M0 0V24");
  assert.equal(linesPath(0, { above: 0n, below: 1n, taken: 0n }, x), "M0 12V24");
  assert.equal(linesPath(0, { above: 3n, below: 1n, taken: 3n }, x), "M0 0V24M10 0Q10 12 0 12");
  assert.equal(linesPath(1, { above: 1n, below: 3n, taken: 1n }, x), "M0 0V24M0 0Q0 12 10 12M10 12V24");
});

test("a straight chain of folded rows is a straight line, whatever lanes are inside them", () => {
  // 0 a · 1 block · 2 block.x · 3 block.y, beside which goes a's output · 4 block.z, of both · 5 b, which gets y's
  const edges = Uint32Array.of(0, 2, 2, 3, 0, 3, 0, 4, 3, 5, 3, 4);
  const table = { parents: Int32Array.of(-1, -1, 1, 1, 1, -1) };
  const values = none(6);
  assert.equal(lanesOf({ values, edges }), 2);
  const { marks, runs } = runsOf({ values, edges }, table, Int32Array.of(0, 1, -1, -1, -1, 2), 3);
  assert.deepEqual([marks, runs.map(({ from, to }) => [from, to])], [[0, 0, 0], [[0, 1], [1, 2]]]);
});

test("many lanes stand closer, and all are drawn", () => {
  const many = (count) => ({ values: none(count + 1), edges: Uint32Array.from({ length: 2 * count }, (_, i) => (i % 2 ? count : i / 2)) });
  assert.deepEqual([1, 2, 9, 200].map((count) => lanesWidth({ lanes: lanesOf(many(count)) })), [2, 4, 16, 72]);
  const { below, taken } = runsOf(many(40), { parents: none(41) }, Int32Array.from({ length: 41 }, (_, row) => row), 41);
  assert.deepEqual([below[39], taken[40]], [2n ** 40n - 1n, 2n ** 40n - 1n]);
  assert.equal(linesPath(0, { above: below[39], below: 0n, taken: taken[40] }, (lane) => lane).match(/M/g).length, 40);
});
