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
    6: "params_sheets summary_sheets tensor_log",
    7: "trace_log",
    8: "findings nonfinite scores",
    9: "origins",
    10: "verdicts",
    11: "trace_table",
    12: "trace_records",
    13: "panels trace_sheets",
    14: "widget",
    15: "default_device expectations forms gradients kernel_source layers "
    "modes networks optimizers pictures sealed shape_rules tensors",
    16: "devices guessed kernels known_values layer_expectations loss_expectations "
    "meta_kernels naming nesting packed unjudged",
    17: "arguments calls failures flops layer_memory state statistics",
    18: "calling_places candidates device_statistics functions meta readings",
    19: "inputs sameness samples weights",
    20: "layer_counts measuring memory root_calls",
    21: "device_writer parameters structure",
    22: "peers real tensor_writer",
    23: "recorder",
    24: "function_recorder",
    25: "recording",
    26: "subject",
    27: "watching",
    28: "displays expression options",
    29: "cells completions statements words",
    30: "makers",
    31: "magics",
    32: "extension",
    33: "__init__",
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names.split()}

WITHOUT_TORCH = 14
"""The highest floor of the views, which read records and never see a module."""

HOMES = {
    "torch": lambda name: FLOOR[name] > WITHOUT_TORCH,
    "torchvision": lambda name: name == "pictures",
    "IPython": lambda name: 28 <= FLOOR[name] <= 31,
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
