"""The widget in a real page: every test opens a notebook, and clicks and types in it."""

import json
import time

import nbformat
import pytest
from lab import Lab, notebook_of, open_notebook, run_cell
from playwright.sync_api import expect

from nnmagic.display import units

pytestmark = [pytest.mark.browser, pytest.mark.slow]

expect.set_options(timeout=20_000)

LOAD = "%load_ext nnmagic\nimport gc, json\nimport nnmagic, torch\nfrom torch import nn"
WIDGETS = "from nnmagic.widget import NetworkWidget\nopen_ones = NetworkWidget.open_ones()"
TORCHS_OWN = "print(nn.Module.__call__.__code__.co_name == '_wrapped_call_impl')"

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

COUNT_MESSAGES = """() => {
  window.messages = 0;
  const {kernel} = jupyterapp.shell.currentWidget.sessionContext.session;
  kernel.iopubMessage.connect((_, message) => {
    if (message.header.msg_type === 'comm_msg') window.messages += 1;
  });
}"""

SCROLL = (
    "grid => { const top = grid.scrollTop; grid.scrollTop += 200; return grid.scrollTop > top; }"
)

NOTEBOOKS_OWN = ("Cannot read properties of undefined (reading 'schema')",)
"""What Notebook 7.6 says of any notebook, also of an empty one."""

OUTPUTS = "() => jupyterapp.shell.currentWidget.content.widgets[1].model.outputs.toJSON()"

CELL_SELECTION = """() => {
  const {content} = jupyterapp.shell.currentWidget;
  return [content.widgets.length, content.activeCellIndex, content.mode];
}"""

ROWS = """root => {
  const cellText = cell => cell.querySelector('svg') ? null : cell.textContent;
  const heads = [...root.querySelectorAll('[data-nm^="sort-"]')];
  const active = root.querySelector('[role=treegrid]').getAttribute('aria-activedescendant');
  const keys = heads.map(head => head.dataset.nm.slice(5)).slice(1);
  return [...root.querySelectorAll('.nm-body > [role=row]:not([hidden])')]
    .sort((a, b) => a.getAttribute('aria-rowindex') - b.getAttribute('aria-rowindex'))
    .map(row => {
      const cells = [...row.querySelectorAll('[role=gridcell]:not(.nm-message)')];
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


def test_the_static_table_shows_where_no_widget_lives(lab, tmp_path):
    path = notebook_of(tmp_path, LOAD, "t = %nntrace\nt")
    saved = []

    def close_it(page):
        expect(page.locator("[data-nnmagic]")).to_be_hidden()
        before = page.evaluate(STATIC_TABLES)
        saved.extend(page.evaluate(OUTPUTS))
        run_cell(page, f"{WIDGETS}\nopen_ones[0].close()")
        expect(page.locator(".nnmagic")).to_have_count(0)
        return before, page.evaluate(STATIC_TABLES)

    def look_only(page):
        page.locator(".jp-RenderedHTMLCommon details").first.wait_for(state="attached")
        expect(page.locator(".jp-RenderedHTMLCommon summary").first).to_be_visible()
        return page.locator(".nnmagic").count(), page.locator("summary").count()

    closed = visit(lab, path, close_it)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].outputs = [nbformat.from_dict(output) for output in saved]
    nbformat.write(notebook, path)
    widgets, lines = visit(lab, path, look_only, run=False)

    assert closed == ([False], [True])
    assert widgets == 0
    assert lines >= 8


def test_the_rows_are_those_of_the_record_and_fold_sort_and_hide(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        found = {"all": rows(widget)}
        calls = "[[c.layer, str(c.output_shape), c.main.zeros, c.main.mean, c.main.std] for c in t]"
        found["record"] = json.loads(run_cell(page, f"print(json.dumps({calls}))"))
        row_of(widget, "linear_relu_stack").locator(".nm-fold").click()
        found["one folded"] = names(rows(widget))
        control(widget, "fold").click()
        found["folded"] = names(rows(widget))
        control(widget, "unfold").click()
        found["unfolded"] = rows(widget)
        control(widget, "depth").fill("1")
        found["depth 1"] = names(rows(widget))
        control(widget, "unfold").click()
        for order in ("zeros down", "zeros up", "zeros off"):
            control(widget, "sort-zeros").click()
            found[order] = rows(widget)
        control(widget, "columns").click()
        widget.get_by_label("zeros", exact=True).uncheck()
        page.keyboard.press("Escape")
        found["hidden"] = rows(widget)
        found["menu"] = widget.locator(".nm-menu").is_visible()
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, "t = %nntrace\nt"), look)

    shown = [[row["name"], row["shape"], row["zeros"], row["mean"]] for row in found["all"]]
    assert shown == [
        [
            layer or "NeuralNetwork",
            shape,
            units.percent(zeros),
            "±".join(units.numbers(mean, std)),
        ]
        for layer, shape, zeros, mean, std in found["record"]
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
    "search": "6 of 8",
    "cleared": 8,
    "depth 1": 3,
}


def test_the_keyboard_alone_is_enough_and_moves_no_cell(lab, tmp_path):
    path = notebook_of(tmp_path, LOAD, "%nntrace", "'the last cell'")

    found, (before, after) = visit(lab, path, by_keyboard)

    assert found == KEYS_DO
    assert after == before


RESNET = """
import inspect, torchvision
torch.manual_seed(0)
net = torchvision.models.resnet18().eval()
x = torch.rand(1, 3, 224, 224)
with torch.no_grad():
    t = %nntrace net(x)
