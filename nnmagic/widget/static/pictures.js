// Pictures of values: bars, matrices, tiles of channels or heads, and histograms.
import { abs, ceil, clamped, floor, indexText, max, min, numbers, round, valueText, withCommas } from "./format.js";
import { answerKey, block, element, inline, slider } from "./dom.js";
import { NAN_COLOR, colorAt, cssColor, gradient, mapEnds, oddness, pixelTable, placeOf, pooled } from "./colors.js";

const GLYPHS = { nan: "×", "+inf": "+", "-inf": "−", above: "▴", below: "▾" };
const MOST_HEIGHT = 330;
const MOST_MARKS = 150;
const TILE_GAP = 4;
const TILE_TITLE = 14;
const BAR_ROW = 19;
const MOST_BAR_ROWS = 20;
const FONT = "11px sans-serif";

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
    const height = max(1, round((full * 15) / 255));
    path += `M${6 * bin + (zero >= 0 && bin >= zero ? 2 : 0)} 16v-${height}h5v${height}z`;
  }
  return path;
}

/** How many of the last axes a kind of picture draws; the axes before get a slider each. */
export const drawnAxes = ({ kind, shape }) => min(shape.length, { bars: 1, matrix: 2 }[kind] ?? 3);

/**
 * Where the parts of a picture go.
 * @param {object} picture @param {number} width in pixels
 * @param {number[]} leading the chosen index on each axis before the drawn ones
 * @param {number} first the first of the tiles that show
 * @returns {{boxes: object[], height: number, tiles: number, fit: number}}
 */
export function layoutOf(picture, width, leading, first) {
  const { kind, shape, steps } = picture;
  const [tiles, rows, columns] = [3, 2, 1].map((back) => (back > drawnAxes(picture) ? 1 : shape.at(-back)));
  const start = shape.reduce((sum, length, axis) => sum * length + (leading[axis] ?? 0), 0);
  const area = { start, rows, columns, rowStride: columns, title: "", x: 0, y: 0, w: width };
  const single = (h, changes) => ({ boxes: [{ ...area, h, ...changes }], height: h, tiles: 1, fit: 1 });
  if (kind === "bars") {
    if (columns > MOST_BAR_ROWS) return single(120);
    return single(columns * BAR_ROW, { rows: columns, columns: 1, rowStride: 1 });
  }
  if (tiles === 1) {
    const isMatrix = kind === "matrix";
    // A matrix may be stretched until it can be seen; an image keeps its proportions.
    const cell = min(isMatrix ? 40 : 12, width / columns, isMatrix ? 40 : MOST_HEIGHT / rows);
    const [w, h] = [cell * columns, cell * rows];
    return isMatrix ? single(clamped(h, min(28 * rows, 56), MOST_HEIGHT), { w: max(w, min(width, 160)) }) : single(h, { w });
  }
  const [wanted, most] = kind === "heads" ? [110, 180] : [clamped(columns, 52, 90), 110];
  const across = clamped(floor((width + TILE_GAP) / (wanted + TILE_GAP)), 1, tiles);
  const w = min(most, (width + TILE_GAP) / across - TILE_GAP);
  const h = clamped((w * rows) / columns, 12, MOST_HEIGHT - TILE_TITLE);
  const pitch = h + TILE_TITLE + TILE_GAP;
  const fit = min(tiles, across * max(1, floor((MOST_HEIGHT + TILE_GAP) / pitch)));
  const boxes = Array.from({ length: fit }, (_, i) => {
    const tile = min(first, tiles - fit) + i;
    return {
      ...area,
      start: start + tile * rows * columns,
      title: String(tile * (steps.at(-3) ?? 1)),
      x: (i % across) * (w + TILE_GAP),
      y: floor(i / across) * pitch + TILE_TITLE,
      w,
      h,
    };
  });
  return { boxes, height: ceil(fit / across) * pitch, tiles, fit };
}

/** @returns {number[]} the index in the whole tensor of a value of the picture */
export function trueIndex({ shape, steps }, flat) {
  const index = [];
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index.unshift((flat % shape[axis]) * (steps[axis] ?? 1));
    flat = floor(flat / shape[axis]);
  }
  return index;
}

/** @returns {string} a value, where it stands and what it is called */
export function valueAt(picture, flat) {
  const name = picture.names?.[flat % picture.shape.at(-1)];
  const place = indexText(picture.axes, trueIndex(picture, flat));
  return [[name, place].filter(Boolean).join(", "), valueText(picture.values[flat])].filter(Boolean).join(": ");
}

