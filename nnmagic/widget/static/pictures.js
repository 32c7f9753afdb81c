// Pictures of values: bars, matrices, photographs, tiles of channels, heads or kernels.
import { abs, ceil, clamped, floor, indexText, max, min, numbers, round, shortText, valueText, withCommas } from "./format.js";
import { pictureButtons } from "./copying.js";
import { answerKey, block, element, inline, slider } from "./dom.js";
import { NAN_COLOR, colorAt, cssColor, gradient, mapEnds, mapOf, oddness, pixelTable, placeOf, pooled, weight } from "./colors.js";

const GLYPHS = { nan: "×", "+inf": "+", "-inf": "−", above: "▴", below: "▾" };
const MOST_HEIGHT = 330;
const MOST_MARKS = 150;
const TILE_GAP = 4;
const TILE_TITLE = 14;
const BAR_ROW = 19;
const MOST_BAR_ROWS = 20;
const FONT = "11px sans-serif";

/** How many of the last axes a kind of picture draws; the axes before get a slider each. */
export const drawnAxes = ({ kind, shape }) => min(shape.length, { bars: 1, matrix: 2, mask: 2, grey: 2, kernels: 4 }[kind] ?? 3);

/** Whether three planes are one picture, in red, green and blue. */
const isColored = (kind) => kind === "rgb" || kind === "kernels";

/** The axis along which the tiles lie, counted from the last. */
const tileAxisOf = (kind) => (kind === "kernels" ? 4 : 3);

/**
 * Where the parts of a picture go.
 * @param {object} picture @param {number} width in pixels
 * @param {number[]} leading the chosen index on each axis before the drawn ones
 * @param {number} first the first of the tiles that show
 * @returns {{boxes: object[], height: number, tiles: number, fit: number}}
 */
