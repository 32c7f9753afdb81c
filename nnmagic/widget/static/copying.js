// What can be taken away: the rows in view as text, Markdown or TSV, and a picture as PNG.
import { cellText, cellsBeforeMessage } from "./columns.js";
import { element, inline, pressable } from "./dom.js";
import { max } from "./format.js";
import { flatName, labelOf } from "./rows.js";

const BAR_GLYPHS = " ▁▂▃▄▅▆▇█";
const isRight = ({ kind }) => !["text", "flags", "histogram"].includes(kind);
const numberText = (value) => (Number.isNaN(value) ? "" : String(value));

function barsText(column, row) {
  const glyphs = Array.from(column.values.subarray(row * 10, row * 10 + 10), (bar) => BAR_GLYPHS[bar && 1 + Math.floor((bar * 7) / 255)]);
  if (!glyphs.some((glyph) => glyph !== " ")) return "";
  if (column.zero[row] >= 0) glyphs.splice(column.zero[row], 0, "|");
  return glyphs.join("");
}

const textOf = (column, row) => (column.kind === "histogram" ? barsText(column, row) : cellText(column, row).trim());

/** The titles, and the texts of each row; what stands in place of most cells is one text, the last. */
function linesOf({ table, rows, columns }, write, name = flatName, titles = columns.map(({ title }) => title)) {
  const texts = (row) => {
    const message = table.message?.[row];
    const stays = message === undefined ? columns : columns.slice(0, cellsBeforeMessage(columns));
    return [name(table, row), ...stays.flatMap((column) => write(column, row)), message ?? []].flat();
  };
  return [[table.title, ...titles], ...Array.from(rows, texts)];
}

/**
 * @param {{table: object, rows: ArrayLike<number>, columns: object[], isFlat: boolean}} view what a grid shows
 * @returns {string} lines in which the columns stand one below the other
 */
export function asText(view) {
  const { table, rows, columns, isFlat } = view;
  const lines = linesOf(view, textOf, isFlat ? flatName : (_, row) => "  ".repeat(table.level[row]) + labelOf(table, row));
  const messages = [undefined, ...Array.from(rows, (row) => table.message?.[row])];
  const isMessage = (i, at) => messages[at] !== undefined && i > cellsBeforeMessage(columns);
  const widthOf = (i) => max(...lines.map((line, at) => (isMessage(i, at) ? 0 : [...line[i]].length)));
  const widths = [table.title, ...columns].map((_, i) => widthOf(i));
  return lines.map((line, at) => line.map((text, i) => {
    if (isMessage(i, at)) return text;
    const spaces = " ".repeat(widths[i] - [...text].length);
    return i && isRight(columns[i - 1]) ? spaces + text : text + spaces;
  }).join("  ").trimEnd()).join("\n");
}

/** @returns {string} a table of Markdown, with full names */
export function asMarkdown(view) {
  const { columns } = view;
  const escaped = (text = "") => text.trim().replace(/[\\|`*_~$&<>[\]]/g, "\\$&");
  const line = (texts) => `| ${Array.from({ length: columns.length + 1 }, (_, i) => escaped(texts[i])).join(" | ")} |`;
  const rule = `| --- |${columns.map((column) => (isRight(column) ? " ---: |" : " --- |")).join("")}`;
  const [titles, ...lines] = linesOf(view, textOf).map(line);
  return [titles, rule, ...lines].join("\n");
}

/** @returns {string} values between tabs for a spreadsheet, with full names and numbers, a pair as two */
export function asTsv(view) {
  const titles = view.columns.flatMap(({ kind, title, joiner }) => (kind === "pair" ? [0, 1].map((side) => title.split(` ${joiner} `)[side] ?? `${title} ${joiner}`) : title));
  const write = (column, row) => {
    if (column.kind === "pair") return [numberText(column.first[row]), numberText(column.second[row])];
    return column.kind === "histogram" || column.strings || column.texts?.[row] ? textOf(column, row) : numberText(column.values[row]);
  };
  return linesOf(view, write, flatName, titles).map((texts) => texts.map((text) => text.replace(/\s/g, " ")).join("\t")).join("\n");
}

/** Copy a text, also where the page may not use the clipboard by itself. @returns {Promise<boolean>} whether it was copied */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = element("textarea", { "aria-hidden": "true", style: "position:fixed;opacity:0" });
    area.value = text;
    document.body.append(area);
    area.select();
    const isDone = document.execCommand("copy");
    area.remove();
    return isDone;
  }
}

/** @param {HTMLCanvasElement} canvas @returns {Promise<Blob>} it as PNG, on the widget's own background */
function pngOf(canvas) {
  const whole = element("canvas", { width: canvas.width, height: canvas.height });
  const context = whole.getContext("2d");
  context.fillStyle = getComputedStyle(canvas.closest(".nnmagic")).backgroundColor;
  context.fillRect(0, 0, whole.width, whole.height);
  context.drawImage(canvas, 0, 0);
  return new Promise((done) => { whole.toBlob(done, "image/png"); });
}

/** Save a picture by a link that is made in the page. */
async function savePicture(canvas, name) {
  const layer = canvas.closest(".nm-panel")?.querySelector(".nm-panel-title").textContent;
  const href = URL.createObjectURL(await pngOf(canvas));
  element("a", { href, download: `${[layer, name].join(" ").replace(/\W+/g, "-").replace(/^-|-$/g, "")}.png` }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

/**
 * What takes a picture away: to the clipboard, or into a file.
 * @param {HTMLCanvasElement} canvas @param {string} name of what it shows @param {(text: string) => void} say
 */
export function pictureButtons(canvas, name, say) {
  const copy = async () => {
    try {
      await navigator.clipboard.write([new ClipboardItem({ "image/png": pngOf(canvas) })]);
      say("copied");
    } catch {
      say("the browser lets this page copy no pictures: save it");
    }
  };
  return inline("nm-take", pressable("copy", "copy-picture", copy, { "aria-label": `copy ${name}` }),
    pressable("save as PNG", "save-picture", () => savePicture(canvas, name), { "aria-label": `save as PNG: ${name}` }));
}