t
"""


def test_a_resnet_is_searched_and_its_convolution_seen_whole(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        found = {"all": widget.locator(".nm-count").inner_text()}
        control(widget, "search").fill("conv")
        found["count"] = widget.locator(".nm-count").inner_text()
        found["rows"] = all_rows(widget)
        control(widget, "search").fill("")
        control(widget, "grid").evaluate("grid => { grid.scrollTop = 0; }")
        frames(page)
        found["title"] = open_panel(widget, "conv1")
        panel = control(widget, "panel")
        panel.locator("canvas").nth(1).wait_for()
        found["colors"] = [canvas.evaluate(COLORS) for canvas in panel.locator("canvas").all()]
        found["statistics"] = statistics(widget)
        found["text"] = panel.inner_text()
        record = "[as_dict(t['conv1'].inputs[0]), as_dict(t['conv1'].main)]"
        found["record"] = json.loads(run_cell(page, f"{AS_DICT}\nprint(json.dumps({record}))"))
        found["place"] = run_cell(
            page,
            "lines, first = inspect.getsourcelines(torchvision.models.ResNet._forward_impl)\n"
            "at = next(i for i, line in enumerate(lines) if 'self.conv1(x)' in line)\n"
            "print(f'resnet.py:{first + at}')",
        ).strip()
        found["names"] = json.loads(
            run_cell(page, "print(json.dumps([n for n, _ in net.named_modules()]))")
        )
        whole = panel.get_by_text("all 802,816 values", exact=True)
        found["whole before"] = whole.count()
        control(widget, "all-output-0").click()
        expect(whole).to_be_visible(timeout=30_000)
        expect(control(widget, "all-output-0")).to_have_count(0)
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, RESNET), look)

    convolutions = [n for n in found["names"] if "conv" in n or n.endswith("downsample.0")]
    above = {n.rsplit(".", i)[0] for n in convolutions for i in range(1, n.count(".") + 1)}
    assert len(convolutions) == 20
    assert found["count"] == f"20 of {found['all'].split()[0]}"
    assert sorted(names(found["rows"])) == sorted({"net", *convolutions, *above})
    assert found["title"] == "conv1 · Conv2d"
    assert len(found["colors"]) == 2
    assert min(found["colors"]) > 20
    assert found["statistics"] == [statistic_texts(record) for record in found["record"]]
    assert "weight (64, 3, 7, 7) · 9,408" in found["text"].replace("\xa0", " ")
    assert found["place"] in found["text"]
    assert "called at" in found["text"]
    assert found["whole before"] == 0


CLASSIFIER = """
torch.manual_seed(0)
net = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 10))
x, flat, narrow = torch.rand(1, 28, 28), torch.ones(1, 28, 28) / 2, torch.ones(1, 20)
t = %nntrace net(x)
t
"""

IN_EVAL_MODE = """
def by_torch(x):
    was, _ = net.training, net.eval()
    with torch.no_grad():
        y = net(x)
    net.train(was)
    return was, f"{y.mean():.3f}±{y.std():.3f}", int(y.argmax())
