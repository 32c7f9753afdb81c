"""A page of its own in a real browser, the network cut off: it does what the widget does."""

import copy
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torchvision
from axe_playwright_python.sync_playwright import Axe
from lab import CHROMIUM, FLAGS
from nbconvert import HTMLExporter
from playwright.sync_api import expect, sync_playwright
from torch import nn
from torch.nn import functional as F
from widget_page import (
    CATCH_COPIES,
    COLORS,
    KEYS_DO,
    all_rows,
    assert_folded_sorted_and_hidden,
    by_keyboard,
    control,
    fold_sort_and_hide,
    frames,
    labels_and_titles,
    lanes,
    names,
    open_panel,
    row_of,
    rows,
    share,
    statistic_texts,
    statistics,
    violations,
)
from widget_uses import (
    BOXES,
    assert_curves_have_one_cursor,
    assert_lanes_were_followed,
    assert_panel_is_below,
    assert_parameters_and_summary,
    assert_parameters_were_grouped_and_copied,
    assert_where_runs_part_was_seen,
    group_and_copy_parameters,
    hover_over_curves,
    light_up_follow_and_fold,
    look_at_where_runs_part,
    read_picture,
    save_first_picture,
    search_and_sort_parameters,
    search_and_sort_summary,
)

import nnmagic
from nnmagic.display import units
from nnmagic.records.tensor import STATISTICS

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DEMO = Path(__file__).parents[2] / "demo.ipynb"

OF_A_KERNEL = ("run", "input", "pause", "step", "all-input-0", "all-output-0")
"""The controls that ask a kernel."""


WIDE = {"width": 1700, "height": 900}


@pytest.fixture(scope="module")
def browser(lab_folder):
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as browser,
    ):
        yield browser


@pytest.fixture
def exported(browser, tmp_path):
    """Gives the widget of a record's page; nothing goes wrong in it, and nothing is fetched."""
    heard, fetched = [], []

    @contextmanager
    def exported(record, **options):
        path = tmp_path / "page.html"
        record.to_html(path)
        context = browser.new_context(**options)
        context.set_offline(True)
        context.on("request", lambda request: fetched.append(request.url))
        page = context.new_page()
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("console", lambda message: heard.append(message.text))
        page.goto(path.as_uri())
        yield page.locator(".nnmagic") if options.get("java_script_enabled", True) else page
        context.close()
        assert heard == []
        assert all(url.startswith(("file:", "blob:", "data:")) for url in fetched)

    return exported


def test_the_table_of_a_page_folds_sorts_hides_and_answers_keys(exported):
    network, x = nnmagic.default_network(), nnmagic.default_input()
    trace = nnmagic.trace(network, x)

    with exported(trace) as widget:
        found = fold_sort_and_hide(widget)
        expect(widget.page.locator("[data-nnmagic]")).to_be_hidden()
    with exported(trace) as widget:
        keys, _ = by_keyboard(widget.page)
    with exported(nnmagic.params(network)) as widget:
        params = search_and_sort_parameters(widget)
        expect(widget).to_contain_text("669,706")
    with exported(nnmagic.summary(network, x)) as widget:
        summary = search_and_sort_summary(widget)
    with exported(trace, java_script_enabled=False) as page:
        expect(page.locator("summary").filter(has_text="linear_relu_stack").first).to_be_visible()

    calls = [[c.layer, str(c.output_shape), c.main.zeros, c.main.mean, c.main.std] for c in trace]
    assert_folded_sorted_and_hidden(found, calls)
    assert keys == KEYS_DO
    assert_parameters_and_summary(params, summary)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_of_a_resnet_is_searched_and_its_layers_seen(exported, theme):
    torch.manual_seed(0)
    net = torchvision.models.resnet18().eval()
    with torch.no_grad():
        trace = nnmagic.trace(net, torch.rand(1, 3, 224, 224))

    with exported(trace, color_scheme=theme, viewport={"width": 1300, "height": 900}) as widget:
        found = violations(Axe().run(widget.page))
        control(widget, "search").fill("conv")
        convolutions = names(all_rows(widget))
        control(widget, "search").fill("")
        control(widget, "grid").evaluate("grid => { grid.scrollTop = 0; }")
        frames(widget.page)
        open_panel(widget, "conv1")
        panel = control(widget, "panel")
        panel.locator("canvas").nth(1).wait_for()
        colors = [canvas.evaluate(COLORS) for canvas in panel.locator("canvas").all()]
        numbers = statistics(widget)
        text = panel.inner_text()
        found += violations(Axe().run(widget.page))
        asking = [name for name in OF_A_KERNEL if control(widget, name).first.is_visible()]

    wanted = {name for name, _ in net.named_modules() if "conv" in name or name.endswith("ple.0")}
    assert wanted <= set(convolutions)
    assert min(colors) > 20
    records = trace["conv1"].inputs[0], trace["conv1"].main
    shown = [{name: getattr(record, name) for name in STATISTICS} for record in records]
    assert numbers == [*map(statistic_texts, shown)]
    assert "weight (64, 3, 7, 7)" in text.replace("\xa0", " ")
    assert "in this page" in text
    assert asking == []
    assert found == []


