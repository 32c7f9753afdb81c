// What goes in and what comes out: run again on another input, the scores or the output's structure.
import { fixed } from "./format.js";
import { typed } from "./rows.js";
import { block, element, inline } from "./pictures.js";

const SIDE = 28;
const NAMES = { same: "the same input", noise: "noise", picture: "a Fashion-MNIST picture", variable: "a variable of the notebook" };

/** @param {{uid: string, send: (message: object) => void}} options */
export function createInput({ uid, send }) {
  const scores = block("nm-scores");
  const source = element("select", { "aria-label": "run on", "data-nm": "source", change: choose });
  const seed = element("input", { type: "number", min: 0, value: "0", "data-nm": "seed" });
  const name = element("input", { type: "text", placeholder: "x", spellcheck: "false", autocomplete: "off", "data-nm": "variable" });
  const extras = {
    noise: element("label", {}, "seed ", seed),
    picture: element("div", { class: "nm-strip", role: "group", "aria-label": "pictures" }),
    variable: element("label", {}, "name ", name),
  };
  const button = element("button", { type: "submit", class: "nm-run", "data-nm": "run" }, "Run again");
  const status = element("span", { role: "status", class: "nm-quiet" });
  const alert = element("div", { role: "alert", class: "nm-alert" });
  const form = element("form", { class: "nm-form", id: `${uid}-input`, hidden: true, submit: run },
    block("nm-line", element("label", {}, "run on ", source), extras.noise, extras.variable, button, status), extras.picture);
  const toggle = element("button", { type: "button", class: "nm-input-toggle", "aria-expanded": "false", "aria-controls": form.id, "data-nm": "input",
    click: () => open(form.hidden) }, "input");
  const said = inline("nm-quiet");
  const head = block("nm-line", toggle, said);
  const el = element("section", { class: "nm-input", "aria-label": "input and output" }, head, form, alert, scores);
  let current = null;
  let chosen = 0;
  let item = 0;
  let hasPictures = false;
  let timer = 0;

  function open(isOpen) {
    form.hidden = !isOpen;
    toggle.setAttribute("aria-expanded", isOpen);
  }

  function choose() {
    for (const [kind, extra] of Object.entries(extras)) extra.hidden = source.value !== kind;
    if (source.value === "picture" && !hasPictures) {
      extras.picture.textContent = "loading the pictures …";
      send({ ask: "pictures" });
    }
  }

  function run(event) {
    event.preventDefault();
    if (button.disabled) return;
    const on = source.value;
    const message = { ask: "run", on };
    if (on === "noise") message.seed = Math.trunc(Number(seed.value)) || 0;
    if (on === "picture") message.index = chosen;
    if (on === "variable") {
      message.name = name.value.trim();
      if (!message.name) return name.focus();
    }
    alert.replaceChildren();
    status.textContent = "running …";
    button.disabled = true;
    send(message);
    timer = setTimeout(() => settle("no answer yet: the kernel is busy with a cell, or gone"), 5000);
  }

  function settle(text = "") {
    clearTimeout(timer);
    const reason = current?.run && !current.run.enabled ? current.run.reason : "";
    button.disabled = Boolean(reason);
    status.textContent = text || reason;
  }

  function bars({ item: number, best }, of) {
    const list = best.map(([label, share]) => {
      const bar = inline("nm-score-bar", element("span"));
      bar.firstChild.style.width = `${100 * share}%`;
      return element("li", {}, element("span", { class: "nm-score-name", title: label }, label), bar, inline("nm-score-share", `${fixed(100 * share, 1)} %`));
    });
    return element("ol", { "aria-label": of > 1 ? `class scores of item ${number}` : "class scores" }, ...list);
  }

  function showScores() {
    const found = current.scores;
    const focused = el.getRootNode().activeElement?.dataset?.nm === "item";
    if (!found) {
      scores.replaceChildren(...(current.structure ? [block("nm-code", `output: ${current.structure}`)] : []));
      return;
    }
    item = Math.min(item, found.rows.length - 1);
    const parts = [block("nm-line nm-quiet", found.how)];
    if (found.rows.length > 1) {
      const choice = element("select", { "data-nm": "item", change: () => { item = choice.selectedIndex; showScores(); } },
        ...found.rows.map((row) => element("option", {}, String(row.item))));
      choice.selectedIndex = item;
      parts[0].append(element("label", {}, "item ", choice, ` of ${found.items.toLocaleString("en")}`));
      if (focused) queueMicrotask(() => choice.focus());
    }
    if (found.rows.length) parts.push(bars(found.rows[item], found.rows.length));
    scores.replaceChildren(...parts);
  }

  return {
    el,
    open,
    clear: () => clearTimeout(timer),
    /** Show what a table says of its input and output. */
    show(table) {
      current = table;
      head.hidden = !table.run;
      if (!table.run) open(false);
      else {
        const before = source.value;
        source.replaceChildren(...table.run.sources.map((kind) => element("option", { value: kind }, NAMES[kind] ?? kind)));
        if (table.run.sources.includes(before)) source.value = before;
        said.textContent = table.run.text;
        choose();
      }
      settle();
      showScores();
      el.hidden = !table.run && !table.scores && !table.structure;
    },
    error(lines) {
      settle();
      el.hidden = false;
      alert.replaceChildren(...lines.map((line) => element("div", {}, line)));
    },
    forget: () => alert.replaceChildren(),
    pictures(labels, bytes) {
      const values = typed(bytes, Uint8Array);
      hasPictures = true;
      extras.picture.replaceChildren(...labels.map((label, i) => {
        const canvas = element("canvas", { width: SIDE, height: SIDE, "aria-hidden": "true" });
        const image = new ImageData(SIDE, SIDE);
        for (let pixel = 0; pixel < SIDE * SIDE; pixel++) image.data.fill(values[i * SIDE * SIDE + pixel], 4 * pixel, 4 * pixel + 3);
        for (let pixel = 3; pixel < image.data.length; pixel += 4) image.data[pixel] = 255;
        canvas.getContext("2d").putImageData(image, 0, 0);
        return element("button", { type: "button", "aria-pressed": i === chosen, "data-nm": `picture-${i}`, click: (event) => {
          chosen = i;
          for (const each of extras.picture.children) each.setAttribute("aria-pressed", each === event.currentTarget);
        } }, canvas, element("span", {}, label));
      }));
    },
  };
}
