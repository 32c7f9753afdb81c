// The layer panel: before and after of one layer, its numbers, its parameters.
import { count, numbers, percent, plural, withCommas } from "./format.js";
import { typed } from "./rows.js";
import { block, element, inline, keptScroll, pressable, waiting } from "./dom.js";
import { commonLimits, histogramFigure, smallHistogram } from "./histogram.js";
import { createCurves } from "./curves.js";
import { createPicture } from "./pictures.js";
import { createWritten } from "./written.js";

const AT_ONCE_MS = 100;
const STATISTICS = ["min", "max", "mean", "std", "zeros", "nan", "inf", "norm"];

/** @returns {string[]} a tensor's statistics as text, in the order of STATISTICS; of integers the ends in full */
export function statisticTexts({ min, max, mean, std, zeros, nan, inf, norm }, dtype = "") {
  const of = (value, write) => write(value ?? NaN);
  const isWhole = /^(u?int|bool)/.test(dtype) && [min, max].every(Number.isSafeInteger);
  const [low, high, ...middle] = numbers(min, max, mean, std);
  return [...(isWhole ? [min, max].map(withCommas) : [low, high]), ...middle, of(zeros, percent), of(nan, count), of(inf, count), ...numbers(norm)];
}

/** @param {{uid: string, send: (message: object) => void, close: () => void, cursor: object}} options cursor: as for `createCurves` */
export function createPanel({ uid, send, close, cursor }) {
  const title = element("strong", { class: "nm-panel-title", id: `${uid}-panel` });
  const body = block("");
  const status = waiting("nm-status", () => {
    for (const each of body.querySelectorAll("button:disabled")) each.disabled = false;
  });
  const closer = pressable("✕", "close-panel", close, { "aria-label": "close the panel", title: "close (Escape)" });
  const shapes = inline("nm-shapes");
  const el = element("section", { class: "nm-panel", role: "region", "aria-labelledby": title.id, tabindex: "-1", hidden: true, "data-nm": "panel" },
    block("nm-panel-head", inline("nm-line", title, shapes), closer), status.el, body);
  const scroll = keptScroll(el);
  const curves = createCurves({ id: `${uid}-curve`, cursor });
  const heading = block("nm-part", "over the iterations");
  const following = block("");
  let pictures = [];
  let isLog = false;
  let memory = {};
  let early = 0;
  let isEarly = false;
  let shownKey = null;
  let isHeld = false;

  // A slider that is being dragged must not be replaced under the pointer.
  el.addEventListener("pointerdown", (event) => { isHeld = event.target.type === "range"; });
  for (const name of ["pointerup", "pointercancel", "change"]) {
    el.addEventListener(name, () => {
      if (isHeld) send({ ask: "panel" });
      isHeld = false;
    });
  }

  /** A picture of values, or the values written out; what is chosen in it is remembered by its place, or by one that it shares. */
  function drawn(content, buffers, place, label, shared = place) {
    const isWritten = ["number", "constant", "written"].includes(content.kind);
    const picture = { ...content, values: typed(buffers[content.buffer], content.wide ? Float64Array : Float32Array) };
    memory[shared] ??= {};
    const made = isWritten ? createWritten(picture, label) : createPicture(picture, { id: `${uid}-${place}`, label, memory: memory[shared], redraw: () => draw(true) });
    pictures.push(made);
    return [...(content.caption ? [block("nm-quiet", content.caption)] : []), made.el];
  }

  function tensor(record, buffers, side, i, row) {
    const place = `${side}-${i}`;
    const facts = [record.shape, record.dtype, record.device].filter(Boolean).join(" · ");
    const card = block("nm-tensor", block("", element("b", {}, record.title), ` ${facts}`));
    for (const said of [record.caption, record.unknown]) if (said) card.append(block("nm-quiet", said));
    if (record.picture) {
      card.append(...drawn(record.picture, buffers, place, `${record.title} ${record.shape}`, row && `${row} ${record.picture.shape}`));
    }
    const loader = (label, name, isNew) => pressable(label, `${name}-${place}`, (event) => {
      event.currentTarget.disabled = true;
      send({ ask: "all", tensor: side, index: record.place, new: isNew });
      status.start("loading the values …");
    });
    const loads = record.loadable < record.numel ? `Load ${withCommas(record.loadable)} of ` : "Load all ";
    if (record.loadable) card.append(loader(loads + plural(record.numel, "value"), "all", false));
    if (record.offers_new_run) card.append(loader("new run, eval mode", "new", true));
    return card;
  }

  const side = (heading, records, name, buffers) => (records.length
    ? [block("nm-side", ...(heading ? [block("nm-part", heading)] : []), ...records.map((record, i) => tensor(record, buffers, name, i)))] : []);

  /** The histograms side by side, and a switch for the logarithm of their counts. */
  function distributions(records) {
    const shown = records.filter((each) => each.histogram).map((each) => ({ name: each.title, ...each.histogram }));
    if (!shown.length) return [];
    const limits = commonLimits(shown);
    const figures = block("nm-sides");
    const draw = () => figures.replaceChildren(...shown.map((each, i) => histogramFigure(each, { limits, isLog, id: `${uid}-histogram-${i}` })));
    const log = pressable("log counts", "log", () => {
      isLog = !isLog;
      log.setAttribute("aria-pressed", isLog);
      draw();
    }, { "aria-pressed": String(isLog) });
    draw();
    return [block("nm-part nm-line", "distributions", log, ...(limits ? [inline("nm-quiet", "on one axis")] : [])), figures];
  }

  function statistics(records) {
    const head = element("tr", {}, element("td"), ...records.map((each) => element("th", { scope: "col" }, each.title)));
    const texts = records.map((each) => statisticTexts(each.stats, each.dtype));
    const lines = STATISTICS.flatMap((name, line) => (name !== "norm" || texts.some((text) => text[line])
      ? [element("tr", {}, element("th", { scope: "row" }, name), ...texts.map((text) => element("td", {}, text[line])))] : []));
    return block("nm-wide", element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines)));
  }

  function gradientOf(record) {
    if (!record.gradient) return [];
    return [block("", inline("nm-quiet", `gradient norm ${numbers(record.gradient_norm)[0]}, after this run `),
      ...(record.gradient.histogram ? [smallHistogram(record.gradient.histogram)] : []))];
  }

  function parameter(record, buffers) {
    const [low, high, mean, std] = statisticTexts(record.stats);
    const said = mean ? `${[mean, std].filter(Boolean).join(" ± ")}, ${low} … ${high}` : "";
    return element("li", {}, block("", element("b", {}, record.name), ` ${record.shape} · ${count(record.count)} `,
      ...(record.histogram ? [smallHistogram(record.histogram)] : [])),
    ...[said, record.first].filter(Boolean).map((text) => block("nm-quiet nm-code", text)),
    block("nm-quiet", record.flags),
    ...gradientOf(record),
    ...(record.picture ? drawn(record.picture, buffers, `weight-${record.name}`, `${record.name} ${record.shape}`) : []));
  }

  /** What the page itself knows gives way to what came. */
  function endEarly() {
    clearTimeout(early);
    isEarly = false;
  }

  function empty() {
    endEarly();
    pictures = [];
    body.replaceChildren();
    shapes.textContent = "";
  }

  function fill(panel, buffers) {
    const focused = el.querySelector(":focus")?.dataset.nm;
    const top = el.scrollTop;
    endEarly();
    status.stop("");
    pictures = [];
    title.textContent = [panel.title, panel.type].filter(Boolean).join(" · ");
    shapes.textContent = panel.shapes;
    const figures = panel.figures.flat();
    const tensors = [...panel.inputs, ...panel.outputs, ...figures].filter((each) => each.stats && Object.keys(each.stats).length);
    const parts = [...panel.wrong.map((text) => block("nm-flag-text", `⚠ ${text}`)), ...panel.notes.map((text) => block("nm-quiet", text))];
    const [ins, outs] = panel.inputs.length && panel.outputs.length ? ["in", "out"] : ["", ""];
    const sides = [...side(ins, panel.inputs, "input", buffers), ...side(outs, panel.outputs, "output", buffers)];
    if (sides.length) parts.push(block("nm-sides", ...sides));
    const reasons = new Set([...panel.inputs, ...panel.outputs].map((each) => each.reason).filter(Boolean));
    for (const reason of reasons) parts.push(block("nm-quiet", reason));
    for (const [i, row] of panel.figures.entries()) {
      parts.push(block("nm-sides", ...row.map((record) => tensor(record, buffers, "figure", figures.indexOf(record), i + 1))));
    }
    parts.push(...distributions(tensors));
    if (tensors.length) parts.push(statistics(tensors));
    curves.show(panel.curves);
    heading.hidden = false;
    if (panel.curves.length) parts.push(heading, curves.el);
    if (panel.parameters.length) {
      parts.push(block("nm-part", panel.parameters_heading), element("ul", {}, ...panel.parameters.map((record) => parameter(record, buffers))));
    }
    if (panel.parameters_reason) parts.push(block("nm-quiet", panel.parameters_reason));
    const facts = panel.facts.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]);
    if (panel.doc || facts.length) parts.push(block("nm-part", "about"), ...(panel.doc ? [block("", panel.doc)] : []), element("dl", {}, ...facts));
    body.replaceChildren(...parts);
    draw(true);
    el.scrollTop = top;
    // What was focused may be gone, such as a button that loaded all values.
    if (focused) (el.querySelector(`[data-nm="${CSS.escape(focused)}"]`) ?? el).focus({ preventScroll: true });
  }

  const draw = (force) => { for (const picture of pictures) picture.draw(force); };

  return {
    el,
    draw,
    point: curves.point,
    /** Say that the panel of a layer is on its way, and show at once what is known; one that is quick does not flicker. */
    load(key, name, known) {
      if (key !== shownKey) {
        memory = {};
        title.textContent = name;
        empty();
        early = setTimeout(() => {
          body.replaceChildren(...known);
          isEarly = true;
        }, AT_ONCE_MS);
        scroll.reset();
      }
      shownKey = key;
      el.hidden = false;
      status.start("loading …");
    },
    /** Show newer numbers of what the page knows by itself, as long as no answer came. */
    renew(known) {
      if (isEarly) body.replaceChildren(known());
    },
    /** Show what the page knows by itself: a list, and the curves as far as they go. */
    follow(list, lines) {
      endEarly();
      status.stop("");
      following.replaceChildren(list);
      if (curves.el.parentNode !== body || following.parentNode !== body) body.replaceChildren(heading, curves.el, following);
      curves.show(lines);
      heading.hidden = !lines.length;
    },
    show(panel, buffers) {
      if (!isHeld) fill(panel, buffers);
    },
    /** Show nothing but why there is nothing. */
    lack(text) {
      empty();
      status.stop(text);
    },
    hide() {
      status.stop();
      el.hidden = true;
      shownKey = null;
      empty();
    },
    /** Wait as long as it takes for what the kernel does, or for nothing where there is a text. */
    settle: status.stop,
    clear() {
      status.stop();
      clearTimeout(early);
    },
  };
}
