// The layer panel: before and after of one layer, its numbers, its parameters.
import { count, numbers, percent, plural } from "./format.js";
import { typed } from "./rows.js";
import { NO_ANSWER, PATIENCE_MS, block, element, part, pressable } from "./dom.js";
import { createPicture, histogramFigure, smallHistogram } from "./pictures.js";

const STATISTICS = ["min", "max", "mean", "std", "zeros", "nan", "inf"];

/** @returns {string[]} a tensor's statistics as text, in the order of STATISTICS */
export function statisticTexts({ min, max, mean, std, zeros, nan, inf }) {
  const of = (value, write) => write(value ?? NaN);
  return [...numbers(min, max, mean, std), of(zeros, percent), of(nan, count), of(inf, count)];
}

/** @param {{uid: string, send: (message: object) => void, close: () => void}} options */
export function createPanel({ uid, send, close }) {
  const title = element("strong", { class: "nm-panel-title", id: `${uid}-panel` });
  const body = block("");
  const status = part("status", "nm-status");
  const closer = pressable("✕", "close-panel", close, { "aria-label": "close the panel", title: "close (Escape)" });
  const el = element("section", { class: "nm-panel", role: "group", "aria-labelledby": title.id, tabindex: "-1", hidden: true, "data-nm": "panel" },
    block("nm-panel-head", title, closer), status, body);
  let pictures = [];
  let memory = {};
  let timer = 0;
  let shownKey = null;
  let waiting = null;
  let isHeld = false;

  // A slider that is being dragged must not be replaced under the pointer.
  el.addEventListener("pointerdown", (event) => { isHeld = event.target.type === "range"; });
  for (const name of ["pointerup", "pointercancel", "change"]) {
    el.addEventListener(name, () => {
      isHeld = false;
      if (waiting) fill(...waiting);
    });
  }

  function wait(text) {
    clearTimeout(timer);
    status.textContent = text;
    timer = setTimeout(() => { status.textContent = NO_ANSWER; }, PATIENCE_MS);
  }

  function tensor(record, buffers, side, i) {
    const place = `${side}-${i}`;
    const facts = [record.shape, record.dtype, record.device].filter(Boolean).join(" · ");
    const card = block("nm-tensor", block("", element("b", {}, record.title), ` ${facts}`));
    if (record.caption) card.append(block("nm-quiet", record.caption));
    if (record.unknown) card.append(block("nm-quiet", record.unknown));
    if (record.picture) {
      const picture = { ...record.picture, values: typed(buffers[record.picture.buffer], Float32Array) };
      if (picture.caption) card.append(block("nm-quiet", picture.caption));
      memory[place] ??= {};
      const drawn = createPicture(picture, { id: `${uid}-${place}`, label: `${record.title} ${record.shape}`, memory: memory[place] });
      pictures.push(drawn);
      card.append(drawn.el);
    }
    const loader = (label, name, isNew) => pressable(label, `${name}-${place}`, (event) => {
      event.currentTarget.disabled = true;
      send({ ask: "all", tensor: side, index: record.place, new: isNew });
      wait("loading all values …");
    });
    if (record.reason) card.append(block("nm-quiet", record.reason));
    if (record.loadable) card.append(loader(`Load all ${plural(record.numel, "value")}`, "all", false));
    if (record.offers_new_run) card.append(loader("new run, eval mode", "new", true));
    return card;
  }

  const side = (heading, records, name, buffers) => block("nm-side", block("nm-part", heading),
    ...(records.length ? records.map((record, i) => tensor(record, buffers, name, i)) : [block("nm-quiet", "no tensor")]));

  function statistics(records) {
    const head = element("tr", {}, element("td"), ...records.map((each) => element("th", { scope: "col" }, each.title)));
    const texts = records.map((each) => statisticTexts(each.stats ?? {}));
    const lines = STATISTICS.map((name, line) => element("tr", {}, element("th", { scope: "row" }, name),
      ...texts.map((text) => element("td", {}, text[line]))));
    return block("nm-wide", element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines)));
  }

  function parameter(record) {
    const [low, high, mean, std] = statisticTexts(record.stats ?? {});
    const said = mean ? `${[mean, std].filter(Boolean).join(" ± ")}, ${low} … ${high}` : "";
    return element("li", {}, block("", element("b", {}, record.name), ` ${record.shape} · ${count(record.count)} `,
      ...(record.histogram ? [smallHistogram(record.histogram)] : [])),
    ...[said, record.first].filter(Boolean).map((text) => block("nm-quiet nm-code", text)),
    ...(record.flags ? [block("nm-flag-text", `⚠ ${record.flags}`)] : []));
  }

  function empty() {
    pictures = [];
    waiting = null;
    body.replaceChildren();
  }

  function fill(panel, buffers) {
    const focused = el.querySelector(":focus")?.dataset.nm;
    const top = el.scrollTop;
    waiting = null;
    clearTimeout(timer);
    status.textContent = "";
    pictures = [];
    title.textContent = [panel.title, panel.type].filter(Boolean).join(" · ");
    const parts = [];
    const line = (text, look = "nm-quiet") => { if (text) parts.push(block(look, text)); };
    line(panel.doc);
    line(panel.arguments, "nm-quiet nm-code");
    for (const text of [panel.place, ...panel.notes]) line(text);
    parts.push(block("nm-sides", side("before", panel.inputs, "input", buffers), side("after", panel.outputs, "output", buffers)));
    if (panel.figures.length) parts.push(block("nm-sides", ...panel.figures.map((record, i) => tensor(record, buffers, "figure", i))));
    const both = [...panel.inputs, ...panel.outputs];
    const histograms = [panel.inputs, panel.outputs].flatMap((records) => records.filter((each) => each.histogram).slice(0, 1))
      .map((each) => ({ name: each.title, ...each.histogram }));
    if (histograms.length) parts.push(block("nm-part", "histograms"), histogramFigure(histograms));
    if (both.some((each) => each.stats)) parts.push(block("nm-part", "statistics"), statistics(both));
    if (panel.parameters.length) parts.push(block("nm-part", "parameters"), element("ul", {}, ...panel.parameters.map(parameter)));
    else line(panel.parameters_reason);
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
    /** Say that the panel of a layer is on its way. */
    load(key, name) {
      if (key !== shownKey) {
        memory = {};
        title.textContent = name;
        empty();
        el.scrollTop = 0;
      }
      shownKey = key;
      el.hidden = false;
      wait("loading …");
    },
    show(panel, buffers) {
      if (isHeld) waiting = [panel, buffers];
      else fill(panel, buffers);
    },
    hide() {
      clearTimeout(timer);
      el.hidden = true;
      shownKey = null;
      empty();
    },
    /** Wait as long as it takes for what the kernel does, or for nothing where there is a text. */
    settle(text) {
      clearTimeout(timer);
      if (text !== undefined) status.textContent = text;
    },
    clear: () => clearTimeout(timer),
  };
}
