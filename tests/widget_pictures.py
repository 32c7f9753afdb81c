"""What the pictures of a widget show, in a notebook and in a page of its own."""

import re

import pytest

STEPS = ["ArrowRight", "ArrowRight", "ArrowDown", "ArrowRight", "ArrowDown"]

COLORS_AT = """(canvas, places) => {
  const {width, height} = canvas;
  const {data} = canvas.getContext('2d').getImageData(0, 0, width, height);
  const isDrawn = (x, y) => data[4 * (y * width + x) + 3] > 0;
  let [across, down] = [0, 0];
  while (across < width && isDrawn(across, 0)) across++;
  while (down < height && isDrawn(0, down)) down++;
  const colors = places.map(([x, y]) => {
    const at = 4 * (Math.floor(y * down) * width + Math.floor(x * across));
    return [...data.slice(at, at + 3)];
  });
  return {across, down, colors};
}"""
"""Returns how large a picture is drawn, in pixels, and its colours at places from 0 to 1."""

BARS = """(canvas, count) => {
  const {width, height} = canvas;
  const {data} = canvas.getContext('2d').getImageData(0, 0, width, height);
  return Array.from({length: count}, (_, i) => {
    const line = width * Math.floor((i + 0.5) * height / count);
    const isColored = x => {
      const pixel = data.slice(4 * (line + x), 4 * (line + x) + 3);
      return Math.max(...pixel) - Math.min(...pixel) > 20;
    };
    const colored = Array.from({length: width}, (_, x) => x).filter(isColored);
    return [colored[0], colored.at(-1) + 1];
  });
}"""
"""Returns where each bar of a list begins and ends, in pixels."""


def canvas_at(widget, place):
    return widget.locator(f'[data-nm$="-{place}-canvas"]')


def read_out(canvas, key):
    """Press a key on a picture, and return what it says of where that leads."""
    canvas.press(key)
    return canvas.locator("xpath=../..").locator("output.nm-readout").inner_text()


def read_picture(widget, place):
    """Walk over a picture by the arrow keys; return the index and the value under each cell."""
    found = []
    for key in STEPS:
        index, value = read_out(canvas_at(widget, place), key).split(": ")
        found.append([[int(i) for i in re.findall(r" (\d+)", index)], float(value)])
    return found


# A photograph in grey.


def look_at_grey(widget):
    """Return the size of the first input's picture, and its colours at both ends."""
    return canvas_at(widget, "input-0").evaluate(COLORS_AT, [[0.5, 0.01], [0.5, 0.99]])


def assert_is_square_and_grey(found):
    """Hold that against 28 x 28 values that go from 0 at the top to 1 at the bottom."""
    assert abs(found["across"] - found["down"]) <= 1
    (top, *_), (bottom, *_) = found["colors"]
    assert found["colors"] == [[top] * 3, [bottom] * 3]
    assert top < 10
    assert bottom > 245


# A mask.


def look_at_mask(widget, place):
    """Read the mask of 4 x 6 values at a place; return its colours, its values and its legend."""
    canvas = canvas_at(widget, place)
    middles = [[(column + 0.5) / 6, (row + 0.5) / 4] for row in range(4) for column in range(6)]
    found = canvas.evaluate(COLORS_AT, middles)
    found["said"] = [read_out(canvas, "ArrowRight") for _ in range(6)]
    found["legend"] = canvas.locator("xpath=../..").locator(".nm-limits").inner_text()
    return found


def assert_is_a_mask(found):
    """Hold that against a mask that is true in the first four of six columns."""
    true, *_, false = found["colors"]
    assert sum(abs(one - other) for one, other in zip(true, false, strict=True)) > 100
    assert found["colors"] == [*[true] * 4, *[false] * 2] * 4
    assert [text.split(": ")[1] for text in found["said"]] == [*["True"] * 4, *["False"] * 2]
    assert "True: 16 of 24" in found["legend"].replace("\xa0", " ")


# Scores as bars.


def look_at_bars(widget, place, count):
    """Return where the bars of so many scores begin and end, and which values they stand for."""
    canvas = canvas_at(widget, place)
    bars = canvas.evaluate(BARS, count)
    said = [read_out(canvas, "ArrowDown") for _ in range(count)]
    return {"bars": bars, "values": [float(text.split(": ")[1]) for text in said]}


def assert_bars_have_one_scale(found, by_torch):
    """Hold that against the scores: all bars begin at one line, and are as long as their values."""
    assert found["values"] == pytest.approx(by_torch, rel=2e-3, abs=1e-6)
    assert min(by_torch) < 0 < max(by_torch)
    ends = [bar[value > 0] for bar, value in zip(found["bars"], by_torch, strict=True)]
    zeros = [bar[value < 0] for bar, value in zip(found["bars"], by_torch, strict=True)]
    zero = sorted(zeros)[len(zeros) // 2]
    assert zeros == pytest.approx([zero] * len(zeros), abs=1.5)
    longest = max(range(len(ends)), key=lambda i: abs(ends[i] - zero))
    scale = (ends[longest] - zero) / by_torch[longest]
    assert abs(ends[longest] - zero) > 20
    assert ends == pytest.approx([zero + scale * value for value in by_torch], abs=2)
