"""Tab completion: the options of the magics, and the networks in the notebook."""

import re
from typing import Any

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)
from torch import nn

from nnmagic.magics.options import choices_of, takes_value

MAGIC_LINE = re.compile(r"^\s*(?:[\w.]+\s*=\s*)?%%?(nn\w+)\s(.*)$", re.DOTALL)


def completions(shell: Any, magics: dict[str, Any]) -> Any:
    """Return the matcher for IPython that completes what is typed after one of the magics.

    Args:
        shell: the IPython shell.
        magics: the magics' functions by name.
    """

    @context_matcher(identifier="nnmagic")
    def matches(context: CompletionContext) -> SimpleMatcherResult:
        """Return the completions of the word before the cursor."""
        found = MAGIC_LINE.match(context.text_until_cursor)
        if found is None or found[1] not in magics:
            return SimpleMatcherResult(completions=[])
        magic, typed = magics[found[1]], found[2]
        before, _, word = typed.rpartition(" ")
        previous = before.split()[-1] if before.split() else ""
        if word.startswith("-"):
            words = [flag for flag in sorted(takes_value(magic)) if flag.startswith("--")]
        elif previous.startswith("-"):
            words = list(choices_of(magic, previous))
        else:
            names = list(shell.user_ns.items())
            words = [n for n, v in names if isinstance(v, nn.Module) and not n.startswith("_")]
        words = [each for each in words if each.startswith(word)]
        if not words:
            return SimpleMatcherResult(completions=[])
        return SimpleMatcherResult(
            completions=[SimpleCompletion(text=each, type="param") for each in words],
            matched_fragment=word,
            suppress=word.startswith("-") or previous.startswith("-"),
        )

    return matches
