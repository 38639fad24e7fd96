"""Triplets as a torch dataset for training."""

import math

import numpy as np
import torch
from torch import Tensor

from conformask.arithmetic import resized
from conformask.data.triplets import Triplets
from conformask.records.size import Size
from conformask.training.loading import CachedReader

CROP = 2**15
"""Largest number of pixels in a crop of a volume."""
THICK = 16
"""Largest number of slices in a crop of a volume."""


class TripletDataset(torch.utils.data.Dataset[tuple[Tensor, ...]]):
    """(x at y_hat's size, y_hat, y), maps if asked for, the noise of y if known; crops of one size.

    An index stands for an image, modulo their number, and for a random crop of it: indices count on from
    epoch to epoch. A volume gives as many crops as would fill the smallest volume.
    """

    def __init__(self, triplets: Triplets, smallest: Size, seed: int = 0, *, cues: bool = False) -> None:
        self.seed = seed
        self._cues = cues
        self.crop = crop_of(smallest)
        self._n = len(triplets)
        self._crops = math.ceil(math.prod(smallest) / math.prod(self.crop))
        self._triplets = triplets
        self._read = CachedReader(self._tensors)

    def __len__(self) -> int:
        return self._n * self._crops

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        images = self._read(index % self._n)
        generator = np.random.default_rng((self.seed, index))
        sides = zip(images[1].shape[1:], self.crop, strict=True)
        starts = [int(generator.integers(side - crop + 1)) for side, crop in sides]
        part = tuple(slice(s, s + crop) for s, crop in zip(starts, self.crop, strict=True))
        return tuple(image[:, *part] for image in images)

    def _tensors(self, index: int) -> tuple[Tensor, ...]:
        triplet = self._triplets[index]
        x, y_hat, y = map(torch.from_numpy, (triplet.x, triplet.y_hat, triplet.truth()))
        more = [triplet.cues if self._cues else None, triplet.noise]
        others = [torch.from_numpy(image) for image in more if image is not None]
        return resized(x[None], y_hat[None])[0], y_hat, y, *others


def crop_of(smallest: Size) -> Size:
    """Return the size of a training crop: whole planes; of volumes at most THICK slices and CROP pixels."""
    if len(smallest) == 2:
        return smallest
    depth = min(smallest[0], THICK)
    side = math.isqrt(CROP // depth) // 8 * 8
    height, width = (min(length, side) for length in smallest[1:])
    return depth, min(smallest[1], CROP // (depth * width)), min(smallest[2], CROP // (depth * height))
