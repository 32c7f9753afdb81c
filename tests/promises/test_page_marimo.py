"""A marimo notebook in a real browser: it has no magics, but shows records and a live widget."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect
from widget_page import control, open_panel, rows

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NOTEBOOK = """
import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo
    import torch
    from torch import nn

    import nnmagic

    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5408, 10))
    x = torch.rand(4, 1, 28, 28)
    return mo, net, nnmagic, x


@app.cell
def _(net, nnmagic, x):
    trace = nnmagic.trace(net, x)
    trace
    return (trace,)


@app.cell
def _(mo, nnmagic, net, trace):
    live = mo.ui.anywidget(nnmagic.watch(net))
    live
    return (live,)


@app.cell
def _(live, net, x):
    print(tuple(net(x).shape))
    return


@app.cell
def _(mo, trace):
    trace.to_html("run.html")
    mo.iframe(open("run.html").read(), height="600px")
    return
"""


@pytest.fixture(params=["light", "dark"])
def marimo(request, tmp_path):
    """Gives the theme of a marimo server and the address of its notebook."""
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    (tmp_path / ".marimo.toml").write_text(f'[display]\ntheme = "{request.param}"\n')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "marimo", "run", "notebook.py", "--headless"),
            *("--no-token", "--host", "127.0.0.1", "--port", port),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root), "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = []
    for line in process.stdout:
        said.append(line)
        if "URL:" in line:
            break
    assert process.poll() is None, "".join(said)
    yield request.param, f"http://127.0.0.1:{port}/"
    process.terminate()
    process.communicate(timeout=30)


def test_marimo_shows_the_table_the_live_widget_and_the_page_in_its_own_theme(marimo, browser):
    theme, address = marimo
    heard, fetched = [], []
    other = {"light": "dark", "dark": "light"}[theme]
    page = browser.new_page(color_scheme=other, viewport={"width": 1300, "height": 1600})
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))

    page.goto(address)
    widget = page.locator(".nnmagic")
    expect(widget.locator(".nm-heading")).to_contain_text("net · call 1", timeout=120_000)
    types = [row["type"] for row in rows(widget)]
    open_panel(widget, "0")
    panel = control(widget, "panel")
    expect(panel).to_contain_text("weight (8, 1, 3, 3)")
    background = widget.evaluate("root => getComputedStyle(root).backgroundColor")
    control(widget, "run").click()
    expect(widget.locator(".nm-heading")).to_contain_text("net on the same input")
    control(widget, "pause").click()
    expect(widget.locator(".nm-badge")).to_contain_text("paused")
    table = page.locator(".output").filter(has=page.locator("summary")).first.inner_text()
    in_page = page.frame_locator("iframe").locator(".nnmagic")
    open_panel(in_page, "3")
    expect(control(in_page, "panel")).to_contain_text("weight (10, 5408)")
    page.close()

    assert types == ["Sequential", "Conv2d", "ReLU", "Flatten", "Linear"]
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 21, 21)"}[theme]
    assert "(4, 8, 26, 26)" in table.replace("\xa0", " ")
    assert heard == []
    assert all(url.startswith((address, "data:", "blob:")) for url in fetched)