/** The ends of what a picture tells apart; bars, which have no colours to spare, reach to every value. */
function endsOfPicture(picture) {
  if (picture.kind !== "bars") return mapEnds(picture);
  let [low, high] = [0, 0];
  for (const value of picture.values) if (Number.isFinite(value)) [low, high] = [min(low, value), max(high, value)];
  return [low, high];
}

/** Which odd values there are, and how many, as a legend. */
function oddText(values, ends) {
  const [low, high] = numbers(...ends);
  const words = { nan: "NaN", "+inf": "+Inf", "-inf": "-Inf", above: `above ${high}`, below: `below ${low}` };
  const counts = {};
  for (const value of values) {
    const odd = oddness(value, ends);
    if (odd) counts[odd] = (counts[odd] ?? 0) + 1;
  }
  const found = Object.keys(words).filter((odd) => counts[odd]);
  return found.map((odd) => `${GLYPHS[odd]} ${words[odd]}: ${withCommas(counts[odd])}`).join(" · ");
}

function drawText(context, text, x, y, textAlign = "left", font = FONT, most = 999) {
  Object.assign(context, { font, textAlign, textBaseline: "middle" });
  context.fillText(text, x, y, most);
}

function drawGlyph(context, odd, x, y, height) {
  const font = `bold ${height}px sans-serif`;
  Object.assign(context, { font, textAlign: "center", textBaseline: "middle", lineWidth: 2.5, strokeStyle: "#fff", fillStyle: "#000" });
  context.strokeText(GLYPHS[odd], x, y);
  drawText(context, GLYPHS[odd], x, y, "center", font);
}

/** Draw the cells of a box, and remember in it how they were pooled. */
function drawCells(context, { values }, box, ends, ratio, table) {
  box.across = clamped(round(box.w * ratio), 1, box.columns);
  box.down = clamped(round(box.h * ratio), 1, box.rows);
  box.chosen = pooled(values, box, box.down, box.across);
  const image = new ImageData(box.across, box.down);
  const pixels = new Uint32Array(image.data.buffer);
  const [cellWidth, cellHeight] = [box.w / box.across, box.h / box.down];
  const glyph = min(14, cellWidth, cellHeight);
  const marks = [];
  for (let i = 0; i < pixels.length; i++) {
    const value = values[box.chosen[i]];
    const odd = oddness(value, ends);
    pixels[i] = table[odd === "nan" ? 257 : odd.endsWith("inf") ? 256 : round(255 * placeOf(value, ends))];
    if (odd && (glyph >= 8 || (!Number.isFinite(value) && marks.length < MOST_MARKS))) marks.push([odd, i]);
  }
  const canvas = element("canvas", { width: box.across, height: box.down });
  canvas.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, box.x, box.y, box.w, box.h);
  for (const [odd, i] of marks) {
    const [x, y] = [(i % box.across) + 0.5, floor(i / box.across) + 0.5];
    drawGlyph(context, odd, box.x + x * cellWidth, box.y + y * cellHeight, max(glyph, 9));
  }
}

/** Draw bars from zero: one a row with its name and value where they are few, else side by side. */
function drawBars(context, picture, box, ends, color) {
  const isList = box.columns === 1;
  box.across = isList ? 1 : min(box.columns, ceil(box.w / 2));
  box.down = box.rows;
  box.chosen = pooled(picture.values, box, box.down, box.across);
  const names = Array.from(box.chosen, (_, i) => String(picture.names?.[i] ?? i * (picture.steps.at(-1) ?? 1)));
  context.font = FONT;
  const left = isList ? min(box.w * 0.4, max(...names.map((name) => context.measureText(name).width)) + 8) : 0;
  const long = isList ? box.w - left - 62 : box.h;
  const step = box.w / box.across;
  const zero = placeOf(0, ends) * long;
  for (const [i, flat] of box.chosen.entries()) {
    const value = picture.values[flat];
    const odd = oddness(value, ends);
    const end = odd === "nan" ? long : placeOf(value, ends) * long;
    const [from, length] = [min(zero, end), max(1, abs(end - zero))];
    context.fillStyle = cssColor(odd === "nan" ? NAN_COLOR : colorAt(true, value < 0 ? 0.2 : 0.85));
    if (!isList) {
      context.fillRect(i * step, box.h - from - length, max(1, step - (step > 4 ? 1 : 0)), length);
      if (odd) drawGlyph(context, odd, (i + 0.5) * step, 8, 11);
      continue;
    }
    const y = (i + 0.5) * BAR_ROW;
    context.fillRect(left + from, y - 6, length, 12);
    if (odd) drawGlyph(context, odd, left + min(end, long - 6), y, 11);
    context.fillStyle = color;
    drawText(context, names[i], left - 6, y, "right", FONT, left - 8);
    drawText(context, valueText(value).slice(0, 9), box.w - 2, y, "right");
  }
  context.fillStyle = color;
  if (isList) context.fillRect(left + zero - 0.5, 0, 1, box.h);
  else context.fillRect(0, min(box.h - 1, box.h - zero), box.w, 1);
}

