"""What a panel in a real page says of a layer and of its tensors, held against torch."""

import json
import re

import numpy as np
import pytest
from lab import notebook_of, opened, run_cell
from playwright.sync_api import expect
from widget_page import LOAD, control, frames, open_panel, rows

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CELLS = {
    "attention": """
torch.manual_seed(0)
attention = nn.MultiheadAttention(16, 2, batch_first=True).eval()
nn.init.normal_(attention.in_proj_bias)
x, y = 3 * torch.randn(2, 6, 16), 3 * torch.randn(2, 9, 16)
%nntrace attention(x, y, y)
""",
    "long": """
long = torch.randn(1, 300, 16)
%nntrace --ops attention(long, long, long)
""",
    "fused": """
encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
with torch.no_grad():
    fused = %nntrace encoder(x)
fused
""",
    "factors": """
class Times(nn.Module):
    '''Multiplies by a number. It has no weights.'''
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
    def forward(self, x):
        return x * self.factor
class Wordless(Times):
    pass
class Factors(nn.Module):
    def __init__(self):
        super().__init__()
        self.smaller, self.larger, self.wordless = Times(4.9), Times(5.1), Wordless(1)
    def forward(self, x):
        return self.smaller(x), self.larger(x), self.wordless(x)
factors = Factors()
%nntrace factors(torch.linspace(0, 1, 64)[None])
""",
    "one": """
convolution = nn.Conv2d(3, 8, 3)
%nntrace convolution(torch.rand(3, 20, 24))
""",
    "batch": "%nntrace convolution(torch.rand(2, 3, 20, 24))",
    "large": """
picture, network = torch.rand(1, 3, 224, 224), nn.Sequential(nn.Conv2d(3, 64, 8, 8), nn.Tanh())
%nntrace network(picture)
""",
}
"""The code of each widget, by a name."""

TRUTH = """
def attended(layer, x, y, every=1):
    weights, biases = (each.detach().double().chunk(3) for each in (
        layer.in_proj_weight, layer.in_proj_bias))
    q, k = ((each[0].double() @ w.T + b).unflatten(-1, (2, 8)).transpose(0, 1)
        for each, w, b in zip((x, y), weights, biases))
    logits = q @ k.mT / 8 ** 0.5
    shares = logits.softmax(-1)
    return {
        "entropy": (-shares * shares.log()).sum(-1).mean(-1).tolist(),
        "logits": logits.amax((1, 2)).tolist(),
        "shares": shares[0, ::every, ::every].tolist(),
    }
with torch.no_grad():
    maps = network[0](picture)[0]
print(json.dumps({
    "attention": attended(attention, x, y),
    "long": attended(attention, long, long, every=3),
    "fused": attended(encoder.self_attn, x, x),
    "map": maps[0, :, :, None].tolist(),
    "edges": [*picture[0, :, 0].T.tolist(), *picture[0, :, 1:, -1].T.tolist()],
}))
"""

WALK = """(canvas, keys) => keys.map(key => {
  canvas.dispatchEvent(new KeyboardEvent('keydown', {key}));
  return canvas.parentElement.querySelector('output').textContent;
})"""
"""Returns what a picture says of each place that such keys lead to."""


class Visit:
    """The open page, and the widget of each cell in it."""

    def __init__(self, page, seen):
        self.page, self.seen = page, seen
        self.truth = json.loads(run_cell(page, TRUTH))

    def __getitem__(self, name):
        return self.page.locator(".nnmagic").nth(list(CELLS).index(name))

    def open(self, name, row):
        """Open the panel of a row, and return it."""
        open_panel(self[name], row)
        panel = control(self[name], "panel")
        panel.locator("dl").wait_for(state="attached")
        frames(self.page)
        return panel


@pytest.fixture(scope="module")
def visit(lab, tmp_path_factory):
    notebook = notebook_of(tmp_path_factory.mktemp("cards"), LOAD, *CELLS.values())
    with opened(lab, notebook) as (page, seen):
        expect(page.locator(".nnmagic")).to_have_count(len(CELLS))
        yield Visit(page, seen)


def card(panel, title):
    return panel.locator(".nm-tensor").filter(has=panel.page.get_by_text(title, exact=True)).first


def read(picture, keys):
    """Press keys on a picture; return the place and the numbers that it says after each."""
    said = [text.split(": ") for text in picture.evaluate(WALK, keys)]
    return [(place, [float(each) for each in values.split(", ")]) for place, values in said]


def read_tile(picture, columns, rows):
    """Go over a picture's first tile, there and back; return its places and numbers by row."""
    keys, lines = [], []
    for row in range(rows):
        keys += ["ArrowDown", *[("ArrowRight", "ArrowLeft")[row % 2]] * (columns - 1)]
    found = read(picture, keys)
    for row in range(rows):
        line = found[columns * row : columns * (row + 1)]
        lines.append(line[:: -1 if row % 2 else 1])
    return lines


