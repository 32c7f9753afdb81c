"""The lanes of the widget in a real page: lit up under the pointer, followed by keys, folded."""

import pytest
from lab import notebook_of
from widget_page import LOAD, visit
from widget_uses import assert_lanes_were_followed, light_up_follow_and_fold

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RESIDUAL = """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
    def forward(self, x):
        return self.b(self.a(x)) + x
net = nn.Sequential(nn.Linear(4, 4), Block(), nn.Linear(4, 4))
x = torch.rand(2, 4)
t = %nntrace --ops net(x)
t
"""


def test_lanes_light_up_and_are_followed_and_fold(lab, tmp_path):
    def look(page):
        return light_up_follow_and_fold(page.locator(".nnmagic"))

    found = visit(lab, notebook_of(tmp_path, LOAD, RESIDUAL), look)

    assert_lanes_were_followed(found)
