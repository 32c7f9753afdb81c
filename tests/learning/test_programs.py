"""The fault of a training program is named, and its twin without the fault raises no alarm."""

import re
import warnings
from pathlib import Path

import pytest
import torch

import nnmagic
from learning.programs import BUGS, PROGRAMS
from nnmagic.recording.rules.training_rules import RULES
from nnmagic.records.findings.threshold_rules import THRESHOLDS

NAMED = {name: program for name, program in PROGRAMS.items() if program.rules}
SEEDS = (0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2)))
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "findings.md"
FILES = (
    "recording/rules/loss_rules",
    "recording/rules/registration_rules",
    "records/findings/misleading",
)
NAMES = re.compile(r"""(?:_find|_finding|Rule)\(\s*"([^"]+)"|rule(?:, bound)? ?= ?"([^"]+)\"""")
"""How a rule that stands in no table is named in the code."""


def findings(name, seed, *, faulty):
    """Return the findings of a program."""
    torch.manual_seed(seed)
    with warnings.catch_warnings(), nnmagic.tracing(grad=True) as trace:
        warnings.simplefilter("ignore")
        PROGRAMS[name].run(faulty)
    return trace.findings


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_without_its_fault_raises_no_alarm(name, seed):
    assert [each for each in findings(name, seed, faulty=False) if each.level == "finding"] == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMED)
def test_a_fault_is_named_by_the_first_two_findings(name, seed):
    first = {each.rule for each in findings(name, seed, faulty=True)[:2]}

    assert first & set(PROGRAMS[name].rules)


def test_at_least_four_of_five_faults_are_within_reach():
    assert len(NAMED) >= 0.8 * len(PROGRAMS)


def test_each_class_of_bugs_has_a_program():
    assert len(BUGS) == 21
    assert {each.bug for each in PROGRAMS.values()} == {*BUGS, ""}


def test_the_page_tells_every_rule_and_every_fault_that_no_rule_names():
    page = PAGE.read_text(encoding="utf-8")
    rules = {rule for program in PROGRAMS.values() for rule in program.rules}
    rules |= {rule for event in RULES for rule in event} | {each.name for each in THRESHOLDS}
    texts = [(ROOT / "nnmagic" / f"{each}.py").read_text(encoding="utf-8") for each in FILES]
    named = {"".join(found) for text in texts for found in NAMES.findall(text)}
    assert {"not registered", "pictures that were scaled twice"} <= named
    rules |= named

    assert [rule for rule in sorted(rules) if f"**{rule}**" not in page] == []
    assert [name for name in PROGRAMS if name not in NAMED and name not in page] == []
    assert [bug for bug in BUGS if f"| {bug} |" not in page] == []
    assert [each.source for each in THRESHOLDS if each.source not in page] == []
