"""Triplets as training takes them."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from conformask.data.triplets import Triplets
from conformask.records.domain import Size
from conformask.training.memory import Remembered
from conformask.types import Triplet


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
