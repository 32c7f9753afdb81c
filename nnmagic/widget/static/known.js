// What the page knows of a row before the kernel answers: its cells, those too that there is no room for.
import { block, element } from "./dom.js";
import { cellText } from "./columns.js";
import { barsPath, smallBars } from "./histogram.js";

const BINS = 10;

/** @returns {[string, string][]} the title and the text of each of a row's cells that says something */
export function knownOf(table, row) {
  const said = table.message?.[row];
  if (said !== undefined) return [["", said]];
  const columns = table.columns.filter(({ kind }) => kind !== "histogram" && kind !== "lanes");
  return columns.map((column) => [column.title, cellText(column, row).trim()]).filter(([, text]) => text);
}

/** @returns {HTMLElement} the same as a list, with the row's histogram */
export function knownList(table, row) {
  const bars = table.columns.find(({ kind }) => kind === "histogram");
  const path = bars && !table.message?.[row] && barsPath(bars.values, BINS * row, BINS, bars.zero[row]);
  return block("", ...(path ? [smallBars(path, BINS)] : []), element("ul", { "data-nm": "known" }, ...knownOf(table, row).map(([title, text]) =>
    element("li", {}, element("b", {}, title), ` ${text}`))), block("nm-quiet", "pictures, weights and all else come when the kernel is free"));
}