export function layoutOf(picture, width, leading, first) {
  const { kind, shape, steps } = picture;
  const sizeOf = (back) => (back > drawnAxes(picture) ? 1 : shape.at(-back));
  const [rows, columns] = [sizeOf(2), sizeOf(1)];
  const tiles = kind === "rgb" ? 1 : sizeOf(tileAxisOf(kind));
  const start = shape.reduce((sum, length, axis) => sum * length + (leading[axis] ?? 0), 0);
  const area = { start, rows, columns, rowStride: columns, title: "", x: 0, y: 0, w: width };
  const single = (h, changes) => ({ boxes: [{ ...area, h, ...changes }], height: h, tiles: 1, fit: 1 });
  if (kind === "bars") {
    if (columns > MOST_BAR_ROWS) return single(120);
    return single(columns * BAR_ROW, { rows: columns, columns: 1, rowStride: 1 });
  }
  // Of every second row and every fourth column a cell is twice as wide as high.
  const [tall, wide] = [rows * (rows > 1 ? steps.at(-2) : 1), columns * (steps.at(-1) ?? 1)];
  if (tiles === 1) {
    const isMatrix = kind === "matrix" || kind === "mask";
    const [cell, high, long] = isMatrix ? [40, 28, 160] : [12, 12, min(12 * columns, 56)];
    const scale = min(cell * min(tall / rows, wide / columns), width / wide, MOST_HEIGHT / tall);
    // What is very long or very wide is stretched until it can be seen.
    return single(max(scale * tall, min(high * rows, 56)), { w: max(scale * wide, min(width, long)) });
  }
  const [wanted, most] = kind === "heads" ? [110, 180] : kind === "kernels" ? [46, 110] : [clamped(columns, 52, 90), 110];
  const across = clamped(floor((width + TILE_GAP) / (wanted + TILE_GAP)), 1, tiles);
  const widest = min(most, (width + TILE_GAP) / across - TILE_GAP);
  const h = clamped((widest * tall) / wide, 12, MOST_HEIGHT - TILE_TITLE);
  const w = min(widest, max(12, (h * wide) / tall));
  const pitch = h + TILE_TITLE + TILE_GAP;
  const fit = min(tiles, across * max(1, floor((MOST_HEIGHT + TILE_GAP) / pitch)));
  const planes = isColored(kind) ? 3 : 1;
  const boxes = Array.from({ length: fit }, (_, i) => {
    const tile = min(first, tiles - fit) + i;
    return {
      ...area,
      start: start + tile * planes * rows * columns,
      title: String(tile * (steps.at(-tileAxisOf(kind)) ?? 1)),
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
    index.unshift((flat % shape[axis]) * steps[axis]);
    flat = floor(flat / shape[axis]);
  }
  return index;
}

/** @returns {number[]} how far the values of a cell lie behind it: one, or its red, green and blue */
function planesOf({ kind, shape }) {
  const plane = shape.at(-1) * shape.at(-2);
  return isColored(kind) ? [0, plane, 2 * plane] : [0];
}

/** @returns {string} a value, where it stands and what it is called */
export function valueAt(picture, flat) {
  const { kind, values, names, shape, steps } = picture;
  const [axes, index] = [[...picture.axes], trueIndex(picture, flat)];
  if (isColored(kind)) for (const each of [axes, index]) each.splice(-3, 1);
  const cell = planesOf(picture).map((i) => values[flat + i]);
  let text = kind === "mask" ? (values[flat] ? "True" : "False") : cell.map(valueText).join(", ");
  const sparse = steps.filter((step) => step > 1);
  // The value at the place itself may be another one.
  if (sparse.length && !cell.every(Number.isFinite)) text += ` in the ${sparse.join(" × ")} values from here`;
  const name = names?.[flat % shape.at(-1)];
  return [[name, indexText(axes, index)].filter(Boolean).join(", "), text].filter(Boolean).join(": ");
}

/** The ends of what a picture tells apart; bars, which have no colours to spare, reach to every value. */
function endsOfPicture(picture) {
  if (picture.kind === "mask") return [0, 1];
  if (picture.kind !== "bars") return mapEnds(picture);
  let [low, high] = [0, 0];
  for (const value of picture.values) if (Number.isFinite(value)) [low, high] = [min(low, value), max(high, value)];
  return [low, high];
}

/** What the colours mean: the ends of the map, or what is true and false. */
function legend(picture, ends, map) {
  const { kind, shape, values } = picture;
  const [low, high] = numbers(...ends);
  if (!values.some(Number.isFinite) || (kind === "bars" && shape.at(-1) <= MOST_BAR_ROWS)) return [];
  if (kind === "bars") return [`${low} … ${high}`];
  if (kind === "rgb") return [`${low} is black, ${high} is white`];
  if (kind === "kernels") return [`${low} … ${high} in red, green and blue`];
  const bar = inline("nm-colorbar");
  bar.style.background = gradient(map);
  if (kind !== "mask") return [low, bar, high];
  const trues = values.reduce((sum, value) => sum + (value ? 1 : 0), 0);
  return ["False", bar, `True: ${withCommas(trues)} of ${withCommas(values.length)}`];
}

/** Which odd values a picture shows, and how many the whole tensor has where that is more, as a legend. */
export function oddText({ values, odd: all = [] }, ends) {
  const [low, high] = numbers(...ends);
  const words = { nan: "NaN", "+inf": "+Inf", "-inf": "-Inf", above: `above ${high}`, below: `below ${low}` };
  const counts = {};
  for (const value of values) {
    const odd = oddness(value, ends);
    if (odd) counts[odd] = (counts[odd] ?? 0) + 1;
  }
  const texts = Object.entries(words).map(([odd, word], i) => {
    const shown = counts[odd] ?? 0;
    const more = all[i] > shown ? ` (${withCommas(all[i])} in all)` : "";
    return (shown || more) && `${GLYPHS[odd]} ${word}: ${withCommas(shown)}${more}`.replaceAll(" ", "\u00a0");
  });
  return texts.filter(Boolean).join("\u2002");
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
function drawCells(context, picture, box, ends, ratio, table) {
  const { values, kind } = picture;
  const planes = planesOf(picture);
  box.across = clamped(round(box.w * ratio), 1, box.columns);
  box.down = clamped(round(box.h * ratio), 1, box.rows);
  // Of a photograph the brightest value would be none: only what is odd goes first.
  const oddFirst = (i) => {
    for (const plane of planes) if (!Number.isFinite(values[i + plane])) return weight(values[i + plane]);
    return 0;
  };
  box.chosen = pooled(values, box, box.down, box.across, planes.length > 1 || kind === "grey" ? oddFirst : undefined);
  const image = new ImageData(box.across, box.down);
  const pixels = new Uint32Array(image.data.buffer);
  const [cellWidth, cellHeight] = [box.w / box.across, box.h / box.down];
  const glyph = min(14, cellWidth, cellHeight);
  const marks = [];
  for (let i = 0; i < pixels.length; i++) {
    let [odd, color] = ["", 0xff000000];
    for (const [at, plane] of planes.entries()) {
      const value = values[box.chosen[i] + plane];
      const byte = round(255 * placeOf(value, ends));
      odd ||= oddness(value, ends);
      color = planes.length > 1 ? color | (byte << (8 * at)) : table[byte];
    }
    const isFinite = odd !== "nan" && !odd.endsWith("inf");
    pixels[i] = isFinite ? color : table[odd === "nan" ? 257 : 256];
    if (odd && (glyph >= 8 || (!isFinite && marks.length < MOST_MARKS))) marks.push([odd, i]);
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
    context.fillStyle = cssColor(odd === "nan" ? NAN_COLOR : colorAt("diverging", value < 0 ? 0.2 : 0.85));
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
    drawText(context, shortText(value), box.w - 2, y, "right");
  }
  context.fillStyle = color;
  if (isList) context.fillRect(left + zero - 0.5, 0, 1, box.h);
  else context.fillRect(0, min(box.h - 1, box.h - zero), box.w, 1);
}

/**
 * A picture with its limits, its sliders and what is under the pointer or the arrow keys.
 * @param {object} picture with `values`
 * @param {{id: string, label: string, memory: object, redraw: () => void}} options
 *   memory: where the sliders stand; redraw: draws all that share it
 * @returns {{el: HTMLElement, draw: () => void}}
 */
export function createPicture(picture, { id, label, memory, redraw }) {
  const { shape, steps, start, full, axes, kind } = picture;
  const ends = endsOfPicture(picture);
  const map = mapOf(picture);
  const table = pixelTable(map);
  const tileAxis = shape.length - tileAxisOf(kind);
  memory.leading = shape.slice(0, shape.length - drawnAxes(picture)).map((length, axis) => min(memory.leading?.[axis] ?? floor(start[axis] / steps[axis]), length - 1));
  memory.first ??= floor(start[tileAxis] / steps[tileAxis]) || 0;
  const says = element("output", { class: "nm-readout" });
  const canvas = element("canvas", { class: "nm-picture", tabindex: 0, role: "application", "aria-roledescription": "picture",
    "aria-label": `${label}; arrow keys read its values`, "data-nm": `${id}-canvas` });
  const mark = element("div", { class: "nm-mark" });
  // It covers what stands below while it is there, so that nothing jumps.
  const frame = block("nm-frame", canvas, mark, says);
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
  const leading = memory.leading.map((value, axis) => shape[axis] > 1 && addSlider(axis, `axis-${axis}`, {
    value,
    text: (i) => `[${i * steps[axis]}] of ${full[axis]}`,
    change: (i) => { memory.leading[axis] = i; redraw(); },
  }));
  const odd = oddText(picture, ends);
  const taken = element("span", { role: "status", class: "nm-quiet" });
  const taking = pictureButtons(canvas, label, (text) => { taken.textContent = text; });
  taking.prepend(taken);
  el.append(block("nm-limits", ...legend(picture, ends, map), ...(odd ? [inline("nm-odd-values", odd)] : []), taking));

  /** Give the tiles a slider where they do not all fit. */
  function offerTiles() {
    const hiddenTiles = layout.tiles - layout.fit;
    memory.first = min(memory.first, hiddenTiles);
    if (hiddenTiles && !tiles) {
      tiles = addSlider(tileAxis, "tiles", {
        value: 0,
        text: (i) => `${i * steps[tileAxis]} … ${(i + layout.fit - 1) * steps[tileAxis]} of ${full[tileAxis]}`,
        change: (i) => { memory.first = i; redraw(); },
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
    for (const [axis, each] of leading.entries()) if (each) each.set(memory.leading[axis]);
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
    says.textContent = cell ? valueAt(picture, cell.box.chosen[cell.row * cell.box.across + cell.column]) : "";
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

  canvas.addEventListener("pointermove", ({ offsetX, offsetY }) => point(cellAt(offsetX, offsetY)));
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
