"""The network of the PyTorch tutorial "Build the Neural Network", its input and its pictures."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SEED = 0


class NeuralNetwork(nn.Module):
    """The FashionMNIST network: scores of ten classes for pictures of 28 by 28 points.

    It has 669,706 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(28 * 28, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores of the classes.

        Args:
            images: float, (batch, 28, 28) or (batch, 1, 28, 28), values in [0, 1].

        Returns:
            Logits: float, (batch, 10).
        """
        return self.linear_relu_stack(self.flatten(images))


def default_device() -> torch.device:
    """Return the accelerator, if there is one (cuda, mps), else the CPU."""
    accelerator = None
    if torch.accelerator.is_available():  # torch 2.6 raises where there is none to name
        accelerator = torch.accelerator.current_accelerator()
    return accelerator or torch.device("cpu")


@cache
def _drawn() -> tuple[NeuralNetwork, Tensor]:
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with (
            torch.inference_mode(False),
            torch.random.fork_rng(devices=[]),
            torch.device("cpu"),
        ):
            torch.default_generator.manual_seed(SEED)
            return NeuralNetwork(), torch.rand(1, 28, 28)
    finally:
        torch.set_default_dtype(usual)


@cache
def default_network() -> NeuralNetwork:
    """Return the FashionMNIST network, the same one through the whole session.

    Its weights are drawn with seed 0, without a change to the session's random state. It is on the
    accelerator, if there is one, until it is moved.
    """
    return _drawn()[0].to(default_device())


def default_input() -> Tensor:
    """Return the noise that the default network is shown on: float32, (1, 28, 28), in [0, 1).

    It is drawn after the network, from the same generator, and stands on the network's device.
    """
    return _drawn()[1].to(next(default_network().parameters()).device)


def forget_default_network() -> None:
    """Let the next call draw the default network anew."""
    default_network.cache_clear()
    _drawn.cache_clear()


def pictures_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the data set's folder: the argument, else $NNMAGIC_DATA, else the user's cache."""
    if root is not None:
        return Path(root).expanduser()
    if os.environ.get("NNMAGIC_DATA"):
        return Path(os.environ["NNMAGIC_DATA"]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "nnmagic"


def fashion_mnist(
    root: str | os.PathLike[str] | None = None, train: bool = False, download: bool = False
) -> Any:
    """Return the Fashion-MNIST pictures as the tutorial loads them.

    Args:
        root: the folder that holds `FashionMNIST/raw`; default: $NNMAGIC_DATA, else the user's
            cache folder.
        train: the 60,000 pictures to train on in place of the 10,000 to test on.
        download: fetch the data set if it is not there; without it nothing is ever fetched.

    Returns:
        `torchvision.datasets.FashionMNIST`: pairs of a picture, float32, (1, 28, 28), values in
        [0, 1], and the index of its class; `.classes` holds the names of the ten classes.

    Raises:
        FileNotFoundError: if the pictures are not there and `download` is false.
    """
    from torchvision.datasets import FashionMNIST
    from torchvision.transforms import ToTensor

    folder = pictures_root(root)
    try:
        return FashionMNIST(folder, train=train, transform=ToTensor())
    except RuntimeError as error:
        if download:
            return FashionMNIST(folder, train=train, transform=ToTensor(), download=True)
        raise FileNotFoundError(
            f"no Fashion-MNIST pictures in {folder}; call nnmagic.fashion_mnist(download=True) "
            f"to fetch them, or set NNMAGIC_DATA to the folder that holds FashionMNIST/raw"
        ) from error


def are_on_disk(root: str | os.PathLike[str] | None = None) -> bool:
    """Tell whether the pictures to test on are there, without loading anything."""
    raw = pictures_root(root) / "FashionMNIST" / "raw"
    return any((raw / f"t10k-images-idx3-ubyte{end}").exists() for end in ("", ".gz"))
