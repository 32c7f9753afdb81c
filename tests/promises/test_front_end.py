import shutil
import subprocess
from pathlib import Path

import pytest

from nnmagic.widget.front_end import MODULES, STATIC, script, squeezed_script, squeezed_style, style

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


def test_the_joined_script_is_one_module(node, tmp_path):
    path = tmp_path / "widget.mjs"
    path.write_text(f"{script()}\nimport('data:text/javascript,export default 1').then(() => {{}})")

    done = subprocess.run([node, "--check", path], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_script_and_style_travel_light():
    assert len(script().encode()) + len(style().encode()) < 60_000


def test_every_module_is_joined():
    assert {path.stem for path in STATIC.glob("*.js")} == set(MODULES)


def test_squeezing_leaves_strings_and_patterns_alone():
    text = (
        'const a = "x  // y";  /* gone */ const b = `  ${a} `; // gone\n'
        'const c = s.replace(/ +\\/ "/g, 1 + +b);'
    )

    squeezed = squeezed_script(text)

    assert '"x  // y"' in squeezed
    assert "`  ${a} `" in squeezed
    assert '/ +\\/ "/g' in squeezed
    assert "+ +b" in squeezed
    assert "gone" not in squeezed
    assert "const c=s.replace" in squeezed


def test_squeezing_a_style_keeps_its_rules():
    assert squeezed_style("a b { color: red;\n  /* x */ margin: 0 1px; }") == (
        "a b{color:red;margin:0 1px;}"
    )