"""


def test_run_again_gives_what_torch_gives(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic").first
        heading = widget.locator(".nm-heading")
        found = {}

        def by_torch(x):
            return json.loads(run_cell(page, f"{IN_EVAL_MODE}\nprint(json.dumps(by_torch({x})))"))

        def run(source, heading_text):
            control(widget, "source").select_option(source)
            control(widget, "run").click()
            expect(heading).to_contain_text(heading_text)
            frames(page)
            return rows(widget)[0]["mean"]

        found["linear"] = open_panel(widget, "1")
        widget.locator("[data-nm=panel] table").wait_for()
        found["statistics"] = statistics(widget)
        record = "[as_dict(t['1'].inputs[0]), as_dict(t['1'].main)]"
        found["record"] = json.loads(run_cell(page, f"{AS_DICT}\nprint(json.dumps({record}))"))
        found["recorded"] = rows(widget)[0]["mean"]
        control(widget, "input").click()
        control(widget, "source").select_option("noise")
        control(widget, "seed").fill("7")
        found["noise"] = run("noise", "seed 7")
        noise = "torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(7))"
        found["noise by torch"] = by_torch(noise)
        control(widget, "source").select_option("picture")
        code = "pictures = nnmagic.fashion_mnist()\nprint(pictures.classes[pictures[3][1]])"
        found["label"] = run_cell(page, code).strip()
        control(widget, "picture-3").click()
        found["picture"] = run("picture", f"Fashion-MNIST picture 3 ({found['label']})")
        found["picture by torch"] = by_torch("nnmagic.fashion_mnist()[3][0].reshape(1, 28, 28)")
        found["bars"] = widget.locator(".nm-score-name").all_inner_texts()
        control(widget, "source").select_option("variable")
        control(widget, "variable").fill("flat")
        found["variable"] = run("variable", "on flat")
        found["variable by torch"] = by_torch("flat")
        control(widget, "variable").fill("nope")
        control(widget, "run").click()
        alert = widget.locator(".nm-alert")
        expect(alert).not_to_be_empty()
        found["unknown"] = alert.inner_text()
        found["unknown keeps"] = rows(widget)[0]["mean"]
        control(widget, "variable").fill("narrow")
        control(widget, "run").click()
        expect(heading).to_contain_text("failed in")
        found["failed"] = [row["message"] for row in rows(widget) if row["message"]]
        found["alert"] = alert.inner_text()
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, CLASSIFIER), look)

    assert found["linear"] == "1 · Linear"
    assert found["statistics"] == [statistic_texts(record) for record in found["record"]]
    assert found["noise"] != found["recorded"]
    for source in ("noise", "picture", "variable"):
        was_training, mean, _ = found[f"{source} by torch"]
        assert was_training
        assert found[source] == mean
    classes = [
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker"),
        *("Bag", "Ankle boot"),
    ]
    assert len(found["bars"]) == 5
    assert set(found["bars"]) <= set(classes)
    assert found["bars"][0] == classes[found["picture by torch"][2]]
    assert found["unknown"] == "'nope' is no variable; type the name of a tensor in the notebook"
    assert found["unknown keeps"] == found["variable"]
    assert found["alert"] == ""
    failed = "FAILED got (1, 20), weight is (32, 784): the last axis must be 784, it is 20"
    assert failed in found["failed"]


def test_a_network_that_is_gone_cannot_be_run_again(lab, tmp_path):
    def look(page):
        shown_before = page.locator(".nnmagic").first
        can_before = control(shown_before, "run").is_enabled()
        run_cell(page, "del net\ngc.collect()\nt")
        shown_after = page.locator(".nnmagic").nth(1)
        control(shown_after, "input").click()
        expect(control(shown_after, "run")).to_be_visible()
        after = (
            control(shown_after, "run").is_enabled(),
            shown_after.locator(".nm-form").inner_text(),
        )
        control(shown_before, "input").click()
        if control(shown_before, "run").is_enabled():
            control(shown_before, "run").click()
        expect(shown_before.locator(".nm-input")).to_contain_text("the network is gone")
        return can_before, after, control(shown_before, "run").is_enabled()

    can_before, (can_after, form), stays = visit(lab, notebook_of(tmp_path, LOAD, CLASSIFIER), look)

    assert can_before
    assert not can_after
    assert "the network is gone" in form
    assert not stays


TROUBLE = """
class Root(nn.Module):
    def forward(self, x):
        return x.sqrt()