class Root(nn.Module):
    def forward(self, x):
        return (-1 - x.abs()).sqrt()


def test_names_are_text_and_the_first_nan_is_one_click_away_in_a_page(exported):
    hostile = ["<img src=x onerror=owned=1>", "</script><script>owned=1</script>"]
    net = nn.Sequential()
    for name in hostile:
        net.add_module(name, nn.ReLU())
    fragile = nn.Sequential(nn.Linear(4, 4), Root(), nn.ReLU())

    with exported(nnmagic.trace(net, torch.ones(2))) as widget:
        labels, titles = labels_and_titles(widget)
        owned = widget.page.evaluate("'owned' in window")
    with exported(nnmagic.trace(fragile, torch.ones(1, 4))) as widget:
        control(widget, "first").click()
        expect(widget.locator(".nm-panel-title")).to_have_text("1 · Root")
        chosen = [row["name"] for row in rows(widget) if row["selected"]]
        expect(row_of(widget, "1")).to_contain_text("NaN")

    assert labels[1:] == hostile
    assert titles == [f"{name} · ReLU" for name in hostile]
    assert not owned
    assert chosen == ["1"]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.b(self.a(x)) + x


def test_lanes_of_a_page_light_up_and_are_followed(exported):
    net, x = nn.Sequential(nn.Linear(4, 4), Block(), nn.Linear(4, 4)), torch.rand(2, 4)
    with nnmagic.tracing(ops=True) as trace:
        net(x)

    with exported(trace) as widget:
        found = light_up_follow_and_fold(widget)

    assert_lanes_were_followed(found)


def nested(layer):
    return nn.Sequential(nn.Sequential(nn.Sequential(layer)))


def test_parameters_and_comparisons_of_a_page_are_used_as_in_a_notebook(exported):
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)]
    nested = [
        nn.Sequential(nn.Sequential(nn.Sequential(nn.Sequential(c, nn.ReLU()))))
        for c in convolutions
    ]
    net = nn.Sequential(*nested).eval()
    other, x = copy.deepcopy(net), torch.rand(2, 4, 12, 12)
    with torch.no_grad():
        other.get_parameter("1.0.0.0.0.weight")[2] += 0.5
        comparison = nnmagic.trace(net, x).compare(nnmagic.trace(other, x))

    with exported(nnmagic.params(nnmagic.default_network()), viewport=WIDE) as widget:
        parameters = group_and_copy_parameters(widget)
    with exported(comparison) as widget:
        parting = look_at_where_runs_part(widget)

    assert_parameters_were_grouped_and_copied(parameters)
    assert_where_runs_part_was_seen(parting)


def test_a_page_of_a_loop_has_its_curves_and_its_gradients(exported):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    with nnmagic.tracing(net, grad=True) as trace:
        for _ in range(21):
            loss = F.cross_entropy(net(torch.randn(16, 4)), torch.arange(16) % 3)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    with exported(trace, viewport={"width": 1300, "height": 900}) as widget:
        open_panel(widget, "0")
        found = hover_over_curves(widget)
        panel = control(widget, "panel")
        text = panel.inner_text()
        found["slider"] = control(widget, "step").is_visible()

    assert_curves_have_one_cursor(found, [units.numbers(c.main.mean)[0] for c in trace.calls("0")])
    assert not found["slider"], "the other iterations are not in the page"
    assert "gradient of output" in text
    assert f"gradient norm {units.numbers(net[0].weight.grad.norm().item())[0]}" in text


def test_a_page_has_attention_maps_and_each_kind_of_picture_and_saves_them(exported):
    torch.manual_seed(0)
    attention, x = nn.MultiheadAttention(8, 2, batch_first=True), torch.rand(1, 6, 8)
    with torch.no_grad():
        _, maps = attention(x, x, x, average_attn_weights=False)
        attending = nnmagic.trace(attention, x, x, x)
        convolution = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        picture = torch.rand(1, 3, 32, 32)
        maps_of_channels, colored = convolution[0](picture), nnmagic.trace(convolution, picture)

    with exported(attending) as widget:
        open_panel(widget, "MultiheadAttention")
        cells = read_picture(widget, "figure-0")
        said = control(widget, "panel").inner_text()
    with exported(colored, viewport={"width": 800, "height": 900}) as widget:
        name, _, apart = save_first_picture(widget, "0")
        boxes = widget.evaluate(BOXES)
        legends = control(widget, "panel").locator(".nm-limits").all_inner_texts()
        values = read_picture(widget, "output-0")

    by_torch = [maps[0][tuple(index)].item() for index, _ in cells]
    assert [value for _, value in cells] == pytest.approx(by_torch, rel=2e-3)
    assert "worked out from q and k" in said
    by_torch = [maps_of_channels[tuple(index)].item() for index, _ in values]
    assert [value for _, value in values] == pytest.approx(by_torch, rel=2e-3)
    assert name == "0-Conv2d-input-1-3-32-32.png"
    assert apart <= 1
    assert_panel_is_below(boxes)
    assert "is black" in legends[0]
    assert "in red, green and blue" in legends[-1]


