"""Faults that are planted on one rank of four: each is named, and healthy runs say nothing.

`NNMAGIC_RANK_RUNS=25 python -m pytest -m "" tests/promises/test_planted_ranks.py` runs 25 of each.
"""

import os

import pytest
from ranks import run_ranks
from ranks_corpus import HEALTHY, PLANTED, case_of

import nnmagic

WORLD = 4
RUNS = int(os.environ.get("NNMAGIC_RANK_RUNS", "2"))

NUMBERS = dict.fromkeys(PLANTED, RUNS) | {"healthy": max(RUNS, len(HEALTHY))}

RULES = {
    "a changed weight": {"parameters differ between ranks"},
    "another seed": {"parameters differ between ranks", "ranks part here"},
    "a skipped batch": {"other calls on other ranks"},
    "a missing all-reduce": {"parameters differ between ranks", "gradients differ between ranks"},
    "a wrong shard": {"the same shard twice"},
}
"""The rules that may name a fault first."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    seconds = 120 + 20 * RUNS
    told = run_ranks(["ranks_corpus:plant"], WORLD, folder, seconds=seconds, numbers=NUMBERS)
    assert told == {"ranks_corpus:plant": [{}] * WORLD}
    return folder


def found_in(corpus, case):
    """The findings of all ranks together that are about these."""
    trace = nnmagic.load(corpus / f"{case.name}.*.safetensors")
    return [each for each in trace.findings if "rank" in each.text]


@pytest.mark.slow
@pytest.mark.parametrize("fault", RULES)
def test_the_rank_and_the_first_layer_are_named(corpus, fault):
    for number in range(NUMBERS[fault]):
        case = case_of(fault, number, WORLD)
        first, *_ = found_in(corpus, case)

        assert first.rule in RULES[fault], case
        assert first.layer == case.layer, case
        if fault == "a wrong shard":  # that it is the other one's is not in the records
            pair = sorted((case.culprit, (case.culprit + 1) % WORLD))
            assert "ranks {} and {}".format(*pair) in first.text, case
        else:
            assert first.rank == case.culprit, case


@pytest.mark.slow
def test_a_healthy_run_says_nothing(corpus):
    for number in range(NUMBERS["healthy"]):
        case = case_of("healthy", number, WORLD)

        assert found_in(corpus, case) == [], case