/**
 * A picture with its limits, its sliders and what is under the pointer or the arrow keys.
 * @param {object} picture with `values`, a Float32Array
 * @param {{id: string, label: string, memory: object}} options memory: where the sliders stand
 * @returns {{el: HTMLElement, draw: () => void}}
 */
export function createPicture(picture, { id, label, memory }) {
  const { shape, steps, full, axes, kind } = picture;
  const ends = endsOfPicture(picture);
  const table = pixelTable(picture.diverging);
  const tileAxis = shape.length - 3;
  memory.leading = shape.slice(0, shape.length - drawnAxes(picture)).map((length, axis) => min(memory.leading?.[axis] ?? 0, length - 1));
  memory.first ??= 0;
  const says = element("output", { class: "nm-readout" });
  const canvas = element("canvas", { class: "nm-picture", tabindex: 0, role: "application", "aria-roledescription": "picture",
    "aria-label": `${label}; arrow keys read its values`, "data-nm": `${id}-canvas` });
  const mark = element("div", { class: "nm-mark" });
  const frame = block("nm-frame", canvas, mark);
  const sliders = block("");
  const el = block("", sliders, frame);
  let layout = null;
  let drawnWidth = 0;
  let at = null;
  let tiles = null;

  const addSlider = (axis, name, options) => {
    const made = slider({ label: axes[axis] ?? `axis ${axis}`, max: shape[axis] - 1, id: `${id}-${name}`, ...options });
    sliders.append(made.el);
    return made;
  };
  const stepOf = (axis) => steps[axis] ?? 1;
  for (const [axis, value] of memory.leading.entries()) {
    if (shape[axis] < 2) continue;
    addSlider(axis, `axis-${axis}`, {
      value,
      text: (i) => `${i * stepOf(axis)} of ${full[axis]}`,
      change: (i) => { memory.leading[axis] = i; draw(true); },
    });
  }
  if (kind !== "bars" || shape.at(-1) > MOST_BAR_ROWS) {
    const [low, high] = numbers(...ends);
    const bar = inline("nm-colorbar");
    bar.style.background = gradient(picture.diverging);
    el.append(block("nm-limits", ...(kind === "bars" ? [`${low} … ${high}`] : [low, bar, high])));
  }
  el.append(block("", oddText(picture.values, ends)), says);
  point(null);

  /** Give the tiles a slider where they do not all fit. */
  function offerTiles() {
    const hiddenTiles = layout.tiles - layout.fit;
    memory.first = min(memory.first, hiddenTiles);
    if (hiddenTiles && !tiles) {
      tiles = addSlider(tileAxis, "tiles", {
        value: 0,
        text: (i) => `${i * stepOf(tileAxis)} … ${(i + layout.fit - 1) * stepOf(tileAxis)} of ${full[tileAxis]}`,
        change: (i) => { memory.first = i; draw(true); },
      });
    }
    if (!tiles) return;
    tiles.el.hidden = !hiddenTiles;
    tiles.input.max = hiddenTiles;
    tiles.set(memory.first);
  }

  function draw(force = false) {
    const width = floor(frame.clientWidth) || 280;
    if (!force && width === drawnWidth) return;
    drawnWidth = width;
    layout = layoutOf(picture, width, memory.leading, memory.first);
    offerTiles();
    const ratio = window.devicePixelRatio || 1;
    canvas.style.height = `${layout.height}px`;
    canvas.width = round(width * ratio);
    canvas.height = max(1, round(layout.height * ratio));
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const { color } = getComputedStyle(canvas);
    for (const box of layout.boxes) {
      if (kind === "bars") drawBars(context, picture, box, ends, color);
      else drawCells(context, picture, box, ends, ratio, table);
      context.fillStyle = color;
      drawText(context, box.title, box.x, box.y - 7);
    }
    point(null);
  }

  /** Show what stands at a cell of a box; null: nothing. */
  function point(cell) {
    at = cell;
    mark.hidden = !cell;
    // The line keeps its height, or what stands below would jump.
    says.textContent = cell ? valueAt(picture, cell.box.chosen[cell.row * cell.box.across + cell.column]) : "\u00a0";
    if (!cell) return;
    const [w, h] = [cell.w, cell.h].map((side) => max(5, side));
    Object.assign(mark.style, { left: `${cell.x - w / 2}px`, top: `${cell.y - h / 2}px`, width: `${w}px`, height: `${h}px` });
  }

  /** The cell at a place of the canvas, with its own centre and size; null: there is none. */
  function cellAt(x, y) {
    const box = layout.boxes.find((each) => x >= each.x && x < each.x + each.w && y >= each.y && y < each.y + each.h);
    if (!box) return null;
    const [w, h] = [box.w / box.across, box.h / box.down];
    const [row, column] = [floor((y - box.y) / h), floor((x - box.x) / w)];
    return { box, row, column, w, h, x: box.x + (column + 0.5) * w, y: box.y + (row + 0.5) * h };
  }

  canvas.addEventListener("pointermove", (event) => {
    const area = canvas.getBoundingClientRect();
    point(cellAt(event.clientX - area.left, event.clientY - area.top));
  });
  for (const name of ["pointerleave", "blur"]) canvas.addEventListener(name, () => point(null));
  /** Go to the next cell, over the gap between tiles where there is one. */
  function move(x, y) {
    const next = (gap, titledGap) => cellAt(at.x + x * (at.w + gap), at.y + y * (at.h + titledGap));
    point(at ? next(0, 0) ?? next(TILE_GAP, TILE_GAP + TILE_TITLE) ?? at : cellAt(layout.boxes[0].x, layout.boxes[0].y));
  }
  canvas.addEventListener("keydown", (event) => answerKey(event, {
    ArrowLeft: () => move(-1, 0),
    ArrowRight: () => move(1, 0),
    ArrowUp: () => move(0, -1),
    ArrowDown: () => move(0, 1),
  }));
  return { el, draw };
}

