import assert from "node:assert/strict";
import { deflateSync } from "node:zlib";
import test from "node:test";

import { half, standIn, unpacked } from "../../nnmagic/widget/static/page.js";

test("a number of 16 bits is what it says", () => {
  const numbers = { 0x3c00: 1, 0xc000: -2, 0x3555: 0.333251953125, 0x7bff: 65504, 0x0001: 2 ** -24, 0x0000: 0, 0x7c00: Infinity, 0xfc00: -Infinity };
  for (const [bits, number] of Object.entries(numbers)) assert.equal(half(Number(bits)), number);
  assert.ok(Number.isNaN(half(0x7e00)));
});

test("what was packed is unpacked: texts, bytes and numbers of 16 bits", async () => {
  const text = JSON.stringify({ state: { level: { $bytes: [0, 3] } }, buffers: [{ $halves: [3, 4], scale: 10 }], name: "</script>é" });
  const json = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(json.length);
  const bytes = Buffer.from([7, 8, 9, 0x00, 0x3c, 0x00, 0xc0]);

  const found = await unpacked(deflateSync(Buffer.concat([length, json, bytes])).toString("base64"));

  const { level } = found.state;
  assert.deepEqual([...new Uint8Array(level.buffer, level.byteOffset, level.byteLength)], [7, 8, 9]);
  assert.deepEqual([...new Float32Array(found.buffers[0].buffer)], [10, -20]);
  assert.equal(found.name, "</script>é");
});

test("the stand-in answers what is selected with its panel, also one that is not there", () => {
  const state = { selected: null, search: "" };
  const model = standIn({ state, panels: { a: { title: "A" } }, other: { title: "", notes: ["no panel"] }, buffers: ["bytes"] });
  const told = [];
  const listener = (message, buffers) => told.push([message.key, message.panel.title, buffers]);
  model.on("msg:custom", listener);
  model.on("change:selected", () => told.push("changed"));

  model.set("selected", "a");
  model.set("selected", "b");
  model.send({ ask: "panel" });
  model.set("selected", null);
  model.off("msg:custom", listener);
  model.set("selected", "a");

  const b = ["b", "b", ["bytes"]];
  assert.deepEqual(told, ["changed", ["a", "A", ["bytes"]], "changed", b, b, "changed", "changed"]);
  assert.equal(model.get("selected"), "a");
});
