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
    assert outputs[1][1].data["text/plain"].startswith("<nnmagic widget: Trace of NeuralNetwork")


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
