// Pictures of values: bars, matrices, tiles of channels or heads, and histograms.
import { indexText, numbers, valueText } from "./format.js";
import { NAN_COLOR, colorAt, cssColor, gradient, mapEnds, oddness, pixelTable, placeOf, pooled } from "./colors.js";

const GLYPHS = { nan: "×", "+inf": "+", "-inf": "−", above: "▴", below: "▾" };
const MOST_HEIGHT = 330;
const MOST_MARKS = 150;
const TILE_GAP = 4;
const TILE_TITLE = 14;
const BAR_ROW = 19;
const MOST_BAR_ROWS = 20;

/**
 * Make an element; strings become text nodes, so nothing from a network is ever read as markup.
 * @param {string} tag
 * @param {object} attributes functions are listeners, false and null are left out
 * @param {...(Node|string)} children
 */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export const block = (look, ...children) => element("div", { class: look }, ...children);
export const inline = (look, ...children) => element("span", { class: look }, ...children);

/** As `element`, of SVG. */
export function svgElement(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false && value !== null && value !== undefined) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children);
  return node;
}

/**
 * A labelled slider.
 * @param {{label: string, min: number, max: number, step?: number, value: number, id?: string,
 *   text: (value: number) => string, change: (value: number) => void}} options
 */
export function slider({ label, min, max, step = 1, value, id, text, change }) {
  const said = inline("nm-slider-value", text(value));
  said.style.minWidth = `${Math.max(text(min).length, text(max).length)}ch`;
  const input = element("input", { type: "range", min, max, step, "data-nm": id, "aria-valuetext": text(value) });
  input.value = value;
  const show = (shown) => {
    said.textContent = text(shown);
    input.setAttribute("aria-valuetext", text(shown));
  };
  input.addEventListener("input", () => {
    show(Number(input.value));
    change(Number(input.value));
  });
  const el = element("label", { class: "nm-slider" }, element("span", {}, label), input, said);
  return { el, input, set: (shown) => { input.value = shown; show(shown); } };
}

/**
 * The outline of bars as the data of one SVG path, 16 high, a thin tick where zero lies.
 * @param {ArrayLike<number>} bins 0..255 @param {number} start @param {number} length
 * @param {number} zero how many bins are left of zero, -1: none
 */
export function barsPath(bins, start, length, zero) {
  let path = zero >= 0 ? `M${6 * zero + 0.5} 0h1v16h-1z` : "";
  for (let bin = 0; bin < length; bin++) {
    const full = bins[start + bin];
    if (!full) continue;
    const height = Math.max(1, Math.round((full * 15) / 255));
    path += `M${6 * bin + (zero >= 0 && bin >= zero ? 2 : 0)} 16v-${height}h5v${height}z`;
  }
  return path;
}

/** How many of the last axes a kind of picture draws; the axes before get a slider each. */
export function drawnAxes({ kind, shape }) {
  return Math.min(shape.length, { bars: 1, matrix: 2 }[kind] ?? 3);
}

/**
 * Where the parts of a picture go.
 * @param {object} picture @param {number} width in pixels
 * @param {number[]} leading the chosen index on each axis before the drawn ones
 * @param {number} first the first of the tiles that show
 * @returns {{boxes: object[], height: number, tiles: number, fit: number}}
 */
