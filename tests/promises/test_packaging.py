import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def python(code):
    """Run code in a fresh interpreter and return what it prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")

    names = zipfile.ZipFile(wheel).namelist()

    package = ROOT / "nnmagic"
    files = (path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc")
    expected = {f"nnmagic/{path.relative_to(package)}" for path in files}
    assert "nnmagic/widget/static/widget.js" in expected
    assert {name for name in names if name.startswith("nnmagic/")} == expected
    assert all(name.startswith(("nnmagic/", "nnmagic-")) for name in names)


@pytest.mark.slow
def test_the_source_archive_holds_what_git_holds(tmp_path):
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", tmp_path, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        found = {name.partition("/")[2] for name in opened.getnames()}

    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if listed.returncode:
        pytest.skip("no checkout")
    assert found - {"PKG-INFO"} == set(listed.stdout.split())


def test_importing_the_package_loads_nothing():
    assert python("import sys, nnmagic; print('torch' in sys.modules)").strip() == "False"


@pytest.mark.slow
def test_records_show_themselves_without_ipython():
    printed = python("import sys, torch, nnmagic; print(nnmagic.summary(torch.nn.Linear(2, 3)))")

    assert "parameters: 9 (9 trainable, 0 non-trainable)" in printed


@pytest.mark.slow
def test_the_readmes_terminal_command_shows_what_the_readme_shows():
    (command,) = re.findall(r"^    pip install \. && (ipython .*)$", README, re.MULTILINE)
    picture = re.search(r"In \[2\]: %nntrace\n(.*?)```", README, re.DOTALL)[1]
    program = Path(sys.executable).parent / "ipython"

    shown = subprocess.run(
        command.replace("ipython", str(program), 1),
        shell=True,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "125", "NO_COLOR": "1"},
    ).stdout

    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert picture.strip() in plain


def test_the_ci_calls_the_readmes_test_command():
    (command,) = re.findall(r"^    (pip install .*&& .*pytest.*)$", README, re.MULTILINE)

    found = subprocess.run(
        ["bash", "-c", re.search(r"command=\$\((.*)\)", (ROOT / ".ci/run").read_text())[1]],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout

    assert found.strip() == command


def test_every_dependency_earns_its_place_in_the_readme():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    section = README.split("## What it stands on")[1]

    for dependency in project["dependencies"]:
        name, bound = dependency.split(">=")
        assert re.search(rf"\b{name}\b", section), name
        assert bound
        assert "<" not in dependency


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        pytest.param(["mypy"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_the_code_is_clean(command):
    run = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False, cwd=ROOT
    )

    assert run.returncode == 0, run.stdout
