// Quantities as text: the same texts as nnmagic/display/units.py writes.

export const { abs, ceil, floor, max, min, round } = Math;

const DECIMAL_PREFIXES = ["", " k", " M", " G", " T", " P"];
const BINARY_PREFIXES = [" B", " KiB", " MiB", " GiB", " TiB", " PiB"];
const MORE_DIGITS = 60;
const HALF = /^\.?50*$/;
const EVEN = /[02468]$/;

/** Python rounds an exact tie to the even digit, `toFixed` and `toExponential` away from zero. */
const staysEven = (kept, rest) => HALF.test(rest) && EVEN.test(kept);

/** @param {number} number @param {number} decimals @returns {string} as Python's `:.{decimals}f` */
export function fixed(number, decimals) {
  const exact = number.toFixed(decimals + MORE_DIGITS);
  const kept = exact.slice(0, -MORE_DIGITS - (decimals ? 0 : 1));
  return staysEven(kept, exact.slice(kept.length)) ? kept : number.toFixed(decimals);
}

/** @param {number} number @returns {string} as Python's `:.2e` */
export function scientific(number) {
  const [exact, exponent] = number.toExponential(2 + MORE_DIGITS).split("e");
  const kept = exact.slice(0, -MORE_DIGITS);
  const text = staysEven(kept, exact.slice(kept.length)) ? `${kept}e${exponent}` : number.toExponential(2);
  return text.replace(/e([+-])(\d)$/, "e$10$2");
}

function threeDigits(number) {
  return fixed(number, max(0, 3 - String(Math.trunc(abs(number))).length));
}

/** @param {number} value @param {number} low @param {number} high @returns {number} the value, or the end it lies beyond */
export const clamped = (value, low, high) => max(low, min(high, value));

/** @param {number} number a whole one @returns {string} "1,234" */
export const withCommas = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ",");

function prefixed(number, base, prefixes) {
  let [scaled, prefix] = [number, 0];
  for (; abs(scaled) >= base - 0.5 && prefix < prefixes.length - 1; prefix++) scaled /= base;
  return (prefix ? threeDigits(scaled) : number) + prefixes[prefix];
}

/** @param {number} number NaN: unknown @returns {string} in full up to a million, then "1.34 M" */
export function count(number) {
  if (Number.isNaN(number)) return "";
  return abs(number) < 1e6 ? withCommas(number) : prefixed(number, 1000, DECIMAL_PREFIXES);
}

/** @param {number} bytes NaN: unknown @returns {string} in binary units */
export const size = (bytes) => (Number.isNaN(bytes) ? "" : prefixed(bytes, 1024, BINARY_PREFIXES));

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
  const scale = max(0, ...values.map((value) => abs(value ?? NaN)).filter((value) => !Number.isNaN(value)));
  let write = scientific;
  if (scale === 0 || (scale >= 0.01 && scale < 1e5)) write = (value) => fixed(value, scale < 1000 ? 3 : 1);
  return values.map((value) => {
    if (Number.isNaN(value ?? NaN)) return "";
    if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
    const text = write(value);
    return Number(text) === 0 ? text.replace("-", "") : text;
  });
}

/** @param {number} error a relative one, NaN: unknown @returns {string} in few digits; none at all is "0" */
export function errorText(error) {
  if (error === 0) return "0";
  return error < 0.01 ? error.toExponential(1).replace(/-(\d)$/, "-0$1") : numbers(error)[0];
}

/** @param {number} value @returns {string} one value of a tensor, five significant digits */
export function valueText(value) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  return String(Number(value.toPrecision(5)));
}

/** @returns {string} the same in few signs: with three digits where more take much room, and never cut */
export function shortText(value) {
  const text = valueText(value);
  return text.length > 9 ? value.toExponential(2) : text;
}

/** @param {string[]} axes @param {number[]} index @returns {string} "channel 3, row 2" */
export const indexText = (axes, index) => index.map((i, axis) => `${axes[axis] ?? "axis"} ${withCommas(i)}`).join(", ");

/** @param {number} number @param {string} noun @returns {string} "1 call" or "8 calls" */
export const plural = (number, noun) => `${withCommas(number)} ${noun}${number === 1 ? "" : "s"}`;
