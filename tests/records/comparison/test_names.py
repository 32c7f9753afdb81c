"""Which names are the same parameter."""

import pytest

from nnmagic.records.comparison.names import NamePair, paired, prefix_map


def keys(names):
    """Names as in `"a b=c"`: b has the key of c."""
    pairs = [each.partition("=") for each in names.split()]
    return {name: key or name for name, _, key in pairs}


@pytest.mark.parametrize(
    ("mine", "other", "expected"),
    [
        ("a b", "b a", [("a", "a"), ("b", "b")]),
        ("a", "b", [("a", None), (None, "b")]),
        ("a b=a", "a", [("a", "a", ("b",))]),
        ("a b=a", "b", [("b", "b", ("a",))]),
        ("a b=a", "a b=a", [("a", "a", ("b",))]),
        ("a b=a", "a b", [("a", "a"), ("b", "b")]),
        ("a b", "a b=a", [("a", "a"), ("b", "b")]),
        ("a", "a b=a", [("a", "a")]),
        ("a b=a", "c d=c", [("a", None, ("b",)), (None, "c", ("d",))]),
        ("", "a", [(None, "a")]),
    ],
)
def test_a_parameter_of_several_names_counts_once(mine, other, expected):
    found = paired(keys(mine), keys(other))

    assert found == [NamePair(*each) for each in expected]


def test_a_map_gives_the_names_of_the_other_side():
    found = paired(keys("h.0.attn.w h.1.attn.w ln.w"), keys("l.0.sa.w l.1.sa.w ln.w"),
                   {"h.*.attn.*": "l.*.sa.*"})  # fmt: skip

    assert found == [("h.0.attn.w", "l.0.sa.w", ()), ("h.1.attn.w", "l.1.sa.w", ()),
                     ("ln.w", "ln.w", ())]  # fmt: skip


def test_a_pattern_that_leads_to_nothing_is_passed_over():
    found = paired(keys("a.w b.w c.w"), keys("x.a.w y.b.w c.w"), {"*": "x.*", "b.*": "y.b.*"})

    assert [pair[:2] for pair in found] == [("a.w", "x.a.w"), ("b.w", "y.b.w"), ("c.w", "c.w")]


@pytest.mark.parametrize(
    ("mine", "other", "expected"),
    [
        ("a.w b.w", "module.a.w module.b.w", {"*": "module.*"}),
        ("model.a.w model.b.w", "a.w b.w", {"model.*": "*"}),
        ("a.w b.w", "x.y.a.w x.y.b.w z.w", {"*": "x.y.*"}),
        ("a.w b.w", "c.w d.w", {}),
        ("a.w b.w c.w d.w e.w", "m.a.w m.x.w m.y.w m.z.w", {}),
    ],
)
def test_a_prefix_is_found_where_half_of_the_names_meet(mine, other, expected):
    assert prefix_map(keys(mine), keys(other)) == expected
