// The table as an ARIA treegrid that keeps only the rows in view in the document.
import { count, numbers, percent, size } from "./format.js";
import { DIMMED, FAILED, FLAGGED, STRONG, foldedBelow, fullName, hasChildren, keyOf, matchesOf, rowOf, sameRows, shownRows, sortKeys, sortedRows, unfoldAbove } from "./rows.js";
import { barsPath, element, inline, svgElement } from "./pictures.js";

const ROW_HEIGHT = 24;
const OVERSCAN = 6;
const INDENT = 14;
const WIDEST = { tree: 44, text: 30, flags: 40 };

/** @returns {string[]} what a cell of a column says: two texts for a pair */
export function cellTexts(column, row) {
  if (column.kind === "count") return [count(column.values[row])];
  if (column.kind === "size") return [size(column.values[row])];
  if (column.kind === "percent") return [percent(column.values[row])];
  if (column.kind === "pair") return numbers(column.first[row], column.second[row]);
  return [column.strings?.[column.index[row]] ?? ""];
}

/** How many digits wide the numbers of a pair are; live ones get room for any. */
function pairWidths(column, live) {
  let [first, second] = [5, 5];
  for (let row = 0; row < column.first.length && !live; row++) {
    const [a, b] = [column.first[row], column.second[row]];
    if (Number.isNaN(a)) continue;
    const scale = Math.max(Math.abs(a), Math.abs(b) || 0);
    const plain = scale === 0 || (scale >= 0.01 && scale < 1e5);
    const wide = (value) => (plain ? 4 + Math.max(1, Math.ceil(Math.log10(Math.abs(value) + 1))) : 8) + (value < 0);
    first = Math.max(first, wide(a));
    second = Math.max(second, wide(b) || 0);
  }
  return live ? [9, 9] : [Math.min(first, 10), Math.min(second, 10)];
}

/** How many characters wide a column is. */
function widthOf(column, live) {
  if (column.kind === "histogram") return 9;
  if (column.kind === "pair") return pairWidths(column, live).reduce((sum, each) => sum + each, 3);
  if (column.strings) {
    const longest = column.strings.reduce((most, text) => Math.max(most, text.length), 0);
    return Math.min(longest + (column.kind === "flags" ? 3 : 0), WIDEST[column.kind] ?? 30);
  }
  if (column.kind === "percent") return 5;
  let most = column.kind === "size" ? 8 : 4;
  if (column.kind === "count") for (const value of column.values) most = Math.max(most, count(value).length);
  return most;
}

/**
 * @param {{uid: string, live: () => boolean, choose: (key: string) => void, changed: () => void}} options
 *   choose: a row was chosen; changed: other rows show than before
 */
