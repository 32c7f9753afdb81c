"""The panels of a page of its own, in a real browser: what they show, and how they share room."""

import copy

import pytest
import torch
from playwright.sync_api import expect
from torch import nn
from torch.nn import functional as F
from widget_copies import (
    assert_parameters_were_grouped_and_copied,
    assert_picture_was_taken,
    copied,
    group_and_copy_parameters,
    take_first_picture,
)
from widget_focus import assert_all_was_reached, tab_through
from widget_page import control, open_panel, row_of, rows
from widget_pictures import (
    assert_bars_have_one_scale,
    assert_is_a_mask,
    assert_is_square_and_grey,
    look_at_bars,
    look_at_grey,
    look_at_mask,
    read_picture,
)
from widget_room import (
    BOXES,
    assert_panel_is_below,
    assert_room_is_shared_and_remembered,
    open_and_share_room,
)
from widget_uses import (
    assert_curves_have_one_cursor,
    assert_lanes_were_followed,
    assert_where_runs_part_was_seen,
    hover_over_curves,
    light_up_follow_and_fold,
    look_at_where_runs_part,
)

import nnmagic
from nnmagic.display import units

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BESIDE, WIDE = ({"width": width, "height": 900} for width in (1300, 1700))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.b(self.a(x)) + x


def nested(layer):
    return nn.Sequential(nn.Sequential(nn.Sequential(layer)))


def test_parameters_and_comparisons_of_a_page_are_used_as_in_a_notebook(exported):
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)]
    parts = [nested(nn.Sequential(layer, nn.ReLU())) for layer in convolutions]
    net = nn.Sequential(*parts).eval()
    other, x = copy.deepcopy(net), torch.rand(2, 4, 12, 12)
    with torch.no_grad():
        other.get_parameter("1.0.0.0.0.weight")[2] += 0.5
        comparison = nnmagic.trace(net, x).compare(nnmagic.trace(other, x))
    params = nnmagic.params(nnmagic.default_network())

    with exported(params, viewport=WIDE) as widget:
        parameters = group_and_copy_parameters(widget)
    with exported(comparison) as widget:
        parting = look_at_where_runs_part(widget)

    records = params.to_frame().to_dict("records")
    assert_parameters_were_grouped_and_copied(parameters, params.to_markdown(), records)
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

    with exported(trace, viewport=BESIDE) as widget:
        open_panel(widget, "0")
        found = hover_over_curves(widget)
        panel = control(widget, "panel")
        text = panel.inner_text()
        found["slider"] = control(widget, "step").is_visible()
        focused = tab_through(widget)

    assert_curves_have_one_cursor(found, [units.numbers(c.main.mean)[0] for c in trace.calls("0")])
    assert_all_was_reached(focused)
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
        taken = take_first_picture(widget, "0")
        boxes = widget.evaluate(BOXES)
        legends = control(widget, "panel").locator(".nm-limits").all_inner_texts()
        values = read_picture(widget, "output-0")

    by_torch = [maps[0][tuple(index)].item() for index, _ in cells]
    assert [value for _, value in cells] == pytest.approx(by_torch, rel=2e-3)
    assert "worked out from q and k" in said
    by_torch = [maps_of_channels[tuple(index)].item() for index, _ in values]
    assert [value for _, value in values] == pytest.approx(by_torch, rel=2e-3)
    assert_picture_was_taken(taken, "0-Conv2d-input-1-3-32-32.png")
    assert_panel_is_below(boxes)
    assert "is black" in legends[0]
    assert "in red, green and blue" in legends[-1]


class Scorer(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(784, 10)

    def forward(self, picture, mask):
        return self.linear(picture.flatten(1))


def test_a_page_shows_grey_pictures_masks_and_scores_as_what_they_are(exported):
    torch.manual_seed(0)
    net, picture = Scorer(), torch.linspace(0, 1, 784).reshape(1, 28, 28)
    mask = torch.arange(24).reshape(4, 6) % 6 < 4
    scores = net(picture, mask)

    with exported(nnmagic.trace(net, picture, mask), viewport=BESIDE) as widget:
        open_panel(widget, "Scorer")
        grey = look_at_grey(widget)
        masked = look_at_mask(widget, "input-1")
        bars = look_at_bars(widget, "output-0", 10)

    assert_is_square_and_grey(grey)
    assert_is_a_mask(masked)
    assert_bars_have_one_scale(bars, scores[0].tolist())


def test_a_page_s_room_is_shared_as_the_reader_likes_and_remembered(exported):
    net, x = nn.Sequential(nn.Linear(4, 4), Block()), torch.rand(2, 4)

    with exported(nnmagic.trace(net, x), viewport=BESIDE) as widget:

        def shown_again():
            widget.page.reload()
            widget.wait_for()
            return widget

        found = open_and_share_room(widget, "1.a", shown_again)

    assert_room_is_shared_and_remembered(found)


def test_a_page_has_lanes_and_rows_to_copy_and_shows_what_failed(exported):
    net, x = nn.Sequential(nn.Linear(4, 4), Block(), nn.Linear(4, 4)), torch.rand(2, 4)
    with nnmagic.tracing(ops=True) as trace:
        net(x)
    with pytest.raises(RuntimeError), nnmagic.tracing() as failing:
        nn.Sequential(nn.Linear(4, 8), nn.Linear(4, 2))(torch.ones(1, 4))

    with exported(trace) as widget:
        tsv = copied(widget, "TSV", 7)
        followed = light_up_follow_and_fold(widget)
    with exported(failing) as widget:
        control(widget, "failed").click()
        expect(widget.locator(".nm-panel-title")).to_have_text("1 · Linear")
        (failed,) = [row for row in rows(widget) if row["selected"]]
        cells = row_of(widget, "1").locator(":scope > :not([hidden])").all()
        tops = {cell.bounding_box()["y"] for cell in cells}

    assert_lanes_were_followed(followed)
    shown = [line.split("\t")[0] for line in tsv.split("\n")]
    assert shown[2:] == ["0", "1", "1.a", "1.b", "1.add()", "2"]
    assert "make the layer with in_features=8" in failed["message"]
    assert failed["type"] == "Linear"
    assert len(cells) == 4  # its name, its lane, its type and its message, on one line
    assert len(tops) == 1
