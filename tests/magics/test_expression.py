import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.error import UsageError
from torch import nn

from nnmagic.magics.expression import Call, names_in
from nnmagic.magics.line import is_silenced, split_line, without_comment

OPTIONS = {"-o": True, "--depth": True, "--layers": True, "--static": False}


def split(line):
    found = split_line(line, OPTIONS)
    return list(found.options), found.expression


@pytest.mark.parametrize(
    ("line", "options", "expression"),
    [
        ("", [], ""),
        ("net(x)", [], "net(x)"),
        ("net(x, -1) --depth 2", ["--depth=2"], "net(x, -1)"),
        ("--depth=2 net(x)", ["--depth=2"], "net(x)"),
        ("--depth 2 net(x) -o t", ["--depth=2", "-o", "t"], "net(x)"),
        ("net(a) - net(b)", [], "net(a) - net(b)"),
        ("-net(x)", [], "-net(x)"),
        ("net(x)   +  1 --static", ["--static"], "net(x)   +  1"),
        ("net(x, '--depth 2')", [], "net(x, '--depth 2')"),
        ("net(x[--i], y)", [], "net(x[--i], y)"),
        ("net --layers 'a b.*'", ["--layers=a b.*"], "net"),
        ('net --layers "[ab]*"', ["--layers=[ab]*"], "net"),
        ("net --layers layer?.conv*", ["--layers=layer?.conv*"], "net"),
        ("net --layers a --layers b", ["--layers=a", "--layers=b"], "net"),
        ("net(x) --depth 2 # why", ["--depth=2"], "net(x)"),
        ("net('#', x)", [], "net('#', x)"),
        ("net(x);", [], "net(x)"),
        ("net(x) --depth 2 ;", ["--depth=2"], "net(x)"),
        ("net(x); # why", [], "net(x)"),
        (r"net('it\'s --depth', x)", [], r"net('it\'s --depth', x)"),
        ("f('''a --depth''')", [], "f('''a --depth''')"),
        ("x if a else b", [], "x if a else b"),
    ],
)
def test_options_stand_around_the_expression(line, options, expression):
    assert split(line) == (options, expression)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("net --bad 3", "unknown option --bad; there are --depth, --layers, --static"),
        ("net --dep 3", "unknown option --dep"),
        ("net --depth", "option --depth needs a value"),
        ("net --static=1", "option --static takes no value"),
        (
            "net(x) --depth 2 + 1",
            "options go before or after the expression, not inside it: '+'",
        ),
    ],
)
def test_a_wrong_option_says_what_to_type(line, says):
    with pytest.raises(UsageError) as caught:
        split(line)

    assert says in str(caught.value)


def test_a_semicolon_silences_the_line():
    assert split_line("net(x);  # why", OPTIONS).silenced
    assert not split_line("net(';')", OPTIONS).silenced
    assert is_silenced("x ; ")


def test_a_comment_ends_at_the_first_hash_outside_quotes():
    assert without_comment("a '#' # don't") == "a '#' "


def test_the_names_of_an_expression_are_its_plain_ones():
    names = names_in(ast.parse("f(net.encoder, x)[0] + net(y)"))

    assert sorted(names) == ["f", "net", "x", "y"]


expressions = st.recursive(
    st.sampled_from(["net", "x", "-1", "'a --depth b'", '"#"', "x[--i]", "(lambda: 0)"]),
    lambda inside: (
        st.builds("{}({})".format, st.just("f"), inside)
        | st.builds("({} - {})".format, inside, inside)
        | st.builds("[{}, {}]".format, inside, inside)
        | st.builds("f(x, mask={})".format, inside)
    ),
    max_leaves=8,
)
options = st.lists(
    st.sampled_from(
        ["--depth 3", "--depth=3", "--static", "-o t", "--layers 'a b'", '--layers="*"']
    ),
    max_size=3,
)


@given(options, expressions, options, st.sampled_from(["", ";", " # it's", "; # x"]))
def test_any_expression_comes_out_as_it_went_in(before, expression, after, end):
    line = " ".join([*before, expression, *after]) + end

    found = split_line(line, OPTIONS)

    assert found.expression == expression
    ast.parse(found.expression, mode="eval")
    assert len([o for o in found.options if o.startswith("-")]) == len(before) + len(after)
    assert found.silenced == (";" in end)


def test_the_network_of_a_call_is_the_module_or_the_owner_of_its_own_method():
    class Net(nn.Module):
        def generate(self):
            return 1

        def forward(self):
            return 2

    net = Net()

    assert Call(net, (), {}).network is net
    assert Call(net.generate, (), {}).network is net
    assert Call(net.forward, (), {}).network is net
    assert Call(net.eval, (), {}).network is None
    assert Call(len, ((),), {}).network is None
