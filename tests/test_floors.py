"""The order of the modules: each imports only from the floors below it."""

import ast
from pathlib import Path

import nnmagic

PACKAGE = Path(nnmagic.__file__).parent

FLOORS = {
    0: "blocks squeezing units",
    1: "tables training_records weight_records",
    2: "glyphs layer_shapes",
    3: "html text",
    4: "records",
    5: "params_records sheets summary_records tensor_numbers",
    6: "params_sheets summary_sheets trace_log",
    7: "findings nonfinite scores",
    8: "origins",
    9: "verdicts",
    10: "trace_table",
    11: "trace_records",
    12: "panels trace_sheets",
    13: "widget",
    14: "default_device expectations forms gradients kernel_source layers "
    "modes networks optimizers pictures sealed shape_rules tensors",
    15: "devices guessed kernels known_values layer_expectations loss_expectations "
    "meta_kernels naming nesting packed unjudged",
    16: "arguments calls failures flops layer_memory state statistics",
    17: "calling_places candidates device_statistics functions meta readings",
    18: "inputs sameness samples weights",
    19: "layer_counts measuring memory root_calls",
    20: "device_writer parameters structure",
    21: "peers real tensor_writer",
    22: "recorder",
    23: "function_recorder",
    24: "recording",
    25: "subject",
    26: "watching",
    27: "displays expression options",
    28: "cells completions statements words",
    29: "makers",
    30: "magics",
    31: "extension",
    32: "__init__",
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names.split()}

WITHOUT_TORCH = 13
"""The highest floor of the views, which read records and never see a module."""

HOMES = {
    "torch": lambda name: FLOOR[name] > WITHOUT_TORCH,
    "torchvision": lambda name: name == "pictures",
    "IPython": lambda name: 27 <= FLOOR[name] <= 30,
    "pandas": lambda name: name == "records",
    "numpy": lambda name: (
        name in ("kernels", "statistics", "readings", "samples", "measuring", "tensor_writer")
        or name.endswith(("sheets", "panels"))
    ),
    "llvmlite": lambda name: name == "kernels",
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
