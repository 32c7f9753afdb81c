"""How table and panel share their room, in a notebook and in a page of its own."""

from widget_page import control, frames, open_panel, share, titles

BOXES = """root => Object.fromEntries(['.nm-grid', '.nm-panel', '.nm-splitter'].map(look => {
  const {left, right, top, bottom, height} = root.querySelector(look).getBoundingClientRect();
  return [look, {left, right, top, bottom, height}];
}))"""


def assert_panel_is_below(boxes):
    assert boxes[".nm-grid"]["bottom"] <= boxes[".nm-panel"]["top"]
    assert boxes[".nm-splitter"]["height"] == 0


def drag_splitter(widget, by):
    """Move the splitter by the pointer, by so many pixels."""
    mouse, box = widget.page.mouse, control(widget, "splitter").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 20
    mouse.move(x, y)
    mouse.down()
    mouse.move(x + by, y, steps=4)
    mouse.up()
    frames(widget.page)


def open_and_share_room(widget, layer, shown_again):
    """Open a layer as the hint says, and move the splitter by keys and by the pointer.

    Args:
        widget: a widget in a session that had none before.
        layer: the name of a row.
        shown_again: shows the same once more in the same session, and returns its widget.

    Returns:
        What was seen, and in the second widget; that one has its usual share at the end.
    """

    def hints():
        return widget.get_by_text("press Enter on it").is_visible()

    found = {"hints": [hints()]}
    open_panel(widget, layer)
    found["hints"].append(hints())
    found["titles"], found["shares"] = [titles(widget)], [share(widget)]
    for key in ("ArrowRight", "ArrowLeft", "ArrowLeft", "End", "Home", "Enter"):
        control(widget, "splitter").press(key)
        found["shares"].append(share(widget))
    drag_splitter(widget, 150)
    found["shares"].append(share(widget))
    found["titles"].append(titles(widget))
    widget = shown_again()
    found["hints"].append(hints())
    open_panel(widget, layer)
    found["second"] = share(widget)
    control(widget, "splitter").dblclick()
    found["double-click"] = share(widget)
    return found


def assert_room_is_shared_and_remembered(found):
    """Hold that against a page of 1,300 pixels."""
    assert found["hints"] == [True, False, False]  # it is remembered that one was opened
    *by_keys, dragged = found["shares"]
    assert by_keys == [52, 54, 52, 50, 80, 25, 52]
    assert 60 < dragged < 70
    beside, wider = found["titles"]
    assert len(wider) > len(beside)
    assert found["second"] == dragged
    assert found["double-click"] == 52
