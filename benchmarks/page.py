"""What the widget costs in its page: `PYTHONPATH=tests python -m benchmarks.page`.

In a real JupyterLab in headless Chromium, drawn by the CPU, one widget at a time on the page:

- First paint: milliseconds from the message that opens the widget to the painted table.
- Scrolling: milliseconds a frame, where each frame scrolls by 700 pixels, so that all rows are new.
- Panel: milliseconds from a click on a row to the painted panel with the kernel's answer.

It should take 150, of 20,001 rows 1,000 ms to the first paint, 20 ms a frame, 100 ms to the panel.
It needs what `.[test]` installs, and a Chromium.
"""

import tempfile
from pathlib import Path
from statistics import median

from lab import Lab, notebook_of, open_notebook, run_cell

ROUNDS = 5

SETUP = """
%load_ext nnmagic
import gc, nnmagic, torch, torchvision
from nnmagic.widget.widget import NetworkWidget
from torch import nn
def many(layers):
    return nnmagic.trace(nn.Sequential(*[nn.Linear(8, 8) for _ in range(layers)]), torch.rand(1, 8))
records = {
    "default": nnmagic.trace(nnmagic.NeuralNetwork(), torch.rand(1, 28, 28)),
    "resnet18": nnmagic.trace(torchvision.models.resnet18().eval(), torch.rand(1, 3, 224, 224)),
    "20,001 rows": many(20000),
}
"""

WATCH_PAINT = """() => {
  const {kernel} = jupyterapp.shell.currentWidget.sessionContext.session;
  const before = new Set(document.querySelectorAll('.nnmagic'));
  window.painted = null;
  let start = null;
  const note = (_, message) => {
    if (message.header.msg_type === 'comm_open') start ??= performance.now();
  };
  kernel.iopubMessage.connect(note);
  const look = () => {
    const view = [...document.querySelectorAll('.nnmagic')].find(each => !before.has(each));
    const isDrawn = start !== null && view?.querySelector('.nm-body [role=row]');
    if (!isDrawn) return requestAnimationFrame(look);
    kernel.iopubMessage.disconnect(note);
    requestAnimationFrame(() => { window.painted = performance.now() - start; });
  };
  look();
}"""

SCROLL = """grid => new Promise(resolve => {
  const frames = [];
  let before = null;
  const step = now => {
    if (before !== null) frames.push(now - before);
    before = now;
    const top = grid.scrollTop;
    grid.scrollTop += 700;
    if (grid.scrollTop === top) grid.scrollTop = 0;
    if (frames.length < 90) requestAnimationFrame(step);
    else resolve(frames.slice(10));
  };
  requestAnimationFrame(step);
})"""

TO_TOP = """grid => new Promise(resolve => {
  grid.scrollTop = 0;
  requestAnimationFrame(() => requestAnimationFrame(resolve));
})"""

OPEN_PANEL = """([root, place]) => new Promise(resolve => {
  const start = performance.now();
  root.querySelector(`.nm-body [aria-rowindex="${place}"]`).click();
  const look = () => {
    if (!root.querySelector('.nm-panel .nm-tensor')) return requestAnimationFrame(look);
    requestAnimationFrame(() => resolve(performance.now() - start));
  };
  look();
})"""

CLOSE_PANEL = "root => root.querySelector('.nm-panel [data-nm=close-panel]').click()"


def measured(page):
    """Print the figures of each record."""
    print("milliseconds, median (least to most)")
    for name in ("default", "resnet18", "20,001 rows"):
        paints = []
        for _ in range(ROUNDS):
            run_cell(page, "for widget in NetworkWidget.open_ones(): widget.close()\ngc.collect();")
            page.evaluate("jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
            page.evaluate(WATCH_PAINT)
            run_cell(page, f"display(records[{name!r}])")
            page.wait_for_function("() => window.painted !== null")
            paints.append(page.evaluate("window.painted"))
        root = page.locator(".nnmagic").last
        frames = root.locator("[role=treegrid]").evaluate(SCROLL)
        panels = []
        for place in range(2, 2 + ROUNDS):
            root.locator("[role=treegrid]").evaluate(TO_TOP)
            panels.append(page.evaluate(OPEN_PANEL, [root.element_handle(), place]))
            root.evaluate(CLOSE_PANEL)
        for what, times in (("first paint", paints), ("frame", frames), ("panel", panels)):
            spread = f"({min(times):.1f} to {max(times):.1f})"
            print(f"{name:<14}{what:<14}{median(times):>8.1f} {spread}", flush=True)


def main():
    """Run the benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        notebook = notebook_of(place, SETUP)
        with Lab(place) as lab:
            open_notebook(lab, notebook, look=measured, width=1300)


if __name__ == "__main__":
    main()