fragile = nn.Sequential(nn.Linear(4, 4), Root(), nn.ReLU())
%nntrace fragile(torch.ones(1, 4) * torch.nan_to_num(torch.tensor(-50.0)))
"""

FAILING = """# raises
broken = nn.Sequential(nn.Linear(4, 8), nn.Linear(4, 2), nn.ReLU())
%nntrace broken(torch.ones(1, 4))
"""


def test_the_first_nan_and_the_failed_layer_are_one_click_away(lab, tmp_path):
    def look(page):
        expect(page.locator(".nnmagic")).to_have_count(2)
        nan, failed = page.locator(".nnmagic").all()
        found = {}
        control(nan, "first-nan").click()
        expect(nan.locator(".nm-panel-title")).to_have_text("1 · Root")
        found["nan"] = [row["name"] for row in rows(nan) if row["selected"]]
        found["flags"] = [row["flags"] for row in rows(nan) if row["selected"]]
        control(nan, "flagged").click()
        found["flagged"] = [row["name"] for row in rows(nan)]
        control(failed, "failed").click()
        expect(failed.locator(".nm-panel-title")).to_have_text("1 · Linear")
        found["failed"] = [row["name"] for row in rows(failed) if row["selected"]]
        found["message"] = [row["message"] for row in rows(failed) if row["selected"]]
        found["buttons"] = [
            control(widget, name).is_visible()
            for widget in (nan, failed)
            for name in ("first-nan", "failed")
        ]
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, TROUBLE, FAILING), look)

    assert found["nan"] == ["1"]
    assert "NaN" in found["flags"][0]
    assert "1" in found["flagged"]
    assert "0" not in found["flagged"]
    assert found["failed"] == ["1"]
    assert found["message"] == [
        "FAILED got (1, 8), weight is (2, 4): the last axis must be 4, it is 8"
    ]
    assert found["buttons"] == [True, False, False, True]


HOSTILE = """
%load_ext nnmagic
from torch import nn, ones
net = nn.Sequential()
net.add_module("<img src=x onerror=owned=1>", nn.ReLU())
net.add_module("</script><script>owned=1</script>", nn.ReLU())
%nntrace net(ones(2))
"""


def test_names_of_layers_are_text_in_the_widget(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        labels = [row["label"] for row in rows(widget)]
        titles = []
        for i in (1, 2):
            widget.locator(".nm-body > [role=row]:not([hidden]) .nm-label").nth(i).click()
            expect(widget.locator(".nm-panel-title")).to_contain_text(f"{labels[i]} · ReLU")
            titles.append(widget.locator(".nm-panel-title").inner_text())
            widget.locator("[data-nm=panel] table").wait_for()
        owned = page.evaluate("'owned' in window")
        return labels, titles, owned, widget.locator("img, script").count()

    labels, titles, owned, elements = visit(lab, notebook_of(tmp_path, HOSTILE), look)

    hostile = ["<img src=x onerror=owned=1>", "</script><script>owned=1</script>"]
    assert labels[1:] == hostile
    assert titles == [f"{name} · ReLU" for name in hostile]
    assert not owned
    assert elements == 0


MANY = """
net = nn.Sequential(*(nn.Identity() for _ in range(19_999)))
t = %nntrace net(torch.ones(1))
t
"""


def test_of_twenty_thousand_rows_only_those_in_view_are_drawn(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        grid = control(widget, "grid")
        drawn = [widget.locator(".nm-body > [role=row]").count()]
        grid.evaluate("grid => { grid.scrollTop = grid.scrollHeight; }")
        frames(page)
        end = rows(widget)[-1]["name"]
        drawn.append(widget.locator(".nm-body > [role=row]").count())
        control(widget, "search").fill("19990")
        count = widget.locator(".nm-count").inner_text()
        drawn.append(widget.locator(".nm-body > [role=row]").count())
        return drawn, end, count, names(rows(widget))

    drawn, end, count, matching = visit(lab, notebook_of(tmp_path, LOAD, MANY), look)

    assert max(drawn) < 100
    assert end == "19998"
    assert count == "1 of 20,000"
    assert matching == ["net", "19990"]


STEPS = """%%nntrace net -o t
for i in range(5):
    net(torch.full((1, 3), float(i)))
