// The table as an ARIA treegrid that keeps only the rows in view in the document.
import { ceil, clamped, floor, max, min } from "./format.js";
import { FAILED, GROUP, STRONG, countsAsRow, flatName, foldedBelow, hasChildren, isFlagged, keyOf, labelOf, matchesOf, rowOf, sameRows, shownRows, sortKeys, sortedRows, unfoldAbove } from "./rows.js";
import { PADDING, TREE_PADDING, cellsBeforeMessage, distinctEnds, fitted, measured } from "./columns.js";
import { INDENT, ROW_HEIGHT, fillRow, makeHeading, makeRow, setOrRemove } from "./row.js";
import { answerKey, element, keptScroll, part } from "./dom.js";
import { createLanes } from "./lanes.js";

const MOST_GRID_HEIGHT = 640;
const OVERSCAN = 6;
/** Rows are placed from the last multiple of this on: a style that was seen before costs the browser a third. */
const BLOCK = 64;

/** A column that says nothing takes no room. */
const isEmpty = ({ kind, index, strings, edges, first, second, values, texts }) => {
  if (strings) return !index.some((each) => strings[each]);
  if (edges) return !edges.length;
  if (kind === "histogram") return !values.some(Boolean);
  return !Object.values(texts ?? {}).some(Boolean) && [first ?? values, second ?? []].every((each) => each.every(Number.isNaN));
};

/**
 * @param {{uid: string, live: () => boolean, choose: (key: string) => void, changed: () => void}} options
 *   choose: a row was chosen; changed: other rows show than before
 */
