// The widget: the toolbar, and what holds the table, the panel and the input together.
import { plural, withCommas } from "./format.js";
import { FAILED, STRONG, countsAsRow, decoded, fullName, isFlagged, keyIn, keyOf, rowOf, withValues } from "./rows.js";
import { answerKey, block, element, inline, part, pressable, slider } from "./dom.js";
import { createCurves, placeIn } from "./curves.js";
import { createFindings } from "./findings.js";
import { createIterations } from "./iterations.js";
import { createPoints } from "./points.js";
import { asMarkdown, asText, asTsv, copyText } from "./copying.js";
import { createPopup } from "./popup.js";
import { createSplitter } from "./splitter.js";
import { remember, remembered } from "./session.js";
import { createGrid } from "./grid.js";
import { knownList } from "./known.js";
import { createPanel } from "./panel.js";
import { createInput } from "./input.js";

/** Up to this width the panel stands below the table, in pixels. */
const NARROW = 900;
const COPIES = { text: asText, Markdown: asMarkdown, TSV: asTsv };

/** @param {{model: object, el: HTMLElement}} view */
function render({ model, el }) {
  const uid = `nnmagic-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
  const ending = new AbortController();
  let table = null;
  let content = null;
  let isPaused = model.get("paused");
  let isAsked = false;
  let frame = 0;
  let pointed = null;
  let points = createPoints();
  let stepTimer = 0;

  const send = (message) => {
    if (message.ask === "run") isAsked = true;
    // Where the kernel has been started anew nothing can be sent: whatever waits for an answer says so.
    try {
      model.send(message);
    } catch {}
  };
  const set = (name, value) => {
    if (model.get(name) === value) return;
    model.set(name, value);
    model.save_changes();
  };

  /** Whether the widget follows a network, or a loop that runs. */
  const isFollowing = () => model.get("live") || model.get("running");

  const choose = (key) => {
    remember("opened", "yes");
    hint.hidden = true;
    set("selected", key);
  };
  /** The iteration that shows, or at which all curves point for a while. */
  const cursor = {
    at: () => pointed ?? table.steps?.shown,
    point(iteration) {
      pointed = iteration;
      for (const each of [losses, panel]) each.point(cursor.at());
      grid.point(shareOf(cursor.at()));
    },
    choose: (iteration) => { if (canStep()) askStep(iteration, 0); },
  };
  const grid = createGrid({ uid, live: isFollowing, choose, changed: showCount });
  const panel = createPanel({ uid, send, close: closePanel, cursor });
  const input = createInput({ send });
  const losses = createCurves({ id: `${uid}-loss`, cursor });
  losses.el.classList.add("nm-losses");
  const findings = createFindings(goToFinding);
  const iterations = createIterations(askStep, () => cursor.point(null));
  const heading = block("nm-heading");
  const notes = block("nm-notes");
  const search = element("input", { type: "search", "aria-label": "search names and types", placeholder: "search ( / )", spellcheck: "false", "data-nm": "search",
    input: () => setSearch(search.value) });
  const counted = part("status", "nm-count");
  const flagged = pressable("", "flagged", () => grid.find({ flaggedOnly: !grid.filter.flaggedOnly }), { "aria-pressed": "false" });
  const first = pressable("", "first", () => goTo(table.first));
  const failed = pressable("failed", "failed", () => goTo(table.failed), { title: "the call that failed" });
  const depth = slider({ label: "depth", max: 1, value: 0, id: "depth", text: String, change: grid.foldTo });
  const grouped = pressable("grouped", "grouped", () => {
    grid.group(!grid.isGrouped());
    showFacts();
  }, { title: "put the rows below the layers that hold them" });
  const { signal } = ending;
  const columns = createPopup({ uid, label: "columns", role: "group", items: columnItems, signal });
  const copying = createPopup({ uid, label: "copy", role: "menu", items: copyItems, signal });
  const hint = block("nm-quiet", "click a row, or press Enter on it, to open it");
  const badge = inline("nm-badge");
  const pause = pressable("pause", "pause", () => {
    setPaused(!isPaused);
    send({ ask: isPaused ? "pause" : "resume" });
  });
  const closer = pressable("close", "close", () => send({ ask: "close" }));
  const live = element("span", { class: "nm-group", hidden: true }, badge, pause, closer);
  const pauseNote = part("status", "nm-quiet");
  const said = part("status", "nm-quiet nm-said");
  const toolbar = element("div", { class: "nm-toolbar", role: "group", "aria-label": "toolbar" }, search, counted,
    flagged, first, failed, depth.el, grouped, columns.el, copying.el, iterations.el, live);
  const main = block("nm-main");
  main.append(grid.el, createSplitter(main, grid.el.id), panel.el, block("nm-rest", hint, grid.noRoom, input.el, notes));
  // The static tree of the same record is hidden while this view lives, also where it comes later.
  const hiding = element("style");
  const root = element("div", { class: "nnmagic", "data-lm-suppress-shortcuts": "true" }, heading, findings.el, losses.el, toolbar, pauseNote, said, main, hiding);

  const setNarrow = () => root.classList.toggle("nm-narrow", root.clientWidth > 0 && root.clientWidth <= NARROW);

  function showTable() {
    const before = table;
    table = decoded(content = model.get("content"));
    const copy = `[data-nnmagic="${CSS.escape(table.static)}"]`;
    hiding.textContent = table.static && `:is(${copy},.jp-OutputArea-child:has(${copy}):not(:has(.nnmagic))){display:none!important}`;
    setNarrow();
    grid.filter.search = search.value = model.get("search") ?? "";
    if (!table.state.some((_, row) => isFlagged(table, row))) grid.filter.flaggedOnly = false;
    grid.show(table);
    depth.input.max = Math.max(1, table.deepest);
    depth.set(Math.min(table.deepest, table.opened));
    showFacts();
    set("selected", keyIn(table, before, model.get("selected")));
    showSelected(false);
  }

  /** Show all that is not in the rows. */
  function showFacts() {
    heading.textContent = table.heading;
    notes.replaceChildren(...table.notes.map((note) => block("", note)));
    const flags = table.state.reduce((sum, _, row) => sum + (isFlagged(table, row) && countsAsRow(table, row)), 0);
    flagged.hidden = flags === 0;
    flagged.textContent = `flagged ${withCommas(flags)}`;
    first.hidden = !(table.first >= 0);
    first.textContent = table.first_name;
    first.title = table.first_meaning;
    failed.hidden = !(table.failed >= 0);
    depth.el.hidden = table.deepest === 0 || (table.flat && !grid.isGrouped());
    grouped.hidden = !table.flat || table.deepest === 0;
    grouped.setAttribute("aria-pressed", grid.isGrouped());
    grid.el.hidden = table.count === 0;
    toolbar.hidden = table.count === 0 && !isFollowing();
    findings.show(table.findings ?? [], table.steps?.iterations.length > 1);
    losses.show(table.losses ?? []);
    losses.el.hidden = !table.losses?.length;
    iterations.show(canStep() ? table.steps : null);
    grid.point(shareOf(cursor.at()));
    input.show(table);
  }

  function showCount() {
    if (!table) return;
    const isFiltered = grid.filter.search.trim() || grid.filter.flaggedOnly;
    const total = table.total ?? grid.count(false);
    const matched = grid.count(true);
    counted.textContent = matched < total ? `${withCommas(matched)} of ${plural(total, table.noun)}` : plural(total, table.noun);
    flagged.setAttribute("aria-pressed", grid.filter.flaggedOnly);
    depth.input.disabled = grid.isFlat() || Boolean(isFiltered);
    if (search.value !== grid.filter.search) {
      search.value = grid.filter.search;
      set("search", search.value);
    }
  }

  /** Whether there is a kernel that could answer. */
  const canStep = () => table.steps && !model.get("running") && !model.get("alone");

  /** Where an iteration lies between the first one and the last, 0..1. */
  function shareOf(iteration) {
    const { iterations: all } = table.steps ?? { iterations: [] };
    return all.length > 1 ? placeIn(all, iteration) / (all.length - 1) : 1;
  }

  function askStep(value, wait) {
    isAsked = true;
    cursor.point(value);
    iterations.expect(value);
    pointed = null;
    clearTimeout(stepTimer);
    stepTimer = setTimeout(() => set("step", value), wait);
  }

  const focusGrid = () => grid.el.focus({ preventScroll: true });

  function closePanel() {
    set("selected", null);
    focusGrid();
  }

  function goTo(row) {
    choose(keyOf(table, row));
    grid.reveal(row);
    focusGrid();
  }

  /** Show the layer of a finding, as it was in its iteration. */
  function goToFinding({ name, iteration }) {
    const row = table.state.findIndex((_, each) => fullName(table, each) === name);
    if (canStep()) askStep(iterations.nearest(iteration), 0);
    if (row >= 0) goTo(row);
  }

  function showSelected(reveals = true) {
    const key = model.get("selected");
    const row = grid.select(key);
    const isOpen = typeof key === "string";
    if (isOpen) panel.load(key, row >= 0 ? fullName(table, row) : key, row >= 0 ? [knownList(table, row)] : []);
    else panel.hide();
    followPanel();
    // With a panel below it the table is lower: first that, then the row is brought into view.
    main.classList.toggle("nm-has-panel", isOpen);
    if (isOpen && reveals && row >= 0) grid.reveal(row);
    grid.draw();
  }

  /** Show in the panel what the page itself knows, while the kernel is busy with a loop or has not answered yet. */
  function followPanel() {
    const row = rowOf(table, model.get("selected"));
    panel.el.classList.toggle("nm-strong", table.state[row] & (STRONG | FAILED));
    const known = () => knownList(table, row);
    if (row < 0) return;
    if (model.get("running")) panel.follow(known(), points.curves(table, row));
    else panel.renew(known);
  }

  function setPaused(value) {
    isPaused = value;
    showLive();
    if (isPaused) return;
    // The rows may have become others meanwhile; of the same ones the numbers that show are later.
    if (model.get("content") !== content) showTable();
    askLatest();
  }

  function showLive() {
    const isLive = isFollowing();
    live.hidden = !isLive;
    closer.hidden = model.get("running");
    // Calls are passed over until the kernel has heard of it.
    badge.textContent = isPaused || model.get("paused") ? "○ paused" : "● live";
    pause.textContent = isPaused ? "resume" : "pause";
    pauseNote.textContent = isLive && isPaused ? "paused: drawing stopped; the running cell goes on" : "";
  }

  /** Whether what comes is drawn: while paused only a step or a run that the user asked for. */
  const isDrawn = () => !isPaused || !isFollowing() || isAsked;
  /** The rows may be older than their numbers. */
  const askLatest = () => { if (model.get("live")) send({ ask: "latest" }); };

  /** Draw new numbers, several messages at once. */
  function refresh() {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      grid.refresh(table);
      showFacts();
      followPanel();
    });
  }

  function onRunning() {
    points = createPoints();
    isPaused = false;
    showLive();
  }

  function onMessage(message, buffers) {
    if (message.tell === "panel" && message.key === model.get("selected")) {
      if (message.panel) panel.show(message.panel, buffers);
      else panel.lack(message.lines[0]);
    } else if (message.tell === "begun") for (const each of [panel, input]) each.settle();
    else if (message.tell === "pictures") input.pictures(message.labels, buffers[message.buffer]);
    else if (message.tell === "error") {
      isAsked = false;
      panel.settle("");
      input.error(message.lines);
    } else if (message.tell === "values" && isDrawn()) {
      table = withValues(table, message, buffers);
      refresh();
    } else if (message.tell === "point" && isDrawn()) {
      points.add(table, message.point, buffers);
      refresh();
    }
  }

  function onContent() {
    if (!isDrawn()) return;
    isAsked = false;
    input.forget();
    showTable();
  }

  function columnItems() {
    return grid.offered().map(({ key, title, meaning }) => {
      const box = element("input", { type: "checkbox", change: () => grid.toggle(key, box.checked) });
      box.checked = grid.isShown(key);
      return element("label", { title: meaning || null }, box, title, ...(grid.hasNoRoom(key) ? [inline("nm-quiet", "no room")] : []));
    });
  }

  function copyItems() {
    return Object.entries(COPIES).map(([name, write]) => pressable(`copy as ${name}`, `copy-${name}`, async () => {
      const view = grid.view();
      copying.close();
      const isDone = await copyText(write(view));
      said.textContent = isDone ? `${plural(view.rows.length, "row")} copied as ${name}` : "the browser does not let this page copy";
      copying.button.focus();
    }, { role: "menuitem", tabindex: -1 }));
  }

  function setSearch(text) {
    search.value = text;
    grid.find({ search: text });
    set("search", text);
  }

  function onKey(event) {
    const isSearch = event.target === search;
    const actions = {};
    if (!event.target.matches("input:not([type=range], [type=checkbox]), select")) {
      actions["/"] = () => {
        search.focus();
        search.select();
      };
    }
    if (isSearch) {
      actions.Enter = focusGrid;
      actions.Escape = () => {
        setSearch("");
        focusGrid();
      };
    } else if (!panel.el.hidden) actions.Escape = closePanel;
    answerKey(event, actions);
  }

  root.addEventListener("keydown", onKey);
  const systemsDark = matchMedia("(prefers-color-scheme: dark)");
  // The page's own scheme, where it has one: it may be light on a dark system.
  function setScheme() {
    const scheme = getComputedStyle(el).colorScheme;
    root.classList.toggle("nm-dark", scheme === "dark" || (scheme !== "light" && systemsDark.matches));
  }
  // While a theme changes the page has neither its colours nor its widths.
  const redraw = () => requestAnimationFrame(() => {
    setScheme();
    panel.draw(true);
  });
  const themes = new MutationObserver(redraw);
  themes.observe(document.body, { attributeFilter: ["data-jp-theme-name", "data-vscode-theme-id", "data-theme"] });
  systemsDark.addEventListener("change", redraw, { signal });
  const sizes = new ResizeObserver(() => {
    setNarrow();
    grid.fit();
    panel.draw();
  });

  const listeners = {
    "msg:custom": onMessage,
    "change:content": onContent,
    "change:selected": () => showSelected(),
    "change:search": () => {
      const text = model.get("search") ?? "";
      if (text !== grid.filter.search) setSearch(text);
    },
    "change:live": showLive,
    "change:running": onRunning,
    "change:paused": () => setPaused(model.get("paused")),
  };
  const listen = (how) => { for (const [name, listener] of Object.entries(listeners)) model[how](name, listener); };
  listen("on");

  hint.hidden = remembered("opened") !== null;
  // In an HBox the views share its width, and none is wider than its part.
  el.style.minWidth = "0";
  el.style.flexGrow = "1";
  // In the page first: the table is then laid out once, for the room that there is.
  el.append(root);
  setScheme();
  showTable();
  showLive();
  const chosen = model.get("selected");
  if (chosen !== null && chosen !== undefined) {
    grid.reveal(rowOf(table, chosen));
    send({ ask: "panel" });
  }
  askLatest();
  for (const part of [root, grid.el, panel.el]) sizes.observe(part);

  return () => {
    listen("off");
    ending.abort();
    sizes.disconnect();
    themes.disconnect();
    cancelAnimationFrame(frame);
    clearTimeout(stepTimer);
    iterations.stop();
    panel.clear();
    input.settle();
    root.remove();
  };
}

export default { render };