/**
 * Histograms over one common axis: the first of two a line, the other filled.
 * @param {{name: string, counts: number[], low: number, high: number, of: string}[]} histograms
 * @returns {HTMLElement}
 */
export function histogramFigure(histograms) {
  const [width, height] = [320, 84];
  let low = min(...histograms.map((each) => each.low));
  let high = max(...histograms.map((each) => each.high));
  if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
  const x = (value) => (((value - low) / (high - low)) * width).toFixed(1);
  const path = (look, d) => element("path", { class: look, d, "vector-effect": "non-scaling-stroke" });
  const svg = element("svg", { class: "nm-hist", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `histogram of ${histograms.map((each) => each.name).join(" and ")}` });
  const legend = block("nm-legend");
  for (const [i, { name, counts, low: from, high: to, of }] of histograms.entries()) {
    // Where all values are one, they stand in one narrow bar.
    const half = (high - low) / 64;
    const [left, right, bins] = to > from ? [from, to, counts] : [from - half, from + half, [1]];
    const most = max(1, ...bins);
    const edge = (bin) => x(left + ((right - left) * bin) / bins.length);
    const outline = bins.map((n, bin) => {
      const y = (height - (n ? max(1.5, (n / most) * (height - 4)) : 0)).toFixed(1);
      return `L${edge(bin)} ${y}L${edge(bin + 1)} ${y}`;
    });
    const look = `nm-hist-${histograms.length > 1 && i === 0 ? "before" : "after"}`;
    svg.append(path(look, `M${x(left)} ${height}${outline.join("")}L${x(right)} ${height}z`));
    legend.append(inline("", inline(`nm-swatch ${look}`), ` ${[name, of].filter(Boolean).join(": ")}`));
  }
  const axis = block("nm-limits nm-axis", ...numbers(low, high).map((text) => inline("", text)));
  if (low < 0 && high > 0) {
    svg.append(path("nm-zero", `M${x(0)} 0V${height}`));
    const share = x(0) / width;
    if (share > 0.2 && share < 0.8) {
      const zero = inline("nm-axis-zero", "0");
      zero.style.left = `${100 * share}%`;
      axis.append(zero);
    }
  }
  return block("", svg, axis, legend);
}

/** @returns {SVGElement} a parameter's histogram as small as in a row of the table */
export function smallHistogram({ counts, low, high }) {
  const most = max(1, ...counts);
  const zero = low < 0 && high > 0 ? round((-low / (high - low)) * counts.length) : -1;
  return element("svg", { class: "nm-small-hist", viewBox: `0 0 ${6 * counts.length + 2} 16`, preserveAspectRatio: "none", "aria-hidden": "true" },
    element("path", { d: barsPath(counts.map((n) => (255 * n) / most), 0, counts.length, zero) }));
}
