// How tensors travel between the rows, drawn as a version-control log draws branches.
import { element } from "./dom.js";
import { abs, ceil, max, min } from "./format.js";

const LANE_MIDDLE = 12;
const LANE_HEIGHT = 24;
const WIDEST_LANES = 108;
/** So many pixels are between two lines at least, whatever room they take. */
const LEAST_PITCH = 2.5;
const LANE_CHARACTER = 7;

const pitchOf = (lanes) => max(LEAST_PITCH, min(12, WIDEST_LANES / lanes));

const bitOf = (lane) => 1n << BigInt(lane);

/** @returns {number} how many characters wide the column is where all rows show */
export function lanesWidth({ lanes }) {
  return ceil((lanes * pitchOf(lanes) + 2) / LANE_CHARACTER);
}

/**
 * @param {{values: Int32Array, edges: Uint32Array}} column
 * @returns {number} how many lanes are drawn where all of them show
 */
export function lanesOf({ values, edges }) {
  const sources = Array.from(values, () => []);
  for (let i = 0; i < edges.length; i += 2) sources[edges[i + 1]].push(edges[i]);
  return assigned(sources, values).reduce((most, lane) => max(most, lane + 1), 1);
}

/**
 * Give each place a lane, as `display/lanes.py` gives one to each row: no two outputs that a place further down
 * still gets share one, and a chain is a straight line.
 * @param {number[][]} sources for each place those that it gets something from
 * @param {ArrayLike<number>} makers for each place the one that made what it returns as it got it, -1: none
 * @returns {number[]} for each place the lane of its mark, and of what it made; -1: none
 */
export function assigned(sources, makers) {
  const ends = sources.map(() => 0);
  sources.forEach((found, place) => found.forEach((from) => { if (from < place) ends[from] = place; }));
  const used = new Set(sources.flat());
  const lanes = [];
  const taken = [];
  for (const [place, found] of sources.entries()) {
    const above = found.filter((from) => from < place);
    const ended = above.filter((from) => ends[from] === place).map((from) => lanes[from]);
    let lane = -1;
    if (!ends[place] && ends[makers[place]] > place) lane = lanes[makers[place]];
    else if (ended.length) lane = min(...ended);
    else if (used.has(place) || above.length) {
      lane = taken.findIndex((end) => end <= place);
      if (lane < 0) lane = taken.length;
    }
    if (ends[place]) taken[lane] = ends[place];
    lanes.push(lane);
  }
  return lanes;
}

/**
 * The lanes between the rows that show; a row that does not is part of the nearest one around it that does.
 * @param {{values: Int32Array, edges: Uint32Array}} column
 * @param {{parents: Int32Array}} table @param {Int32Array} places the place of each row, -1: it does not show
 * @param {number} count how many rows show
 * @returns {{runs: {from: number, to: number, lane: number}[], below: bigint[], taken: bigint[], marks: number[], used: Set<number>}}
 *   runs: from the place where something was made to one that gets it, which has a lane only if it is further down; and for each place
 *   as bits the lanes that go on below it and those that it gets something from, and the lane of its mark, -1: none
 */
export function runsOf({ values, edges }, { parents }, places, count) {
  const placeOf = (row) => {
    while (row >= 0 && places[row] < 0) row = parents[row];
    return row < 0 ? -1 : places[row];
  };
  const sources = Array.from({ length: count }, () => new Set());
  for (let i = 0; i < edges.length; i += 2) {
    const [from, to] = [placeOf(edges[i]), placeOf(edges[i + 1])];
    if (from >= 0 && to >= 0 && to !== from) sources[to].add(from);
  }
  const makers = new Int32Array(count).fill(-1);
  places.forEach((place, row) => { if (place >= 0) makers[place] = placeOf(values[row]); });
  const marks = assigned(sources.map((found) => [...found]), makers);
  const [below, taken] = [0, 1].map(() => Array(count).fill(0n));
  const ends = Array(count).fill(0);
  const runs = [];
  for (const [to, found] of sources.entries()) {
    for (const from of found) {
      const lane = marks[from];
      runs.push({ from, to, lane });
      if (to < from) continue;
      ends[from] = to;
      taken[to] |= bitOf(lane);
    }
  }
  for (const [from, end] of ends.entries()) for (let place = from; place < end; place++) below[place] |= bitOf(marks[from]);
  return { runs, used: new Set(runs.map(({ from }) => from)), below, taken, marks };
}

