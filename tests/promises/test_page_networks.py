"""Networks of many kinds in one real page: how they are laid out, and what their panels tell."""

import json
import os
import re
from itertools import product
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from lab import change_theme, notebook_of, opened, run_cell
from page_layout import SEE, WIDTHS, faults
from page_networks import NETWORKS, notebook_cells
from playwright.sync_api import expect
from widget_focus import assert_all_was_reached, tab_through
from widget_page import SCROLL, all_rows, control, frames, row_of, rows, violations
from widget_pictures import (
    COLORS_AT,
    assert_bars_have_one_scale,
    assert_is_a_mask,
    assert_is_square_and_grey,
    look_at_bars,
    look_at_grey,
    look_at_mask,
)

from nnmagic.display import units

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PICTURES = os.environ.get("NNMAGIC_PICTURES")

HEIGHT = 4600 if PICTURES else 1000
"""A picture is of what is in view."""

STATES = [*product(WIDTHS, ("Light",)), *product(reversed(WIDTHS), ("Dark",))]
"""Widths and themes, in such an order that one time the theme changes alone."""

READ_BY_AXE = ((640, "Dark"), (1300, "Light"))


class Visit:
    """The open page, and the widget of each network in it."""

    def __init__(self, lab, page, seen):
        self.lab, self.page, self.seen = lab, page, seen
        self.violations = {}

    def __getitem__(self, name):
        return self.page.locator(".nnmagic").nth(list(NETWORKS).index(name))

    def open(self, name, row):
        """Open the panel of a row, the first one of its name, and return it."""
        widget = self[name]
        self.bring(widget, row)
        row_of(widget, row).first.locator(".nm-label").click()
        expect(widget.locator(".nm-panel-title")).to_contain_text(f"{row} · ")
        control(widget, "panel").locator("dl").wait_for(state="attached")
        return control(widget, "panel")

    def bring(self, widget, row):
        """Unfold a row, and scroll it into the document."""
        grid = control(widget, "grid")
        for step in range(40):
            if not step or not grid.evaluate(SCROLL):
                if step:
                    control(widget, "depth").press("End")
                grid.evaluate("grid => { grid.scrollTop = 0; }")
            frames(self.page)
            if row_of(widget, row).count():
                return
        raise ValueError(f"no row {row}")

    def resize(self, width, theme="Light"):
        self.page.set_viewport_size({"width": width, "height": HEIGHT})
        change_theme(self.lab, self.page, theme)
        frames(self.page)
        frames(self.page)


@pytest.fixture(scope="module")
def visit(lab, tmp_path_factory):
    notebook = notebook_of(tmp_path_factory.mktemp("networks"), *notebook_cells())
    with opened(lab, notebook, width=1300, height=1000) as (page, seen):
        visit = Visit(lab, page, seen)
        visit["params"].wait_for()
        yield visit


@pytest.fixture(scope="module")
def layouts(visit):
    """What is seen at each width, in each theme, of each widget without its panel and with it."""
    found = {}
    for has_panel in (False, True):
        if has_panel:
            for name, network in NETWORKS.items():
                visit.open(name, network.row)
        for width, theme in STATES:
            visit.resize(width, theme)
            found[width, theme, has_panel] = visit.page.evaluate(SEE)
            if PICTURES:
                take_pictures(visit, f"{'panel' if has_panel else 'table'} {width} {theme}")
            if has_panel and (width, theme) in READ_BY_AXE:
                axe = Axe().run(visit.page, context=".nnmagic")
                visit.violations[width, theme] = violations(axe)
    visit.resize(1300)
    return found


def take_pictures(visit, state):
    for name in NETWORKS:
        file = f"{name} {state}.png".lower().replace(" ", "-")
        visit[name].screenshot(path=Path(PICTURES) / file)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_is_laid_out_well_at_every_width_in_both_themes(name, layouts):
    place = list(NETWORKS).index(name)

    for state, seen in layouts.items():
        assert faults(seen["widgets"][place], NETWORKS[name].red) == [], state


def test_the_notebook_never_scrolls_sideways(layouts):
    for state, seen in layouts.items():
        assert seen["page"] == [0, 0], state


@pytest.mark.parametrize("state", READ_BY_AXE)
def test_axe_finds_no_violation_with_all_panels_open(state, visit, layouts):
    assert visit.violations[state] == []


TRUTH = """import json
with torch.no_grad():
    _, (h_n, _) = translator.reader(translator.embed(words) * (words % 6 < 4)[..., None])
    loss, scores = gpt2(ids, labels=ids).loss, vit(stripes(48))[0]
weight, y = small[0].weight, small[0](stripes(48))
(gradient,) = torch.autograd.grad(F.cross_entropy(small[1:](y), torch.tensor([2])), y)
print(json.dumps({
    "h_n": h_n[0, 1, 2].item(),
    "loss": loss.item(),
    "scores": scores.tolist(),
    "kernel": weight[3, :, 1, 2].tolist(),
    "largest kernel": weight.abs().flatten().quantile(0.995, interpolation="higher").item(),
    "gradient": gradient.norm().item(),
    "gradient of weight": weight.grad.norm().item(),
}))
"""


