"""The order of the modules: each imports only from the floors below it."""

import ast
from pathlib import Path

import nnmagic

PACKAGE = Path(nnmagic.__file__).parent

FLOORS = {
    0: "units squeezing",
    1: "tables",
    2: "glyphs",
    3: "text html",
    4: "records weight_records training_records",
    5: "trace_log summary_records params_records",
    6: "scores findings origins",
    7: "verdicts",
    8: "trace_table",
    9: "trace_records",
    10: "sheets",
    11: "trace_sheets summary_sheets params_sheets panels",
    12: "widget",
    13: "networks pictures tensors packed known_values naming shape_rules batches expectations",
    14: "state calls flops tensor_writer layer_expectations loss_expectations sameness",
    15: "failures root_calls gradients",
    16: "meta calling_places",
    17: "inputs weights functions",
    18: "recorder parameters memory",
    19: "function_recorder structure",
    20: "recording",
    21: "subject",
    22: "watching",
    23: "displays expression options",
    24: "words cells statements completions",
    25: "makers",
    26: "magics",
    27: "extension",
    28: "__init__",
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names.split()}

WITHOUT_TORCH = 12
"""The highest floor of the views, which read records and never see a module."""

HOMES = {
    "torch": lambda name: FLOOR[name] > WITHOUT_TORCH,
    "torchvision": lambda name: name == "pictures",
    "IPython": lambda name: 23 <= FLOOR[name] <= 26,
    "pandas": lambda name: name == "records",
    "numpy": lambda name: name in ("tensors", "batches") or name.endswith(("sheets", "panels")),
    "anywidget": lambda name: name == "widget",
    "traitlets": lambda name: name == "widget",
    "ipywidgets": lambda name: False,
}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            if node.module == "nnmagic":
                yield from (f"nnmagic.{alias.name}" for alias in node.names)


def modules():
    return {path.stem: list(imports_of(path)) for path in PACKAGE.glob("*.py")}


def test_every_module_stands_on_a_floor():
    assert set(modules()) <= set(FLOOR)


def test_a_module_imports_only_from_lower_floors():
    upward = [
        f"{name} imports {imported}"
        for name, imports in modules().items()
        for imported in (each.removeprefix("nnmagic.") for each in imports if "nnmagic." in each)
        if FLOOR[imported] >= FLOOR[name]
    ]

    assert upward == []


def test_a_package_is_imported_only_where_it_lives():
    misplaced = [
        f"{name} imports {imported}"
        for name, imports in modules().items()
        for imported in imports
        for package, lives_in in HOMES.items()
        if imported.split(".")[0] == package and not lives_in(name)
    ]

    assert misplaced == []


def test_no_module_has_the_name_of_a_public_function():
    assert set(modules()) & set(nnmagic.__all__) == set()


def test_a_module_says_in_one_sentence_what_it_is():
    for path in PACKAGE.glob("*.py"):
        first = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        assert first.endswith(".") or first.endswith(":"), path.name