/** @returns {object[]} the runs that begin or end at a place, and the one that its mark only stands on */
export function runsAt({ runs, used, marks }, at) {
  const passes = (run) => !used.has(at) && run.lane === marks[at] && run.from < at && at < run.to;
  return runs.filter((run) => run.from === at || run.to === at || passes(run));
}

/**
 * @param {number} mark the lane of the mark
 * @param {{above: bigint, below: bigint, taken: bigint}} lanes as bits: what comes from above, goes on below, and is got here
 * @param {(lane: number) => number} x where a lane runs
 * @returns {string} the path of the lines in one row
 */
export function linesPath(mark, { above, below, taken }, x) {
  const lines = [];
  for (let lane = 0; (above | below) >> BigInt(lane); lane++) {
    const bit = bitOf(lane);
    const at = x(lane);
    const [comes, goes] = [above & bit, below & bit];
    if (comes && (goes || lane === mark)) lines.push(`M${at} 0V${goes ? LANE_HEIGHT : LANE_MIDDLE}`);
    else if (goes && lane === mark) lines.push(`M${at} ${LANE_MIDDLE}V${LANE_HEIGHT}`);
    else if (goes) lines.push(`M${x(mark)} ${LANE_MIDDLE}Q${at} ${LANE_MIDDLE} ${at} ${LANE_HEIGHT}`);
    if (comes && taken & bit && lane !== mark) lines.push(`M${at} 0Q${at} ${LANE_MIDDLE} ${x(mark)} ${LANE_MIDDLE}`);
  }
  return lines.join("");
}

/** What draws a column of lanes, lights up those of one row, and finds the rows at their ends. */
export function createLanes() {
  let shown = null;
  let lit = [];
  let at = -1;
  let lanes = 1;
  const x = (lane) => 1 + (lane + 0.5) * pitchOf(lanes);
  const bitsOf = (picked, isIn) => picked.reduce((bits, run) => (isIn(run) ? bits | bitOf(run.lane) : bits), 0n);

  return {
    /** @param {object|undefined} column @param {object} table @param {Int32Array|null} places null: nothing is drawn */
    show(column, table, places, count) {
      shown = column && places ? runsOf(column, table, places, count) : null;
      lanes = column ? column.lanes : 1;
      this.light(-1);
    },
    /** Light up what comes to a row and goes on from it. @param {number} place -1: no row */
    light(place) {
      at = place;
      lit = shown && place >= 0 ? runsAt(shown, place) : [];
    },
    /** @returns {boolean} whether a row is at an end of what is lit up */
    isEnd: (place) => place !== at && lit.some(({ from, to }) => place === from || place === to),
    /** @returns {number[]} the places that a row's input comes from, or its output goes to, from the nearest on */
    ends(place, isInput) {
      if (!shown) return [];
      const ends = runsAt(shown, place).filter(({ from, to }) => (isInput ? from : to) !== place).map(({ from, to }) => (isInput ? from : to));
      return [...new Set(ends)].sort((a, b) => abs(a - place) - abs(b - place));
    },
    /** @returns {SVGElement[]} what `fill` draws a row's lanes with */
    drawIn(cell) {
      const paths = ["nm-lane", "nm-lane nm-lit", "nm-dot"].map((look) => element("path", { class: look }));
      const svg = element("svg", { "aria-hidden": "true", width: 2 + lanes * pitchOf(lanes), height: LANE_HEIGHT });
      svg.append(...paths);
      cell.append(svg);
      return paths;
    },
    fill([lines, bright, dot], place) {
      const mark = shown ? shown.marks[place] : -1;
      const above = shown && place ? shown.below[place - 1] : 0n;
      lines.setAttribute("d", shown ? linesPath(mark, { above, below: shown.below[place], taken: shown.taken[place] }, x) : "");
      bright.setAttribute("d", linesPath(mark, {
        above: bitsOf(lit, ({ from, to }) => from < place && place <= to),
        below: bitsOf(lit, ({ from, to }) => from <= place && place < to),
        taken: bitsOf(lit, ({ to }) => place === to),
      }, x));
      dot.setAttribute("d", mark < 0 ? "" : `M${x(mark) - 3} ${LANE_MIDDLE}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0`);
      dot.classList.toggle("nm-made", mark >= 0 && shown.used.has(place));
      dot.classList.toggle("nm-lit", mark >= 0 && (place === at || this.isEnd(place)));
    },
  };
}
