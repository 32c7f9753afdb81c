// A network with a block called many times:  0 root · 1 a · 2 b (many) · 3 b.x · 4 b.x · 5 head
import assert from "node:assert/strict";
import { test } from "node:test";
import { decoded, familyOf, foldedBelow, keyIn, keyOf, matchesOf, rowOf, sameRows, shownRows, sortKeys, sortedRows, typed, unfoldAbove, withValues } from "../../nnmagic/widget/static/rows.js";

const view = (array) => new DataView(array.buffer);
const level = [0, 1, 1, 2, 2, 1];

function table(changes = {}) {
  return decoded({
    count: 6, title: "layer", opened: 9, keys: { 4: "b.x#1" }, message: { 5: "FAILED" },
    level: view(Uint16Array.from(level)), labels: ["Net", "a", "b", "x", "head"], label: view(Uint32Array.of(0, 1, 2, 3, 3, 4)),
    names: ["", "a", "b", "b.x", "head"], name: view(Uint32Array.of(0, 1, 2, 3, 3, 4)),
    state: view(Uint8Array.of(0, 0, 16, 4, 0, 8)),
    columns: [
      { key: "type", kind: "text", strings: ["Net", "Linear", "Block", ""], index: view(Uint32Array.of(0, 1, 2, 1, 1, 3)) },
      { key: "zeros", kind: "share", values: view(Float32Array.of(0.5, NaN, 0.25, 0.5, 0, 1)) },
    ],
    ...changes,
  });
}
const none = { folded: new Uint8Array(6), matches: null, order: null };

test("children follow their parent", () => {
  assert.deepEqual([...familyOf(level).parents], [-1, 0, 0, 2, 2, 0]);
  assert.deepEqual([...familyOf(level).ends], [6, 2, 5, 4, 5, 6]);
});

test("bytes at an odd offset are read", () => {
  const bytes = new Uint8Array(9);
  bytes.set(new Uint8Array(Float64Array.of(1.5).buffer), 1);
  assert.deepEqual([...typed(new DataView(bytes.buffer, 1, 8), Float64Array)], [1.5]);
  assert.equal(typed(null, Uint8Array).length, 0);
});

test("a layer called many times is folded at first, and a depth unfolds it", () => {
  assert.deepEqual([...foldedBelow(table(), 9, true)], [0, 0, 1, 0, 0, 0]);
  assert.deepEqual([...foldedBelow(table(), 9)], [0, 0, 0, 0, 0, 0]);
  assert.deepEqual([...foldedBelow(table(), 1)], [0, 0, 1, 0, 0, 0]);
});

test("what is folded hides what is inside", () => {
  const folded = Uint8Array.of(0, 0, 1, 0, 0, 0);
  assert.deepEqual([...shownRows(table(), { ...none, folded })], [0, 1, 2, 5]);
  unfoldAbove(table(), folded, 3);
  assert.deepEqual([...shownRows(table(), { ...none, folded })], [0, 1, 2, 3, 4, 5]);
});

test("a search finds names and types in any case and shows the ancestors", () => {
  const matches = matchesOf(table(), "B.X", false);
  assert.deepEqual([...matches], [0, 0, 0, 1, 1, 0]);
  assert.deepEqual([...shownRows(table(), { ...none, matches })], [0, 2, 3, 4]);
  assert.deepEqual([...matchesOf(table(), "linear", false)], [0, 1, 0, 1, 1, 0]);
  assert.deepEqual([...matchesOf(table(), "", true)], [0, 0, 0, 1, 0, 0]);
  assert.equal(matchesOf(table(), " ", false), null);
});

test("unknown values and failed rows are last in both directions, equal ones stay in order", () => {
  const keys = sortKeys(table(), "zeros");
  assert.deepEqual([...sortedRows(keys, true)], [0, 3, 2, 4, 1, 5]);
  assert.deepEqual([...sortedRows(keys, false)], [4, 2, 0, 3, 1, 5]);
  assert.deepEqual([...sortedRows(sortKeys(table(), "type"), false)], [2, 1, 3, 4, 0, 5]);
});

test("a key leads to its row and back", () => {
  assert.deepEqual(["", "b.x", "b.x#1", "gone", null].map((key) => rowOf(table(), key)), [0, 3, 4, -1, -1]);
  assert.deepEqual([keyOf(table(), 3), keyOf(table(), 4)], ["b.x", "b.x#1"]);
});

test("a row has another key where another network begins", () => {
  const two = table({ names: ["Net", "Net:a", "Net:b", "Net:b.x", "Net:head"], keys: { 4: "Net:b.x#1" } });
  assert.deepEqual(["", "a", "b.x#1", "gone", null].map((key) => keyIn(two, table(), key)), ["Net", "Net:a", "Net:b.x#1", "gone", null]);
  assert.equal(keyIn(table(), two, "Net:a"), "a");
  assert.equal(keyIn(table(), null, "gone"), "gone");
});

test("new numbers replace those of the same rows only where they are given", () => {
  const values = Float32Array.of(1, 1, 1, 1, 1, 1);
  const changed = withValues(table(), { heading: "new", columns: { zeros: { values: 0 } }, state: 1 }, [view(values), view(new Uint8Array(6))]);
  assert.deepEqual([...changed.columns[1].values], [...values]);
  assert.deepEqual([changed.heading, changed.state[3], changed.columns[0].strings[1]], ["new", 0, "Linear"]);
  assert.ok(sameRows(table(), changed));
  assert.ok(!sameRows(table(), table({ names: ["", "c", "b", "b.x", "head"] })));
});
