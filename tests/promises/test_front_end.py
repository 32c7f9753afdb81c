import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from nnmagic.display import messages
from nnmagic.display.lanes import assigned
from nnmagic.display.table import Kind
from nnmagic.widget.front_end import (
    MODULES,
    STATIC,
    TEXTS,
    minified_script,
    minified_style,
    page_script,
    script,
    style,
)

JS = Path(__file__).parents[1] / "js"


@pytest.fixture
def node():
    found = shutil.which("node")
    if found is None:
        pytest.skip("no node")
    return found


def test_the_pure_functions_pass_their_tests(node):
    done = subprocess.run([node, "--test", *JS.glob("*.test.mjs")], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout


def test_the_widget_gives_lanes_as_text_does(node):
    drawn, graphs = random.Random(0), []
    for _ in range(300):
        count = drawn.randint(1, 20)
        sources = [
            sorted(set(drawn.choices(range(count), k=drawn.randint(0, 3))) - {row})
            for row in range(count)
        ]
        above = [[each for each in found if each < row] for row, found in enumerate(sources)]
        makers = [drawn.choice(found) if found and drawn.random() < 0.3 else -1 for found in above]
        graphs.append((sources, makers))
    ask = f"""import {{ assigned }} from {json.dumps((STATIC / "lanes.js").as_uri())};
        const graphs = {json.dumps(graphs)};
        const lanes = graphs.map(([sources, makers]) => assigned(sources, makers));
        console.log(JSON.stringify(lanes));"""

    done = subprocess.run(
        [node, "--input-type=module", "--eval", ask], capture_output=True, text=True, check=True
    )

    for (sources, makers), found in zip(graphs, json.loads(done.stdout), strict=True):
        unchanged = {row: maker for row, maker in enumerate(makers) if maker >= 0}
        expected = [-1 if lane is None else lane for lane in assigned(sources, unchanged)]
        assert found == expected


def test_the_joined_script_is_one_module(node, tmp_path):
    path = tmp_path / "widget.mjs"
    path.write_text(
        f"{page_script()}\nimport('data:text/javascript,export default 1').then(() => {{}})"
    )

    done = subprocess.run([node, "--check", path], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_script_and_style_travel_light():
    assert len(script().encode()) + len(style().encode()) < 100_000


def test_every_module_is_joined():
    assert {path.stem for path in STATIC.glob("*.js")} == {*MODULES, "page"}


def test_a_minified_script_has_no_comments_and_no_spare_spaces():
    text = "// gone\n/**\n * gone\n */\nf({\n  a: (b, c) => b + +c * 2,\n\n  // gone\n});\n"

    assert minified_script(text) == "f({a:(b,c)=>b + +c*2,});"


@pytest.mark.parametrize(
    "text",
    ['"//  /* a, b */"', '"\\" , "', "`: ${a + b} , ${c} = `", r"/a , b = \/ , /"],
)
def test_a_minified_script_keeps_what_is_in_texts(text):
    assert minified_script(f"f( {text} ,  1);") == f"f({text}, 1);"


def test_a_division_is_no_regular_expression():
    assert minified_script("f( a / b , c ) / 2 % d / e;") == "f(a/b,c)/2%d/e;"


@pytest.mark.parametrize("module", [*MODULES, "page"])
def test_the_texts_of_each_module_are_told_from_its_code(module):
    code = TEXTS.split(
        re.sub(r"^ *(//|/?\*).*", "", (STATIC / f"{module}.js").read_text(), flags=re.M)
    )

    assert not {'"', "'", "`"} & set("".join(code[::2]))


def test_a_minified_style_keeps_its_rules():
    text = "/* x */\na :is(b, c) > d { color: red;\n  margin: calc(1px + 2px) }"

    assert minified_style(text) == "a :is(b,c)>d{color:red;margin:calc(1px + 2px)}"


def test_no_line_of_code_ends_in_a_comment():
    joined = page_script() + style()

    assert " // " not in joined
    assert "/*" not in joined


SENT = {
    "table": (
        messages.SheetContent,
        "rows grid known widget input",
        {"parents", "ends", "deepest"},
    ),
    "content": (messages.SheetContent, "rows", set()),
    "column": (messages.ColumnContent, "rows grid known", set()),
    "steps": (messages.StepsContent, "iterations", set()),
    "finding": (messages.FindingContent, "findings", set()),
    "point": (messages.PointContent, "points", {"table"}),
    "scores": (messages.ScoresContent, "input", set()),
    "table.run": (messages.RunContent, "input", set()),
    "panel": (messages.PanelContent, "panel", set()),
    "curve": (messages.CurveContent, "curves", set()),
    "picture": (messages.PictureContent, "panel pictures", {"values", "draw"}),
    "record": (messages.TensorContent | messages.ParameterContent, "panel", set()),
    "message": (messages.PageMessage | messages.AskMessage, "widget rows input", set()),
}
"""For each name of a variable, what it holds, in which modules, and what they add to it."""


def keys_of(content):
    return set().union(*(each.__annotations__ for each in get_args(content) or (content,)))


@pytest.mark.parametrize("name", SENT)
def test_the_page_reads_only_the_keys_that_are_sent(name):
    content, modules, added = SENT[name]
    texts = [(STATIC / f"{module}.js").read_text() for module in modules.split()]
    code = "\n".join(minified_script(text) for text in texts)

    read = set(re.findall(rf"(?<![\w.$]){re.escape(name)}\??\.(\w+)", code))

    assert read
    assert read <= keys_of(content) | added


def test_all_kinds_of_columns_are_drawn():
    code = (STATIC / "rows.js").read_text()
    fields = re.search(r"const FIELDS = \{(.*?)\n\};", code, re.DOTALL)[1]

    assert set(re.findall(r"^  (\w+):", fields, re.MULTILINE)) == set(get_args(Kind)) - {"shape"}
