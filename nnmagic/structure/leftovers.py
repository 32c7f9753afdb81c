"""What a run for shapes would leave outside the network: found when it is over, and taken out.

A forward or a hook may put a tensor anywhere: into a list of the notebook's, a dict of a module of
code, a `functools.lru_cache`. Which places there are nobody can list; but the garbage collector
knows every object that is alive, and has the youngest at the end of its youngest generation. So a
tensor of the run that is still there when the run is over is found wherever it is, and so is what
holds it.
"""

import gc
import sys
import weakref
from collections.abc import Iterator, Mapping
from functools import _lru_cache_wrapper, partial
from itertools import chain
from types import CellType, FrameType, FunctionType, MethodType
from typing import Any

from torch import Tensor

from nnmagic.contexts import block
from nnmagic.network.contents import Contents, base_of, replace
from nnmagic.network.layers import Layers
from nnmagic.torch_private import DisableTorchFunction, FakeTensor, hooks_of, pre_hooks_of

DEPTH = 6
"""How many containers and objects deep a tensor is looked for."""

LIBRARIES = frozenset({"torch", "nnmagic", "builtins"})
"""Where code keeps no tensors of a run."""


@block
def nothing_left(layers: Layers, remarks: list[str]) -> Iterator[None]:
    """Take out, after the block, what its tensors without values are still held by.

    A container that had something else in that place has it again. The garbage collector rests in
    the block.

    Args:
        layers: the layers of the network that runs.
        remarks: gets a line where a tensor cannot be taken out.
    """
    enabled = gc.isenabled()
    gc.disable()
    surroundings = _Surroundings(layers)
    first = [surroundings]  # what is younger than this is of the block
    failed = False
    try:
        yield
    except BaseException:
        failed = True  # the frames of its traceback hold tensors too
        raise
    finally:
        references, younger = _tensors_after(first)
        if references:
            gc.collect(0)  # some are in cycles of garbage
            surroundings.take_out(references, younger)
            if not failed and any(reference() is not None for reference in references):
                remarks.append("a tensor of the run for shapes, without values, is held elsewhere")
        if enabled:
            gc.enable()


def _tensors_after(first: Any) -> tuple[list[weakref.ref[Tensor]], set[int]]:
    """Find the tensors without values that were made after an object.

    Returns:
        The tensors, weakly referenced, and the `id` of all that is younger than the object. None,
        where code of the network has collected garbage: then new cannot be told from old.
    """
    objects = gc.get_objects(0)
    kinds = {kind for kind in set(map(type, objects)) if issubclass(kind, Tensor)}
    found: list[weakref.ref[Tensor]] = []
    for number, each in enumerate(reversed(objects) if kinds else ()):
        if each is first:
            return found, set(map(id, objects[-number:])) if found else set()
        if type(each) in kinds:
            with DisableTorchFunction():
                if each.is_meta or isinstance(each, FakeTensor):
                    found.append(weakref.ref(each))
    return [], set()


