// Quantities as text: the same texts as nnmagic/units.py writes.

const DECIMAL_PREFIXES = ["", " k", " M", " G", " T", " P"];
const BINARY_PREFIXES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/**
 * Python rounds an exact tie to the even digit, `toFixed` and `toExponential` away from zero.
 * @param {string} rounded what JavaScript wrote
 * @param {string} longer the same number with one digit more
 * @param {string} exact the same number with so many digits more that a tie shows as zeros
 */
function tieToEven(rounded, longer, exact) {
  const digits = longer.split("e")[0];
  const before = digits.slice(0, -1).replace(/\.$/, "");
  const isTie = digits.endsWith("5") && /^50*$/.test(exact.split("e")[0].slice(digits.length - 1));
  if (!isTie || !"02468".includes(before.at(-1))) return rounded;
  const exponent = longer.split("e")[1];
  return exponent === undefined ? before : `${before}e${exponent}`;
}

/** @param {number} number @param {number} decimals @returns {string} as Python's `:.{decimals}f` */
export function fixed(number, decimals) {
  const longer = number.toFixed(decimals + 1);
  const rounded = number.toFixed(decimals);
  if (!longer.endsWith("5")) return rounded;
  return tieToEven(rounded, longer, number.toFixed(decimals + 60));
}

/** @param {number} number @returns {string} as Python's `:.2e` */
export function scientific(number) {
  const text = tieToEven(number.toExponential(2), number.toExponential(3), number.toExponential(60));
  return text.replace(/e([+-])(\d)$/, "e$10$2");
}

function threeDigits(number) {
  return fixed(number, Math.max(0, 3 - String(Math.trunc(Math.abs(number))).length));
}

/** @param {number} number a whole one @returns {string} "1,234" */
export function withCommas(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** @param {number} number NaN: unknown @returns {string} in full up to a million, then "1.34 M" */
export function count(number) {
  if (Number.isNaN(number)) return "";
  if (Math.abs(number) < 1e6) return withCommas(number);
  let [scaled, prefix] = [number, 0];
  for (; Math.abs(scaled) >= 999.5 && prefix < DECIMAL_PREFIXES.length - 1; prefix++) scaled /= 1000;
  return threeDigits(scaled) + DECIMAL_PREFIXES[prefix];
}

/** @param {number} bytes NaN: unknown @returns {string} in binary units */
export function size(bytes) {
  if (Number.isNaN(bytes)) return "";
  let [scaled, prefix] = [bytes, 0];
  for (; scaled >= 1023.5 && prefix < BINARY_PREFIXES.length - 1; prefix++) scaled /= 1024;
  return `${prefix === 0 ? bytes : threeDigits(scaled)} ${BINARY_PREFIXES[prefix]}`;
}

/** @param {number} fraction in 0..1, NaN: unknown; what is not exactly 0 or 1 never reads as such */
export function percent(fraction) {
  if (Number.isNaN(fraction)) return "";
  if (fraction > 0 && fraction < 0.005) return "<1 %";
  if (fraction >= 0.995 && fraction < 1) return ">99 %";
  return `${fixed(100 * fraction, 0)} %`;
}

/**
 * Measured numbers in one common format, so that they can be compared at a glance.
 * @param {...(number|null)} values NaN or null: unknown, an empty text
 * @returns {string[]}
 */
export function numbers(...values) {
  const isKnown = (value) => value !== null && value !== undefined && !Number.isNaN(value);
  let scale = 0;
  for (const value of values) if (isKnown(value)) scale = Math.max(scale, Math.abs(value));
  let write = scientific;
  if (scale === 0 || (scale >= 0.01 && scale < 1000)) write = (value) => fixed(value, 3);
  else if (scale >= 1000 && scale < 100000) write = (value) => fixed(value, 1);
  return values.map((value) => {
    if (!isKnown(value)) return "";
    if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
    const text = write(value);
    return text.startsWith("-") && Number(text) === 0 ? text.slice(1) : text;
  });
}

/** @param {number} value @returns {string} one value of a tensor, five significant digits */
export function valueText(value) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  return String(Number(value.toPrecision(5)));
}

/** @param {string[]} axes @param {number[]} index @returns {string} "channel 3, row 2" */
export function indexText(axes, index) {
  return index.map((i, axis) => `${axes[axis] ?? "axis"} ${withCommas(i)}`).join(", ");
}

/** @param {number} number @param {string} noun @returns {string} "1 call" or "8 calls" */
export function plural(number, noun) {
  return `${withCommas(number)} ${noun}${number === 1 ? "" : "s"}`;
}
