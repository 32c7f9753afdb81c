"""A typed line: its options, its expression, and the namespace that both are read in."""

import argparse
from typing import Any

import torch
from IPython.core.error import UsageError
from torch import nn

from nnmagic.inputs.search import InputSearch
from nnmagic.inputs.specs import Input
from nnmagic.magics.expression import Expression, networks_named
from nnmagic.magics.line import split_line
from nnmagic.magics.options import class_names, takes_value, view_of
from nnmagic.network.naming import Naming, name_bound_to
from nnmagic.records.record import Record
from nnmagic.structure.plan_request import PlanRequest
from nnmagic.tutorial import default_input, default_network

DEFAULT_TEXT = "torch.rand(1, 28, 28)"


class Request:
    """A typed line: its options, its expression, and the namespace that both are read in.

    Attributes:
        shell: the IPython shell.
        local: the local names of the function that the magic is called in; the notebook's own
            namespace elsewhere.
        options: the options, one attribute each.
        expression: the Python that is left, e.g. `"net(x)"`.
        silenced: whether the line ends in a semicolon.
        view: the display options, for `Record.show`.
        plan: how the network is to be cut over ranks; None where that is not asked for.
        input_dtypes: the dtypes of inputs of the sizes that are given.
    """

    def __init__(self, magic: Any, line: str, shell: Any, local: dict[str, Any] | None) -> None:
        self.shell = shell
        self.local = shell.user_ns if local is None else local
        split = split_line(line, takes_value(magic))
        self.expression = split.expression
        self.silenced = split.silenced
        self.options: argparse.Namespace = magic.parser.parse_args(split.options)
        names = class_names(getattr(self.options, "classes", None), self.look_up)
        self.view = view_of(self.options, names)
        self.plan = self._plan()
        is_of_input = self.plan is None or self.plan.dtype is None
        self.input_dtypes = (getattr(self.options, "dtype", None) or ()) if is_of_input else ()
        if self.input_dtypes and not self.options.input_size:
            raise UsageError("--dtype needs --input-size")

    def _plan(self) -> PlanRequest | None:
        """Return the plan that is asked for; a floating-point dtype is the network's there."""
        sizes = getattr(self.options, "plan", None)
        if sizes is None:
            return None
        dtypes: list[torch.dtype] = self.options.dtype or []
        dtype = dtypes[0] if len(dtypes) == 1 and dtypes[0].is_floating_point else None
        return PlanRequest(**sizes, dtype=dtype)

    def look_up(self, name: str) -> Any:
        """Return what a name is bound to, None where it is not."""
        return self.local.get(name, self.shell.user_ns.get(name))

    def python(self) -> Expression:
        """Return the expression, parsed."""
        return Expression(self.expression, self.shell, self.local)

    def naming(self, names: tuple[str, ...], *, only: bool = False) -> Naming:
        """Return what names the networks of a run, these names of the line first."""
        return Naming(lambda: networks_named(names, self.look_up), self._name_of, only=only)

    def _name_of(self, network: nn.Module) -> str | None:
        return name_bound_to(network, self.local, self.shell.user_ns)

    def input_for(self, network: nn.Module) -> Input:
        """Return the input of a network that runs without one of the user's.

        Raises:
            InputError: if the network takes none.
        """
        return self.search(network).input_on(self.options.device)

    def search(self, network: nn.Module) -> InputSearch:
        """Return the search for the input of a network that runs without one of the user's.

        Raises:
            InputError: if the options contradict each other.
        """
        return InputSearch(network, self.options.input_size or (), self.input_dtypes)

    def default_network(self) -> nn.Module:
        """Return the FashionMNIST network, on the device that was asked for."""
        network = default_network()
        return network if self.options.device is None else network.to(self.options.device)

    def default_input(self, network: nn.Module) -> Input:
        """Return the input of the FashionMNIST network."""
        if self.options.input_size:
            return self.input_for(network)
        return Input(args=(default_input(),), text=DEFAULT_TEXT, reason="")

    def recorded(self) -> dict[str, Any]:
        """Return what a run is to record."""
        return {name: getattr(self.options, name) for name in ("every", "keep", "grad", "ops")}

    def viewed(self, record: Record) -> Record:
        """Return the record with the display options of the line."""
        try:
            return record.show(**self.view)
        except ValueError as error:
            raise UsageError(str(error)) from None

    def shown(self, record: Record) -> Record:
        """Return the record with the display options of the line, stored where it asks for it."""
        record = self.viewed(record)
        if self.options.output:
            self.shell.user_ns[self.options.output] = record
        return record

    def result(self, record: Record) -> Any:
        """Return what the magic returns: nothing after a trailing semicolon."""
        shown = self.shown(record)
        return None if self.silenced else shown
