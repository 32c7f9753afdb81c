"""What the tests of structures share."""

import pytest

from nnmagic.structure.meta_cache import META_CACHE


@pytest.fixture
def nothing_remembered():
    """Begin as a fresh session does."""
    META_CACHE.clear()
