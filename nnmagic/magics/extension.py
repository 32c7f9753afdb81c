"""Loading the magics into an IPython shell, and taking everything away again."""

from typing import Any

from nnmagic.magics.completion import completions
from nnmagic.magics.display import ShownStatements, show_no_widgets, show_widgets
from nnmagic.magics.magics import NNMagics
from nnmagic.tutorial import forget_default_network


def load(shell: Any) -> None:
    """Give the shell the magics, their display as statements, and their completion."""
    shell.register_magics(NNMagics)
    names = frozenset(NNMagics.magics["line"])
    shown = ShownStatements(names)
    shell.ast_transformers.append(shown)
    for event, callback in shown.events.items():
        shell.events.register(event, callback)
    magics = {name: shell.find_magic(name, "line") for name in names}
    shell.Completer.custom_matchers.append(completions(shell, magics))
    show_widgets(shell)


def unload(shell: Any) -> None:
    """Take from the shell all that `load` gave it, and forget the default network."""
    manager = shell.magics_manager
    for kind, magics in NNMagics.magics.items():
        for name in magics:
            manager.magics[kind].pop(name, None)
    manager.registry.pop(NNMagics.__name__, None)
    for shown in [each for each in shell.ast_transformers if isinstance(each, ShownStatements)]:
        shell.ast_transformers.remove(shown)
        for event, callback in shown.events.items():
            shell.events.unregister(event, callback)
    matchers = shell.Completer.custom_matchers
    matchers[:] = [
        each for each in matchers if getattr(each, "matcher_identifier", "") != "nnmagic"
    ]
    show_no_widgets(shell)
    forget_default_network()