"""


def test_the_step_slider_shows_the_numbers_of_a_step(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        code = "print(json.dumps([[c.main.mean, c.main.std] for c in t.calls('')]))"
        calls = json.loads(run_cell(page, code))
        last = rows(widget)[0]["mean"]
        control(widget, "step").fill("1")
        expect(widget.locator(".nm-toolbar")).to_contain_text("1 (2 of 5)")
        mean = row_of(widget, "net").locator(".nm-k-pair").first
        expect(mean).to_have_text("±".join(units.numbers(*calls[1])))
        return calls, last, rows(widget)[0]["mean"], run_cell(page, "print(t.show(step=1))")

    path = notebook_of(tmp_path, LOAD, "torch.manual_seed(0)\nnet = nn.Linear(3, 2)", STEPS)
    calls, last, second, text = visit(lab, path, look)

    assert len(calls) == 5
    assert last == "±".join(units.numbers(*calls[4]))
    assert second == "±".join(units.numbers(*calls[1]))
    assert second.replace("±", " ± ") in text


LIVE = """
torch.manual_seed(0)
a = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
b = nn.Linear(3, 5)
w = nnmagic.watch(a)
w
"""

CALL = """
with torch.no_grad():
    y = {network}(torch.full((1, 3), {value}))
print(f"{{y.mean():.3f}}±{{y.std():.3f}}")
"""


def test_a_live_widget_follows_pauses_and_leaves_nothing(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        heading, badge = widget.locator(".nm-heading"), widget.locator(".nm-badge")
        found, by_torch = {}, {}

        def call(name, value, network="a"):
            by_torch[name] = run_cell(page, CALL.format(network=network, value=value)).strip()

        found["badge"] = badge.inner_text()
        call("call 1", 1.0)
        expect(heading).to_contain_text("call 1")
        frames(page)
        found["call 1"] = rows(widget)[0]["mean"]
        call("call 2", -7.0)
        expect(heading).to_contain_text("call 2")
        frames(page)
        found["call 2"] = rows(widget)[0]["mean"]
        control(widget, "pause").click()
        expect(badge).to_contain_text("paused")
        call("paused", 30.0)
        page.wait_for_timeout(300)  # an update would come within a tenth of a second
        found["paused"] = heading.inner_text(), rows(widget)[0]["mean"]
        control(widget, "pause").click()
        expect(badge).to_contain_text("live")
        call("resumed", 50.0)
        expect(heading).not_to_contain_text("call 2")
        frames(page)
        found["resumed"] = rows(widget)[0]["mean"]
        found["own while live"] = run_cell(page, TORCHS_OWN).strip()
        control(widget, "close").click()
        expect(widget).to_have_count(0)
        found["own once closed"] = run_cell(page, TORCHS_OWN).strip()
        return found, by_torch

    found, by_torch = visit(lab, notebook_of(tmp_path, LOAD, LIVE), look)

    assert "live" in found["badge"]
    for name in ("call 1", "call 2", "resumed"):
        assert found[name] == by_torch[name]
    assert "call 2" in found["paused"][0]
    assert found["paused"][1] == by_torch["call 2"] != by_torch["paused"]
    assert found["own while live"] == "False"
    assert found["own once closed"] == "True"


def test_watching_ends_with_its_block_a_second_watch_and_the_extension(lab, tmp_path):
    def look(page):
        widgets = page.locator(".nnmagic")
        found = {}
        expect(widgets).to_have_count(1)
        run_cell(page, "w2 = nnmagic.watch(a)\nw2")
        expect(page.locator(".jp-Cell").last.locator(".nnmagic")).to_have_count(1)
        expect(widgets).to_have_count(1)
        found["second"] = run_cell(page, f"{WIDGETS}\nprint(len(open_ones), open_ones[0] is w2)")
        run_cell(page, "w2.close()")
        block = f"with nnmagic.watch(a):\n    {TORCHS_OWN}\n{TORCHS_OWN}"
        found["block"] = run_cell(page, block).split()
        run_cell(page, "import ipywidgets\nipywidgets.HBox([nnmagic.watch(a), nnmagic.watch(b)])")
        expect(widgets).to_have_count(2)
        run_cell(page, CALL.format(network="b", value=1.0))
        expect(widgets.nth(1).locator(".nm-heading")).to_contain_text("b · call 1")
        run_cell(page, CALL.format(network="a", value=1.0))
        expect(widgets.nth(0).locator(".nm-heading")).to_contain_text("a · call 1")
        found["both"] = [names(rows(each)) for each in widgets.all()]
        run_cell(page, "%nntrace --live b")
        magic = widgets.nth(1)
        expect(magic.locator(".nm-badge")).to_contain_text("live")
        expect(widgets).to_have_count(2)
        expect(page.locator("[data-nnmagic]").last).to_be_hidden()
        run_cell(page, CALL.format(network="b", value=2.0))
        expect(magic.locator(".nm-heading")).to_contain_text("b · call 1")
        run_cell(page, "%unload_ext nnmagic")
        expect(widgets).to_have_count(0)
        found["unloaded"] = run_cell(page, TORCHS_OWN)
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, LIVE), look)

    assert found["second"].split() == ["1", "True"]
    assert found["block"] == ["False", "True"]
    assert found["both"] == [["a", "0", "1"], ["b"]]
    assert found["unloaded"].strip() == "True"


LOOP = """
with torch.no_grad():
    for i in range(2_000):
        y = a(torch.full((1, 3), i / 100))