@pytest.fixture(scope="module")
def truth(visit):
    return json.loads(run_cell(visit.page, TRUTH))


COLOR_AT_MARK = """canvas => {
  const {left, top, width, height} = canvas.parentElement.querySelector('.nm-mark').style;
  const middle = (from, size) => devicePixelRatio * (parseFloat(from) + parseFloat(size) / 2);
  const at = [middle(left, width), middle(top, height)].map(Math.floor);
  return [...canvas.getContext('2d').getImageData(...at, 1, 1).data.slice(0, 3)];
}"""

PARTS = """panel => [...panel.lastElementChild.children].flatMap(part => {
  if (part.matches('.nm-flag-text')) return 'wrong';
  if (part.matches('.nm-sides')) {
    return part.querySelector('.nm-hist') ? 'distributions' : 'pictures';
  }
  if (part.matches('.nm-wide')) return 'numbers';
  return {UL: 'weights', DL: 'about'}[part.tagName] ?? [];
})"""


def picture(panel, name):
    return panel.locator(f'canvas[aria-label^="{name} ("]').first


def card(panel, title):
    return panel.locator(".nm-tensor").filter(has=panel.page.get_by_text(title, exact=True)).first


def read(canvas, *keys):
    """Press keys on a picture, and return what it says of where they lead."""
    canvas.focus()
    for key in keys:
        canvas.press(key)
    return canvas.locator("xpath=ancestor::div[2]").locator(".nm-readout").first.inner_text()


def test_pictures_are_in_their_own_colours(visit, truth):
    thirds = [[1 / 6, 0.5], [0.5, 0.5], [5 / 6, 0.5]]
    for name, row in (("grad", "0"), ("vit", "vit"), ("detector", "detector")):
        seen = picture(visit.open(name, row), "input").evaluate(COLORS_AT, thirds)
        assert seen["colors"] == [[255, 0, 0], [0, 255, 0], [0, 0, 255]], name
        assert abs(seen["across"] - seen["down"]) <= 1

    assert_is_square_and_grey(look_at_grey(visit.open("cell", "flatten")))

    kernels = picture(visit.open("grad", "0"), "weight")
    said = read(kernels, "ArrowRight", *["ArrowRight"] * 17, "ArrowDown")
    most = truth["largest kernel"]
    colors = [round(255 * min(1, max(0, (v + most) / (2 * most)))) for v in truth["kernel"]]
    assert said.startswith("out 3, kh 1, kw 2: ")
    assert [float(text) for text in said.split(": ")[1].split(", ")] == pytest.approx(
        truth["kernel"], abs=1e-5
    )
    assert kernels.evaluate(COLOR_AT_MARK) == pytest.approx(colors, abs=1)


def test_ids_masks_and_single_values_are_shown_as_what_they_are(visit, truth):
    panel = visit.open("gpt2", "gpt2")
    ids = panel.locator("pre").first.inner_text().split()
    assert ids == [str(i) for i in range(24)]
    loss = float(card(panel, "loss").locator(".nm-number").inner_text())
    assert loss == pytest.approx(truth["loss"], rel=1e-6)
    assert picture(panel, "logits").is_visible()

    panel = visit.open("lstm", "translator")
    assert_is_a_mask(look_at_mask(panel, "input-1"))
    assert panel.locator("pre").first.inner_text().split() == [str(i) for i in range(24)]


def test_scores_are_bars_on_one_scale(visit, truth):
    bars = look_at_bars(visit.open("vit", "vit"), "output-0", 10)

    assert_bars_have_one_scale(bars, truth["scores"])


@pytest.mark.parametrize(("name", "row"), [("gan", "generator"), ("lstm", "translator")])
def test_all_controls_are_reached_by_tab_alone_and_seen_in_focus(name, row, visit):
    visit.open(name, row)

    assert_all_was_reached(tab_through(visit[name]))


def test_outputs_and_axes_have_their_names(visit, truth):
    boxes = visit.open("detector", "detector")
    assert boxes.locator(".nm-side b").all_inner_texts() == ["input", "boxes", "scores", "labels"]
    assert read(picture(boxes, "boxes"), "ArrowRight").startswith("box 0, corner 0: ")

    states = visit.open("lstm", "reader")
    assert states.locator(".nm-side b").all_inner_texts() == ["input", "output", "h_n", "c_n"]
    right = ["ArrowRight"] * 3
    said = read(picture(states, "h_n"), *right, "ArrowDown")
    assert said.startswith("layer × direction 0, batch 1, feature 2: ")
    assert float(said.split(": ")[1]) == pytest.approx(truth["h_n"], abs=1e-5)