export function layoutOf(picture, width, leading, first) {
  const { kind, shape } = picture;
  const size = (back) => shape[shape.length - back] ?? 1;
  const [rows, columns] = [kind === "bars" ? 1 : size(2), size(1)];
  const drawn = drawnAxes(picture);
  let start = 0;
  for (let axis = 0; axis < leading.length; axis++) start = start * shape[axis] + leading[axis];
  for (let axis = leading.length; axis < shape.length; axis++) start *= shape[axis];
  const area = { start, rows, columns, rowStride: columns, columnStride: 1, title: "" };
  if (kind === "bars" && columns <= MOST_BAR_ROWS) {
    const whole = { ...area, rows: columns, columns: 1, rowStride: 1, columnStride: 0 };
    return { boxes: [{ ...whole, x: 0, y: 0, w: width, h: columns * BAR_ROW }], height: columns * BAR_ROW, tiles: 1, fit: 1 };
  }
  if (kind === "bars") return { boxes: [{ ...area, x: 0, y: 0, w: width, h: 120 }], height: 120, tiles: 1, fit: 1 };
  const tiles = drawn === 3 ? size(3) : 1;
  if (tiles === 1) {
    const isMatrix = kind === "matrix";
    const cell = Math.min(isMatrix ? 40 : 12, width / columns, isMatrix ? 40 : MOST_HEIGHT / rows);
    const w = Math.min(width, isMatrix ? Math.max(cell * columns, Math.min(width, 160)) : cell * columns);
    const h = isMatrix ? Math.max(Math.min(cell * rows, MOST_HEIGHT), Math.min(28 * rows, 56)) : cell * rows;
    return { boxes: [{ ...area, x: 0, y: 0, w, h }], height: h, tiles, fit: 1 };
  }
  const wanted = kind === "heads" ? 110 : Math.max(52, Math.min(columns, 90));
  let across = Math.max(1, Math.floor((width + TILE_GAP) / (wanted + TILE_GAP)));
  across = Math.min(across, tiles);
  const w = Math.min(kind === "heads" ? 180 : 110, (width - TILE_GAP * (across - 1)) / across);
  const h = Math.max(12, Math.min(MOST_HEIGHT - TILE_TITLE, (w * rows) / columns));
  const down = Math.max(1, Math.floor((MOST_HEIGHT + TILE_GAP) / (h + TILE_TITLE + TILE_GAP)));
  const fit = Math.min(tiles, across * down);
  const boxes = [];
  for (let i = 0; i < fit; i++) {
    const tile = Math.min(first, tiles - fit) + i;
    boxes.push({
      ...area,
      start: start + tile * rows * columns,
      title: String(tile * (picture.steps[shape.length - 3] ?? 1)),
      x: (i % across) * (w + TILE_GAP),
      y: Math.floor(i / across) * (h + TILE_TITLE + TILE_GAP) + TILE_TITLE,
      w,
      h,
    });
  }
  return { boxes, height: Math.ceil(fit / across) * (h + TILE_TITLE + TILE_GAP), tiles, fit };
}

/** @returns {number[]} the index in the whole tensor of a value of the picture */
export function trueIndex(picture, flat) {
  const index = [];
  for (let axis = picture.shape.length - 1; axis >= 0; axis--) {
    index.unshift((flat % picture.shape[axis]) * (picture.steps[axis] ?? 1));
    flat = Math.floor(flat / picture.shape[axis]);
  }
  return index;
}

/** @returns {string} a value, where it stands and what it is called */
export function valueAt(picture, flat) {
  const names = picture.names ?? [];
  const index = trueIndex(picture, flat);
  const name = names[flat % picture.shape.at(-1)];
  const place = indexText(picture.axes, index);
  return [[name, place].filter(Boolean).join(", "), valueText(picture.values[flat])].filter(Boolean).join(": ");
}

/** Which odd values there are, and how many, as lines of a legend. */
function oddLines(picture, ends) {
  const counts = { nan: 0, "+inf": 0, "-inf": 0, above: 0, below: 0 };
  for (const value of picture.values) {
    const odd = oddness(value, ends);
    if (odd) counts[odd]++;
  }
  const [low, high] = numbers(...ends);
  const words = { nan: "NaN", "+inf": "+Inf", "-inf": "-Inf", above: `above ${high}`, below: `below ${low}` };
  return Object.keys(counts).filter((odd) => counts[odd]).map((odd) => `${GLYPHS[odd]} ${words[odd]}: ${counts[odd].toLocaleString("en")}`);
}

