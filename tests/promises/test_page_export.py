"""A page of its own in a real browser, the network cut off: it does what the widget does."""

import re
from pathlib import Path

import pytest
import torch
import torchvision
from axe_playwright_python.sync_playwright import Axe
from nbconvert import HTMLExporter
from playwright.sync_api import expect
from torch import nn
from widget_page import (
    COLORS,
    KEYS_DO,
    all_rows,
    assert_folded_sorted_and_hidden,
    by_keyboard,
    control,
    fold_sort_and_hide,
    frames,
    labels_and_titles,
    names,
    open_panel,
    row_of,
    rows,
    statistic_texts,
    statistics,
    violations,
)
from widget_uses import (
    assert_parameters_and_summary,
    search_and_sort_parameters,
    search_and_sort_summary,
)

import nnmagic
from nnmagic.records.tensor import STATISTICS

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DEMO = Path(__file__).parents[2] / "demo.ipynb"

OF_A_KERNEL = ("run", "input", "pause", "step", "all-input-0", "all-output-0")
"""The controls that ask a kernel."""


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
        panel = control(widget, "panel")
        expect(panel).to_contain_text("weight (2, 2)")
        control(widget, "flagged").click()
        for name in ("Sequential", "19999"):
            control(widget, "search").fill(name)
            look()
            row_of(widget, name).locator(".nm-label").click()
            expect(widget.locator(".nm-panel-title")).to_contain_text(name)
            found[name] = "1,000 of 20,001 rows" not in panel.inner_text()

    assert max(drawn) < 100
    assert found == {
        "opened": True,
        "end": "19999",
        "searched": "Sequential",
        "counted": "200 of 20,001 calls",
        "sorted": "7",
        "flagged": ["10007"],
        **{"Sequential": True, "19999": False},
    }
    page = (tmp_path / "page.html").stat().st_size
    assert page < 250_000 + 200 * 20_001


def fill_with_nan(layer):
    with torch.no_grad():
        layer.weight.fill_(float("nan"))
