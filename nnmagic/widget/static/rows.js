// The table's data: what came as bytes, who is whose child, which rows show, and in which order.
import { lanesOf } from "./lanes.js";

export const STRONG = 1;
export const DIMMED = 2;
export const FLAGGED = 4;
export const FAILED = 8;
export const MANY_CALLS = 16;
export const CONTEXT = 32;
export const GROUP = 64;

/** The typed arrays of a column by its kind. */
const FIELDS = {
  text: { index: Uint32Array },
  flags: { index: Uint32Array },
  count: { values: Float64Array },
  bytes: { values: Float64Array },
  number: { values: Float64Array },
  share: { values: Float32Array },
  error: { values: Float64Array, bounds: Float64Array },
  pair: { first: Float64Array, second: Float64Array },
  histogram: { values: Uint8Array, zero: Int8Array },
  lanes: { values: Int32Array, edges: Uint32Array },
};

/**
 * Copy bytes into a typed array; a DataView of a message may begin at an odd offset.
 * @param {ArrayBufferView|null|undefined} bytes
 * @param {Function} Type constructor of the typed array
 */
export function typed(bytes, Type) {
  if (!bytes) return new Type(0);
  return new Type(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

/** @param {object} content the trait @returns {object} the table: content with typed arrays */
export function decoded(content) {
  const level = typed(content.level, Uint16Array);
  return {
    ...content,
    level,
    label: typed(content.label, Uint32Array),
    name: typed(content.name, Uint32Array),
    state: typed(content.state, Uint8Array),
    columns: content.columns.map((column) => withFields(column, column, null)),
    ...familyOf(level),
    deepest: level.reduce((most, each) => Math.max(most, each), 0),
  };
}

/** Return the column with the given fields; with buffers, a field is the number of its buffer. */
function withFields(column, fields, buffers) {
  const changed = { ...column, ...fields };
  for (const [field, Type] of Object.entries(FIELDS[column.kind] ?? {})) {
    if (field in fields) changed[field] = typed(buffers ? buffers[fields[field]] : fields[field], Type);
  }
  if (column.kind === "lanes") changed.lanes = lanesOf(changed);
  return changed;
}

/**
 * @param {object} table
 * @param {object} message new numbers for the same rows
 * @param {DataView[]} buffers
 * @returns {object} the table with them
 */
export function withValues(table, message, buffers) {
  const changed = { ...table };
  changed.columns = table.columns.map((column) =>
    message.columns?.[column.key] ? withFields(column, message.columns[column.key], buffers) : column,
  );
  if (Number.isInteger(message.state)) changed.state = typed(buffers[message.state], Uint8Array);
  for (const key of ["heading", "notes", "message", "scores", "structure", "steps", "losses", "findings", "first", "failed"]) {
    if (message[key] !== undefined) changed[key] = message[key];
  }
  return changed;
}

/**
 * @param {ArrayLike<number>} level
 * @returns {{parents: Int32Array, ends: Int32Array}} each row's parent, -1: none; the first row after it not inside it
 */
export function familyOf(level) {
  const parents = new Int32Array(level.length).fill(-1);
  const ends = parents.map(() => level.length);
  const above = [];
  for (let row = 0; row < level.length; row++) {
    while (above.length && level[above.at(-1)] >= level[row]) ends[above.pop()] = row;
    parents[row] = above.at(-1) ?? -1;
    above.push(row);
  }
  return { parents, ends };
}

/** Whether a row itself deserves attention, and does not only hold one that failed. */
export const isFlagged = (table, row) => Boolean(table.state[row] & FLAGGED);
/** Whether a row is one of those that the table is of, and does not only stand for others. */
export const countsAsRow = (table, row) => !(table.state[row] & (MANY_CALLS | CONTEXT | GROUP));
export const hasChildren = (table, row) => table.ends[row] > row + 1;
export const fullName = (table, row) => table.names[table.name[row]] || labelOf(table, row);
/** What a row is called where it does not stand below another: a tree by its label, which tells it from others of one name. */
export const flatName = (table, row) => (table.level[row] ? fullName : labelOf)(table, row);
export const labelOf = (table, row) => table.labels[table.label[row]];
export const keyOf = (table, row) => table.keys?.[row] ?? table.names[table.name[row]];

/** @param {object} table @param {string|null} key @returns {number} the row of a key, -1: none */
export function rowOf(table, key) {
  for (let row = 0; row < table.count; row++) if (keyOf(table, row) === key) return row;
  return -1;
}

/** @returns {string} a row's name with its network's before it, which the name itself has where there are several networks */
function nameInNetwork(table, row) {
  const name = fullName(table, row);
  let root = row;
  while (table.parents[root] >= 0) root = table.parents[root];
  const network = fullName(table, root);
  return root === row || name.startsWith(`${network}:`) ? name : `${network}:${name}`;
}

/** @returns {number} the row of another table that has a row's name, of several the same one; -1: there is none */
export function sameRow(table, row, other) {
  // Of a table with new numbers alone the names are the same ones.
  if (table.name === other.name) return row;
  const name = nameInNetwork(table, row);
  const named = (one) => [...one.name.keys()].filter((each) => nameInNetwork(one, each) === name);
  return named(other)[named(table).indexOf(row)] ?? -1;
}

/** @returns {string|null} a row's key in another table: it changes where another network of a loop begins */
export function keyIn(other, table, key) {
  const row = table ? rowOf(table, key) : -1;
  const there = row < 0 || rowOf(other, key) >= 0 ? -1 : sameRow(table, row, other);
  return there < 0 ? key : keyOf(other, there);
}

/** @returns {Uint8Array} 1 for each folded row where rows above `depth` are unfolded */
export function foldedBelow(table, depth, keepsCallsFolded = false) {
  return Uint8Array.from(table.level, (level, row) => {
    const isMany = keepsCallsFolded && table.state[row] & MANY_CALLS;
    return hasChildren(table, row) && (level >= depth || isMany) ? 1 : 0;
  });
}

/** Unfold all that a row stands in. */
export function unfoldAbove(table, folded, row) {
  for (let above = table.parents[row]; above >= 0; above = table.parents[above]) folded[above] = 0;
}

/**
 * @param {object} table
 * @param {string} search a part of a full name, label or type; any case
 * @param {boolean} flaggedOnly
 * @returns {Uint8Array|null} 1 for each row that matches; null: nothing is asked for
 */
export function matchesOf(table, search, flaggedOnly) {
  const wanted = search.trim().toLowerCase();
  if (!wanted && !flaggedOnly) return null;
  // A string table is far shorter than the table: each text is looked at once.
  const found = (texts) => texts.map((text) => text.toLowerCase().includes(wanted));
  const type = table.columns.find((column) => column.key === "type");
  const [names, labels, types] = [found(table.names), found(table.labels), found(type?.strings ?? [])];
  const matches = new Uint8Array(table.count);
  for (let row = 0; row < table.count; row++) {
    const text = names[table.name[row]] || labels[table.label[row]] || types[type?.index[row]];
    matches[row] = text && (!flaggedOnly || isFlagged(table, row)) ? 1 : 0;
  }
  return matches;
}

/**
 * @param {object} table
 * @param {{folded: Uint8Array, matches: Uint8Array|null, order: Uint32Array|null, isUngrouped: boolean}} view
 * @returns {Uint32Array} the rows to show, in order
 */
export function shownRows(table, { folded, matches, order, isUngrouped }) {
  if (order || isUngrouped) {
    const all = order ?? Uint32Array.from(table.state, (_, row) => row);
    return all.filter((row) => (!matches || matches[row]) && !(isUngrouped && table.state[row] & GROUP));
  }
  const rows = [];
  if (matches) {
    const shows = matches.slice();
    for (let row = table.count - 1; row >= 0; row--) {
      if (shows[row] && table.parents[row] >= 0) shows[table.parents[row]] = 1;
    }
    for (let row = 0; row < table.count; row++) if (shows[row]) rows.push(row);
  } else {
    for (let row = 0; row < table.count; row = folded[row] ? table.ends[row] : row + 1) rows.push(row);
  }
  return Uint32Array.from(rows);
}

/**
 * @param {object} table
 * @param {string|null} key the column's key; null: the tree's own column
 * @returns {Float64Array} a number for each row to sort by, NaN: unknown
 */
export function sortKeys(table, key) {
  const column = table.columns.find((each) => each.key === key) ?? { strings: table.names, index: table.name };
  const { strings } = column;
  const ranks = strings?.map(() => NaN);
  const { compare } = new Intl.Collator("en", { numeric: true });
  const inOrder = Object.keys(strings ?? []).filter((i) => strings[i]).sort((a, b) => compare(strings[a], strings[b]));
  for (const [place, i] of inOrder.entries()) ranks[i] = place;
  // A histogram is sorted by where zero lies in it.
  const numbersOf = column.first ?? column.zero ?? column.values;
  return Float64Array.from(table.state, (_, row) => {
    if (key !== null && table.message?.[row] !== undefined) return NaN;
    return ranks ? ranks[column.index[row]] : numbersOf[row];
  });
}

/** @returns {Uint32Array} the rows sorted by their keys, equal ones in order, NaN last */
export function sortedRows(keys, descending) {
  const sign = descending ? -1 : 1;
  return Uint32Array.from(keys, (_, row) => row).sort((a, b) => {
    const [first, second] = [keys[a], keys[b]];
    if (Number.isNaN(first) || Number.isNaN(second)) {
      return Number.isNaN(first) - Number.isNaN(second) || a - b;
    }
    return sign * (first - second) || a - b;
  });
}

/** @returns {boolean} whether two tables have the same rows, so that what is folded can stay */
export function sameRows(one, other) {
  if (!one || one.count !== other.count || one.title !== other.title) return false;
  for (let row = 0; row < one.count; row++) {
    if (one.level[row] !== other.level[row] || fullName(one, row) !== fullName(other, row)) return false;
  }
  return true;
}