class _Surroundings:
    """What the code of a network reaches outside it: its hooks', classes' and files' containers.

    Args:
        layers: the layers of the network.
    """

    def __init__(self, layers: Layers) -> None:
        modules = layers.modules
        self.contents = Contents()
        self.cells: dict[int, tuple[CellType, Any]] = {}
        self.classes: dict[type, dict[str, Any]] = {}
        self.caches: list[Any] = []
        for kind in set(map(type, modules)):
            for base in kind.__mro__:
                if base.__module__.partition(".")[0] not in LIBRARIES and base not in self.classes:
                    self._note_class(base)
        for hooks in chain(map(hooks_of, modules), map(pre_hooks_of, modules)):
            for hook in hooks.values() if hooks else ():
                self._note_function(hook)
        for value in chain.from_iterable(own.values() for own in layers.own if own):
            if isinstance(value, FunctionType | MethodType | partial):
                self._note_function(value)

    def _note_class(self, kind: type) -> None:
        attributes = self.classes[kind] = dict(vars(kind))
        namespace = getattr(sys.modules.get(kind.__module__), "__dict__", {})
        self.contents.note((namespace, *attributes.values()), 2)
        self.caches += filter(_is_cache, namespace.values())
        for value in attributes.values():
            if type(value) is FunctionType and (value.__closure__ or value.__defaults__):
                self._note_function(value)

    def _note_function(self, function: Any) -> None:
        while isinstance(function, partial):
            self.contents.note((function.args, function.keywords), DEPTH)
            function = function.func
        if isinstance(function, MethodType):
            self.contents.note((function.__self__,), DEPTH)
            function = function.__func__
        if not isinstance(function, FunctionType):
            self.contents.note((function,), DEPTH)
            return
        self.contents.note((function.__globals__, function.__defaults__), 2)
        for cell in function.__closure__ or ():
            if id(cell) not in self.cells and (content := _content_of(cell)):
                self.cells[id(cell)] = cell, content[0]
                self.caches += filter(_is_cache, content)
                self.contents.note(content, DEPTH)

    def take_out(self, left: list[weakref.ref[Tensor]], younger: set[int]) -> None:
        """Take tensors out of what holds them, be it noted or not.

        Args:
            left: the tensors.
            younger: the `id` of what was made in the run: it goes with the tensor that it holds.
        """
        alive = (reference() for reference in left)
        found: list[Any] = [each for each in alive if each is not None]
        doomed = {id(each): each for each in found}
        own = {id(doomed)}
        for _ in range(DEPTH):
            own |= {id(found)}
            holders = [*self._noted_holders(doomed), *gc.get_referrers(*found)]
            found = []
            for holder in holders:
                if id(holder) in own or id(holder) in doomed or isinstance(holder, FrameType):
                    continue
                is_new = id(holder) in younger and self.contents.before(holder) is None
                # the collector knows a dict only from the day on which something is in it
                if type(holder) is dict or not is_new:
                    self._empty(holder, doomed)
                else:
                    found.append(holder)
                if is_new:
                    doomed[id(holder)] = holder

    def _noted_holders(self, doomed: Mapping[int, Any]) -> Iterator[Any]:
        """Yield what is noted and holds one of some values.

        The collector passes over it where it was frozen.
        """
        yield from self.contents.holding(doomed)
        yield from (
            cell
            for cell, _ in self.cells.values()
            if any(id(each) in doomed for each in _content_of(cell))
        )
        for kind in self.classes:
            if any(id(each) in doomed for each in vars(kind).values()):
                yield kind
        for cached in self.caches:
            if any(id(each) in doomed for each in gc.get_referents(cached)):
                yield cached

    def _empty(self, holder: Any, doomed: dict[int, Any]) -> None:
        """Take values out of one holder."""
        if _is_cache(holder):
            holder.cache_clear()
        elif isinstance(holder, type):
            self._empty_class(holder, doomed)
        elif isinstance(holder, CellType):
            _, before = self.cells.get(id(holder), (None, None))
            holder.cell_contents = before
        elif base_of(type(holder)) is not None:
            kinds = [each for each in gc.get_referrers(holder) if isinstance(each, type)]
            if kinds and "__module__" in holder:  # what a class holds is set by the class only
                self._empty_class(kinds[0], doomed)
            else:
                self._empty_container(holder, doomed)
        elif type(getattr(holder, "__dict__", None)) is dict:
            self._empty_container(vars(holder), doomed)

    def _empty_class(self, kind: type, doomed: dict[int, Any]) -> None:
        before = self.classes.get(kind, {})
        for name, value in list(vars(kind).items()):
            if id(value) in doomed and name in before:
                setattr(kind, name, before[name])
            elif id(value) in doomed:
                delattr(kind, name)

    def _empty_container(self, container: Any, doomed: dict[int, Any]) -> None:
        before, base = self.contents.before(container), base_of(type(container))
        if issubclass(base, dict):
            for key, value in list(base.items(container)):
                if id(value) in doomed and before and key in before:
                    base.__setitem__(container, key, before[key])
                elif id(value) in doomed or id(key) in doomed:
                    base.__delitem__(container, key)
            return
        values = list(base.__iter__(container))
        before = values if before is None or base is set else list(before)
        if len(before) == len(values):  # one was put in the place of another
            values = [before[i] if id(each) in doomed else each for i, each in enumerate(values)]
        replace(container, [each for each in values if id(each) not in doomed])


def _is_cache(value: Any) -> bool:
    return type(value) is _lru_cache_wrapper


def _content_of(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # nothing yet
        return ()
