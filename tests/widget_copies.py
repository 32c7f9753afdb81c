"""What is taken away from a widget, in a notebook and in a page of its own: rows and pictures."""

import base64
import re
import struct
from operator import itemgetter

import pytest
from playwright.sync_api import expect
from widget_page import control, frames, open_panel, row_of, rows, titles

from nnmagic.display import units

NUMBERS = ("count", "share", "mean", "std", "min", "max", "zeros")
"""The columns of a copy of parameters that are numbers, as they stand there."""

READ_TEXT = "() => navigator.clipboard.readText()"

READ_PICTURE = """async () => {
  const [item] = await navigator.clipboard.read();
  const bytes = new Uint8Array(await (await item.getType('image/png')).arrayBuffer());
  return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(''));
}"""

REFUSE_COPIES = """() => {
  window.copied = [];
  const writeText = async () => { throw new Error('refused'); };
  Object.defineProperty(navigator, 'clipboard', {value: {writeText}, configurable: true});
  document.oncopy = () => window.copied.push(document.activeElement.value);
}"""
"""Lets a page use the clipboard only as pages could of old, and keeps what they put there."""


def copied(widget, name, count):
    """Copy so many rows in a format, and return what the clipboard has then."""
    control(widget, "copy").click()
    widget.get_by_role("menuitem", name=f"copy as {name}").click()
    expect(widget.get_by_text(f"{count} rows copied as {name}")).to_be_visible()
    return widget.page.evaluate(READ_TEXT)


def group_and_copy_parameters(widget):
    """Group the default network's parameters and fold a group; copy its biases in three formats."""
    page = widget.page
    found = {"count": widget.locator(".nm-count").inner_text(), "rows": rows(widget)}
    control(widget, "grouped").click()
    found["grouped"] = [[row["level"], row["label"]] for row in rows(widget)]
    row_of(widget, "linear_relu_stack.0").locator(".nm-label").click()
    found["folded"] = len(rows(widget))
    found["panel of a group"] = control(widget, "panel").is_visible()
    control(widget, "grouped").click()
    control(widget, "search").fill("bias")
    control(widget, "sort-count").click()
    found["shown"], found["titles"] = rows(widget), titles(widget)
    found["copies"] = {name: copied(widget, name, 3) for name in ("text", "Markdown")}
    control(widget, "copy").focus()
    page.keyboard.press("Enter")
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
    expect(widget.get_by_role("menuitem", name="copy as TSV")).to_be_focused()
    page.keyboard.press("Enter")
    expect(widget.get_by_text("3 rows copied as TSV")).to_be_visible()
    expect(control(widget, "copy")).to_be_focused()
    found["copies"]["TSV"] = page.evaluate(READ_TEXT)
    page.evaluate(REFUSE_COPIES)
    control(widget, "copy").click()
    widget.get_by_role("menuitem", name="copy as text").click()
    expect(widget.get_by_text("3 rows copied as text")).to_be_visible()
    found["refused"] = page.evaluate("window.copied")
    page.evaluate("() => { delete navigator.clipboard; document.oncopy = null; }")
    return found


def assert_parameters_were_grouped_and_copied(found, markdown, records):
    """Hold that against the default network, and the copies against its parameters.

    Args:
        found: what `group_and_copy_parameters` returned.
        markdown: what the record's `to_markdown()` gives.
        records: the lines of its `to_frame()`, a dict each.
    """
    stack = "linear_relu_stack"
    flat = [f"{stack}.{i}.{name}" for i in (0, 2, 4) for name in ("weight", "bias")]
    assert found["count"] == "6 parameters"
    assert [row["label"] for row in found["rows"]] == flat
    assert all(row["first_values"].startswith("[") for row in found["rows"])
    assert found["grouped"][:4] == [[1, stack], [2, "0"], [3, "weight"], [3, "bias"]]
    assert found["folded"] == len(found["grouped"]) - 2
    assert not found["panel of a group"]

    share = {"share": lambda record: record["percent"] / 100}
    numbers = {
        record["name"]: [share.get(title, itemgetter(title))(record) for title in NUMBERS]
        for record in records
    }
    table = with_zeros(markdown, numbers)
    lines = [line for line in table if line[0].endswith(("name", "---", "bias"))]
    copies, biases = found["copies"], [f"{stack}.{i}.bias" for i in (0, 2, 4)]
    assert found["titles"] == lines[0]
    assert copies["Markdown"].split("\n") == [f"| {' | '.join(line)} |" for line in lines]
    assert copies["text"] == aligned(lines)
    assert found["refused"] == [copies["text"]]
    head, *lines = [line.split("\t") for line in copies["TSV"].split("\n")]
    words = ("shape", "histogram", "first values")
    assert [*NUMBERS, *words] == [title for title in head[1:] if title not in words] + [*words]
    assert [line[0] for line in lines] == biases
    texts = {
        line[0]: line for line in ([each.replace("\\", "") for each in line] for line in table)
    }
    for name, *cells in lines:
        by_title = dict(zip(head[1:], cells, strict=True))
        numeric = [float(by_title[title]) for title in NUMBERS]
        assert numeric == pytest.approx(numbers[name], rel=1e-6), name
        shown = dict(zip(found["titles"], texts[name], strict=True))
        assert [by_title[title] for title in words] == [shown[title] for title in words]


