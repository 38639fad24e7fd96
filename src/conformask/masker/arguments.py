"""What a user gives to a masker, arrays, tensors or a triplet, as batches in [0, 1]."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conformask.arrays import Batch, Images, Triplet
from conformask.errors import ConformaskWarning, ImageError, InvalidArgumentError, MismatchError
from conformask.images.layers import check_labels, read_values
from conformask.images.read import Image, image_and_header
from conformask.images.triplets import stacked
from conformask.promises.order import SLACK
from conformask.records.card import KINDS, CalibrationCard
from conformask.records.record import Array
from conformask.records.words import clipped_text

UNIT = (0.0, 1.0)
"""The range of images inside conformask."""


def given(
    card: CalibrationCard,
    x: Tensor | Array | Triplet,
    y_hat: Tensor | Array | None,
    *,
    weight: Sequence[float] | None = None,
    category: Sequence[str] | None = None,
    cues: Tensor | Array | None = None,
    labels: Tensor | Array | None = None,
) -> Batch:
    """Return what a call is given as a batch, x (N, Cx, *space) and y_hat (N, C, *space) in [0, 1].

    Args:
        card: of the masker; arrays and tensors are read as its calibration images were.
        x: a tensor of floats (N, Cx, *space), an array (*space) or (*space, Cx), or a Triplet, which has all.
        y_hat: the network's output, of the same kind; None with a Triplet.
        weight: the weight of each image.
        category: the category of each image.
        cues: the maps beside y_hat, of the same kind.
        labels: the labels of the objects of y_hat, of the same kind.
    """
    if isinstance(x, Triplet):
        if y_hat is not None:
            raise InvalidArgumentError("x is a Triplet, which has y_hat: give it alone")
        card.check_spacing([(x.name, x.geometry)])
        return stacked([x])
    if y_hat is None or isinstance(x, Tensor) != isinstance(y_hat, Tensor):
        raise InvalidArgumentError("x and y_hat must both be tensors or both be arrays")
    inputs, outputs = batch_of(card, "x", x), batch_of(card, "y_hat", y_hat)
    if len(inputs) != len(outputs) or not len(inputs):
        raise InvalidArgumentError(
            f"x has {len(inputs)} images, but y_hat has {len(outputs)}: give the same number, at least 1"
        )
    layers = {"cues": cues, "labels": labels}
    maps = {name: layer_of(card, name, layer) for name, layer in layers.items() if layer is not None}
    return in_batch(inputs, outputs, maps, weight=weight, category=category)


def in_batch(
    x: Images, y_hat: Images, layers: Mapping[str, Tensor], **facts: Sequence[str] | Sequence[float] | None
) -> Batch:
    """Return images without names as a batch, with their layers, and with the facts that are known."""
    names = ("this image",) if len(x) == 1 else tuple(f"image {index}" for index in range(len(x)))
    known = {name: tuple(values) for name, values in facts.items() if values is not None}
    return Batch(names, x, y_hat, None, layers, known)


def batch_of(card: CalibrationCard, role: str, image: Tensor | Array) -> Images:
    """Return x, y_hat or y, an array or a tensor (N, C, *space), as a batch in [0, 1], without gradients."""
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
    low, high = reading.data_range or UNIT
    values = image.detach().float()
    unit = values if (low, high) == UNIT else (values - low) / (high - low)
    unit = 1 - unit if reading.inverted else unit
    if reading.clip is not None:
        outside = float(((unit < 0) | (unit > 1)).float().mean())
        _warn_of_clipped(role, outside, card.clipped)
    return inside(role, unit if reading.clip is None else unit.clamp(0, 1), (low, high))


def image_of(card: CalibrationCard, role: str, image: Any) -> Image:
    """Return an array, or what numpy makes one of, as x, y_hat or y: (C, *space) in [0, 1]."""
    array = np.asarray(image)
    card.check_axes(role, array.shape)
    reading = card.reading_of(role, array.dtype)
    read, header = image_and_header(array, reading, role)
    _warn_of_clipped(role, header.clipped, card.clipped)
    unit: Image = np.nan_to_num(read)
    return unit


def layer_of(card: CalibrationCard, name: str, layer: Tensor | Array) -> Tensor:
    """Return a layer, an array or a tensor (N, K, *space), as a batch with the same values."""
    if isinstance(layer, Tensor):
        maps = layer.detach().float()
    else:
        maps = torch.from_numpy(read_values(layer, card.reading, name))[None]
    if name == "labels":
        check_labels(maps.cpu().numpy(), "labels=")
    return maps


def inside(role: str, image: Images, data_range: tuple[float, float] = UNIT) -> Images:
    """Return a batch whose values are in [0, 1]; messages call these `data_range`."""
    if not bool(((image >= -SLACK) & (image <= 1 + SLACK)).all()):
        low, high = data_range
        raise ImageError(f"{role} has values outside [{low:g}, {high:g}], or NaN: scale or clip it first")
    return image


def _warn_of_clipped(role: str, clipped: float, before: float) -> None:
    text = clipped_text({role: clipped}, before)
    if text is not None:
        warnings.warn(f"{role}: {text}", category=ConformaskWarning, stacklevel=5)
