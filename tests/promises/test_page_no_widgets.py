"""A real JupyterLab in which no widget can live: the static table follows what is watched."""

import re
from itertools import pairwise

import pytest
from lab import Lab, notebook_of, open_notebook, run_cell
from widget_page import LOAD, table_texts

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NETWORK = """
import time
from nnmagic.widget import static_output
static_output.SHARE = 1  # however slow the machine, a second apart is what counts
torch.manual_seed(0)
class Turns(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.again = nn.Linear(3, 2), nn.Tanh()
    def forward(self, x):
        y = self.first(x)
        for _ in range(int(x[0, 0])):
            y = self.again(y)
        return y
a = Turns()
"""
"""A network that makes more and more calls, so that its table grows."""

LOOP = """for i in range(300):
    with torch.no_grad():
        y = a(torch.full((1, 3), i / 100))
    time.sleep(0.01)
"""

MEAN = 'print("{:.3f} ± {:.3f}".format(*mean))'

NOTE_UPDATES = """() => {
  window.sent = [];
  window.heights = new Set();
  const {kernel} = jupyterapp.shell.currentWidget.sessionContext.session;
  kernel.anyMessage.connect((_, {msg: {header, content}}) => {
    if (header.msg_type !== 'update_display_data') return;
    sent.push({at: Date.parse(header.date), text: content.data['text/plain']});
  });
  new MutationObserver(() => {
    const table = [...document.querySelectorAll('[data-nnmagic]')].at(-1);
    if (table.innerText.includes('float32')) heights.add(table.offsetHeight);
  }).observe(document.body, {childList: true, subtree: true});
}"""
"""Note when the kernel updates a static table, what it then says, and how high the last one is."""


def iteration_of(text):
    found = re.search(r"iteration (\d+) of", text)
    return int(found[1]) if found else 0  # the first call is not yet one of several


def test_where_no_widget_can_live_the_static_table_follows_at_a_constant_height(
    lab_folder, pictures, tmp_path
):
    def look(page):
        page.evaluate(NOTE_UPDATES)
        found = {}
        for name, source in {"watched": LOOP, "loop": f"%%nntrace a\n{LOOP}"}.items():
            page.evaluate("heights.clear(), sent.length = 0")
            run_cell(page, f"{source}\nmean = (y.mean(), y.std())")
            page.wait_for_timeout(300)
            table = page.locator("[data-nnmagic]").last.inner_text().replace("\xa0", " ")
            found[name] = page.evaluate("sent"), page.evaluate("[...heights]"), table
            found[f"{name} by torch"] = run_cell(page, f"{MEAN}\nw.close()").strip()
        found["tables"] = table_texts(page)
        outputs = page.locator(".jp-OutputArea-output").all_inner_texts()
        found["outputs"] = [text.replace("\xa0", " ") for text in outputs]
        return found

    with Lab(lab_folder.mktemp("plain"), widgets=False) as lab:
        path = notebook_of(tmp_path, LOAD, NETWORK, "w = nnmagic.watch(a)\nw")
        found = open_notebook(lab, path, look=look).found

    for name in ("watched", "loop"):
        sent, heights, table = found[name]
        *following, _ = sent  # the last is that of the cell's end
        pauses = [after["at"] - each["at"] for each, after in pairwise(following)]
        iterations = [iteration_of(each["text"]) for each in sent]
        assert following
        assert min(pauses, default=1000) >= 1000
        assert iterations == sorted(set(iterations))
        assert iterations[-1] == iteration_of(table) == 299
        assert len(heights) == 1 + (name == "loop"), "a loop that is over shows all of its table"
        assert found[f"{name} by torch"] in table
    watched, _ = found["tables"]
    assert "this widget is closed: close() was called" in watched
    assert "widget" not in "".join(found["outputs"]).replace(watched, "")
