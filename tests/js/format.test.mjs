// The texts are those of nnmagic/units.py; the expected ones were written by it or by hand.
import assert from "node:assert/strict";
import { test } from "node:test";
import { count, errorText, fixed, indexText, numbers, percent, plural, scientific, shortText, size, valueText } from "../../nnmagic/widget/static/format.js";

test("counts are in full up to a million and then in three digits", () => {
  assert.deepEqual([0, 999, 669706, 999999, 1e6, 1337344, 25.6e6, 999.6e6, 1.5e15, NaN].map(count),
    ["0", "999", "669,706", "999,999", "1.00 M", "1.34 M", "25.6 M", "1.00 G", "1.50 P", ""]);
});

test("sizes are binary", () => {
  assert.deepEqual([0, 1023, 1024, 3211264, 1023.6 * 1024, NaN].map(size), ["0 B", "1023 B", "1.00 KiB", "3.06 MiB", "1.00 MiB", ""]);
});

test("what is not exactly none or all of it never reads as such", () => {
  assert.deepEqual([0, 0.001, 0.005, 0.48, 0.995, 1, NaN].map(percent), ["0 %", "<1 %", "0 %", "48 %", ">99 %", "100 %", ""]);
});

test("ties go to the even digit, as in Python", () => {
  assert.deepEqual([0.0625, 0.1875, 0.3125, -0.0625, 2.5].map((x) => fixed(x, 3)), ["0.062", "0.188", "0.312", "-0.062", "2.500"]);
  assert.deepEqual([0.5, 1.5, 2.5, -0.5].map((x) => fixed(x, 0)), ["0", "2", "2", "-0"]);
  assert.deepEqual([fixed(1.0005, 3), fixed(934.1825, 3)], ["1.000", "934.183"], "doubles that only look like a tie");
  assert.deepEqual([1245000, 1255000, 1.2345e-7, 1e100].map(scientific), ["1.24e+06", "1.26e+06", "1.23e-07", "1.00e+100"]);
});

test("numbers share one format, that of the largest", () => {
  assert.deepEqual(numbers(0.016, 0.328), ["0.016", "0.328"]);
  assert.deepEqual(numbers(-1003.2, 0.5), ["-1003.2", "0.5"]);
  assert.deepEqual(numbers(1e-7, -3e-6), ["1.00e-07", "-3.00e-06"]);
  assert.deepEqual(numbers(-0.0001, 0.5, NaN, null), ["0.000", "0.500", "", ""]);
  assert.deepEqual(numbers(Infinity, 1), ["inf", "1.00e+00"]);
  assert.deepEqual(numbers(NaN, NaN), ["", ""]);
  assert.deepEqual(numbers(0, 0), ["0.000", "0.000"]);
});

test("a value under the pointer says where it stands", () => {
  assert.equal(indexText(["batch", "channel"], [0, 1200]), "batch 0, channel 1,200");
  assert.deepEqual([NaN, -Infinity, 0.123456789].map(valueText), ["NaN", "-Inf", "0.12346"]);
  assert.deepEqual([-1.28312e29, 1.09352e-200, 0.123456789, -12345.6, NaN].map(shortText), ["-1.28e+29", "1.09e-200", "0.12346", "-12346", "NaN"]);
  assert.deepEqual([plural(1, "call"), plural(2000, "call")], ["1 call", "2,000 calls"]);
});

test("an error has few digits, and none at all is 0", () => {
  assert.deepEqual([0, 3.14e-7, 0.009, 1e-12, 0.4, 12.5, 1234.56, Infinity, NaN].map(errorText),
    ["0", "3.1e-07", "9.0e-03", "1.0e-12", "0.400", "12.500", "1234.6", "inf", ""]);
});