def test_a_layer_that_is_called_often_is_one_row_that_unfolds(visit):
    widget = visit["lstm"]
    (folded,) = [row for row in rows(widget) if row["label"] == "writer × 8"]
    assert folded["expanded"] == "false"
    assert folded["flags"] == "the last of 8 calls"

    row_of(widget, "writer").first.locator(".nm-fold").click()

    assert [row["level"] for row in rows(widget) if row["name"] == "writer"] == [2, *[3] * 8]
    row_of(widget, "writer").first.locator(".nm-fold").click()


def test_attention_maps_are_worked_out_or_said_how_to_get(visit):
    line = visit.open("gpt2", "transformer.h.0.attn").locator(".nm-quiet").first
    assert "%nntrace --ops" in line.inner_text()

    for name in ("gpt2 ops", "vit"):
        figure = card(visit.open(name, NETWORKS[name].row), "attention")
        assert figure.get_by_text("worked out from q").count() == 1
        assert len(re.findall(r"entropy of all queries by head: ([\d., ]+)", figure.inner_text()))
        said = read(figure.locator("canvas"), "ArrowRight")
        assert said.startswith("head 0, query 0, key 0: ")
        if name == "gpt2 ops":  # no token sees one that comes after it
            assert float(said.split(": ")[1]) == 1


def test_gradients_have_their_picture_histogram_and_norm(visit, truth):
    panel = visit.open("grad", "0")

    assert picture(panel, "gradient of output").is_visible()
    name = "histogram of gradient of output"
    assert panel.locator(f'.nm-hist[aria-label^="{name}"]').is_visible()
    (norm,) = [line for line in panel.locator("tr").all_inner_texts() if line.startswith("norm")]
    assert norm.split() == ["norm", *units.numbers(truth["gradient"])]
    (of_weight,) = units.numbers(truth["gradient of weight"])
    assert f"gradient norm {of_weight}, after this run" in panel.inner_text()
    assert picture(visit.open("grad", "4"), "weight").is_visible(), "a matrix is a map"


def test_what_is_frozen_is_said_in_grey(visit):
    flags = {row["name"]: row["flags"].split(", ")[0] for row in all_rows(visit["params"])}
    trained = {name for name, said in flags.items() if said != "frozen"}
    assert trained == {"fc.weight", "fc.bias"}
    assert "frozen" in visit.open("frozen", "conv1").locator("li").first.inner_text()


def test_what_is_wrong_is_said_in_words_before_all_else(visit):
    said = visit.open("nan", "2").locator(".nm-flag-text").all_inner_texts()
    assert said[0].startswith("⚠ 16 NaN, made here from ")
    assert said[1] == "⚠ in its own code: --ops shows where"
    (said,) = visit.open("bright", "bright").locator(".nm-flag-text").all_inner_texts()
    assert said.startswith("⚠ got values up to 255: scale pictures"), "which is not red"

    heading = visit["failed"].locator(".nm-heading").inner_text()
    assert "failed in broken.2" in heading
    (message,) = [row["message"] for row in rows(visit["failed"]) if row["name"] == "2"]
    assert message.startswith("FAILED got (1, 512), weight is (10, 100)")
    panel = visit.open("failed", "2")
    assert "make the layer with in_features=512" in panel.locator(".nm-flag-text").inner_text()
    order = ["wrong", "pictures", "distributions", "numbers", "weights", "about"]
    assert panel.evaluate(PARTS) == order
    assert visit.open("grad", "0").evaluate(PARTS) == order[1:]


def test_hovering_a_concatenation_lights_up_both_of_its_sources(visit):
    widget = visit["unet"]
    if control(widget, "panel").is_visible():
        control(widget, "close-panel").click()
    found = {row["index"]: row["label"] for row in rows(widget)}
    last = max(index for index, label in found.items() if label == "cat()")
    first_relu = min(index for index, label in found.items() if label == "relu()")

    widget.locator(f'[aria-rowindex="{last}"] .nm-label').hover()
    frames(visit.page)

    linked = widget.locator(".nm-linked").evaluate_all(
        "rows => rows.map(row => Number(row.getAttribute('aria-rowindex'))).sort((a, b) => a - b)"
    )
    assert linked[0] == first_relu
    assert [found[index] for index in linked] == ["relu()", "up2", "out2"]


def test_a_summary_s_panel_tells_what_a_summary_knows(visit):
    panel = visit.open("summary", "out1")

    assert "(1, 32, 16, 16) → (1, 16, 16, 16)" in panel.inner_text()
    facts = dict(
        zip(
            panel.locator("dt").all_inner_texts(),
            panel.locator("dd").all_inner_texts(),
            strict=True,
        )
    )
    assert facts["parameters"] == "4,624, 4,624 trainable"
    assert facts["FLOPs"] == "2,359,296 (1,179,648 multiply-adds)"
    assert facts["memory of its output"] == "16.0 KiB"
    assert facts["made with"].startswith("32, 16, kernel_size=(3, 3)")
    assert "no tensor" not in panel.inner_text()


def test_the_console_stays_quiet(visit):
    assert visit.seen.errors == []
    assert visit.seen.foreign == []