export function createGrid({ uid, live, choose, changed }) {
  let table = null;
  let columns = [];
  let left = [];
  let sizes = [];
  let sizesOf = null;
  let names = {};
  let isGrouped = false;
  let folded = [];
  let matches = null;
  let order = null;
  let rows = [];
  let places = [];
  let active = 0;
  let selected = -1;
  /** How to scroll to the active row as soon as there is a height: true: to the middle, null: not at all. */
  let awaited = null;
  let slots = [];
  let base = 0;
  let room = 0;
  const filter = { search: "", flaggedOnly: false };
  const sort = { key: undefined, descending: false };
  const hidden = new Set();
  const wanted = new Set();
  const lanes = createLanes();

  const header = part("row", "nm-row nm-header");
  header.setAttribute("aria-rowindex", 1);
  const body = part("rowgroup", "nm-body");
  const inner = part("presentation", "nm-inner", part("rowgroup", "nm-head", header), body);
  const el = element("div", { role: "treegrid", class: "nm-grid", id: `${uid}-grid`, tabindex: 0, "data-nm": "grid" }, inner);
  const noRoom = part("status", "nm-quiet nm-no-room");
  const scroll = keptScroll(el, () => draw());
  const ruler = element("span", { class: "nm-ruler", "aria-hidden": "true" });
  inner.append(ruler);
  const offered = () => table.columns.filter((column) => !isEmpty(column));
  const isShown = (key) => columns.some((column) => column.key === key);
  const shownColumns = () => offered().filter((column) => !hidden.has(column.key));
  /** Whether rows that only group others are left out. */
  const isUngrouped = () => Boolean(table.flat) && !isGrouped;
  const isFlat = () => isUngrouped() || sort.key !== undefined;

  /** How many characters the names in the rows that show need, and full ones at least. */
  function treeWidth() {
    const flat = isFlat();
    const full = new Set();
    let tree = table.title.length + 2;
    for (const row of rows) {
      const name = (flat ? flatName : labelOf)(table, row);
      if (flat) full.add(name);
      tree = max(tree, name.length + (flat ? 0 : ceil((table.level[row] * INDENT) / 7)) + (table.state[row] & (STRONG | FAILED) ? 2 : 0));
    }
    return { tree, least: distinctEnds(full) };
  }

  /** Give the columns for which there is room their widths; a header and cells are made anew where they are others. */
  function layOut(isAnew = false) {
    // Numbers keep their width whichever rows show.
    const isKept = !isAnew && sizesOf === table;
    const hasMarks = rows.some((row) => isFlagged(table, row));
    sizes = shownColumns().map((column, i) => (isKept && !column.strings ? sizes[i] : measured(column, live(), rows, hasMarks)));
    sizesOf = table;
    room = el.clientWidth;
    const { tree, shown } = fitted(sizes, { ...names, room, character: ruler.offsetWidth / 100, wanted });
    const before = columns;
    columns = shown.map(({ column, parts, width, full }) => ({ ...column, parts, isBare: column.kind === "error" && width < full }));
    const looks = (each) => each.map(({ key, isBare }) => `${key} ${isBare}`).join();
    const isOther = looks(columns) !== looks(before);
    left = sizes.map(({ column }) => column).filter(({ key }) => !isShown(key));
    noRoom.textContent = left.length ? `no room for: ${left.map(({ title }) => title).join(", ")}` : "";
    const widths = [`calc(${tree}ch + ${TREE_PADDING}px)`];
    for (const [i, { width }] of shown.entries()) {
      const fixed = `calc(${width}ch + ${PADDING}px)`;
      widths.push(i === shown.length - 1 && columns[i].strings ? `minmax(${fixed}, 1fr)` : fixed);
    }
    if (!columns.at(-1)?.strings) widths.push("1fr");
    inner.style.setProperty("--nm-columns", widths.join(" "));
    inner.style.setProperty("--nm-message", 2 + cellsBeforeMessage(columns));
    if (isAnew || isOther) makeHeader();
    return isOther;
  }

  function makeHeader() {
    const focused = el.getRootNode().activeElement?.dataset?.nm;
    header.replaceChildren(...[{ key: null, title: table.title, kind: "tree" }, ...columns].map((column) => makeHeading(column, sort, toggleSort)));
    if (focused?.startsWith("sort-")) header.querySelector(`[data-nm="${CSS.escape(focused)}"]`)?.focus();
    el.setAttribute("aria-colcount", columns.length + 1);
    body.replaceChildren();
    slots = [];
  }

  /** First click: the large numbers or the first names first; second: the other way; third: back. */
  function toggleSort(key, kind) {
    const isText = ["tree", "text", "flags"].includes(kind);
    if (sort.key !== key) Object.assign(sort, { key, descending: !isText });
    else if (sort.descending !== isText) sort.descending = isText;
    else sort.key = undefined;
    scroll.reset();
    arrange(true);
  }

  /** Find the rows to show anew, and draw them. */
  function arrange(columnsToo = false) {
    let row = rows[active] ?? 0;
    matches = matchesOf(table, filter.search, filter.flaggedOnly);
    order = sort.key === undefined ? null : sortedRows(sortKeys(table, sort.key), sort.descending);
    rows = shownRows(table, { folded, matches, order, isUngrouped: isUngrouped() });
    places = new Int32Array(table.count).fill(-1);
    for (const [place, shown] of rows.entries()) places[shown] = place;
    while (row >= 0 && places[row] < 0) row = table.parents[row] ?? -1;
    active = max(0, places[row] ?? 0);
    beginAt(0);
    el.setAttribute("aria-rowcount", rows.length + 1);
    names = treeWidth();
    // What is sorted or left out has no lanes.
    const isWhole = !matches && !isFlat();
    lanes.show(table.columns.find(({ kind }) => kind === "lanes"), table, isWhole ? places : null, rows.length);
    layOut(columnsToo);
    draw(true);
    changed();
  }

  /** Let the body begin at a row, and reach from there to the last. */
  function beginAt(place) {
    base = place;
    body.style.marginTop = `${base * ROW_HEIGHT}px`;
    body.style.height = `${(rows.length - base) * ROW_HEIGHT}px`;
  }

  function fill(slot, place) {
    const row = rows[place];
    const flat = isFlat();
    Object.assign(slot, { place, row });
    slot.node.id = `${uid}-${row}`;
    fillRow(slot, {
      table, row, place, base, columns, lanes, isFlat: flat,
      isOpen: flat || !hasChildren(table, row) ? null : Boolean(matches) || !folded[row],
      isDimmed: matches && !matches[row],
      isSelected: row === selected,
    });
  }

  function draw(force = false) {
    if (!table) return;
    // A view that is not in the page yet has no height: draw as many rows as it can ever show.
    const height = el.clientHeight || MOST_GRID_HEIGHT;
    const first = max(0, floor(el.scrollTop / ROW_HEIGHT) - OVERSCAN);
    const last = min(rows.length, ceil((el.scrollTop + height) / ROW_HEIGHT) + OVERSCAN);
    const isShort = slots.length < last - first;
    const block = first - (first % BLOCK);
    if (block !== base) {
      beginAt(block);
      force = true;
    }
    while (slots.length < last - first) {
      slots.push(makeRow(columns, lanes));
      body.append(slots.at(-1).node);
    }
    for (let place = first; place < last; place++) {
      const slot = slots[place % slots.length];
      if (force || isShort || slot.place !== place) fill(slot, place);
    }
    for (const slot of slots) {
      if (slot.place >= first && slot.place < last) continue;
      slot.node.hidden = true;
      slot.place = -1;
    }
    point();
  }

  /** Name the active row to screen readers while it is in the document. */
  function point() {
    const slot = slots.find((each) => each.place === active);
    setOrRemove(el, "aria-activedescendant", slot ? slot.node.id : null);
    for (const each of slots) each.node.classList.toggle("nm-active", each === slot);
  }

  /** Light up what comes to a row and goes on from it. */
  function light(place) {
    lanes.light(place);
    for (const slot of slots) {
      if (slot.place < 0) continue;
      for (const cell of slot.cells) if (cell.paths) lanes.fill(cell.paths, slot.place);
      slot.node.classList.toggle("nm-linked", lanes.isEnd(slot.place));
    }
  }

  /** Scroll, where the active row is out of view, until it is in it, or in its middle. */
  function scrollToActive(isCentred) {
    const room = el.clientHeight - header.offsetHeight;
    const top = active * ROW_HEIGHT;
    const isAbove = top < el.scrollTop;
    if (!isAbove && top + ROW_HEIGHT <= el.scrollTop + room) return;
    el.scrollTop = isCentred ? top - room / 2 : isAbove ? top : top + ROW_HEIGHT - room;
  }

  function moveTo(place) {
    active = clamped(place, 0, rows.length - 1);
    scrollToActive(false);
    draw();
    light(active);
  }

  /** Go to the nearest row that the active one's input comes from, or that gets its output. */
  function follow(isInput) {
    const [end] = lanes.ends(active, isInput);
    if (end !== undefined) moveTo(end);
  }

  function toggleFold(row, folds = !folded[row]) {
    if (!hasChildren(table, row) || matches || isFlat()) return;
    folded[row] = folds;
    arrange();
  }

  /** Show a row's panel; one that only groups others has none. */
  function open(row) {
    if (table.state[row] & GROUP) toggleFold(row);
    else choose(keyOf(table, row));
  }

  /** Bring a row into view, whatever hides it. */
  function reveal(row) {
    if (row < 0) return;
    if (matches && !matches[row]) Object.assign(filter, { search: "", flaggedOnly: false });
    goTo(row, false);
    light(active);
  }

  function goTo(row, isCentred) {
    unfoldAbove(table, folded, row);
    arrange();
    active = max(0, places[row]);
    awaited = isCentred;
    settle();
  }

  /** Scroll to the row that was gone to, once the table is in the page. */
  function settle() {
    if (awaited !== null && el.clientHeight) {
      scrollToActive(awaited);
      awaited = null;
    }
    draw();
  }

  function onKey(event) {
    if (event.target !== el || !rows.length) return;
    const row = rows[active];
    const page = max(1, floor(el.clientHeight / ROW_HEIGHT) - 2);
    const isOpen = hasChildren(table, row) && !isFlat() && (matches || !folded[row]);
    const choice = () => open(row);
    answerKey(event, {
      ArrowDown: () => moveTo(active + 1),
      ArrowUp: () => moveTo(active - 1),
      PageDown: () => moveTo(active + page),
      PageUp: () => moveTo(active - page),
      Home: () => moveTo(0),
      End: () => moveTo(rows.length - 1),
      ArrowRight: () => (isOpen ? moveTo(active + 1) : toggleFold(row, false)),
      ArrowLeft: () => {
        if (isOpen && !matches) toggleFold(row, true);
        else if (!isFlat() && table.parents[row] >= 0) moveTo(places[table.parents[row]]);
      },
      Enter: choice,
      " ": choice,
      i: () => follow(true),
      o: () => follow(false),
    });
  }

  el.addEventListener("keydown", onKey);
  body.addEventListener("pointerover", (event) => light(slots.find(({ node }) => node.contains(event.target))?.place ?? -1));
  body.addEventListener("pointerleave", () => light(-1));
  body.addEventListener("click", (event) => {
    const slot = slots.find((each) => each.node.contains(event.target));
    if (!slot) return;
    active = slot.place;
    if (event.target === slot.fold && hasChildren(table, slot.row)) toggleFold(slot.row);
    else open(slot.row);
    point();
  });

  return {
    el,
    noRoom,
    draw,
    reveal,
    filter,
    /** Show the rows that match, from the first on. */
    find(changes) {
      Object.assign(filter, changes);
      scroll.reset();
      arrange();
    },
    offered,
    /** Show a table; what is folded, sorted and hidden stays where the rows are the same. */
    show(next) {
      if (!table) for (const column of next.columns) if (column.hidden) hidden.add(column.key);
      const key = table && selected >= 0 ? keyOf(table, selected) : null;
      const isSame = sameRows(table, next);
      table = next;
      if (!isSame) {
        folded = foldedBelow(table, table.opened, true);
        active = 0;
        scroll.reset();
      }
      selected = rowOf(table, key);
      el.setAttribute("aria-label", table.heading || table.title);
      arrange(true);
      const start = table.failed >= 0 ? table.failed : table.first;
      if (!isSame && start >= 0) goTo(start, true);
    },
    /** Show new numbers of the same rows. */
    refresh(next) {
      table = next;
      if (layOut() || order || filter.flaggedOnly) arrange();
      else draw(true);
    },
    select(key) {
      selected = rowOf(table, key);
      for (const slot of slots) slot.node.setAttribute("aria-selected", slot.row === selected);
      return selected;
    },
    foldTo(depth) {
      folded = foldedBelow(table, depth);
      arrange();
    },
    /** Let columns leave or come back as there is room for them. */
    fit() {
      if (!table) return;
      if (el.clientWidth !== room) draw(layOut());
      settle();
    },
    /** Mark an iteration in the bars of each row's trend. @param {number} share where it lies, 0..1 */
    point: (share) => el.style.setProperty("--nm-at", share),
    isShown,
    /** Whether a column would show if there were room for it. */
    hasNoRoom: (key) => left.some((column) => column.key === key),
    /** Show or hide a column; one that is asked for stays also where room is short. */
    toggle(key, isShown) {
      hidden[isShown ? "delete" : "add"](key);
      wanted[isShown ? "add" : "delete"](key);
      arrange(true);
    },
    /** How many rows match what is searched for, or how many there are; those left out that only stand for others. */
    count: (matching) => table.state.reduce((sum, _, row) => sum + (countsAsRow(table, row) && (!matching || !matches || matches[row])), 0),
    view: () => ({ table, rows, columns: columns.filter(({ kind }) => kind !== "lanes"), isFlat: isFlat() }),
    isFlat,
    isGrouped: () => isGrouped,
    group(wanted) {
      isGrouped = wanted;
      arrange();
    },
  };
}
