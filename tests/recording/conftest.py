"""What each test of a recording sees to."""

import sys

import pytest
from torch import nn


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """See to it that torch is as it was."""
    call, limit = nn.Module.__call__.__code__, sys.getrecursionlimit()
    hooks = dict(nn.modules.module._global_forward_hooks)
    yield
    assert nn.Module.__call__.__code__ is call
    assert sys.getrecursionlimit() == limit
    assert dict(nn.modules.module._global_forward_hooks) == hooks
