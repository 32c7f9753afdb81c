// The recorded iterations: a slider that shows any of them, and a button that plays them one after the other.
import { ceil, withCommas } from "./format.js";
import { element, pressable, slider, waiting } from "./dom.js";
import { placeIn } from "./curves.js";

const FRAME_MS = 120;
const MOST_FRAMES = 100;

/**
 * @param {(iteration: number, wait: number) => void} ask asks for an iteration, after so many milliseconds in which no other is asked for
 * @param {() => void} unanswered the iteration that was there before shows on
 */
export function createIterations(ask, unanswered) {
  let iterations = [];
  let shown = 0;
  let timer = 0;
  let isPlaying = false;
  let asked = null;
  const text = (place) => {
    const at = iterations[place] ?? 0;
    const [here, nth, all] = [at, place + 1, iterations.length].map(withCommas);
    return at === place ? `${here} of ${all}` : `${here} (${nth} of ${all})`;
  };
  const { el: label, input, set } = slider({ label: "iteration", max: 1, value: 0, id: "step", text, change: (place) => {
    play(false);
    ask(iterations[place], FRAME_MS);
  } });
  const button = pressable("▶", "play", () => {
    play(!isPlaying);
    if (isPlaying) advance();
  }, { "aria-label": "play the iterations", "aria-pressed": "false" });
  const status = waiting("nm-quiet", () => {
    asked = null;
    play(false);
    set(shown);
    unanswered();
  });
  const el = element("span", { class: "nm-group nm-iterations" }, button, label, status.el);
  const last = () => iterations.length - 1;

  function play(value) {
    clearTimeout(timer);
    isPlaying = value;
    button.textContent = isPlaying ? "▮▮" : "▶";
    button.setAttribute("aria-pressed", isPlaying);
  }

  /** Go on to a later iteration, from the last one to the first. */
  function advance() {
    const place = Number(input.value);
    ask(iterations[place === last() ? 0 : Math.min(last(), place + ceil(iterations.length / MOST_FRAMES))], 0);
  }

  return {
    el,
    /** @param {{iterations: number[], shown: number}|null} steps null: there is one, or none can be asked for */
    show(steps) {
      iterations = steps?.iterations ?? [];
      el.hidden = iterations.length < 2;
      input.max = last();
      if (el.hidden || steps.shown === asked) asked = null;
      // An answer to what was asked for before does not move the slider back.
      if (asked !== null) return;
      status.stop("");
      shown = placeIn(iterations, steps?.shown);
      set(shown);
      if (shown === last() || el.hidden) play(false);
      clearTimeout(timer);
      if (isPlaying) timer = setTimeout(advance, FRAME_MS);
    },
    /** @returns {number} which of the iterations is the nearest one at or after another */
    nearest: (iteration) => iterations[placeIn(iterations, iteration)],
    /** Show that an iteration was asked for, whose answer is waited for. */
    expect(iteration) {
      asked = iteration;
      status.start("");
      set(placeIn(iterations, iteration));
    },
    stop() {
      play(false);
      status.stop();
    },
  };
}