def with_zeros(markdown, numbers):
    """The cells of a table of parameters, and the share of zeros, which stands in a wide page."""
    head, rule, *lines = [
        re.split(r"(?<!\\) \| ", line[2:-2])
        for line in markdown.split("\n")
        if line.startswith("| ")
    ]
    zeros = [units.percent(numbers[line[0].replace("\\", "")][-1]) for line in lines]
    more = ("zeros", "---:", *zeros)
    return [[*line, each] for line, each in zip((head, rule, *lines), more, strict=True)]


def aligned(lines):
    """The text that has the columns of a table of Markdown one below the other."""
    head, rule, *lines = lines
    lines = [[re.sub(r"\\(.)", r"\1", cell) for cell in line] for line in (head, *lines)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if mark == "---:" else cell.ljust(width)
            for cell, width, mark in zip(line, widths, rule, strict=True)
        ).rstrip()
        for line in lines
    )


PIXELS_APART = """async (canvas, pngs) => {
  const {width, height} = canvas;
  const shown = canvas.getContext('2d').getImageData(0, 0, width, height).data;
  return Promise.all(pngs.map(async png => {
    const bytes = Uint8Array.from(atob(png), letter => letter.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes], {type: 'image/png'}));
    if (image.width !== width || image.height !== height) return 255;
    const drawn = new OffscreenCanvas(width, height).getContext('2d');
    drawn.drawImage(image, 0, 0);
    const saved = drawn.getImageData(0, 0, width, height).data;
    let most = 0, opaque = 0;
    for (let i = 0; i < shown.length; i += 4) {
      if (shown[i + 3] !== 255) continue;
      opaque += 1;
      for (const j of [0, 1, 2]) most = Math.max(most, Math.abs(saved[i + j] - shown[i + j]));
    }
    return opaque > 1000 ? most : 255;
  }));
}"""
"""How far the pixels of picture files lie from those of a canvas; 255 for another size."""


def take_first_picture(widget, layer):
    """Save the first picture of a layer's panel, and copy it; return its name, size and pixels."""
    page, panel = widget.page, control(widget, "panel")
    open_panel(widget, layer)
    frames(page)
    canvas = panel.locator("canvas").first
    with page.expect_download() as download:
        control(widget, "save-picture").first.press("Enter")
    saved = base64.b64encode(download.value.path().read_bytes()).decode()
    control(widget, "copy-picture").first.press("Enter")
    expect(panel.get_by_text("copied", exact=True)).to_be_visible()
    pictures = saved, page.evaluate(READ_PICTURE)
    found = {"name": download.value.suggested_filename}
    found["starts"] = [base64.b64decode(png)[:24] for png in pictures]
    found["size"] = canvas.evaluate("canvas => [canvas.width, canvas.height]")
    found["apart"] = canvas.evaluate(PIXELS_APART, pictures)
    return found


def assert_picture_was_taken(found, name):
    """Hold that against the picture itself: its file and its copy have its size and its pixels."""
    assert found["name"] == name
    for start in found["starts"]:
        assert start.startswith(b"\x89PNG")
        assert list(struct.unpack(">II", start[16:24])) == found["size"]
    assert min(found["size"]) > 200
    assert max(found["apart"]) <= 1
