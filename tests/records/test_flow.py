import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nnmagic
from nnmagic.display.lanes import assigned
from nnmagic.display.text import table_text


def sources(trace):
    """Where each call's inputs come from, by the names of the layers."""
    names = [call.layer for call in trace]
    return [
        (call.layer, *(None if i is None else names[i] for i in call.sources)) for call in trace
    ]


def traced(net, *inputs, **options):
    with nnmagic.tracing(net, **options) as trace:
        net(*inputs)
    return trace


class Residual(nn.Module):
    def __init__(self, inplace=False):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.act = nn.ReLU(inplace=inplace)

    def forward(self, x):
        return self.act(self.b(self.act(self.a(x))) + x)


def test_an_input_comes_from_the_innermost_call_that_made_it():
    net = nn.Sequential(nn.Sequential(nn.Linear(3, 3)), nn.Sequential(nn.ReLU()))

    trace = traced(net, torch.rand(2, 3))

    assert sources(trace) == [
        ("", None),
        ("0", None),
        ("0.0", None),
        ("1", "0.0"),
        ("1.0", "0.0"),
    ]
    assert trace["1"].sources == trace.calls("1")[0].sources == (2,)
    assert trace.to_frame().sources.tolist() == [(None,), (None,), (None,), (2,), (2,)]


def test_what_a_function_made_is_known_with_ops_only():
    x = torch.rand(2, 3)

    without, with_ops = traced(Residual(), x), traced(Residual(), x, ops=True)

    assert sources(without)[1:] == [("a", None), ("act", "a"), ("b", "act"), ("act", None)]
    assert sources(with_ops)[1:] == [
        ("a", None),
        ("act", "a"),
        ("b", "act"),
        ("add()", "b", None),
        ("act", "add()"),
    ]


def test_what_a_container_made_of_its_layers_outputs_comes_from_the_container():
    class Sum(Residual):
        def forward(self, x):
            return self.a(x) + self.b(x)

    net = nn.Sequential(Sum(), nn.ReLU())

    assert sources(traced(net, torch.rand(2, 3))) == [
        ("", None),
        ("0", None),
        ("0.a", None),
        ("0.b", None),
        ("1", "0"),
    ]


