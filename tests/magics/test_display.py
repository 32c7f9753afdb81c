import json

import pytest
from notebooks import executed, notebook_of_cells

WIDGET = "application/vnd.jupyter.widget-view+json"

COLAB = """
import types
output = types.ModuleType("google.colab.output")
output.enable_custom_widget_manager = lambda: print("widgets allowed")
output._widgets = types.SimpleNamespace(_installed_url="https://example.org")
sys.modules |= {"google.colab": types.ModuleType("google.colab"), "google.colab.output": output}
"""

CELLS = {
    "imports": "import sys, time\nimport torch\nfrom torch import nn\nimport nnmagic",
    "networks": "relu = nn.ReLU()\nnet = nn.Sequential(*[nn.Linear(4, 4) for _ in range(200)])",
    "long trace": "long = nnmagic.trace(net, torch.rand(1, 4))\nlong",
    "printed": "print(long)",
    "load": "%load_ext nnmagic",
    "long static trace": "%nntrace --static net(torch.rand(1, 4))",
    "long parameters": "%nnparams --static net",
    "trace": "%nntrace",
    "its result": "print(type(_).__name__, len(_))",
    "static": "%nntrace --static",
    "assigned": "t = %nntrace",
    "summary": "%nnsummary",
    "parameters": "%nnparams",
    "in a loop": "for i in range(2):\n    %nntrace",
    "followed": "%%nntrace relu\nfor _ in range(4):\n    relu(torch.rand(2))\n    time.sleep(0.3)",
    "followed live": "%%nntrace relu --live\nfor _ in range(3):\n    relu(torch.rand(2))",
    "live and static": "try:\n"
    "    get_ipython().run_cell_magic('nntrace', '--live --static', 'relu(x)')\n"
    "except Exception as error:\n    print(error)",
    "colab": COLAB,
    "first in colab": "%nntrace",
    "second in colab": "%nntrace",
    "live": "%nntrace --live",
    "watched": "nnmagic.watch(relu)",
    "watched again": "nnmagic.watch(relu)",
    "unload": "%unload_ext nnmagic",
    "torch's own": "print(nn.Module.__call__.__code__.co_name == '_wrapped_call_impl')",
    "kept": "t",
}
"""The cells of a notebook, by their names."""


@pytest.fixture(scope="module")
def outputs():
    """By cell, what a kernel displayed."""
    notebook = executed(notebook_of_cells(CELLS.values()))
    return dict(zip(CELLS, (cell.outputs for cell in notebook.cells), strict=True))


def kinds(outputs):
    return ["widget" if WIDGET in output.data else "table" for output in outputs]


@pytest.mark.slow
def test_a_record_is_its_static_table_and_then_the_widget(outputs):
    for name in ("trace", "summary", "parameters", "live", "watched", "watched again"):
        assert kinds(outputs[name]) == ["table", "widget"]
    table, widget = outputs["trace"]
    assert "linear_relu_stack" in table.data["text/html"]
    assert "linear_relu_stack" in table.data["text/plain"]
    assert widget.data["text/plain"] == ""


@pytest.mark.slow
def test_a_static_display_has_no_widget(outputs):
    assert kinds(outputs["static"]) == ["table"]


@pytest.mark.slow
def test_an_assignment_shows_nothing(outputs):
    assert outputs["assigned"] == []


@pytest.mark.slow
def test_a_statement_in_a_loop_is_shown_each_time(outputs):
    assert kinds(outputs["in a loop"]) == ["table", "widget"] * 2


@pytest.mark.slow
def test_the_record_is_the_cells_result(outputs):
    assert outputs["its result"][0].text == "Trace 8\n"


@pytest.mark.slow
def test_nothing_is_left_after_unloading(outputs):
    assert outputs["torch's own"][0].text == "True\n"
    assert kinds(outputs["kept"]) == ["table"]


@pytest.mark.slow
def test_a_loop_that_was_followed_is_one_table_of_the_whole_run_and_one_widget(outputs):
    for name, heading in (("followed", "iteration 3 of 4"), ("followed live", "iteration 2 of 3")):
        assert kinds(outputs[name]) == ["table", "widget"]
        assert heading in outputs[name][0].data["text/html"].replace("\xa0", " ")
    assert "leave out --static" in outputs["live and static"][0].text


@pytest.mark.slow
def test_in_a_kernel_the_text_is_short_and_print_shows_the_whole(outputs):
    for name in ("long trace", "long static trace", "long parameters"):
        text = outputs[name][-1].data["text/plain"]
        assert 5000 < len(text) <= 6000
        assert "rows not shown here; print the record" in text
    (printed,) = outputs["printed"]
    assert sum(" Linear " in line for line in printed.text.splitlines()) == 200


@pytest.mark.slow
def test_colab_is_asked_to_show_widgets_before_the_first_one(outputs):
    first = outputs["first in colab"]

    assert [output.output_type for output in first] == ["stream", "display_data", "display_data"]
    assert first[0].text == "widgets allowed\n"  # anywidget asks
    assert kinds(outputs["second in colab"]) == ["table", "widget"]


def write(path, *cells):
    if path.suffix == ".ipynb":
        path.write_text(json.dumps(notebook_of_cells(cells)))
    else:
        path.write_text("\n".join(cells))
    return path


def shown(session):
    return [data["text/plain"].split(" ")[0] for data in session.displayed]


FILES = {
    "a summary": (["%nnsummary"], ["NeuralNetwork"]),
    "a trace": (["%nntrace net"], ["net"]),
    "parameters": (["%nnparams net"], ["net"]),
    "after other lines": (["y = 1", "%nnsummary net"], ["net"]),
    "two of them": (["%nnsummary net", "%nnparams net"], ["net", "net"]),
    "in a loop": (["for _ in range(2):\n    %nnsummary net"], ["net", "net"]),
    "silenced": (["%nnsummary net;"], []),
    "assigned": (["s = %nnsummary net"], []),
    "followed by something else": (["%nnsummary net", "y = 1"], ["net"]),
    "no magic of ours": (["%pwd"], []),
}


@pytest.mark.parametrize("suffix", [".ipy", pytest.param(".ipynb", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FILES)
def test_a_magic_in_a_file_that_is_run_is_shown(name, suffix, session, tmp_path):
    cells, expected = FILES[name]
    path = write(tmp_path / f"file{suffix}", "from torch import nn\nnet = nn.Linear(2, 2)", *cells)

    session.run(f"%run {path}")

    assert shown(session) == expected


@pytest.mark.slow
def test_a_cell_that_runs_a_file_shows_its_own_last_magic_once(session, tmp_path):
    session.run("net = nn.Linear(2, 2)")
    path = write(tmp_path / "file.ipynb", "%nnsummary net", "%nnsummary net")

    session.run(f"%run {path}\n%nnsummary net")  # which IPython shows by itself

    assert shown(session) == ["net", "net"]
    assert session.run("%nnparams net").title == "net"
    assert shown(session) == ["net", "net"]


def test_unloading_takes_the_callbacks_back(session):
    shell = session.shell
    before = {event: len(callbacks) for event, callbacks in shell.events.callbacks.items()}

    shell.run_line_magic("unload_ext", "nnmagic")
    without = {event: len(callbacks) for event, callbacks in shell.events.callbacks.items()}
    shell.run_line_magic("load_ext", "nnmagic")

    assert sum(before.values()) == sum(without.values()) + 3
    assert {event: len(each) for event, each in shell.events.callbacks.items()} == before
