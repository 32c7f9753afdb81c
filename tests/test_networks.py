import torch

import nnmagic
from nnmagic.networks import forget_default_network


def test_the_default_network_is_the_tutorials_drawn_with_seed_0():
    forget_default_network()
    torch.manual_seed(7)
    state = torch.get_rng_state()

    network, image = nnmagic.default_network(), nnmagic.default_input()

    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(0)
    expected, noise = nnmagic.NeuralNetwork(), torch.rand(1, 28, 28)
    assert torch.equal(image.cpu(), noise)
    for name, parameter in expected.named_parameters():
        assert torch.equal(network.get_parameter(name).cpu(), parameter)


def test_the_default_network_is_the_same_through_the_session():
    network = nnmagic.default_network()

    assert nnmagic.default_network() is network
    forget_default_network()
    assert nnmagic.default_network() is not network


def test_the_default_network_has_the_published_size():
    network = nnmagic.default_network()

    assert sum(p.numel() for p in network.parameters()) == 669_706
    assert network(nnmagic.default_input()).shape == (1, 10)
