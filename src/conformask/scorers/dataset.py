"""Triplets as training takes them."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from conformask.data.triplets import Triplets
from conformask.records.curves import Curves
from conformask.records.domain import Size
from conformask.training.memory import Remembered
from conformask.types import Array, Triplet


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

    def __init__(self, triplets: Triplets, crop: Size, seed: int = 0) -> None:
        self.seed = seed
        self.crop = crop
        self._n = len(triplets)
        self._read = Remembered(lambda index: _tensors(triplets[index]))

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        images = self._read(index % self._n)
        generator = np.random.default_rng((self.seed, index))
        sides = zip(images[1].shape[1:], self.crop, strict=True)
        starts = [int(generator.integers(side - crop + 1)) for side, crop in sides]
        part = tuple(slice(s, s + crop) for s, crop in zip(starts, self.crop, strict=True))
        return tuple(image[:, *part] for image in images)


def _tensors(triplet: Triplet) -> tuple[Tensor, ...]:
    x, y_hat, y = map(torch.from_numpy, (triplet.x, triplet.y_hat, triplet.truth()))
    return _enlarged(x, y_hat), y_hat, y


def _enlarged(x: Tensor, y_hat: Tensor) -> Tensor:
    if x.shape[1:] == y_hat.shape[1:]:
        return x
    return F.interpolate(x[None], size=y_hat.shape[1:], mode="bilinear")[0]
