// Values that are written out: one number, or integers such as ids.
import { max, min, plural, valueText } from "./format.js";
import { block, element } from "./dom.js";

const MOST_ROWS = 16;
const MOST_COLUMNS = 128;

/** @returns {string[]} its values with all the digits that a float32 has, or the texts that came for them */
const writtenTexts = ({ names, values }) => (names?.length ? names : Array.from(values, exactText));

const exactText = (value) => (Number.isFinite(value) ? String(Number.isSafeInteger(value) ? value : Number(value.toPrecision(7))) : valueText(value));

/**
 * The rows of a grid of values as lines of text.
 * @param {{shape: number[], values: ArrayLike<number>, names?: string[]}} picture
 * @returns {{lines: string[], left: string}} left: what is not shown
 */
export function writtenRows(picture) {
  const columns = max(1, picture.shape.at(-1) ?? 1);
  const texts = writtenTexts(picture);
  const rows = texts.length / columns;
  const wide = rows > 1 ? max(...texts.map((text) => text.length)) : 0;
  const lines = Array.from({ length: min(rows, MOST_ROWS) }, (_, row) => {
    const shown = texts.slice(row * columns, row * columns + min(columns, MOST_COLUMNS));
    return shown.map((text) => text.padStart(wide)).join(" ") + (columns > MOST_COLUMNS ? " …" : "");
  });
  const left = [
    rows > MOST_ROWS ? `the first ${MOST_ROWS} of ${plural(rows, "row")}` : "",
    columns > MOST_COLUMNS ? `the first ${MOST_COLUMNS} of ${plural(columns, "value")} a row` : "",
  ].filter(Boolean).join(", ");
  return { lines, left };
}

/** @returns {{el: HTMLElement, draw: () => void}} like a picture */
export function createWritten(picture, label) {
  const draw = () => {};
  const [first] = writtenTexts(picture);
  if (picture.kind === "constant") return { el: block("", `every value is ${first}`), draw };
  if (picture.kind === "number") return { el: block("nm-number", first), draw };
  const { lines, left } = writtenRows(picture);
  const text = element("pre", { class: `nm-written${lines.length === 1 ? " nm-wraps" : ""}`, tabindex: 0, role: "group", "aria-label": label }, lines.join("\n"));
  return { el: block("", text, block("nm-quiet", left)), draw };
}