print(f"{y.mean():.3f}±{y.std():.3f}")
"""


def test_a_quick_loop_sends_few_messages_and_its_last_call(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        page.evaluate(COUNT_MESSAGES)
        begin = time.monotonic()
        last = run_cell(page, LOOP).strip()
        expect(widget.locator(".nm-heading")).to_contain_text("call 2,000")
        frames(page)
        messages = page.evaluate("messages")
        return time.monotonic() - begin, last, rows(widget)[0]["mean"], messages

    seconds, last, shown, messages = visit(lab, notebook_of(tmp_path, LOAD, LIVE), look)

    assert shown == last
    assert 1 <= messages <= 10 * seconds + 1


FAILS_AT_TIMES = """
class Gate(nn.Module):
    def forward(self, x):
        if x.sum() < 0:
            raise ValueError("the gate is shut")
        return x

gated = nn.Sequential(nn.Identity(), Gate())
w = nnmagic.watch(gated)
w
"""


def test_a_live_widget_shows_a_call_that_fails_and_the_next_that_does_not(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        heading = widget.locator(".nm-heading")
        run_cell(page, "_ = gated(torch.ones(2))")
        expect(heading).to_contain_text("call 1")
        run_cell(page, "try:\n    gated(-torch.ones(2))\nexcept ValueError:\n    pass")
        expect(heading).to_contain_text("failed")
        frames(page)
        failing = [row["message"] for row in rows(widget)]
        run_cell(page, "_ = gated(torch.full((2,), 3.0))")
        expect(heading).to_contain_text("call 3")
        frames(page)
        after = [[row["message"], row["mean"]] for row in rows(widget)]
        return failing, after

    failing, after = visit(lab, notebook_of(tmp_path, LOAD, FAILS_AT_TIMES), look)

    assert failing == ["FAILED inside", None, "FAILED ValueError"]
    assert after == [[None, "3.000±0.000"]] * 3


LINK = """
import traitlets
first, second = open_ones[-2:]
link = traitlets.link((first, "selected"), (second, "selected"))
"""

MANY_WIDGETS = """
net = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
t = nnmagic.trace(net, torch.ones(1, 3))
for _ in range(22):
    display(t)