def test_a_page_has_lanes_a_splitter_and_rows_to_copy_and_shows_what_failed(exported):
    net, x = nn.Sequential(nn.Linear(4, 4), Block()), torch.rand(2, 4)
    with nnmagic.tracing(ops=True) as trace:
        net(x)
    with pytest.raises(RuntimeError), nnmagic.tracing() as failing:
        nn.Sequential(nn.Linear(4, 8), nn.Linear(4, 2))(torch.ones(1, 4))

    with exported(trace, viewport={"width": 1300, "height": 900}) as widget:
        drawn = lanes(widget)
        open_panel(widget, "1.a")
        shares = [share(widget)]
        for key in ("ArrowRight", "End"):
            control(widget, "splitter").press(key)
            shares.append(share(widget))
        widget.page.evaluate(CATCH_COPIES, False)
        control(widget, "copy").click()
        widget.get_by_role("menuitem", name="copy as TSV").click()
        expect(widget.get_by_text("rows copied as TSV")).to_be_visible()
        (tsv,) = widget.page.evaluate("window.copied")
    with exported(failing) as widget:
        control(widget, "failed").click()
        expect(widget.locator(".nm-panel-title")).to_have_text("1 · Linear")
        (failed,) = [row for row in rows(widget) if row["selected"]]
        cells = row_of(widget, "1").locator(":scope > :not([hidden])").all()
        tops = {cell.bounding_box()["y"] for cell in cells}

    assert [name for name, lane in drawn.items() if lane["dot"]] == ["0", "1.a", "1.b", "1.add()"]
    assert shares == [52, 54, 80]
    assert [line.split("\t")[0] for line in tsv.split("\n")][2:] == [
        "0",
        "1",
        "1.a",
        "1.b",
        "1.add()",
    ]
    assert "make the layer with in_features=8" in failed["message"]
    assert len(cells) == 3  # its name, its lane and its message, on one line
    assert len(tops) == 1


def test_a_page_of_nbconvert_shows_the_tables_and_nothing_in_the_place_of_a_widget(
    browser, tmp_path
):
    path = tmp_path / "demo.html"
    path.write_text(HTMLExporter(embed_images=True).from_filename(str(DEMO))[0], encoding="utf-8")
    context = browser.new_context(color_scheme="light")
    context.set_offline(True)
    page = context.new_page()
    page.goto(path.as_uri(), wait_until="domcontentloaded")

    row = page.locator("summary:visible", has_text="linear_relu_stack").first
    expect(row).to_be_visible()
    heights = page.locator("[data-nnmagic]").evaluate_all("all => all.map(e => e.clientHeight)")
    text = page.locator("body").inner_text()
    context.close()

    assert len(heights) >= 8
    assert min(heights) > 40
    assert "669,706 parameters" in text
    assert not re.search(r"nnmagic widget|NetworkWidget|Error displaying widget", text)


def test_a_page_of_twenty_thousand_calls_is_light_and_does_all_that_a_widget_does(
    exported, tmp_path
):
    layers = (nn.Linear(2, 2) if i % 100 == 7 else nn.Identity() for i in range(19_999))
    net = nn.Sequential(*layers, nn.Sigmoid())
    fill_with_nan(net[10_007])
    with torch.no_grad():
        trace = nnmagic.trace(net, torch.ones(1, 2))
    drawn = []

    with exported(trace, viewport={"width": 1300, "height": 900}) as widget:

        def look():
            frames(widget.page)
            drawn.append(widget.locator(".nm-body > [role=row]").count())
            return rows(widget)

        grid, count = control(widget, "grid"), widget.locator(".nm-count")
        found = {"opened": "10007" in names(look())}
        grid.evaluate("grid => { grid.scrollTop = grid.scrollHeight; }")
        found["end"] = look()[-1]["name"]
        control(widget, "search").fill("linear")
        found["searched"], found["counted"] = look()[0]["name"], count.inner_text()
        control(widget, "sort-type").click()
        found["sorted"] = look()[0]["name"]
        control(widget, "search").fill("")
        control(widget, "flagged").click()
        found["flagged"] = names(look())
        control(widget, "first").click()
        expect(widget.locator(".nm-panel-title")).to_contain_text("10007")
        look()

    assert max(drawn) < 100
    assert found == {
        "opened": True,
        "end": "19999",
        "searched": "Sequential",
        "counted": "200 of 20,001 calls",
        "sorted": "7",
        "flagged": ["10007"],
    }
    page = (tmp_path / "page.html").stat().st_size
    assert page < 250_000 + 200 * 20_001


def fill_with_nan(layer):
    with torch.no_grad():
        layer.weight.fill_(float("nan"))
