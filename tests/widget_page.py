"""What the tests of the widget in a real page share: a notebook is opened, clicked and typed in."""

from lab import open_notebook
from playwright.sync_api import expect

from nnmagic.display import units

expect.set_options(timeout=20_000)

LOAD = "%load_ext nnmagic\nimport gc, json\nimport nnmagic, torch\nfrom torch import nn"
WIDGETS = "from nnmagic.widget.widget import NetworkWidget\nopen_ones = NetworkWidget.open_ones()"
TORCHS_OWN = "print(nn.Module.__call__.__code__.co_name == '_wrapped_call_impl')"

HOSTILE = """
%load_ext nnmagic
from torch import nn, ones
net = nn.Sequential()
net.add_module("<img src=x onerror=owned=1>", nn.ReLU())
net.add_module("</script><script>owned=1</script>", nn.ReLU())
%nntrace net(ones(2))
"""
"""A network whose layers have names that would run in a page that took them for HTML."""

COLORS = """canvas => {
  const {width, height} = canvas;
  const {data} = canvas.getContext('2d').getImageData(0, 0, width, height);
  const seen = new Set();
  for (let i = 0; i < data.length; i += 4) {
    const [r, g, b] = data.slice(i, i + 3);
    if (Math.max(r, g, b) - Math.min(r, g, b) > 20) seen.add(65536 * r + 256 * g + b);
  }
  return seen.size;
}"""

STATIC_TABLES = """() => [...document.querySelectorAll('[data-nnmagic]')].map(
  node => node.getClientRects().length > 0)"""

TABLE_TEXTS = r"""() => [...document.querySelectorAll('[data-nnmagic]')].map(
  node => node.getClientRects().length ? node.innerText.replaceAll('\u00a0', ' ') : '')"""

COUNT_MESSAGES = """() => {
  window.messages = 0;
  const {kernel} = jupyterapp.shell.currentWidget.sessionContext.session;
  kernel.iopubMessage.connect((_, message) => {
    if (message.header.msg_type === 'comm_msg') window.messages += 1;
  });
}"""

INTERRUPT = "() => { jupyterapp.commands.execute('notebook:interrupt-kernel'); }"

NOTE_INTERRUPTS = """
import signal
is_asked = []
signal.signal(signal.SIGINT, lambda *_: is_asked.append(True))
"""
"""Begins a cell that looks between its iterations whether it is interrupted: all are whole."""

KNOWN_AND_ROW = """root => [
  [...root.querySelectorAll('[data-nm=known] li')].map(li => li.innerText).join(' '),
  root.querySelector('.nm-body > [aria-selected=true] .nm-k-pair').innerText,
].map(text => text.replace(/\\s/g, ''))"""
"""What the panel knows of the row that is open, and that row's first numbers."""

SCROLL = (
    "grid => { const top = grid.scrollTop; grid.scrollTop += 200; return grid.scrollTop > top; }"
)

SOONER = """() => {
  window.later = window.setTimeout;
  window.setTimeout = (f, ms, ...rest) => later(f, ms === 5000 ? 1500 : ms, ...rest);
}"""
"""What is waited for 5 seconds for is waited for 1.5 seconds for."""

AS_LATE = "window.setTimeout = later"
"""Ends that."""

NOTEBOOKS_OWN = ("Cannot read properties of undefined (reading 'schema')",)
"""What Notebook 7.6 says of any notebook, also of an empty one."""

OUTPUTS = "() => jupyterapp.shell.currentWidget.content.widgets[1].model.outputs.toJSON()"

CELL_SELECTION = """() => {
  if (!window.jupyterapp) return null;
  const {content} = jupyterapp.shell.currentWidget;
  return [content.widgets.length, content.activeCellIndex, content.mode];
}"""

ROWS = r"""root => {
  const cellText = cell => {
    if (cell.querySelector('svg')) return null;
    const text = cell.textContent;
    return cell.classList.contains('nm-k-pair') ? text.replace(/\s/g, '') : text;
  };
  const heads = [...root.querySelectorAll('[data-nm^="sort-"]')];
  const active = root.querySelector('[role=treegrid]').getAttribute('aria-activedescendant');
  const keys = heads.map(head => head.dataset.nm.slice(5)).slice(1);
  return [...root.querySelectorAll('.nm-body > [role=row]:not([hidden])')]
    .sort((a, b) => a.getAttribute('aria-rowindex') - b.getAttribute('aria-rowindex'))
    .map(row => {
      const cells = [...row.querySelectorAll('[role=gridcell]:not(.nm-message, .nm-k-lanes)')];
      const message = row.querySelector('.nm-message:not([hidden])');
      return {
        label: row.querySelector('.nm-label').textContent,
        name: row.querySelector('[role=rowheader]').title,
        index: Number(row.getAttribute('aria-rowindex')),
        level: Number(row.getAttribute('aria-level')),
        expanded: row.getAttribute('aria-expanded'),
        selected: row.getAttribute('aria-selected') === 'true',
        active: row.id === active,
        message: message && message.textContent,
        ...Object.fromEntries(cells.map((cell, i) => [keys[i], cell.hidden ? '' : cellText(cell)])),
      };
    });
}"""


