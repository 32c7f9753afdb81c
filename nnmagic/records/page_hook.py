"""What makes a page of its own of a record: the package sets it, for no record knows the widget."""

from collections.abc import Callable
from typing import Any

page_of: Callable[[Any], str]
"""Returns the page of a record as HTML."""
