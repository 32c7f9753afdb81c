import assert from "node:assert/strict";
import { test } from "node:test";
import { findingText } from "../../nnmagic/widget/static/findings.js";

const found = (text, iteration, level = "finding") => findingText({ text, level, iteration }, true);

test("a finding says its iteration once", () => {
  assert.equal(found("the loss is NaN in iteration 5", 5), "⚠ the loss is NaN in iteration 5");
  assert.equal(found("the loss is NaN from iteration 1,005 on", 1005), "⚠ the loss is NaN from iteration 1,005 on");
  assert.equal(found("the loss jumps", 5), "⚠ the loss jumps · iteration 5");
  assert.equal(found("NaN at iteration 50", 5), "⚠ NaN at iteration 50 · iteration 5");
});

test("a note, and a finding of a run of one iteration, say none", () => {
  assert.equal(found("never called", 5, "note"), "never called");
  assert.equal(findingText({ text: "NaN", level: "finding", iteration: 0 }, false), "⚠ NaN");
});
