"""What the tests of watched networks share."""

import time


def settled(widget):
    """Wait until what is under way has been sent."""
    end = time.monotonic() + 30
    watcher = widget.watcher
    while watcher._latest is not None or watcher._sending.locked():
        assert time.monotonic() < end
        time.sleep(0.02)
    return widget
