import pytest
import torch

import nnmagic
from nnmagic.tutorial import forget_default_network, pictures_root


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


def test_pictures_are_loaded_from_the_data_folder(pictures):
    test, train = nnmagic.fashion_mnist(), nnmagic.fashion_mnist(train=True)

    image, label = test[0]
    assert (image.shape, image.dtype) == ((1, 28, 28), torch.float32)
    assert 0 <= image.min() <= image.max() <= 1
    assert test.classes[label] in train.classes
    assert len(train.classes) == 10
    assert len(train) > len(test)


def test_an_argument_comes_before_the_environment(pictures, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"call nnmagic.fashion_mnist\(download=True\)"):
        nnmagic.fashion_mnist(tmp_path / "nothing")


def test_the_root_is_the_argument_the_environment_or_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("NNMAGIC_DATA", "/data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert str(pictures_root("here")) == "here"
    assert str(pictures_root()) == "/data"
    monkeypatch.delenv("NNMAGIC_DATA")
    assert pictures_root() == tmp_path / "nnmagic"
