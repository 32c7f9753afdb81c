// What goes in and what comes out: run again on another input, the scores or the output's structure.
import { fixed, max, min, withCommas } from "./format.js";
import { typed } from "./rows.js";
import { answerKey, block, element, inline, part, pressable, slider, waiting } from "./dom.js";

const SIDE = 28;
const NAMES = { same: "the same input", noise: "noise", picture: "a Fashion-MNIST picture", variable: "a variable of the notebook" };

/** @param {{send: (message: object) => void}} options */
export function createInput({ send }) {
  let current = null;
  const how = inline("nm-quiet");
  const items = slider({ label: "item", max: 0, value: 0, id: "item", change: showScores,
    text: (i) => `${(current?.scores?.rows[i]?.item ?? i) + 1} of ${withCommas(current?.scores?.items ?? 1)}` });
  const list = element("ol", { "aria-label": "class scores" });
  const source = element("select", { "aria-label": "run on", "data-nm": "source", change: choose });
  // In JupyterLab Enter submits no form by itself.
  const keydown = (event) => answerKey(event, { Enter: () => form.requestSubmit() });
  const seed = element("input", { type: "number", min: 0, value: "0", "data-nm": "seed", keydown });
  const name = element("input", { type: "text", placeholder: "x", spellcheck: "false", "data-nm": "variable", keydown });
  const extras = {
    noise: element("label", {}, "seed ", seed),
    picture: element("div", { class: "nm-strip", role: "group", "aria-label": "pictures" }),
    variable: element("label", {}, "name ", name),
  };
  const button = element("button", { type: "submit", class: "nm-run", "data-nm": "run" }, "Run again");
  const status = waiting("nm-quiet", offer);
  const asking = waiting("nm-quiet");
  const alert = part("alert", "nm-alert");
  const choices = inline("nm-group", button, element("label", {}, "on ", source), extras.noise, extras.variable);
  const form = element("form", { submit: run }, block("nm-line", choices, status.el), extras.picture);
  const el = element("div", { role: "group", class: "nm-input", "aria-label": "input and output" }, form, alert, block("nm-line", how, items.el), list);
  let chosen = 0;
  let areAsked = false;

  function choose() {
    for (const [kind, extra] of Object.entries(extras)) extra.hidden = source.value !== kind;
    if (source.value === "picture" && !areAsked) {
      areAsked = true;
      extras.picture.replaceChildren(asking.el);
      asking.start("loading the pictures …");
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
    button.disabled = true;
    send(message);
    status.start("running …");
  }

  /** Let the button be pressed if it may. @returns {string} why not */
  function offer() {
    const reason = current?.run && !current.run.enabled ? current.run.reason : "";
    button.disabled = Boolean(reason);
    return reason;
  }

  function bar([label, share]) {
    const filled = inline();
    filled.style.width = `${100 * share}%`;
    return element("li", {}, element("span", { class: "nm-score-name", title: label }, label), inline("nm-score-bar", filled),
      inline("", `${fixed(100 * share, 1)} %`));
  }

  function showScores() {
    const { scores, structure } = current;
    const rows = scores?.rows ?? [];
    const most = max(0, rows.length - 1);
    how.textContent = scores ? scores.how : structure && `output: ${structure}`;
    items.el.hidden = !most;
    items.input.max = most;
    items.set(min(items.input.value, most));
    list.replaceChildren(...(rows[items.input.value]?.best ?? []).map(bar));
  }

  return {
    el,
    /** Show what a table says of its input and output. */
    show(table) {
      current = table;
      form.hidden = !table.run;
      choices.hidden = !table.run?.enabled;
      if (table.run) {
        // An open list of choices would close when its choices are made anew.
        if (source.length !== table.run.sources.length) {
          source.replaceChildren(...table.run.sources.map((kind) => element("option", { value: kind }, NAMES[kind] ?? kind)));
        }
        choose();
      }
      status.stop(offer());
      showScores();
      el.hidden = !table.run && !table.scores && !table.structure;
    },
    error(lines) {
      status.stop(offer());
      asking.stop("");
      el.hidden = false;
      alert.replaceChildren(...lines.map((line) => block("", line)));
    },
    /** Wait as long as it takes for a run that the kernel has begun. */
    settle: status.stop,
    forget: () => alert.replaceChildren(),
    pictures(labels, bytes) {
      asking.stop();
      const values = typed(bytes, Uint8Array);
      extras.picture.replaceChildren(...labels.map((label, i) => {
        const canvas = element("canvas", { width: SIDE, height: SIDE, "aria-hidden": "true" });
        const image = new ImageData(SIDE, SIDE);
        for (let pixel = 0; pixel < SIDE * SIDE; pixel++) {
          const grey = values[i * SIDE * SIDE + pixel];
          image.data.set([grey, grey, grey, 255], 4 * pixel);
        }
        canvas.getContext("2d").putImageData(image, 0, 0);
        const picture = pressable(canvas, `picture-${i}`, () => {
          chosen = i;
          for (const each of extras.picture.children) each.setAttribute("aria-pressed", each === picture);
        }, { "aria-pressed": String(i === chosen) });
        picture.append(label);
        return picture;
      }));
    },
  };
}
