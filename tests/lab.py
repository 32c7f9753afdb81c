"""JupyterLab or Notebook 7 in headless Chromium: runs a notebook, and tells what was seen.

To load JupyterLab takes seconds, so one page of it stays open: each notebook is shown there.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from notebooks import notebook_of_cells
from playwright.sync_api import sync_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--force-color-profile=srgb", "--disable-dev-shm-usage", "--disable-renderer-backgrounding"),
    *("--disable-background-networking", "--disable-sync", "--disable-component-update"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]

SEED = int(os.environ.get("NNMAGIC_SEED", "0"))
"""Each kernel draws the same numbers from its beginning on."""

SETTINGS = {
    "apputils-extension/themes": {"theme": "JupyterLab Light"},
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "notebook-extension/tracker": {"windowingMode": "none", "scrollPastEnd": False},
}

OPEN = """async path => {
  await jupyterapp.commands.execute('docmanager:open', {path, factory: 'Notebook'});
}"""

CLOSE = """async () => {
  const panel = jupyterapp.shell.currentWidget;
  await panel.sessionContext.shutdown();
  panel.dispose();
}"""

SET_THEME = """async theme => {
  await jupyterapp.commands.execute('apputils:change-theme', {theme});
}"""

HAS_THEMES = "() => jupyterapp.commands.hasCommand('apputils:change-theme')"

HAS_THEME = "theme => document.body.dataset.jpThemeName === theme"

READY = """([run, path]) => {
  const panel = window.jupyterapp?.shell?.currentWidget;
  const status = panel?.sessionContext?.session?.kernel?.status;
  const open = panel?.context?.isReady && panel.content?.widgets?.length;
  return !!(open && panel.context.path === path && (!run || status === 'idle'));
}"""

RUN = """() => {
  window.ran = false;
  jupyterapp.commands.execute('notebook:run-all-cells').finally(() => { window.ran = true; });
}"""

DONE = """() => {
  const panel = jupyterapp.shell.currentWidget;
  const running = panel.content.widgets.some(cell => cell.model.executionState === 'running');
  return window.ran && !running && panel.sessionContext.session?.kernel?.status === 'idle';
}"""

CELLS = """() => jupyterapp.shell.currentWidget.content.widgets.map(cell => ({
  type: cell.model.type,
  tags: cell.model.getMetadata('tags') || [],
  outputs: cell.model.type === 'code' ? cell.model.outputs.toJSON() : [],
}))"""

ADD_AND_RUN = """source => {
  const panel = jupyterapp.shell.currentWidget;
  const cells = panel.content.model.sharedModel;
  cells.insertCell(cells.cells.length, {cell_type: 'code', source, metadata: {}});
  panel.content.activeCellIndex = cells.cells.length - 1;
  window.ran = false;
  jupyterapp.commands.execute('notebook:run-cell').finally(() => { window.ran = true; });
}"""

FULL_HEIGHT = """() => {
  const outer = jupyterapp.shell.currentWidget.node.querySelector('.jp-WindowedPanel-outer');
  const inner = outer.querySelector('.jp-WindowedPanel-viewport');
  return Math.ceil(innerHeight + inner.scrollHeight - outer.clientHeight + 40);
}"""


UIS = {
    # /lab/tree would bring back the notebooks of the last visit and show one of them first
    "lab": ("jupyterlab", "LabApp", "doc/tree"),
    "notebook": ("notebook", "JupyterNotebookApp", "notebooks"),
}
"""The module, the name of its application and the place of a notebook of each user interface."""


class Chromium:
    """A headless Chromium that stays open between connections of Playwright.

    Args:
        folder: a folder for its profile.
    """

    def __init__(self, folder):
        self.folder = Path(folder)

    def start(self):
        self.folder.mkdir()
        told = self.folder / "DevToolsActivePort"
        self.process = subprocess.Popen(
            [
                *(CHROMIUM, "--headless=new", "--remote-debugging-port=0", *FLAGS),
                *(f"--user-data-dir={self.folder}", "about:blank"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 60
        while not (told.exists() and told.read_text().count("\n")):
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                raise RuntimeError("Chromium did not start")
            time.sleep(0.05)
        port, path = told.read_text().split()
        self.address = f"ws://127.0.0.1:{port}{path}"

    def end(self):
        self.process.terminate()
        self.process.wait(15)


class Lab:
    """A JupyterLab or Notebook 7 server on 127.0.0.1 with folders of its own, and a browser.

    Args:
        folder: an empty folder for its settings, its kernels and its notebooks.
        ui: `"lab"` or `"notebook"`.
        widgets: whether the user interface has ipywidgets' extension; else none can live.
    """

    def __init__(self, folder, ui="lab", *, widgets=True):
        self.folder, self.theme = Path(folder), "Light"
        self.is_open = False  # whether the page shows the user interface, with no notebook in it
        self.module, self.app, self.view = UIS[ui]
        self.disabled = {} if widgets else {"@jupyter-widgets/jupyterlab-manager": True}
        self.browser = Chromium(self.folder / "chromium")
        self.root = self.folder / "root"
        self.token = secrets.token_hex(16)

    def __enter__(self):
        self.root.mkdir()
        for name, values in SETTINGS.items():
            path = self.folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))
        config = self.folder / "config" / "labconfig" / "page_config.json"
        config.parent.mkdir(parents=True)
        config.write_text(json.dumps({"disabledExtensions": self.disabled}))
        startup = self.folder / "ipython" / "profile_default" / "startup" / "seed.py"
        startup.parent.mkdir(parents=True)
        startup.write_text(f"import torch\ntorch.manual_seed({SEED})\ndel torch\n")
        kernel = self.folder / "data" / "kernels" / "python3" / "kernel.json"
        kernel.parent.mkdir(parents=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        kernel.write_text(
            json.dumps({"display_name": "python3", "language": "python", "argv": argv})
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        folders = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
        }
        places = {name: str(self.folder / place) for name, place in folders.items()}
        with (self.folder / "server.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", self.module, "--no-browser", "--allow-root"),
                    *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"),
                    *("--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.root}"),
                    *(f"--{self.app}.expose_app_in_browser=True", "--LabApp.news_url=None"),
                    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
                ],
                env={**os.environ, "JUPYTER_TOKEN": self.token, **places},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait()
        self.browser.start()
        return self

    def _wait(self, seconds=120):
        end = time.monotonic() + seconds
        while True:
            try:
                return self._ask("GET", "/api/status")
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.process.kill()
                    raise RuntimeError((self.folder / "server.log").read_text()) from None
                time.sleep(0.1)  # the server has no way to tell that it is up

    def _ask(self, method, path):
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(self.url + path, method=method, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return opener.open(request, timeout=10).read()

    def __exit__(self, *error):
        self.browser.end()
        try:
            self._ask("POST", "/api/shutdown")  # ends the kernels, then the server
            self.process.wait(15)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()


@dataclass
class Seen:
    """What the browser saw of a notebook.

    Attributes:
        errors: cells that raised without being expected to, console errors, page errors.
        foreign: requests to other hosts.
        cells: each cell's type, tags and outputs.
        found: what the `look` function returned.
    """

    errors: list = field(default_factory=list)
    foreign: list = field(default_factory=list)
    cells: list = field(default_factory=list)
    found: object = None


def open_notebook(lab, notebook, *, look=None, picture=None, **options):
    """Open a notebook in the browser, run it, and return what was seen.

    Args:
        lab: the server.
        notebook: the file; a copy of it is opened.
        look: called with Playwright's page when all has run.
        picture: where to save a picture of the whole page, if anywhere.
        options: those of `opened`.
    """
    with opened(lab, notebook, **options) as (page, seen):
        if picture is not None:
            size = page.viewport_size
            full = min(16_000, page.evaluate(FULL_HEIGHT))
            page.set_viewport_size({**size, "height": max(size["height"], full)})
            page.wait_for_timeout(500)
            page.screenshot(path=picture)
        if look is not None:
            seen.found = look(page)
    return seen


@contextmanager
def opened(lab, notebook, *, run=True, theme="Light", width=1280, height=900, seconds=180):
    """Open a notebook in the browser, run it, and yield Playwright's page and what is seen.

    Args:
        lab: the server.
        notebook: the file; a copy of it is opened.
        run: whether its cells are run; else its saved outputs are shown.
        theme: as for `change_theme`.
        width: the window's width in pixels.
        height: the window's height.
        seconds: how long the cells may run.
    """
    seen = Seen()
    copied = lab.root / f"{secrets.token_hex(4)}-{Path(notebook).name}"
    shutil.copy(notebook, copied)

    with shown(lab, copied.name, seen, theme, {"width": width, "height": height}) as page:
        page.wait_for_function(READY, arg=[run, copied.name], timeout=60_000)
        if run:
            page.evaluate(RUN)
            page.wait_for_function(DONE, timeout=seconds * 1000)
        page.wait_for_timeout(1000)  # outputs are rendered after the kernel is idle
        seen.cells = page.evaluate(CELLS)
        for cell in seen.cells:
            if "raises-exception" not in cell["tags"]:
                seen.errors += [o for o in cell["outputs"] if o["output_type"] == "error"]
        yield page, seen


def change_theme(lab, page, theme):
    """Show the open page in `"Light"`, `"Dark"` or `"Dark High Contrast"`."""
    page.emulate_media(color_scheme=theme.split()[0].lower(), forced_colors="none")
    if theme != lab.theme:
        page.wait_for_function(HAS_THEMES)  # the page may have been begun just now
        page.evaluate(SET_THEME, f"JupyterLab {theme}")
        page.wait_for_function(HAS_THEME, arg=f"JupyterLab {theme}")
        lab.theme = theme


@contextmanager
def shown(lab, name, seen, theme, size):
    """Show a notebook in the page that stays open, and close it at the end of the block."""

    def note_request(request):
        if re.match(r"(?!\w+://127\.0\.0\.1[:/])(http|ws)s?://", request.url):
            seen.foreign.append(request.url)

    heard = {
        "request": note_request,
        "websocket": note_request,
        "pageerror": lambda error: seen.errors.append(str(error)),
        "console": lambda m: seen.errors.append(m.text) if m.type == "error" else None,
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.connect_over_cdp(lab.browser.address)
        (page,) = browser.contexts[0].pages
        page.set_viewport_size(size)
        page.mouse.move(0, 0)  # it is where the visit before left it: over a row, maybe
        for event, note in heard.items():
            page.on(event, note)
        was_open, lab.is_open = lab.is_open, False
        if was_open:
            page.evaluate("sessionStorage.clear()")
            page.evaluate(OPEN, name)
        else:
            page.goto(f"{lab.url}/{lab.view}/{name}?token={lab.token}", timeout=60_000)
            page.evaluate("sessionStorage.clear()")  # a visit that failed may have left something
        page.wait_for_function("() => window.jupyterapp")
        change_theme(lab, page, theme)
        yield page
        for event, note in heard.items():
            page.remove_listener(event, note)
        page.evaluate(CLOSE)
        lab.is_open = lab.module == "jupyterlab"


def notebook_of(folder, *cells):
    """Write a notebook of code cells, and return its path; `# raises` begins one that may raise."""
    path = folder / "cells.ipynb"
    notebook = notebook_of_cells(cells)
    for cell in notebook["cells"]:
        if cell["source"].lstrip().startswith("# raises"):
            cell["metadata"] = {"tags": ["raises-exception"]}
    path.write_text(json.dumps(notebook))
    return path


def run_cell(page, source, seconds=60):
    """Run code in a new cell at the notebook's end, and return what it printed.

    Args:
        page: Playwright's page, as a `look` function gets it.
        source: the code.
        seconds: how long it may run.

    Raises:
        RuntimeError: if the code raises.
    """
    page.evaluate(ADD_AND_RUN, source)
    page.wait_for_function(DONE, timeout=seconds * 1000)
    outputs = page.evaluate(CELLS)[-1]["outputs"]
    for output in outputs:
        if output["output_type"] == "error":
            raise RuntimeError(f"{output['ename']}: {output['evalue']}")
    return "".join("".join(output.get("text", "")) for output in outputs)