def visit(lab, path, look, *, known=(), **options):
    """Open a notebook and return what `look` found; the console and the network were quiet."""

    def look_when_shown(page):
        if options.get("run", True):
            page.locator(".nnmagic").first.wait_for(state="attached")
            frames(page)
        return look(page)

    seen = open_notebook(lab, path, look=look_when_shown, **options)

    assert [error for error in seen.errors if error not in known] == []
    assert seen.foreign == []
    return seen.found


def rows(widget):
    """The rows in the document, from top to bottom, each with its cells' texts by column."""
    return widget.evaluate(ROWS)


def all_rows(widget):
    """All rows of a table, also those that are drawn only where it is scrolled."""
    grid = widget.locator("[data-nm=grid]")
    grid.evaluate("grid => { grid.scrollTop = 0; }")
    found = {}
    while True:
        frames(widget.page)
        found |= {row["index"]: row for row in rows(widget)}
        if not grid.evaluate(SCROLL):
            return [found[index] for index in sorted(found)]


def frames(page):
    """Let the page draw."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")


def table_texts(page):
    """What each static table says, an empty text where it is hidden."""
    return page.evaluate(TABLE_TEXTS)


def row_of(widget, name):
    return widget.locator(
        f'.nm-body > [role=row]:not([hidden]):has([role=rowheader][title="{name}"])'
    )


def open_panel(widget, name):
    """Click a row, and wait for its panel's numbers."""
    row_of(widget, name).locator(".nm-label").click()
    title = widget.locator(".nm-panel-title")
    expect(title).to_contain_text(f"{name} · ")
    return title.inner_text()


def control(widget, name):
    return widget.locator(f'[data-nm="{name}"]')


def names(found):
    return [row["name"] for row in found]


def active(widget):
    (row,) = [row for row in rows(widget) if row["active"]]
    return row["label"]


def statistics(widget):
    """The panel's statistics: for each tensor its texts, by name."""
    table = widget.locator("[data-nm=panel] table")
    heads = table.locator("thead th").all_inner_texts()
    lines = table.locator("tbody tr").all()
    texts = {
        line.locator("th").inner_text(): line.locator("td").all_inner_texts() for line in lines
    }
    return [{name: texts[name][i] for name in texts} for i in range(len(heads))]


def statistic_texts(record):
    """The same of a tensor's record, given as a dict."""
    low, high, mean, std = units.numbers(*(record[k] for k in ("min", "max", "mean", "std")))
    zeros = units.percent(record["zeros"])
    count = {name: f"{record[name]:,}" for name in ("nan", "inf")}
    return {"min": low, "max": high, "mean": mean, "std": std, "zeros": zeros, **count}


AS_DICT = """
def as_dict(record):
    names = ("min", "max", "mean", "std", "zeros", "nan", "inf")
    return {name: getattr(record, name) for name in names}
"""


def by_keyboard(page):
    """Go through the widget of the default network by keys; return what showed, and the cells."""
    widget = page.locator(".nnmagic")
    grid, panel = control(widget, "grid"), control(widget, "panel")
    press = page.keyboard.press
    control(widget, "search").click()
    cells = [page.evaluate(CELL_SELECTION)]
    found = {}
    for _ in range(12):
        press("Tab")
        if grid.evaluate("grid => grid === document.activeElement"):
            break
    press("Home")
    press("ArrowDown")
    press("ArrowDown")
    found["down twice"] = active(widget)
    press("ArrowLeft")
    found["left"] = len(rows(widget))
    press("ArrowRight")
    found["right"] = len(rows(widget))
    press("ArrowRight")
    found["right again"] = active(widget)
    press("ArrowLeft")
    found["left from a leaf"] = active(widget)
    press("Home")
    found["home"] = active(widget)
    press("End")
    found["end"] = active(widget)
    press("b")  # a new cell, where JupyterLab hears it
    press("Enter")
    expect(widget.locator(".nm-panel-title")).to_have_text("linear_relu_stack.4 · Linear")
    press("Escape")
    expect(panel).to_be_hidden()
    expect(grid).to_be_focused()
    press("/")
    expect(control(widget, "search")).to_be_focused()
    page.keyboard.type("relu")
    found["search"] = widget.locator(".nm-count").inner_text()
    press("Escape")
    expect(control(widget, "search")).to_have_value("")
    expect(grid).to_be_focused()
    found["cleared"] = len(rows(widget))
    control(widget, "depth").press("Home")
    control(widget, "depth").press("ArrowRight")
    found["depth 1"] = len(rows(widget))
    cells.append(page.evaluate(CELL_SELECTION))
    return found, cells


