"""The Fashion-MNIST pictures, where they are on disk."""

import os
from pathlib import Path
from typing import Any


def pictures_root(root: str | os.PathLike | None = None) -> Path:
    """Return the data set's folder: the argument, else $NNMAGIC_DATA, else the user's cache."""
    if root is not None:
        return Path(root).expanduser()
    if os.environ.get("NNMAGIC_DATA"):
        return Path(os.environ["NNMAGIC_DATA"]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "nnmagic"


def fashion_mnist(
    root: str | os.PathLike | None = None, train: bool = False, download: bool = False
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


def are_on_disk(root: str | os.PathLike | None = None) -> bool:
    """Tell whether the pictures to test on are there, without loading anything."""
    raw = pictures_root(root) / "FashionMNIST" / "raw"
    return any((raw / f"t10k-images-idx3-ubyte{end}").exists() for end in ("", ".gz"))