def test_a_tensor_that_is_written_in_place_is_another_one():
    class Writing(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.act = nn.Linear(3, 3), nn.Linear(3, 3), nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.a(x)
            y = self.act(x)
            return self.b(y), self.b(x)

    assert sources(traced(Writing(), torch.rand(2, 3)))[1:] == [
        ("a", None),
        ("act", "a"),
        ("b", "act"),
        ("b", "act"),
    ]


class PassOn(nn.Module):
    def forward(self, x):
        return x


class Passing(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.a, self.on, self.b = nn.Linear(3, 3), layer, nn.Linear(3, 3)

    def forward(self, x):
        x = self.a(x)
        return self.b(self.on(x)), self.b(x)


def test_a_layer_that_returns_what_it_got_made_nothing():
    for layer in (nn.Identity(), nn.Dropout().eval(), PassOn(), nn.Sequential(PassOn())):
        found = sources(traced(Passing(layer), torch.rand(2, 3)))

        assert found[1:3] == [("a", None), ("on", "a")]
        assert found[-2:] == [("b", "a"), ("b", "a")]


def test_a_layer_that_writes_past_the_version_made_what_it_returns():
    class Silent(nn.Module):
        def forward(self, x):
            x.data.mul_(2)
            return x

    assert sources(traced(Passing(Silent()), torch.rand(2, 3)))[-1] == ("b", "on")


def test_under_inference_mode_tensors_are_told_by_their_values():
    with torch.inference_mode():
        trace = traced(Residual(inplace=True), torch.rand(2, 3), ops=True)

    assert sources(trace)[1:] == [
        ("a", None),
        ("act", "a"),
        ("b", "act"),
        ("add()", "b", None),
        ("act", "add()"),
    ]


def test_a_layer_with_several_inputs_has_a_source_for_each():
    class Join(nn.Module):
        def forward(self, parts, scale):
            return torch.stack(parts) * scale

    class Joining(Residual):
        def __init__(self):
            super().__init__()
            self.join = Join()

        def forward(self, x):
            first, second = self.a(x), self.b(x)
            return self.join([second, x, first], scale=first)

    assert sources(traced(Joining(), torch.rand(2, 3)))[-1] == ("join", "b", None, "a", "a")


def test_states_come_from_the_calls_that_returned_them():
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTMCell(3, 4)

        def forward(self, x):
            state = None
            for each in x.unbind(1):
                state = self.cell(each, state)
            return state[0]

    trace = traced(Steps(), torch.rand(2, 3, 3))

    assert [call.sources for call in trace][1:] == [(None,), (None, 1, 1), (None, 2, 2)]


def test_a_tensor_whose_address_is_used_again_is_another_one():
    class Fresh(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            for _ in range(50):
                y = self.a(x)
                del y
                self.b(x + 1)  # gets the memory, and often the id, of what `a` returned

    trace = traced(Fresh(), torch.rand(2, 3))

    assert {call.sources for call in trace.calls("b")} == {(None,)}


def test_what_a_network_returned_is_known_in_the_next_one():
    encoder, decoder = nn.Sequential(nn.Linear(3, 3)), nn.Linear(3, 3)
    loss = nn.MSELoss()

    with nnmagic.tracing() as trace:
        for _ in range(2):
            code = encoder(torch.rand(2, 3))
            loss(decoder(code), decoder(F.relu(code)))
            code.detach_().zero_()
            decoder(code)

    found = [(call.type, *call.sources) for call in trace][6:]
    assert found == [
        ("Sequential", None),
        ("Linear", None),
        ("Linear", 7),
        ("Linear", None),
        ("MSELoss", 8, 9),
        ("Linear", None),
    ]
    assert trace.call(8).sources == (7,)


def test_the_calls_of_a_failed_run_have_their_sources():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(3, 4))

    with pytest.raises(RuntimeError), nnmagic.tracing(net) as trace:
        net(torch.rand(2, 3))

    assert trace.failed.sources == (1,)


def lanes(trace, **options):
    """The lane and the sources of each row, by the labels of the rows."""
    table = trace.show(**options).table()
    labels, cells = [row.label for row in table.rows], table.cells("flow")
    found = assigned([cell.sources for cell in cells])
    return [
        (label, lane, [labels[source] for source in cell.sources])
        for label, lane, cell in zip(labels, found, cells, strict=True)
    ]


def test_a_row_has_its_input_from_the_lanes_of_the_rows_that_made_it():
    net = nn.Sequential(nn.Linear(3, 3), Residual())

    assert lanes(traced(net, torch.rand(2, 3), ops=True)) == [
        ("Sequential", None, []),
        ("0", 0, []),
        ("1", None, []),
        ("a", 1, ["0"]),
        ("act", 1, ["a"]),
        ("b", 1, ["act"]),
        ("add()", 0, ["0", "b"]),
        ("act", 0, ["add()"]),
    ]


def test_text_has_lanes_where_they_say_more_than_the_order():
    net = nn.Sequential(nn.Linear(3, 3), Residual())

    text = table_text(traced(net, torch.rand(2, 3), ops=True).table())
    chain = table_text(traced(net, torch.rand(2, 3)).table())

    _, header, *rows, _ = text.splitlines()
    at = header.index("flow")
    assert [line[at : at + 2].rstrip() for line in rows] == [
        *("", "●", "│", "├●", "│●", "│●", "●╯", "○")
    ]
    assert "●" not in chain
    assert "--ops completes the lanes" in chain
    assert "--ops completes the lanes" not in text


def test_rows_that_are_left_out_stand_in_the_row_around_them():
    net = nn.Sequential(nn.Linear(3, 3), Residual(), nn.Linear(3, 3))
    for parameter in net.parameters():
        parameter.data.abs_()  # a ReLU that is dead by chance would be flagged, and shown
    trace = traced(net, torch.rand(2, 3), ops=True).show(depth=1)

    table = trace.drawn(text=True)

    assert [cell.sources for cell in table.cells("flow")] == [(), (), (1,), (2,)]


def test_calls_that_are_folded_into_one_row_stand_in_it():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.act = nn.Linear(3, 3), nn.Tanh()

        def forward(self, x):
            for _ in range(6):
                x = self.act(self.a(x))
            return self.a(x)

    trace = traced(Loop(), torch.rand(2, 3))

    assert [cell.sources for cell in trace.drawn(text=True).cells("flow")] == [(), (2,), (1,)]


def test_rows_that_failed_have_their_lanes():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(3, 4))

    with pytest.raises(RuntimeError), nnmagic.tracing(net) as trace:
        net(torch.rand(2, 3))

    assert lanes(trace) == [("Sequential", None, []), ("0", 0, []), ("1", 0, ["0"])]


def test_an_iteration_has_its_own_lanes():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())

    with nnmagic.tracing(net) as trace:
        for _ in range(3):
            net(torch.rand(2, 3))

    assert (
        lanes(trace)
        == lanes(trace, step=0)
        == [("Sequential", None, []), ("0", 0, []), ("1", 0, ["0"])]
    )


def test_several_networks_are_joined_by_what_one_got_of_another():
    encoder, decoder = nn.Sequential(nn.Linear(3, 3)), nn.Linear(3, 3)

    with nnmagic.tracing() as trace:
        decoder(encoder(torch.rand(2, 3)))

    assert [cell[1:] for cell in lanes(trace)] == [(None, []), (0, []), (0, ["0"])]
