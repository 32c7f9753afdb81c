// One row of the table, and the heading of a column: made once, filled with what shows there.
import { max } from "./format.js";
import { DIMMED, FAILED, STRONG, flatName, fullName, isFlagged, labelOf } from "./rows.js";
import { cellText, cellsBeforeMessage } from "./columns.js";
import { element, inline, part, pressable } from "./dom.js";
import { barsPath, errorPath } from "./histogram.js";

export const ROW_HEIGHT = 24;
export const INDENT = 14;

/** Change what a text says; to replace its node would cost the browser more. */
const write = (node, text) => {
  if (!node.firstChild) node.textContent = text;
  else if (node.firstChild.data !== text) node.firstChild.data = text;
};
/** Set an attribute, or remove it where the value is null. */
export const setOrRemove = (node, name, value) => (value === null ? node.removeAttribute(name) : node.setAttribute(name, value));

/** @param {{key: string|undefined, descending: boolean}} sort @param {(key: string|null, kind: string) => void} toggleSort */
export function makeHeading({ key, title, meaning, kind }, sort, toggleSort) {
  if (kind === "lanes") {
    return element("div", { role: "columnheader", class: "nm-cell nm-k-lanes", title: `${meaning}; i goes to where the input comes from, o to where the output goes` }, title);
  }
  const [arrow, direction] = sort.key !== key ? ["", null] : sort.descending ? [" ▼", "descending"] : [" ▲", "ascending"];
  const button = pressable(title, `sort-${key}`, () => toggleSort(key, kind), { title: meaning || null });
  button.append(element("span", { "aria-hidden": "true", class: "nm-arrow" }, arrow));
  return element("div", { role: "columnheader", class: `nm-cell nm-k-${kind}`, "aria-sort": direction }, button);
}

/** @returns {object} an empty row with a cell for each column */
export function makeRow(columns, lanes) {
  const fold = element("span", { class: "nm-fold", "aria-hidden": "true" });
  const [mark, label] = [inline(), inline("nm-label")];
  const name = part("rowheader", "nm-cell nm-k-tree", fold, element("bdi", {}, mark, label));
  const message = element("div", { role: "gridcell", class: "nm-cell nm-message", "aria-colspan": max(1, columns.length - cellsBeforeMessage(columns)) });
  const cells = columns.map(({ key, kind, bounds, isBare }) => {
    const cell = part("gridcell", `nm-cell nm-k-${kind} nm-c-${key}`);
    if (kind === "lanes") return { cell, paths: lanes.drawIn(cell) };
    if (kind !== "histogram" && (!bounds || isBare)) return { cell, said: cell };
    const [path, said] = [element("path"), inline()];
    cell.append(element("svg", { viewBox: "0 0 62 16", "aria-hidden": "true" }, path), said);
    return { cell, path, said };
  });
  const node = part("row", "", name, ...cells.map(({ cell }) => cell), message);
  return { node, fold, mark, label, name, message, cells, place: -1, row: -1 };
}

/**
 * @param {object} slot what `makeRow` returned
 * @param {{table: object, row: number, place: number, base: number, columns: object[], lanes: object, isFlat: boolean, isOpen: boolean|null, isDimmed: boolean, isSelected: boolean}} shown
 *   place: where the row stands among those that show; base: the one where the body begins; isOpen: null: it cannot be unfolded
 */
export function fillRow(slot, { table, row, place, base, columns, lanes, isFlat, isOpen, isDimmed, isSelected }) {
  const { node } = slot;
  const state = table.state[row];
  const full = fullName(table, row);
  const level = isFlat ? 0 : table.level[row];
  node.hidden = false;
  node.style.transform = `translateY(${(place - base) * ROW_HEIGHT}px)`;
  const looks = { odd: place % 2, strong: state & STRONG, failed: state & FAILED, flagged: isFlagged(table, row), dimmed: state & DIMMED || isDimmed };
  node.className = ["nm-row", ...Object.keys(looks).filter((look) => looks[look]).map((look) => `nm-${look}`)].join(" ");
  node.setAttribute("aria-rowindex", place + 2);
  node.setAttribute("aria-level", level + 1);
  node.setAttribute("aria-selected", isSelected);
  setOrRemove(node, "aria-expanded", isOpen);
  slot.name.style.paddingLeft = `${6 + level * INDENT}px`;
  slot.name.title = full;
  slot.fold.hidden = isFlat;
  // A full name is cut where it begins: most differ where they end.
  slot.name.dir = isFlat ? "rtl" : "ltr";
  write(slot.fold, isOpen === null ? "" : isOpen ? "▾" : "▸");
  write(slot.mark, state & FAILED ? "✕ " : state & STRONG ? "▲ " : "");
  write(slot.label, isFlat ? flatName(table, row) : labelOf(table, row));
  const message = table.message?.[row];
  slot.message.hidden = message === undefined;
  slot.message.textContent = slot.message.title = message ?? "";
  const stays = cellsBeforeMessage(columns);
  for (const [i, column] of columns.entries()) {
    const { cell, said, path, paths } = slot.cells[i];
    cell.hidden = i >= stays && !slot.message.hidden;
    if (paths) lanes.fill(paths, place);
    else if (column.zero) path.setAttribute("d", barsPath(column.values, row * 10, 10, column.zero[row]));
    else {
      path?.setAttribute("d", errorPath(column.values[row], column.bounds[row]));
      const text = cellText(column, row);
      write(said, column.kind === "flags" && text && isFlagged(table, row) ? `⚠ ${text}` : text);
      if (column.strings) cell.title = text;
    }
  }
}
