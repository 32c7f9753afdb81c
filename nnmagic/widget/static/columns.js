// Which columns there is room for, and how wide each is.
import { lanesWidth } from "./lanes.js";
import { count, errorText, floor, max, min, numbers, percent, size } from "./format.js";

export const PADDING = 12;
export const TREE_PADDING = 32;
const MOST_MEASURED = 2000;
const WIDEST_WORDS = 30;
/** How many characters a text may be cut to, and to how many where nothing is left that could leave. */
const LEAST_TEXT = { text: 30, flags: 44, tree: 28 };
const NARROWEST = 16;
const NARROWEST_FLAG = 24;
/** Up to so many characters a flag is shown whole, and columns leave for it. */
const WHOLE_FLAG = 64;
/** Columns up to this priority stay: before one of them leaves, errors lose their bars and texts get narrower. */
const STAYS = 1;
const [ERROR_AND_BAR, NUMBER] = [17, 8];

/** @returns {number} how many of these columns a row with a message has too: those from the first on that always have cells */
export function cellsBeforeMessage(columns) {
  const first = columns.findIndex(({ always }) => !always);
  return first < 0 ? max(0, columns.length - 1) : first;
}

/** @returns {string[]} what a cell of a column says: two texts for a pair */
export function cellTexts(column, row) {
  if (column.kind === "pair") return column.texts?.[row]?.split(` ${column.joiner} `) ?? numbers(column.first[row], column.second[row]);
  if (column.strings) return [column.strings[column.index[row]]];
  const write = { count, bytes: size, share: percent, error: errorText, number: (value) => numbers(value)[0] }[column.kind];
  return [column.texts?.[row] ?? write(column.values[row])];
}

/** @returns {string} the same as one text, the numbers of a pair as wide as its `parts`, so that they stand one below the other */
export function cellText(column, row) {
  const [first, second] = cellTexts(column, row);
  if (second === undefined) return first;
  const [left, , right] = column.parts ?? [0, 3, 0];
  return `${first.padStart(left)} ${first && second ? column.joiner : " "} ${second.padEnd(right)}`;
}

/** How many characters wide each part of a column of numbers is; live numbers, and very many, get room for any. */
function partsOf(column, live) {
  const { kind, values } = column;
  if (kind === "pair") {
    if (live || column.first.length > MOST_MEASURED) return [9, 3, 9];
    const texts = Array.from(column.first, (_, row) => cellTexts(column, row));
    const [first, second] = [0, 1].map((side) => max(5, ...texts.map((pair) => pair[side].length)));
    return [first, 3, second];
  }
  if (kind === "lanes") return [lanesWidth(column)];
  const said = Object.values(column.texts ?? {}).reduce((most, text) => max(most, min(text.length, WIDEST_WORDS)), 4);
  if (kind === "count") return [values.reduce((most, value) => max(most, count(value).length), said)];
  return [max(said, { histogram: 9, share: 5, error: column.bounds && ERROR_AND_BAR }[kind] ?? NUMBER)];
}

/**
 * @param {object} column @param {boolean} live @param {Iterable<number>} rows those that show: texts of others take no room
 * @param {boolean} hasMarks whether a flag stands behind a mark
 * @returns {{column: object, parts: number[], bare: number, least: number, full: number}} how many characters it may have and would like;
 *   bare: of errors without their bars
 */
export function measured(column, live, rows, hasMarks = true) {
  const { kind, strings, index, title, narrowest } = column;
  const parts = strings ? [] : partsOf(column, live);
  const mark = kind === "flags" && hasMarks ? 3 : 0;
  let longest = 0;
  if (strings) for (const row of rows) longest = max(longest, strings[index[row]].length);
  const said = strings ? longest + mark : parts.reduce((sum, own) => sum + own);
  const full = max(said, title.length + 2);
  const least = strings && !(kind === "flags" && full <= WHOLE_FLAG) ? min(full, max(narrowest ?? LEAST_TEXT[kind], title.length + 2)) : full;
  return { column, parts, full, least, bare: kind === "error" ? max(NUMBER, title.length + 2) : least };
}

/** @param {Set<string>} texts @returns {number} to how many characters they may be cut where they begin, and still differ */
export function distinctEnds(texts) {
  let width = LEAST_TEXT.tree;
  while (new Set(Array.from(texts, (text) => text.slice(1 - width))).size < texts.size) width++;
  return width;
}

/**
 * Let columns leave by their priority until the others fit, then give texts what room is left.
 * @param {object[]} all what `measured` returns, in order
 * @param {{tree: number, least: number, room: number, character: number, wanted: Set<string>}} options
 *   tree: how many characters the layers' names need, least: and have where there is little room; room: pixels, 0: not known yet; wanted: the keys of those that stay
 * @returns {{tree: number, shown: object[]}} the columns with their `width`, in characters
 */
export function fitted(all, { tree, least: named, room, character, wanted }) {
  const names = { parts: [], full: tree, least: min(tree, named) };
  const isText = ({ parts }) => !parts.length;
  let tight = 0;
  const least = (each) => {
    if (!isText(each)) return tight ? each.bare : each.least;
    return tight < 2 ? each.least : min(each.least, each.column?.kind === "flags" && tight < 3 ? NARROWEST_FLAG : NARROWEST);
  };
  const priority = ({ column }) => (wanted.has(column.key) ? 0 : column.priority ?? 0);
  const spare = () => room - TREE_PADDING - PADDING * shown.length - character * [names, ...shown].reduce((sum, each) => sum + least(each), 0);
  let shown = all;
  const gone = [];
  while (room && spare() < 0) {
    const most = max(...shown.map(priority), 0);
    if (most <= STAYS) break;
    gone.unshift(shown.findLast((each) => priority(each) === most));
    shown = shown.filter((each) => each !== gone[0]);
  }
  // A narrow one may fit where a wide one of lower priority had to leave after it.
  for (const each of gone) {
    const without = shown;
    shown = all.filter((other) => other === each || without.includes(other));
    if (spare() < 0) shown = without;
  }
  while (room && tight < 3 && spare() < 0) tight++;
  let left = room ? max(0, floor(spare() / character)) : 0;
  const widths = new Map([names, ...shown].map((each) => [each, least(each)]));
  const grow = (each, most) => {
    const more = min(left, most - widths.get(each));
    widths.set(each, widths.get(each) + more);
    left -= more;
  };
  const texts = [names, ...shown].filter(isText);
  for (const each of texts) grow(each, each.least);
  // What deserves attention is read whole before other texts are, then errors get their bars back, then come names, then the last text.
  for (const each of texts) if (each.column?.kind === "flags") grow(each, each.full);
  for (const each of shown) if (!isText(each) && left >= each.full - widths.get(each)) grow(each, each.full);
  for (const each of [names, ...texts.reverse()]) grow(each, each.full);
  return { tree: widths.get(names), shown: shown.map((each) => ({ ...each, width: widths.get(each) })) };
}