KEYS_DO = {
    "down twice": "linear_relu_stack",
    "left": 3,
    "right": 8,
    "right again": "0",
    "left from a leaf": "linear_relu_stack",
    "home": "NeuralNetwork",
    "end": "4",
    "search": "6 of 8 calls",
    "cleared": 8,
    "depth 1": 3,
}


def fold_sort_and_hide(widget):
    """Fold, sort and hide a column of the default network's trace; return what showed."""
    found = {"all": rows(widget)}
    row_of(widget, "linear_relu_stack").locator(".nm-fold").click()
    found["one folded"] = names(rows(widget))
    control(widget, "depth").fill("0")
    found["folded"] = names(rows(widget))
    control(widget, "depth").fill("2")
    found["unfolded"] = rows(widget)
    control(widget, "depth").fill("1")
    found["depth 1"] = names(rows(widget))
    control(widget, "depth").fill("2")
    for order in ("zeros down", "zeros up", "zeros off"):
        control(widget, "sort-zeros").click()
        found[order] = rows(widget)
    control(widget, "columns").focus()
    widget.page.keyboard.press("Enter")
    zeros = widget.get_by_label("zeros", exact=True)
    for _ in range(20):
        if zeros.evaluate("box => box === document.activeElement"):
            break
        widget.page.keyboard.press("ArrowDown")
    widget.page.keyboard.press("Space")
    expect(zeros).not_to_be_checked()
    widget.page.keyboard.press("Escape")
    found["hidden"] = rows(widget)
    found["menu"] = widget.get_by_role("group", name="columns").is_visible()
    return found


def assert_folded_sorted_and_hidden(found, calls):
    """Hold what `fold_sort_and_hide` returned against the trace's calls: name, shape, numbers."""
    shown = [[row["name"], row["shape"], row["zeros"], row["mean"]] for row in found["all"]]
    assert shown == [
        [
            layer or "NeuralNetwork",
            shape,
            units.percent(zeros),
            "±".join(units.numbers(mean, std)),
        ]
        for layer, shape, zeros, mean, std in calls
    ]
    assert [row["shape"] for row in found["all"]] == [
        *("(1, 10)", "(1, 784)", "(1, 10)", "(1, 512)", "(1, 512)", "(1, 512)", "(1, 512)"),
        "(1, 10)",
    ]
    assert found["one folded"] == ["NeuralNetwork", "flatten", "linear_relu_stack"]
    assert found["folded"] == ["NeuralNetwork"]
    assert found["unfolded"] == found["all"]
    assert found["depth 1"] == ["NeuralNetwork", "flatten", "linear_relu_stack"]
    assert names(found["zeros down"])[:2] == ["linear_relu_stack.3", "linear_relu_stack.1"]
    assert names(found["zeros up"])[-2:] == ["linear_relu_stack.1", "linear_relu_stack.3"]
    assert found["zeros off"] == found["all"]
    assert found["hidden"] == [
        {key: value for key, value in row.items() if key != "zeros"} for row in found["all"]
    ]
    assert not found["menu"]


def labels_and_titles(widget):
    """Open the panels of the second and the third row; return all labels, and their titles."""
    labels, titles = [row["label"] for row in rows(widget)], []
    for i in (1, 2):
        widget.locator(".nm-body > [role=row]:not([hidden]) .nm-label").nth(i).click()
        expect(widget.locator(".nm-panel-title")).to_contain_text(f"{labels[i]} · ReLU")
        titles.append(widget.locator(".nm-panel-title").inner_text())
        widget.locator("[data-nm=panel] table").wait_for()
    return labels, titles


def violations(results):
    """What axe found, with the markup that it is about."""
    return [
        (each["id"], node["html"][:200])
        for each in results.response["violations"]
        for node in each["nodes"]
    ]


LANES = """root => [...root.querySelectorAll('.nm-body > [role=row]:not([hidden])')]
  .sort((a, b) => a.getAttribute('aria-rowindex') - b.getAttribute('aria-rowindex'))
  .map(row => {
    const [lines, lit, dot] = [...row.querySelectorAll('.nm-k-lanes path')].map(
      path => path.getAttribute('d'));
    const name = row.querySelector('[role=rowheader]').title;
    return [name, {lines, lit, dot, linked: row.classList.contains('nm-linked')}];
  })"""


def lanes(widget):
    """What is drawn in each row, by its name."""
    return dict(widget.evaluate(LANES))


def titles(widget):
    """The titles of the columns that show."""
    heads = widget.locator("[role=columnheader]").all()
    return [head.inner_text().strip(" ▲▼") for head in heads]


def share(widget):
    """The table's share of the room, in percent."""
    return int(control(widget, "splitter").get_attribute("aria-valuenow"))