function drawGlyph(context, odd, x, y, height) {
  context.font = `bold ${height}px sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineWidth = 2.5;
  context.strokeStyle = "#fff";
  context.fillStyle = "#000";
  context.strokeText(GLYPHS[odd], x, y);
  context.fillText(GLYPHS[odd], x, y);
}

/** Draw the cells of a box, and remember in it how they were pooled. */
function drawCells(context, picture, box, ends, ratio, table) {
  box.across = Math.max(1, Math.min(box.columns, Math.round(box.w * ratio)));
  box.down = Math.max(1, Math.min(box.rows, Math.round(box.h * ratio)));
  box.chosen = pooled(picture.values, box, box.down, box.across);
  const image = new ImageData(box.across, box.down);
  const [cellWidth, cellHeight] = [box.w / box.across, box.h / box.down];
  const glyph = Math.min(14, cellWidth, cellHeight);
  const marks = [];
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) {
    const value = picture.values[box.chosen[i]];
    pixels[i] = table[Number.isNaN(value) ? 257 : Number.isFinite(value) ? Math.round(255 * placeOf(value, ends)) : 256];
    const odd = oddness(value, ends);
    if (odd && (glyph >= 8 || (!Number.isFinite(value) && marks.length < MOST_MARKS))) marks.push([odd, i]);
  }
  const canvas = element("canvas", { width: box.across, height: box.down });
  canvas.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, box.x, box.y, box.w, box.h);
  for (const [odd, i] of marks) {
    const [x, y] = [(i % box.across) + 0.5, Math.floor(i / box.across) + 0.5];
    drawGlyph(context, odd, box.x + x * cellWidth, box.y + y * cellHeight, Math.max(glyph, 9));
  }
}

/** Draw bars from zero: one a row with its name and value where they are few, else side by side. */
function drawBars(context, picture, box, ends, text) {
  const isList = box.columns === 1 && box.rowStride === 1;
  box.across = isList ? 1 : Math.max(1, Math.min(box.columns, Math.floor(box.w / 2)));
  box.down = isList ? box.rows : 1;
  box.chosen = pooled(picture.values, box, box.down, box.across);
  const [low, high] = [Math.min(0, picture.low), Math.max(0, picture.high)];
  const place = (value) => placeOf(Number.isFinite(value) ? value : value > 0 ? high : low, [low, high]);
  context.font = "11px sans-serif";
  context.textBaseline = "middle";
  const names = Array.from(box.chosen, (flat, i) => String(picture.names?.[i] ?? i * (picture.steps.at(-1) ?? 1)));
  const left = isList ? Math.min(box.w * 0.4, Math.max(...names.map((name) => context.measureText(name).width)) + 8) : 0;
  const right = isList ? 62 : 0;
  const long = isList ? box.w - left - right : box.h;
  for (const [i, flat] of box.chosen.entries()) {
    const value = picture.values[flat];
    const odd = oddness(value, [picture.low, picture.high]);
    const [zero, end] = [place(0) * long, (Number.isNaN(value) ? 1 : place(value)) * long];
    const [from, length] = [Math.min(zero, end), Math.max(1, Math.abs(end - zero))];
    context.fillStyle = Number.isNaN(value) ? cssColor(NAN_COLOR) : cssColor(colorAt(true, value < 0 ? 0.2 : 0.85));
    if (isList) {
      const y = box.y + (i + 0.5) * BAR_ROW;
      context.fillRect(left + from, y - 6, length, 12);
      if (odd) drawGlyph(context, odd, left + Math.min(end, long - 6), y, 11);
      context.font = "11px sans-serif";
      context.fillStyle = text;
      context.textAlign = "right";
      context.fillText(names[i], left - 6, y, left - 8);
      context.fillText(valueText(value).slice(0, 9), box.w - 2, y);
    } else {
      const step = box.w / box.across;
      context.fillRect(i * step, box.h - from - length, Math.max(1, step - (step > 4 ? 1 : 0)), length);
      if (odd && !Number.isFinite(value)) drawGlyph(context, odd, (i + 0.5) * step, 8, 11);
    }
  }
  context.fillStyle = text;
  const zero = place(0) * long;
  if (isList) context.fillRect(left + zero - 0.5, box.y, 1, box.h);
  else context.fillRect(0, Math.min(box.h - 1, box.h - zero), box.w, 1);
}

/**
 * A picture with its limits, its sliders and what is under the pointer or the arrow keys.
 * @param {object} picture with `values`, a Float32Array
 * @param {{id: string, label: string, memory: object}} options memory: where the sliders stand
 * @returns {{el: HTMLElement, draw: () => void}}
 */
export function createPicture(picture, { id, label, memory }) {
  const before = picture.shape.length - drawnAxes(picture);
  const ends = mapEnds(picture);
  const table = pixelTable(picture.diverging);
  memory.leading = Array.from({ length: before }, (_, axis) =>
    Math.min(memory.leading?.[axis] ?? 0, Math.max(0, picture.shape[axis] - 1)));
  memory.first ??= 0;
  const says = element("output", { class: "nm-readout", id: `${id}-says` });
  const canvas = element("canvas", {
    class: "nm-picture",
    tabindex: "0",
    role: "application",
    "aria-roledescription": "picture",
    "aria-label": `${label}; arrow keys read its values`,
    "aria-describedby": `${id}-says`,
    "data-nm": `${id}-canvas`,
  });
  const mark = element("div", { class: "nm-mark", hidden: true });
  const frame = block("nm-frame", canvas, mark);
  const sliders = block("nm-sliders");
  const el = block("nm-pictured", sliders, frame);
  let layout = null;
  let drawnWidth = 0;
  let at = null;
  let tiles = null;

  for (let axis = 0; axis < before; axis++) {
    if (picture.shape[axis] < 2) continue;
    const step = picture.steps[axis] ?? 1;
    sliders.append(slider({
      label: picture.axes[axis] ?? `axis ${axis}`,
      min: 0,
      max: picture.shape[axis] - 1,
      value: memory.leading[axis],
      id: `${id}-axis-${axis}`,
      text: (i) => `${i * step} of ${picture.full[axis]}`,
      change: (i) => { memory.leading[axis] = i; draw(true); },
    }).el);
  }
  const [low, high] = numbers(...(picture.kind === "bars" ? [picture.low, picture.high] : ends));
  if (picture.kind !== "bars") {
    const bar = inline("nm-colorbar");
    bar.style.background = gradient(picture.diverging);
    el.append(block("nm-limits", element("span", {}, low), bar, element("span", {}, high)));
  }
  const odd = oddLines(picture, picture.kind === "bars" ? [picture.low, picture.high] : ends);
  if (odd.length) el.append(block("nm-odd", odd.join(" · ")));
  el.append(says);

  function draw(force = false) {
    const width = Math.floor(frame.clientWidth) || 280;
    if (!force && width === drawnWidth) return;
    drawnWidth = width;
    layout = layoutOf(picture, width, memory.leading, memory.first);
    if (layout.fit < layout.tiles && !tiles) {
      const axis = picture.shape.length - 3;
      const step = picture.steps[axis] ?? 1;
      tiles = slider({
        label: picture.axes[axis] ?? "tile",
        min: 0,
        max: layout.tiles - layout.fit,
        value: memory.first,
        id: `${id}-tiles`,
        text: (i) => `${i * step} … ${(Math.min(i + layout.fit, layout.tiles) - 1) * step} of ${picture.full[axis]}`,
        change: (i) => { memory.first = i; draw(true); },
      });
      sliders.append(tiles.el);
    }
    if (tiles) {
      tiles.el.hidden = layout.fit >= layout.tiles;
      tiles.input.max = Math.max(0, layout.tiles - layout.fit);
      memory.first = Math.min(memory.first, layout.tiles - layout.fit);
      tiles.set(memory.first);
    }
    const ratio = window.devicePixelRatio || 1;
    canvas.style.height = `${layout.height}px`;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.max(1, Math.round(layout.height * ratio));
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const text = getComputedStyle(canvas).color;
    for (const box of layout.boxes) {
      if (picture.kind === "bars") drawBars(context, picture, box, ends, text);
      else drawCells(context, picture, box, ends, ratio, table);
      if (!box.title) continue;
      context.font = "11px sans-serif";
      context.fillStyle = text;
      context.textAlign = "left";
      context.textBaseline = "alphabetic";
      context.fillText(box.title, box.x, box.y - 3);
    }
    point(null);
  }

  /** Show what stands at a cell of a box; null: nothing. */
  function point(cell) {
    at = cell;
    mark.hidden = !cell;
    // The line keeps its height, or what stands below would jump.
    says.textContent = "\u00a0";
    if (!cell) return;
    const { box, row, column } = cell;
    const [w, h] = [box.w / box.across, box.h / box.down];
    const grow = (side) => Math.max(0, 5 - side) / 2;
    mark.style.left = `${box.x + column * w - grow(w)}px`;
    mark.style.top = `${box.y + row * h - grow(h)}px`;
    mark.style.width = `${Math.max(5, w)}px`;
    mark.style.height = `${Math.max(5, h)}px`;
    says.textContent = valueAt(picture, box.chosen[row * box.across + column]);
  }

  canvas.addEventListener("pointermove", (event) => {
    const area = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - area.left, event.clientY - area.top];
    const box = layout?.boxes.find((each) => x >= each.x && x < each.x + each.w && y >= each.y && y < each.y + each.h);
    if (!box) return point(null);
    point({ box, row: Math.floor(((y - box.y) / box.h) * box.down), column: Math.floor(((x - box.x) / box.w) * box.across) });
  });
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("blur", () => point(null));
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!move || !layout || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    if (!at) return point({ box: layout.boxes[0], row: 0, column: 0 });
    let { box, row, column } = at;
    [row, column] = [row + move[0], column + move[1]];
    if (column < 0 || column >= box.across) {
      const next = layout.boxes[layout.boxes.indexOf(box) + move[1]];
      if (!next) return;
      [box, column] = [next, move[1] > 0 ? 0 : next.across - 1];
    }
    if (row < 0 || row >= box.down) {
      const below = layout.boxes.filter((each) => each.x === box.x && Math.sign(each.y - box.y) === move[0]);
      const next = move[0] > 0 ? below[0] : below.at(-1);
      if (!next) return;
      [box, row] = [next, move[0] > 0 ? 0 : next.down - 1];
    }
    point({ box, row, column });
  });
  says.textContent = "\u00a0";
  return { el, draw };
}

/**
 * Histograms over one common axis: the first filled, the others drawn as lines.
 * @param {{name: string, counts: number[], low: number, high: number, of: string}[]} histograms
 * @returns {HTMLElement}
 */
export function histogramFigure(histograms) {
  const [width, height] = [320, 84];
  let low = Math.min(...histograms.map((each) => each.low));
  let high = Math.max(...histograms.map((each) => each.high));
  if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
  const x = (value) => ((value - low) / (high - low)) * width;
  const svg = svgElement("svg", { class: "nm-hist", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `histogram of ${histograms.map((each) => each.name).join(" and ")}` });
  const legend = block("nm-legend");
  for (const [i, { name, counts, low: from, high: to, of }] of histograms.entries()) {
    const most = Math.max(1, ...counts);
    const [left, right] = to > from ? [from, to] : [from - (high - low) / 64, from + (high - low) / 64];
    const bins = to > from ? counts : [counts.reduce((sum, each) => sum + each, 0)];
    const top = to > from ? most : bins[0] || 1;
    let path = `M${x(left).toFixed(1)} ${height}`;
    for (const [bin, n] of bins.entries()) {
      const y = height - (n ? Math.max(1.5, (n / top) * (height - 4)) : 0);
      const [start, end] = [bin, bin + 1].map((edge) => x(left + ((right - left) * edge) / bins.length).toFixed(1));
      path += `L${start} ${y.toFixed(1)}L${end} ${y.toFixed(1)}`;
    }
    const look = `nm-hist-${histograms.length > 1 && i === 0 ? "before" : "after"}`;
    svg.append(svgElement("path", { class: look, d: `${path}L${x(right).toFixed(1)} ${height}z`, "vector-effect": "non-scaling-stroke" }));
    const swatch = svgElement("svg", { class: "nm-swatch", viewBox: "0 0 16 10", "aria-hidden": "true" }, svgElement("path", { class: look, d: "M1 9V2H15V9z" }));
    legend.append(element("span", {}, swatch, ` ${[name, of].filter(Boolean).join(": ")}`));
  }
  const [lowText, highText] = numbers(low, high);
  const axis = block("nm-axis", element("span", {}, lowText), element("span", {}, highText));
  if (low < 0 && high > 0) {
    svg.append(svgElement("path", { class: "nm-zero", d: `M${x(0)} 0V${height}`, "vector-effect": "non-scaling-stroke" }));
    const share = x(0) / width;
    if (share > 0.2 && share < 0.8) {
      const zero = inline("nm-axis-zero", "0");
      zero.style.left = `${100 * share}%`;
      axis.append(zero);
    }
  }
  return block("nm-histogram", svg, axis, legend);
}

/** @returns {SVGElement} a parameter's histogram as small as in a row of the table */
export function smallHistogram({ counts, low, high }) {
  const most = Math.max(1, ...counts);
  const zero = low < 0 && high > 0 ? Math.round((-low / (high - low)) * counts.length) : -1;
  const width = 6 * counts.length + 2;
  return svgElement("svg", { class: "nm-small-hist", viewBox: `0 0 ${width} 16`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svgElement("path", { d: barsPath(counts.map((n) => (255 * n) / most), 0, counts.length, zero) }));
}

