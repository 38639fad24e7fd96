"""An image that was scored once, and the masks that a masker gives it at any setting."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from conformask.arithmetic import window_index
from conformask.calibration import ScoredBatch
from conformask.data.mask_files import grid
from conformask.masker.masker import Masker
from conformask.masks.mask_family import Family
from conformask.records.size import Size
from conformask.scorers.tiled import Places as Window
from conformask.storage.as_arrays import Array


@dataclass(frozen=True)
class ScoredImage:
    """An image with its score."""

    item: ScoredBatch
    """Batch of one image and its score, for rules and families; without pixels where these stay in files.

    Its region is the one that the promise is about; None where the promise is about the whole image.
    """
    size: Size
    """Size of the image, (H, W) or (D, H, W)."""

    @cached_property
    def region_share(self) -> float:
        """Share of the image's pixels in the region that the promise is about; 1 without a region."""
        region = self.item.batch.region
        return 1.0 if region is None else float(region.cpu().numpy().mean(dtype=np.float64))

    @property
    def deep(self) -> Size:
        """Size (D, H, W), with D = 1 for a plane."""
        return (1, *self.size)[-3:]


@dataclass(frozen=True)
class MaskLevel:
    """Mask of an image at one lambda: its level and its size."""

    lam: float
    level: tuple[float, ...]
    """Level, as the family's apply takes it."""
    size: float
    """Mask size, mean(1 - m), in the region that the promise is about."""


def mask_level(masker: Masker, image: ScoredImage) -> MaskLevel:
    """Return lambda, level and mask size that the masker gives an image.

    Raises:
        InvalidArgumentError: its promise needs a weight or category that the image does not have.
    """
    lam, level = level_of(masker, image)
    return MaskLevel(lam, tuple(level[0].tolist()), mask_size_of(masker.family, image, level))


def level_of(masker: Masker, image: ScoredImage) -> tuple[float, Tensor]:
    """Return the lambda of an image, and the family's level for it, from the whole score."""
    score = image.item.score.map
    lam = torch.as_tensor(masker.lambdas(image.item), device=score.device)
    return float(lam[0]), masker.family.level(score, lam)


def mask_size_of(family: Family, image: ScoredImage, level: Tensor) -> float:
    """Return mean(1 - m) in the region that the promise is about, computed block by block."""
    return mask_size_by_planes(image, trusted_shares(family, image, level)[0])


def mask_size_by_planes(image: ScoredImage, trusted: Array) -> float:
    """Return mean(1 - m) in the region that the promise is about, from the shown shares along one axis."""
    return float(1 - trusted.mean()) / image.region_share


def trusted_shares(family: Family, image: ScoredImage, level: Tensor) -> tuple[Array, Array, Array]:
    """Return the mean of the mask in each plane across z, y and x, by blocks; outside a region it is 1."""
    z, y, x = (np.zeros(side) for side in image.deep)
    region = image.item.batch.region
    for window, mask in masks_of(family, image, level):
        if region is not None:
            mask = 1 - region[window_index(window)].reshape(1, *mask.shape[1:]) * (1 - mask)
        for axis, (sums, places) in enumerate(zip((z, y, x), add_depth(window), strict=True), start=1):
            other_axes = tuple(other for other in range(4) if other != axis)
            sums[places] += mask.sum(dim=other_axes, dtype=torch.float64).cpu().numpy()
    values = image.item.score.map.numel()
    return z * len(z) / values, y * len(y) / values, x * len(x) / values


def masks_of(family: Family, image: ScoredImage, level: Tensor) -> Iterator[tuple[Window, Tensor]]:
    """Yield each block of the mask, (C, D, H, W), with its place."""
    for window in grid(image.size):
        (mask,) = family.apply(image.item.score.map[window_index(window)], level)
        yield window, mask.reshape(len(mask), *(1, *mask.shape[1:])[-3:])


def add_depth(window: Window) -> Window:
    """Return the window with three axes, the first one plane deep if it has only two."""
    return (slice(0, 1), *window)[-3:]
