"""An exception goes on as it would without nnmagic, and the trace says where it came from."""

import copy
import sys
import traceback
from pathlib import Path

import pytest
import torch
from torch import nn

import nnmagic

OWN_FOLDER = Path(nnmagic.__file__).parent


class NeedsTwoError(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")


class SlottedError(Exception):
    __slots__ = ("code",)


class MuteError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class NoNotesError(Exception):
    def add_note(self, note):
        raise RuntimeError("no notes")


ERRORS = [
    lambda: NeedsTwoError(1, "why"),
    SlottedError,
    MuteError,
    NoNotesError,
    KeyboardInterrupt,
    lambda: SystemExit(3),
    lambda: StopIteration(3),
    GeneratorExit,
    lambda: ExceptionGroup("several", [ValueError("a"), TypeError("b")]),
    lambda: BaseExceptionGroup("several", [KeyboardInterrupt()]),
]
NAMES = [
    "arguments",
    "slots",
    "mute",
    "no-notes",
    "interrupt",
    "exit",
    "stop",
    "generator",
    "group",
    "base-group",
]


class Raises(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


def in_a_block(net, x):
    with nnmagic.tracing():
        return net(x)


def with_functions(net, x):
    with nnmagic.tracing(ops=True):
        return net(x)


def frames(error):
    return [
        (frame.f_code.co_filename, frame.f_code.co_name, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_locals.get("__tracebackhide__") and "/torch/" not in frame.f_code.co_filename
    ]


def raised_by(run, *args):
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - any, whatever it is
        run(*args)
    return caught.value


def users_frames(error):
    return [frame for frame in frames(error) if frame[1] in ("forward", "fail")]


@pytest.mark.parametrize("run", [nnmagic.trace, in_a_block, with_functions])
@pytest.mark.parametrize("make", ERRORS, ids=NAMES)
def test_the_same_exception_goes_on_with_its_traceback_and_leaves_nothing(make, run):
    error, code, limit = make(), nn.Module.__call__.__code__, sys.getrecursionlimit()
    net = nn.Sequential(nn.ReLU(), nn.Sequential(Raises(error)))
    plain = users_frames(raised_by(net, torch.ones(2)))
    error.__traceback__ = None

    raised = raised_by(run, net, torch.ones(2))

    assert raised is error
    assert users_frames(raised) == plain
    own = [each for each in frames(raised) if Path(each[0]).is_relative_to(OWN_FOLDER)]
    assert own == []
    assert nn.Module.__call__.__code__ is code
    assert sys.getrecursionlimit() == limit
    assert not torch._C._len_torch_function_stack()
    if not isinstance(error, NoNotesError):
        assert error.__notes__[0].startswith("nnmagic: raised in Sequential.1.0 (Raises)")


@pytest.mark.parametrize("make", ERRORS, ids=NAMES)
def test_what_failed_is_known_afterwards(make):
    net = nn.Sequential(nn.ReLU(), Raises(make()))

    with pytest.raises(BaseException) as raised, nnmagic.tracing() as trace:  # noqa: PT011
        net(torch.ones(2))

    assert trace.failed.layer == "1"
    assert [call.failed for call in trace] == [True, False, True]
    how = "interrupted" if isinstance(raised.value, KeyboardInterrupt) else "failed"
    assert f"{how} in Sequential.1 · 1 call finished" in str(trace)


# IPython itself replaces an exception that has no text
@pytest.mark.parametrize("make", [each for each in ERRORS if each is not MuteError])
@pytest.mark.parametrize("cell", [False, True])
def test_a_magic_shows_what_ran_and_lets_the_same_exception_go_on(session, make, cell):
    error, code = make(), nn.Module.__call__.__code__
    session.shell.user_ns["net"] = nn.Sequential(nn.ReLU(), Raises(error))

    line = "%%nntrace -o t\nnet(torch.ones(2))" if cell else "%nntrace net(torch.ones(2)) -o t"
    raised = raised_by(session.run, line)

    assert raised is error
    assert session["t"].failed.layer == "1"
    how = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    assert f"{how} in net.1" in session.displayed[0]["text/plain"]
    assert nn.Module.__call__.__code__ is code
    assert not nnmagic.trace(nn.ReLU(), torch.ones(1)).failed


class Outer(nn.Module):
    """Runs `fail`, which gets its layers."""

    def __init__(self, fail, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.fail = fail

    def forward(self, x):
        return self.fail(self.layers, x)


def test_an_exception_raised_from_another_names_the_layer_of_both():
    def fail(layers, x):
        try:
            return layers[0](x)
        except RuntimeError as error:
            raise ValueError("cannot go on") from error

    net = Outer(fail, nn.Linear(3, 2))
    with pytest.raises(ValueError, match="cannot go on") as caught, nnmagic.tracing() as trace:
        net(torch.ones(1, 4))

    assert trace.failed.layer == ""
    assert isinstance(caught.value.__cause__, RuntimeError)
    says = (
        "after RuntimeError in layers.0 (Linear): "
        "got (1, 4), weight is (2, 3): the last axis must be 3, it is 4; "
        "make the layer with in_features=4"
    )
    assert caught.value.__notes__[0].endswith(says)
    assert says in " ".join(str(trace).split())
    assert "FAILED, caught: RuntimeError" in str(trace)


def test_an_exception_that_is_raised_twice_is_blamed_on_the_second_layer():
    error = ValueError("again")

    def fail(layers, x):
        try:
            return layers[0](x)
        except ValueError:
            return layers[1](x)

    with pytest.raises(ValueError, match="again") as caught, nnmagic.tracing() as trace:
        Outer(fail, Raises(error), Raises(error))(torch.ones(1))

    assert caught.value is error
    assert trace.failed.layer == "layers.1"
    assert [call.layer for call in trace if call.failed] == ["", "layers.0", "layers.1"]
    assert trace.failed.failure.cause == ""
    assert error.__notes__ == [note for note in error.__notes__ if "layers.1" in note]


def test_a_forward_that_survives_an_exception_goes_on_and_the_stack_is_right():
    def survive(layers, x):
        for layer in layers[:2]:
            try:
                layer(x)
            except ValueError:
                x = x + 1
        return layers[2](x)

    net = Outer(survive, Raises(ValueError()), nn.Sequential(Raises(ValueError())), nn.ReLU())
    trace = nnmagic.trace(net, torch.ones(1))

    assert trace.failed is None
    assert [(call.layer, call.depth, call.failed) for call in trace] == [
        ("", 0, False),
        ("layers.0", 1, True),
        ("layers.1", 1, True),
        ("layers.1.0", 2, True),
        ("layers.2", 1, False),
    ]
    assert trace.output.item() == 3


def test_an_exception_that_the_block_catches_is_blamed_on_nobody():
    with nnmagic.tracing() as trace:
        with pytest.raises(ValueError, match="why"):
            Raises(ValueError("why"))(torch.ones(1))
        nn.ReLU()(torch.ones(1))

    assert trace.failed is None
    assert [call.failed for call in trace] == [True, False]


def test_a_record_of_a_failure_keeps_nothing_of_it_alive():
    import gc
    import weakref

    net, x = nn.Sequential(nn.Linear(3, 2)), torch.ones(1, 4)
    with pytest.raises(RuntimeError), nnmagic.tracing() as trace:
        net(x)
    references = weakref.ref(net), weakref.ref(x)
    del net, x
    gc.collect()

    assert [reference() for reference in references] == [None, None]
    assert copy.deepcopy(trace.failed.failure) == trace.failed.failure
