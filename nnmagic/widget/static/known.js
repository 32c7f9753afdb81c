// What the page knows of a row before the kernel answers: its cells, those too that there is no room for.
import { block, element } from "./dom.js";
import { cellText } from "./columns.js";
import { barsPath, smallBars } from "./histogram.js";

const BINS = 10;

/** @returns {[string, string, string?][]} of each of a row's cells that says something the title, the text, and the path of its bars */
export function knownOf(table, row) {
  const said = table.message?.[row];
  if (said !== undefined) return [["", said]];
  const cells = table.columns.filter(({ kind }) => kind !== "lanes").map((column) => (column.zero
    ? [column.title, "", barsPath(column.values, BINS * row, BINS, column.zero[row])] : [column.title, cellText(column, row).trim()]));
  return cells.filter(([, text, bars]) => text || bars);
}

/** @returns {HTMLElement} the same as a list */
export function knownList(table, row) {
  return block("", element("ul", { "data-nm": "known" }, ...knownOf(table, row).map(([title, text, bars]) =>
    element("li", {}, element("b", {}, title), " ", bars ? smallBars(bars, BINS) : text))), block("nm-quiet", "pictures, weights and all else come when the kernel is free"));
}
