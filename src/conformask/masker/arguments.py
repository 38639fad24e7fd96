"""What a user gives to a masker: images as batches in [0, 1], and the facts that its rule needs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arrays import NO_LAYERS, Array, Batch, Images, Triplet, Weigh
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, chosen, warn
from conformask.images.formats import DataRange
from conformask.images.layers import LAYERS
from conformask.images.read import Image, image_and_header, open_raster
from conformask.images.rows import TripletRow
from conformask.images.triplets import stacked
from conformask.masker.admission import Admission
from conformask.masks.critical import features_of
from conformask.promises.order import SLACK, ImageCovariates
from conformask.records.card import KINDS, CalibrationCard
from conformask.records.reading import Reading

UNIT = (0.0, 1.0)
"""The range of images inside conformask."""


def given(
    card: CalibrationCard,
    x: Tensor | Array | Triplet,
    y_hat: Tensor | Array | None,
    layers: Mapping[str, Tensor | Array | None] = NO_LAYERS,
    **facts: Sequence[str] | Sequence[float] | None,
) -> Batch:
    """Return what a call is given as a batch, x (N, Cx, *space) and y_hat (N, C, *space) in [0, 1].

    Args:
        card: of the masker; arrays and tensors are read as its calibration images were.
        x: a tensor of floats (N, Cx, *space), an array (*space) or (*space, Cx), or a Triplet, which has all.
        y_hat: the network's output, of the same kind; None with a Triplet.
        layers: what lies beside them, by name, of the same kind; None for what does not.
        facts: weight and category of each image, where they are known.
    """
    if isinstance(x, Triplet):
        if y_hat is not None:
            raise InvalidArgumentError("x is a Triplet, which has y_hat: give it alone")
        card.check_shape(x.y_hat.shape)
        return stacked([x])
    if y_hat is None or isinstance(x, Tensor) != isinstance(y_hat, Tensor):
        raise InvalidArgumentError("x and y_hat must both be tensors or both be arrays")
    ranges = own_ranges(card, x, y_hat)
    inputs, outputs = batch_of(card, "x", x, ranges), batch_of(card, "y_hat", y_hat, ranges)
    if len(inputs) != len(outputs) or not len(inputs):
        raise InvalidArgumentError(
            f"x has {len(inputs)} images, but y_hat has {len(outputs)}: give the same number, at least 1"
        )
    beside = {
        name: layer_of(card, name, layer, outputs) for name, layer in layers.items() if layer is not None
    }
    return in_batch(inputs, outputs, beside, **facts)


def in_batch(
    x: Images,
    y_hat: Images,
    layers: Mapping[str, Tensor | None],
    **facts: Sequence[str] | Sequence[float] | None,
) -> Batch:
    """Return images without names as a batch, with their layers, and with the facts that are known."""
    names = ("this image",) if len(x) == 1 else tuple(f"image {index}" for index in range(len(x)))
    for name, values in facts.items():
        if values is not None and np.shape(values) != (len(x),):
            raise InvalidArgumentError(
                f"{name}={values!r}: give a sequence with one {name} for each of {len(x)} images"
            )
    known = {name: tuple(values) for name, values in facts.items() if values is not None}
    beside = {name: layer for name, layer in layers.items() if layer is not None}
    return Batch(names, x, y_hat, None, beside, known)


def layer_of(card: CalibrationCard, name: str, layer: Tensor | Array, y_hat: Images) -> Tensor:
    """Return a layer of these outputs, an array or a tensor (N, K, *space), as a batch."""
    kind = chosen(LAYERS, name, "layer")
    if isinstance(layer, Tensor):
        values = layer.detach().float()
        kind.check(values.cpu().numpy(), f"{name}=")
        return values
    image = y_hat[0].numpy()
    row = TripletRow("this image", image, image, layers={name: layer})
    triplet = kind.add(row, Triplet(row.name, image, image), card.reading)
    return torch.from_numpy(triplet.layers[name])[None]


def own_ranges(card: CalibrationCard, x: Tensor | Array, y_hat: Tensor | Array) -> list[DataRange]:
    """Return the range of each image, where each has its own; empty where all have one range."""
    role = card.read.source_of_range
    if role is None:
        return []
    images = x if role == "x" else y_hat
    if not isinstance(images, Tensor):
        return [open_raster(images, card.reading_of(role, images.dtype), role).own_range()]
    arrays = (np.moveaxis(image.detach().float().cpu().numpy(), 0, -1) for image in images)
    axes = "ZYXC"[-len(card.sizes[0]) - 1 :]
    return [open_raster(array, Reading(axes=axes), role).own_range() for array in arrays]


def batch_of(
    card: CalibrationCard, role: str, image: Tensor | Array, ranges: Sequence[DataRange] = ()
) -> Images:
    """Return x, y_hat or y, an array or a tensor (N, C, *space), as a batch in [0, 1], without gradients.

    `ranges` are those of `own_ranges`.
    """
    if ranges:
        cards = [replace(card, read=card.read.settled(each)) for each in ranges]
        parts = [each[None] for each in image] if isinstance(image, Tensor) else [image]
        return torch.cat([batch_of(own, role, part) for own, part in zip(cards, parts, strict=False)])
    if not isinstance(image, Tensor):
        return torch.from_numpy(image_of(card, role, image))[None]
    if not image.is_floating_point():
        raise ImageError(f"{role} is a tensor of {image.dtype}: give floats, such as {role}.float() / 255")
    axes = ("N", "C", *"DHW"[-len(card.sizes[0]) :])
    if image.ndim != len(axes):
        if image.ndim - 2 in KINDS:
            card.check_shape(image.shape[1:])  # says that volumes are not planes
        raise MismatchError(
            f"{role} has shape {tuple(image.shape)}: give a tensor ({', '.join(axes)}), or an array of one "
            "image"
        )
    reading = card.reading_of(role, np.dtype(np.float32))
    low, high = reading.stated_range or UNIT
    values = image.detach().float()
    unit = values if (low, high) == UNIT else (values - low) / (high - low)
    unit = 1 - unit if reading.inverted else unit
    if reading.clip is not None:
        outside = float(((unit < 0) | (unit > 1)).float().mean())
        _warn_of_clipped(card, role, outside)
    return inside(role, unit if reading.clip is None else unit.clamp(0, 1), (low, high))


def image_of(card: CalibrationCard, role: str, image: Any) -> Image:
    """Return an array, or what numpy makes one of, as x, y_hat or y: (C, *space) in [0, 1]."""
    array = np.asarray(image)
    card.check_axes(role, array.shape)
    reading = card.reading_of(role, array.dtype)
    read, header = image_and_header(array, reading, role)
    _warn_of_clipped(card, role, header.clipped)
    unit: Image = np.nan_to_num(read)
    return unit


def inside(role: str, image: Images, data_range: tuple[float, float] = UNIT) -> Images:
    """Return a batch whose values are in [0, 1]; messages call these `data_range`."""
    if not bool(((image >= -SLACK) & (image <= 1 + SLACK)).all()):
        low, high = data_range
        raise ImageError(f"{role} has values outside [{low:g}, {high:g}], or NaN: scale or clip it first")
    return image


def _warn_of_clipped(card: CalibrationCard, role: str, clipped: float) -> None:
    Admission.of_clipped((role,), [clipped], card.clipped).warn(f"{role}: ")


def covariates(
    item: Batch,
    needs: frozenset[str],
    weigh: Weigh | None,
    calibrated: tuple[float, float] | None,
    bound_curve: Array | None,
) -> ImageCovariates:
    """Return what a rule needs of scored images, whose weights `weigh` computes, if given.

    `calibrated` are the smallest and the largest weight of the calibration images.
    """
    weight, category = item.facts.get("weight"), item.facts.get("category")
    weights = None if weight is None else checked_weights(np.array(weight, np.float64), len(item))
    if "weight" in needs and weigh is not None:
        weights = weights_of(weigh, item)
    if "weight" in needs and weights is not None:
        warn_of_scale(weights, calibrated)
    for name, fact in (("weight", weights), ("category", category)):
        if name in needs and fact is None:
            raise InvalidArgumentError(f"this promise needs the {name} of each image: pass {name}=")
    return ImageCovariates(
        n=len(item),
        weight=weights,
        category=category,
        features=features_of(item.score) if "features" in needs else None,
        bound_curve=bound_curve,
    )


def weights_of(weigh: Weigh, batch: Batch) -> Float[np.ndarray, "n"]:
    """Compute the likelihood ratios of a batch with the user's callable."""
    return checked_weights(weigh(batch.x, batch.y_hat).detach().double().cpu().numpy(), len(batch.names))


def checked_weights(values: Array, n: int) -> Float[np.ndarray, "n"]:
    """Return the values after checking that they are weights of n images."""
    if values.shape != (n,) or not (np.isfinite(values) & (values > 0)).all():
        raise InvalidArgumentError(
            f"weight= must give a finite number above 0 for each of {n} images, "
            f"not {values.shape} values from {values.min():g} to {values.max():g}"
        )
    return values


def warn_of_scale(weights: Float[np.ndarray, "n"], calibrated: tuple[float, float] | None) -> None:
    """Warn of weights outside the range of the calibration's, which may be on another scale."""
    if calibrated is None:
        return
    low, high = calibrated
    outside = weights[(weights < low * (1 - SLACK)) | (weights > high * (1 + SLACK))]
    if outside.size:
        warn(
            f"a weight of {outside[0]:g} is outside the range of the calibration weights, {low:g} to "
            f"{high:g}: weights are known up to a constant factor, which must be the same for both"
        )
