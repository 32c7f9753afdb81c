import nbformat
import pytest
from nbclient import NotebookClient


def run(*cells):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return [cell.outputs for cell in notebook.cells]


WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def outputs():
    return run(
        "%load_ext nnmagic",
        "%nntrace",
        "%nntrace --static",
        "t = %nntrace",
        "%nnsummary",
        "%nnparams",
        "for i in range(2):\n    %nntrace",
        "print(type(Out[2]).__name__, len(t))",
        "%nntrace --live",
        "%unload_ext nnmagic",
        "from torch import nn\nprint(nn.Module.__call__.__code__.co_name == '_wrapped_call_impl')",
        "t",
        "import sys\nprint('nnmagic.widget' in sys.modules, len(t))",
    )


def kinds(outputs):
    return ["widget" if WIDGET in output.data else "table" for output in outputs]


def test_a_record_is_its_static_table_and_then_the_widget(outputs):
    assert kinds(outputs[1]) == kinds(outputs[4]) == kinds(outputs[5]) == ["table", "widget"]
    static = outputs[1][0].data
    assert "linear_relu_stack" in static["text/html"]
    assert "linear_relu_stack" in static["text/plain"]
    assert outputs[1][1].data["text/plain"] == ""


def test_a_static_display_has_no_widget(outputs):
    assert kinds(outputs[2]) == ["table"]


def test_an_assignment_shows_nothing(outputs):
    assert outputs[3] == []


def test_a_statement_in_a_loop_is_shown_each_time(outputs):
    assert kinds(outputs[6]) == ["table", "widget"] * 2


def test_the_record_is_the_cells_result(outputs):
    assert outputs[7][0].text == "Trace 8\n"


def test_nothing_is_left_after_unloading(outputs):
    assert kinds(outputs[8]) == ["table", "widget"]
    assert outputs[10][0].text == "True\n"
    assert kinds(outputs[11]) == ["table"]


def test_a_loop_that_was_followed_is_one_table_of_the_whole_run_and_one_widget():
    loop = "for _ in range(4):\n    net(torch.rand(2))\n    time.sleep(0.3)"
    _, followed, at_once, refused = run(
        "%load_ext nnmagic\nimport time, torch\nnet = torch.nn.ReLU()",
        f"%%nntrace net\n{loop}",
        "%%nntrace net --live\nfor _ in range(3):\n    net(torch.rand(2))",
        "try:\n    get_ipython().run_cell_magic('nntrace', '--live --static', 'net(x)')\n"
        "except Exception as error:\n    print(error)",
    )

    for shown, heading in ((followed, "iteration 3 of 4"), (at_once, "iteration 2 of 3")):
        assert kinds(shown) == ["table", "widget"]
        assert heading in shown[0].data["text/html"].replace("\xa0", " ")
    assert "leave out --static" in refused[0].text


def write(path, *cells):
    if path.suffix == ".ipynb":
        code = [nbformat.v4.new_code_cell(cell) for cell in cells]
        nbformat.write(nbformat.v4.new_notebook(cells=code), path)
    else:
        path.write_text("\n".join(cells))
    return path


def shown(session):
    return [data["text/plain"].split(" ")[0] for data in session.displayed]


CELLS = {
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


@pytest.mark.parametrize("suffix", [".ipy", ".ipynb"])
@pytest.mark.parametrize("name", CELLS)
def test_a_magic_in_a_file_that_is_run_is_shown(name, suffix, session, tmp_path):
    cells, expected = CELLS[name]
    path = write(tmp_path / f"file{suffix}", "from torch import nn\nnet = nn.Linear(2, 2)", *cells)

    session.run(f"%run {path}")

    assert shown(session) == expected


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


def test_in_a_kernel_the_text_is_short_and_print_shows_the_whole():
    layers = "net = nn.Sequential(*[nn.Linear(4, 4) for _ in range(200)])"
    net = f"import torch\nfrom torch import nn\nimport nnmagic\n{layers}"

    found = run(
        net,
        "t = nnmagic.trace(net, torch.rand(1, 4))\nt",
        "print(t)",
        "%load_ext nnmagic\n%nntrace --static net(torch.rand(1, 4))",
        "%nnparams --static net",
    )

    for shown in (found[1], found[3], found[4]):
        text = shown[-1].data["text/plain"]
        assert 5000 < len(text) <= 6000
        assert "rows not shown here; print the record" in text
    assert sum(" Linear " in line for line in found[2][0].text.splitlines()) == 200


COLAB = """
import sys, types
output = types.ModuleType("google.colab.output")
output.enable_custom_widget_manager = lambda: print("widgets allowed")
output._widgets = types.SimpleNamespace(_installed_url="https://example.org")
sys.modules |= {"google.colab": types.ModuleType("google.colab"), "google.colab.output": output}
%load_ext nnmagic
"""


def test_colab_is_asked_to_show_widgets_before_the_first_one():
    _, first, second = run(COLAB, "%nntrace", "%nntrace")

    assert [output.output_type for output in first] == ["stream", "display_data", "display_data"]
    assert first[0].text == "widgets allowed\n"  # anywidget asks
    assert kinds(second) == ["table", "widget"]
