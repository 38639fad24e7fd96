"""Triplets as training takes them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from conformask.data.images import is_constant, pixel_hash
from conformask.data.triplets import Triplets
from conformask.errors import InvalidArgumentError
from conformask.progress import tracked
from conformask.results import Curves
from conformask.training.memory import Remembered
from conformask.types import Array, Triplet


@dataclass(frozen=True)
class Survey:
    """What one look at every training image found."""

    channels: int
    x_channels: int
    sizes: tuple[tuple[int, int], ...]
    hashes: tuple[str, ...]
    """Pixel hashes of the truths; constant images are exempt."""

    @property
    def smallest(self) -> tuple[int, int]:
        """The largest crop that fits into every image."""
        return min(h for h, _ in self.sizes), min(w for _, w in self.sizes)


def survey(triplets: Triplets, title: str = "reading images") -> Survey:
    """Look at every triplet once, before hours of work.

    Raises:
        ImageError: an image cannot be used, or its channels differ from the first's.
        InvalidArgumentError: the truth is not known.
    """
    if not triplets.has_truth:
        raise InvalidArgumentError("these triplets have no y: the truth is needed here (a folder y/)")
    sizes, hashes = set(), []
    for triplet in tracked(triplets.checked(), title, len(triplets)):
        height, width = triplet.y_hat.shape[1:]
        sizes.add((height, width))
        if not is_constant(triplet.truth()):
            hashes.append(pixel_hash(triplet.truth()))
    return Survey(len(triplet.y_hat), len(triplet.x), tuple(sorted(sizes)), tuple(hashes))


def columns_of(triplets: Triplets) -> dict[str, Array | None]:
    """group, category and weight of the triplets; None for what they do not have."""
    category, weight = triplets.categories, triplets.weights
    return {
        "group": np.array(triplets.groups),
        "category": None if None in category else np.array(category),
        "weight": None if None in weight else np.array(weight, dtype=np.float64),
    }


def labelled(curves: Curves, triplets: Triplets) -> Curves:
    """The curves of these triplets with their columns, but for those that the curves have already."""
    columns: dict[str, Any] = columns_of(triplets)
    return replace(curves, **{name: columns[name] for name in columns if getattr(curves, name) is None})


class TripletDataset(torch.utils.data.Dataset[tuple[Tensor, ...]]):
    """(x at y_hat's size, y_hat, y), cropped to one size where images differ.

    An index names an image, modulo their number, and the crop: each epoch counts on.
    """

    def __init__(self, triplets: Triplets, crop: tuple[int, int], seed: int = 0) -> None:
        self.seed = seed
        self.crop = crop
        self._n = len(triplets)
        self._read = Remembered(lambda index: _tensors(triplets[index]))

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        images = self._read(index % self._n)
        generator = np.random.default_rng((self.seed, index))
        height, width = self.crop
        top, left = (
            int(generator.integers(s - c + 1)) for s, c in zip(images[1].shape[1:], self.crop, strict=True)
        )
        return tuple(image[:, top : top + height, left : left + width] for image in images)


def _tensors(triplet: Triplet) -> tuple[Tensor, ...]:
    x, y_hat, y = map(torch.from_numpy, (triplet.x, triplet.y_hat, triplet.truth()))
    return _enlarged(x, y_hat), y_hat, y


def _enlarged(x: Tensor, y_hat: Tensor) -> Tensor:
    if x.shape[1:] == y_hat.shape[1:]:
        return x
    return F.interpolate(x[None], size=y_hat.shape[1:], mode="bilinear")[0]
