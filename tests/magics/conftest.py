"""What most tests of the magics have in their session."""

import pytest


@pytest.fixture
def net(session):
    """A network of two linear layers, also under this name in the session."""
    session.run(
        "torch.manual_seed(0)\n"
        "net = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 10))"
    )
    return session["net"]