def by_head(caption, what):
    """Return the numbers that a caption says of each head."""
    said = re.search(rf"{what} by head: ([-\d., ]+)", caption)[1]
    return [float(each) for each in said.split(", ")]


def close(numbers):
    """Return numbers in lists of lists, to be compared with others of five digits."""
    return pytest.approx(np.array(numbers), rel=1e-4, abs=1e-6)


ATTENDING = [("attention", "attention", 1), ("long", "attention", 3), ("fused", "encoder", 1)]


@pytest.mark.parametrize(("name", "row", "step"), ATTENDING)
def test_the_numbers_of_an_attention_are_those_that_torch_gives(name, row, step, visit):
    figure = card(visit.open(name, row), "attention")
    caption, truth = figure.inner_text(), visit.truth[name]
    queries, keys = np.shape(truth["shares"])
    tile = read_tile(figure.locator("canvas"), keys, queries)

    if name == "fused":
        assert len(rows(visit[name])) == 1, "no attention is called in it"
    entropy = by_head(caption, "mean entropy of all queries")
    assert entropy == pytest.approx(truth["entropy"], abs=6e-4)
    assert by_head(caption, "largest logit") == pytest.approx(truth["logits"], abs=6e-4)
    assert [[place for place, _ in line] for line in tile] == [
        [f"head 0, query {step * i}, key {step * j}" for j in range(keys)] for i in range(queries)
    ]
    assert np.array([[share for _, (share,) in line] for line in tile]) == close(truth["shares"])
    is_sparse = "drawn at 100 x 100 evenly spaced of 300 x 300" in caption
    assert is_sparse == (name == "long"), "of more than 128 x 128 so many are drawn at most"


def axes_of(panel):
    """Return the printed ends of the axis of each histogram, and whether they are one."""
    ends = panel.locator(".nm-axis").evaluate_all(
        "all => all.map(each => [...each.children].map(end => end.textContent))"
    )
    return ends, panel.get_by_text("on one axis", exact=True).count()


def test_histograms_have_one_axis_where_their_ranges_differ_by_at_most_five_times(visit):
    smaller = axes_of(visit.open("factors", "smaller"))
    larger = axes_of(visit.open("factors", "larger"))

    assert smaller == ([["0.000", "4.900"], ["0.000", "4.900"]], 1)
    assert larger == ([["0.000", "1.000"], ["0.000", "5.100"]], 0)


ABOUT = """panel => {
  const [heading] = [...panel.querySelectorAll('.nm-part')].filter(e => e.textContent === 'about');
  const after = heading.nextElementSibling;
  return after.tagName === 'DL' ? '' : after.textContent;
}"""


def test_about_is_the_first_sentence_of_the_class_itself(visit):
    found = [
        visit.open("factors", row).evaluate(ABOUT) for row in ("smaller", "wordless", "factors")
    ]

    assert found == ["Multiplies by a number.", "", ""]


def test_a_batch_is_named_where_there_is_one_alone(visit):
    panel = visit.open("one", "convolution")
    of_one = [read(each, ["ArrowRight"])[0][0] for each in panel.locator("canvas").all()]
    everything = panel.evaluate("panel => panel.outerHTML")
    panel = visit.open("batch", "convolution")
    sliders = panel.get_by_role("slider", name="batch")
    sliders.nth(1).fill("1")
    of_batch = [read(each, ["ArrowRight"])[0][0] for each in panel.locator("canvas").all()]

    assert of_one == ["row 0, column 0", "channel 0, row 0, column 0", "out 0, kh 0, kw 0"]
    assert not re.search("batch|item", everything)
    assert sliders.count() == 2
    assert of_batch == [
        "batch 0, row 0, column 0",
        "batch 1, channel 0, row 0, column 0",
        "out 0, kh 0, kw 0",
    ]


def test_a_map_of_a_larger_tensor_is_drawn_at_its_full_size(visit):
    output, truth = card(visit.open("large", "0"), "output"), visit.truth
    assert output.get_by_text("20 of 64 channels, 15,680 of 50,176 values").is_visible()
    tile = read_tile(output.locator("canvas"), 28, 28)

    assert [[place for place, _ in line] for line in tile] == [
        [f"batch 0, channel 0, row {i}, column {j}" for j in range(28)] for i in range(28)
    ]
    assert np.array([[each for _, each in line] for line in tile]) == close(truth["map"])


def test_a_picture_for_the_network_is_drawn_whole(visit):
    whole, truth = card(visit.open("large", "network"), "input"), visit.truth
    cells = read(whole.locator("canvas"), [*224 * ["ArrowRight"], *223 * ["ArrowDown"]])

    assert whole.get_by_text("all 150,528 values", exact=True).is_visible()
    assert [place for place, _ in cells] == [
        *(f"batch 0, row 0, column {i}" for i in range(224)),
        *(f"batch 0, row {i}, column 223" for i in range(1, 224)),
    ]
    assert np.array([each for _, each in cells]) == close(truth["edges"])


def test_the_page_stays_quiet(visit):
    assert visit.seen.errors == []
    assert visit.seen.foreign == []