"""


def test_the_twenty_latest_widgets_live_and_their_traits_are_linked(lab, tmp_path):
    def look(page):
        widgets = page.locator(".nnmagic")
        expect(widgets).to_have_count(20)
        page.wait_for_timeout(1200)  # a widget looks for its static table once more after a second
        tables = page.evaluate(STATIC_TABLES)
        run_cell(page, WIDGETS + LINK)
        first, second = widgets.nth(18), widgets.nth(19)
        open_panel(first, "0")
        expect(second.locator(".nm-panel-title")).to_have_text("0 · Linear")
        in_python = run_cell(page, "print(first.selected, second.selected)").split()
        run_cell(page, "first.selected = '1'")
        selected = []
        for widget in (first, second):
            expect(widget.locator(".nm-panel-title")).to_have_text("1 · ReLU")
            selected.append([row["name"] for row in rows(widget) if row["selected"]])
        return tables, in_python, selected

    found = visit(lab, notebook_of(tmp_path, LOAD, MANY_WIDGETS), look)

    tables, in_python, selected = found
    assert tables == [True, True] + [False] * 20
    assert in_python == ["0", "0"]
    assert selected == [["1"], ["1"]]


def test_parameters_and_summary_are_searched_and_sorted(lab, tmp_path):
    def look(page):
        expect(page.locator(".nnmagic")).to_have_count(2)
        params, summary = page.locator(".nnmagic").all()
        found = {}
        control(params, "search").fill("bias")
        found["biases"] = params.locator(".nm-count").inner_text()
        control(params, "search").fill("")
        control(params, "sort-count").click()
        found["largest"] = [[row["name"], row["count"]] for row in rows(params)]
        found["histograms"] = params.locator(
            ".nm-body [role=row]:not([hidden]) svg path[d*=M]"
        ).count()
        control(summary, "search").fill("Linear")
        found["linear"] = [row["name"] for row in rows(summary)]
        control(summary, "search").fill("")
        control(summary, "sort-params").click()
        found["most parameters"] = [[row["name"], row["params"]] for row in rows(summary)][:3]
        found["title"] = open_panel(summary, "linear_relu_stack.0")
        expect(control(summary, "panel")).to_contain_text("401,920 parameters")
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, "%nnparams", "%nnsummary"), look)

    stack = "linear_relu_stack"
    assert found["biases"].split(" of ")[0] == "3"
    leaves = [row for row in found["largest"] if row[0].endswith(("weight", "bias"))]
    assert leaves == [
        [f"{stack}.0.weight", "401,408"],
        [f"{stack}.2.weight", "262,144"],
        [f"{stack}.4.weight", "5,120"],
        [f"{stack}.0.bias", "512"],
        [f"{stack}.2.bias", "512"],
        [f"{stack}.4.bias", "10"],
    ]
    assert found["histograms"] == 6
    assert found["linear"] == ["NeuralNetwork", stack, *(f"{stack}.{i}" for i in range(5))]
    assert found["most parameters"] == [
        ["NeuralNetwork", "669,706"],
        [stack, "669,706"],
        [f"{stack}.0", "401,920"],
    ]
    assert found["title"] == f"{stack}.0 · Linear"


def test_the_widget_works_in_notebook_7(lab_folder, pictures, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        expect(page.locator("[data-nnmagic]")).to_be_hidden()
        before = page.evaluate(STATIC_TABLES)
        control(widget, "search").fill("flatten")
        count = widget.locator(".nm-count").inner_text()
        title = open_panel(widget, "flatten")
        canvas = control(widget, "panel").locator("canvas").first
        colors = canvas.evaluate(COLORS)
        control(widget, "search").fill("")
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        keys, cells = by_keyboard(page)
        run_cell(page, f"{WIDGETS}\nopen_ones[0].close()")
        expect(widget).to_have_count(0)
        closed = page.evaluate(STATIC_TABLES)
        return [before, count, title, colors > 20, closed], keys, cells

    with Lab(lab_folder.mktemp("notebook"), ui="notebook") as lab:
        path = notebook_of(tmp_path, LOAD, "%nntrace", "'the last cell'")
        found, keys, (before, after) = visit(lab, path, look, known=NOTEBOOKS_OWN)

    assert found == [[False], "1 of 8", "flatten · Flatten", True, [True]]
    assert keys == KEYS_DO
    assert after == before


CONTRAST = """() => {
  const shown = document.querySelector('.nnmagic .nm-body [role=row]:not([hidden]) .nm-label');
  const color = text => text.match(/[\\d.]+/g).map(Number);
  let behind = [0, 0, 0, 0];
  for (let node = shown; node && behind[3] === 0; node = node.parentElement) {
    const [r, g, b, alpha = 1] = color(getComputedStyle(node).backgroundColor);
    behind = [r, g, b, alpha];
  }
  const style = getComputedStyle(shown);
  const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const [low, high] = [luminance(color(style.color)), luminance(behind)].sort((a, b) => a - b);
  const contrast = (high + 0.05) / (low + 0.05);
  return {contrast, behind: luminance(behind), size: parseFloat(style.fontSize)};
}"""


def test_a_row_is_readable_in_the_dark_theme(lab_folder, pictures, tmp_path):
    def look(page):
        page.locator(".nnmagic").wait_for()
        return page.evaluate(CONTRAST)

    with Lab(lab_folder.mktemp("dark"), "Dark") as lab:
        found = visit(lab, notebook_of(tmp_path, LOAD, "%nntrace"), look)

    assert found["behind"] < 0.1
    assert found["contrast"] >= 7
    assert found["size"] >= 11
