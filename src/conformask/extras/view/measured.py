"""What is measured of an image in the viewer: hidden shares, its loss with and without a mask."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from conformask.arrays import Array, window_index
from conformask.errors import InvalidArgumentError
from conformask.extras.view.viewed_image import ViewedImage
from conformask.images.read import image_ids
from conformask.masker.guards import has_theorem
from conformask.masker.masker import Masker
from conformask.masker.measure import SHARES, risk_curves
from conformask.masker.whole import IN_MEMORY, ScoredImage, add_depth, level_of, masks_of
from conformask.masks.critical import unmasked_loss
from conformask.masks.family import Family
from conformask.records.record import Json


@dataclass(frozen=True)
class ImageLosses:
    """Loss of an image, and whether it is within the threshold."""

    loss: float
    """Loss under the mask."""
    unmasked: float
    met: bool


def is_measurable(masker: Masker, image: ViewedImage) -> bool:
    """Return whether the loss of an image is computed; for images in files only an lp distance, by blocks."""
    if "truth" not in image.sources or (masker.card.loss.regional and "region" not in image.sources):
        return False
    if not has_theorem(masker.card.promise, masker.loss, image.reference):
        return False
    return image.in_memory or _exponent(masker) is not None


def truth_id(image: ViewedImage) -> str:
    """Return the hash by which the truth of an image is recognised; "" if it is too large for one pass."""
    if math.prod(image.size) > IN_MEMORY:
        return ""
    y = image.sources["truth"].read(tuple(map(slice, image.deep)))
    return str(image_ids([y.reshape(len(y), *image.size)])[0])


def risk_of(image: ViewedImage) -> dict[str, Json] | None:
    """Return the error that is left at hidden shares, by the score and at best; None if it is not known."""
    item = image.item
    if not image.in_memory or item.y is None:
        return None
    curves = risk_curves(item.score.map, item.y, item.y_hat, item.layers.get("region"))
    by_score, best = curves[0].tolist()
    return {"shares": SHARES, "by_score": by_score, "best": best}


def losses_of(masker: Masker, image: ViewedImage) -> ImageLosses:
    """Return the loss of an image, masked and unmasked."""
    if image.in_memory:
        masked, unmasked = loss_of(masker, image), float(unmasked_loss(masker.loss, image.item)[0])
    else:
        masked, unmasked = _measure_by_blocks(masker, image)
    return ImageLosses(masked, unmasked, met=bool(masker.within(np.array(masked))))


def loss_of(masker: Masker, image: ViewedImage) -> float:
    """Return the loss of an image with truth under its mask."""
    loss = masker.judge(image.item).loss if image.in_memory else None
    return _measure_by_blocks(masker, image)[0] if loss is None else float(loss[0])


def _exponent(masker: Masker) -> float | None:
    """Return p if the loss of an image, or of its region, is summed over blocks; else None."""
    return masker.loss.in_regions(False).exponent_by_blocks


def _measure_by_blocks(masker: Masker, image: ViewedImage) -> tuple[float, float]:
    exponent = _exponent(masker)
    if exponent is None:
        raise InvalidArgumentError(
            "the loss of an image that is too large for memory is computed for lp distances only"
        )
    y, y_hat, region = image.sources["truth"], image.sources["output"], image.sources.get("region")
    masked = unmasked = values = 0.0
    for window, mask in masks_of(masker.family, image.item.score.map, level_of(masker, image.item)[1]):
        error = np.abs(y.read(add_depth(window)).astype(np.float64) - y_hat.read(add_depth(window)))
        inside = np.ones_like(error) if region is None else region.read(add_depth(window))
        masked += float((inside * (error * mask.cpu().numpy()) ** exponent).sum())
        unmasked += float((inside * error**exponent).sum())
        values += len(error) * float(inside[:1].sum(dtype=np.float64))
    return masked / values, unmasked / values


@dataclass(frozen=True)
class MaskLevel:
    """Mask of an image at one lambda: its level and its size."""

    lam: float
    level: tuple[float, ...]
    """Level, as the family's apply takes it."""
    size: float
    """Mask size, mean(1 - m), in the region that the promise is about."""


def mask_level(masker: Masker, image: ScoredImage) -> MaskLevel:
    """Return lambda, level and mask size that the masker gives an image."""
    lam, level = level_of(masker, image.item)
    return MaskLevel(lam, tuple(level[0].tolist()), mask_size_of(masker.family, image, level))


def mask_size_of(family: Family, image: ScoredImage, level: Tensor) -> float:
    """Return mean(1 - m) in the region that the promise is about, computed block by block."""
    return mask_size_by_planes(image, trusted_shares(family, image, level)[0])


def mask_size_by_planes(image: ScoredImage, trusted: Array) -> float:
    """Return mean(1 - m) in the region that the promise is about, from the shown shares along one axis."""
    return float(1 - trusted.mean()) / image.region_share


def trusted_shares(family: Family, image: ScoredImage, level: Tensor) -> tuple[Array, Array, Array]:
    """Return the mean of the mask in each plane across z, y and x, by blocks; outside a region it is 1."""
    z, y, x = (np.zeros(side) for side in image.deep)
    score, region = image.item.score.map, image.item.layers.get("region")
    for window, mask in masks_of(family, score, level):
        if region is not None:
            mask = 1 - region[window_index(window)].reshape(1, *mask.shape[1:]) * (1 - mask)
        for axis, (sums, places) in enumerate(zip((z, y, x), add_depth(window), strict=True), start=1):
            other_axes = tuple(other for other in range(4) if other != axis)
            sums[places] += mask.sum(dim=other_axes, dtype=torch.float64).cpu().numpy()
    values = score.numel()
    return z * len(z) / values, y * len(y) / values, x * len(x) / values