export function createGrid({ uid, live, choose, changed }) {
  let table = null;
  let folded = new Uint8Array(0);
  let matches = null;
  let matched = 0;
  let order = null;
  let rows = new Uint32Array(0);
  let places = new Int32Array(0);
  let active = 0;
  let selected = -1;
  let slots = [];
  const filter = { search: "", flaggedOnly: false };
  const sort = { key: undefined, descending: false };
  const hidden = new Set();

  const header = element("div", { role: "row", class: "nm-row nm-header", "aria-rowindex": "1" });
  const body = element("div", { role: "rowgroup", class: "nm-body" });
  const inner = element("div", { role: "presentation", class: "nm-inner" }, element("div", { role: "rowgroup", class: "nm-head" }, header), body);
  const el = element("div", { role: "treegrid", class: "nm-grid", tabindex: "0", "data-nm": "grid" }, inner);
  const shownColumns = () => table.columns.filter((column) => !hidden.has(column.key));

  function layOut() {
    const columns = shownColumns();
    const isFlat = sort.key !== undefined;
    let tree = table.noun.length + 2;
    const lengths = (isFlat ? table.names : table.labels).map((text) => text.length);
    for (let row = 0; row < table.count; row++) {
      const own = isFlat ? lengths[table.name[row]] : lengths[table.label[row]] + (table.level[row] * INDENT) / 7;
      tree = Math.max(tree, own + (table.state[row] & (STRONG | FAILED) ? 2 : 0));
    }
    const widths = [`calc(${Math.min(Math.ceil(tree), WIDEST.tree)}ch + 32px)`];
    for (const [i, column] of columns.entries()) {
      const own = `calc(${Math.max(widthOf(column, live()), column.title.length + 2)}ch + 12px)`;
      widths.push(i === columns.length - 1 ? `minmax(${own}, 1fr)` : own);
      if (column.kind === "pair") {
        const [first, second] = pairWidths(column, live());
        inner.style.setProperty(`--nm-pair-${i}`, `${first}ch 3ch ${second}ch`);
      }
    }
    if (!columns.length) widths[0] = `minmax(${widths[0]}, 1fr)`;
    inner.style.setProperty("--nm-columns", widths.join(" "));
    const head = (key, title, meaning, kind) => {
      const isSorted = sort.key === key;
      const arrow = isSorted ? (sort.descending ? " ▼" : " ▲") : "";
      const button = element("button", { type: "button", title: meaning || null, "data-nm": `sort-${key}`, click: () => toggleSort(key) },
        title, element("span", { "aria-hidden": "true", class: "nm-arrow" }, arrow));
      return element("div", { role: "columnheader", class: `nm-cell nm-k-${kind}`, "aria-sort": isSorted ? (sort.descending ? "descending" : "ascending") : null }, button);
    };
    const focused = el.getRootNode().activeElement?.dataset?.nm;
    header.replaceChildren(head(null, table.noun, "", "tree"), ...columns.map((c) => head(c.key, c.title, c.meaning, c.kind)));
    if (focused?.startsWith("sort-")) header.querySelector(`[data-nm="${CSS.escape(focused)}"]`)?.focus();
    el.setAttribute("aria-colcount", columns.length + 1);
    body.replaceChildren();
    slots = [];
  }

  /** First click: the large numbers or the first names first; second: the other way; third: back. */
  function toggleSort(key) {
    const isText = key === null || ["text", "flags"].includes(table.columns.find((c) => c.key === key)?.kind);
    if (sort.key !== key) [sort.key, sort.descending] = [key, !isText];
    else if (sort.descending !== isText) sort.descending = isText;
    else sort.key = undefined;
    el.scrollTop = 0;
    arrange(true);
  }

  /** Find the rows to show anew, and draw them. */
  function arrange(columnsToo = false) {
    if (columnsToo) layOut();
    const current = rows[active];
    matches = matchesOf(table, filter.search, filter.flaggedOnly);
    matched = matches ? matches.reduce((sum, each) => sum + each, 0) : table.count;
    order = sort.key === undefined ? null : sortedRows(sortKeys(table, sort.key), sort.descending);
    rows = shownRows(table, { folded, matches, order });
    places = new Int32Array(table.count).fill(-1);
    for (let i = 0; i < rows.length; i++) places[rows[i]] = i;
    let row = current ?? 0;
    while (row >= 0 && places[row] < 0) row = table.parents[row] ?? -1;
    active = Math.max(0, places[row] ?? 0);
    body.style.height = `${rows.length * ROW_HEIGHT}px`;
    el.setAttribute("aria-rowcount", rows.length + 1);
    draw(true);
    changed();
  }

  function makeSlot() {
    const fold = element("span", { class: "nm-fold", "aria-hidden": "true" });
    const mark = inline("nm-strong-mark");
    const label = inline("nm-label");
    const name = element("div", { role: "rowheader", class: "nm-cell nm-tree nm-k-tree" }, fold, mark, label);
    const message = element("div", { role: "gridcell", class: "nm-cell nm-message", "aria-colspan": Math.max(1, shownColumns().length) });
    const cells = shownColumns().map((column, i) => {
      const cell = element("div", { role: "gridcell", class: `nm-cell nm-k-${column.kind}` });
      if (column.kind === "histogram") {
        const path = svgElement("path");
        cell.append(svgElement("svg", { viewBox: "0 0 62 16", "aria-hidden": "true" }, path));
        return { cell, parts: [], path };
      }
      if (column.kind !== "pair") return { cell, parts: [cell] };
      const parts = [element("span"), inline("nm-joiner"), element("span")];
      const pair = inline("nm-pair-parts", ...parts);
      pair.style.gridTemplateColumns = `var(--nm-pair-${i})`;
      cell.append(pair);
      return { cell, parts };
    });
    const node = element("div", { role: "row", class: "nm-row" }, name, message, ...cells.map((each) => each.cell));
    body.append(node);
    return { node, fold, mark, label, name, message, cells, place: -1, row: -1 };
  }

  const write = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const setOrRemove = (node, name, value) => (value === null ? node.removeAttribute(name) : node.setAttribute(name, value));

  function fill(slot, place) {
    const row = rows[place];
    const state = table.state[row];
    const { node } = slot;
    const isParent = !order && hasChildren(table, row);
    const isOpen = matches ? true : !folded[row];
    slot.place = place;
    slot.row = row;
    node.hidden = false;
    node.id = `${uid}-${row}`;
    node.style.transform = `translateY(${place * ROW_HEIGHT}px)`;
    node.classList.toggle("nm-odd-row", place % 2 === 1);
    node.classList.toggle("nm-strong", (state & STRONG) > 0);
    node.classList.toggle("nm-failed", (state & FAILED) > 0);
    node.classList.toggle("nm-flagged", (state & FLAGGED) > 0);
    node.classList.toggle("nm-dimmed", (state & DIMMED) > 0 || Boolean(matches && !matches[row]));
    node.classList.toggle("nm-active", place === active);
    node.setAttribute("aria-rowindex", place + 2);
    node.setAttribute("aria-level", order ? 1 : table.level[row] + 1);
    node.setAttribute("aria-selected", row === selected);
    setOrRemove(node, "aria-expanded", isParent ? isOpen : null);
    slot.name.style.paddingLeft = `${6 + (order ? 0 : table.level[row] * INDENT)}px`;
    write(slot.fold, isParent ? (isOpen ? "▾" : "▸") : "");
    write(slot.mark, state & FAILED ? "✕ " : state & STRONG ? "▲ " : "");
    write(slot.label, order ? fullName(table, row) : table.labels[table.label[row]]);
    const full = fullName(table, row);
    if (slot.name.title !== full) slot.name.title = full;
    const message = table.message?.[row];
    slot.message.hidden = message === undefined;
    if (message !== undefined) {
      write(slot.message, message);
      slot.message.title = message;
    }
    for (const [i, column] of shownColumns().entries()) {
      const { cell, parts, path } = slot.cells[i];
      cell.hidden = message !== undefined;
      if (cell.hidden) continue;
      if (path) {
        const bins = barsPath(column.values, row * 10, 10, column.zero[row]);
        if (path.getAttribute("d") !== bins) path.setAttribute("d", bins);
        continue;
      }
      const texts = cellTexts(column, row);
      if (column.kind === "pair") {
        write(parts[0], texts[0]);
        write(parts[1], texts[0] && texts[1] ? column.joiner : "");
        write(parts[2], texts[1]);
        continue;
      }
      const text = column.kind === "flags" && texts[0] ? `⚠ ${texts[0]}` : texts[0];
      write(parts[0], text);
      if (column.strings && cell.title !== text) cell.title = text;
    }
  }

  function draw(force = false) {
    if (!table) return;
    // A view that is not in the page yet has no height: draw as many rows as it can ever show.
    const height = el.clientHeight || 420;
    const first = Math.max(0, Math.floor(el.scrollTop / ROW_HEIGHT) - OVERSCAN);
    const last = Math.min(rows.length, Math.ceil((el.scrollTop + height) / ROW_HEIGHT) + OVERSCAN);
    if (slots.length < last - first) {
      while (slots.length < last - first) slots.push(makeSlot());
      force = true;
    }
    for (let place = first; place < last; place++) {
      const slot = slots[place % slots.length];
      if (force || slot.place !== place) fill(slot, place);
    }
    for (const slot of slots) {
      if (slot.place < first || slot.place >= last) {
        slot.node.hidden = true;
        slot.place = -1;
      }
    }
    point();
  }

  /** Name the active row to screen readers while it is in the document. */
  function point() {
    const isThere = active < rows.length && slots.some((slot) => slot.place === active);
    setOrRemove(el, "aria-activedescendant", isThere ? `${uid}-${rows[active]}` : null);
    for (const slot of slots) slot.node.classList.toggle("nm-active", slot.place === active);
  }

  function moveTo(place) {
    active = Math.max(0, Math.min(rows.length - 1, place));
    const head = header.offsetHeight || ROW_HEIGHT;
    const room = (el.clientHeight || 420) - head;
    const top = active * ROW_HEIGHT;
    if (top < el.scrollTop) el.scrollTop = top;
    else if (top + ROW_HEIGHT > el.scrollTop + room) el.scrollTop = top + ROW_HEIGHT - room;
    draw();
  }

  function toggleFold(row, open) {
    if (!hasChildren(table, row) || matches || order) return;
    folded[row] = (open ?? Boolean(folded[row])) ? 0 : 1;
    arrange();
  }

  function select(row) {
    selected = row;
    for (const slot of slots) slot.node.setAttribute("aria-selected", slot.row === row);
  }

  /** Bring a row into view, whatever hides it. */
  function reveal(row) {
    if (row < 0 || row >= table.count) return;
    if (matches && !matches[row]) [filter.search, filter.flaggedOnly] = ["", false];
    unfoldAbove(table, folded, row);
    arrange();
    moveTo(places[row]);
  }

  function onKey(event) {
    if (event.target !== el || event.ctrlKey || event.metaKey || event.altKey || !rows.length) return;
    const row = rows[active];
    const page = Math.max(1, Math.floor(el.clientHeight / ROW_HEIGHT) - 2);
    const isOpen = hasChildren(table, row) && !order && (matches || !folded[row]);
    const actions = {
      ArrowDown: () => moveTo(active + 1),
      ArrowUp: () => moveTo(active - 1),
      PageDown: () => moveTo(active + page),
      PageUp: () => moveTo(active - page),
      Home: () => moveTo(0),
      End: () => moveTo(rows.length - 1),
      ArrowRight: () => (isOpen ? moveTo(active + 1) : toggleFold(row, true)),
      ArrowLeft: () => {
        if (isOpen && !matches) toggleFold(row, false);
        else if (!order && table.parents[row] >= 0) moveTo(places[table.parents[row]]);
      },
      Enter: () => choose(keyOf(table, row)),
      " ": () => choose(keyOf(table, row)),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    actions[event.key]();
  }

  el.addEventListener("keydown", onKey);
  el.addEventListener("scroll", () => draw(), { passive: true });
  body.addEventListener("click", (event) => {
    const slot = slots.find((each) => each.node.contains(event.target));
    if (!slot || slot.place < 0) return;
    active = slot.place;
    if (event.target === slot.fold && hasChildren(table, slot.row)) toggleFold(slot.row);
    else choose(keyOf(table, slot.row));
    point();
  });

  return {
    el,
    draw,
    reveal,
    hidden,
    filter,
    arrange,
    /** Show a table; what is folded, sorted and hidden stays where the rows are the same. */
    show(next) {
      const isSame = sameRows(table, next);
      if (!table) for (const column of next.columns) if (column.hidden) hidden.add(column.key);
      const key = table && selected >= 0 ? keyOf(table, selected) : null;
      table = next;
      if (!isSame) {
        folded = foldedBelow(table, table.opened, true);
        el.scrollTop = 0;
        active = 0;
      }
      selected = rowOf(table, key);
      el.setAttribute("aria-label", table.heading || table.noun);
      arrange(true);
    },
    /** Show new numbers of the same rows. */
    refresh(next) {
      table = next;
      if (order || filter.flaggedOnly) arrange();
      else draw(true);
    },
    select(key) {
      select(rowOf(table, key));
      return selected;
    },
    foldTo(depth) {
      folded = foldedBelow(table, depth);
      arrange();
    },
    /** How many rows match what is searched for. */
    matched: () => matched,
    rowCount: () => rows.length,
    isFlat: () => order !== null,
  };
}
