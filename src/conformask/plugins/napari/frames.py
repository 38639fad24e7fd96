"""Image layers as images: each time point is one image, read window by window when it is scored."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from napari.layers import Image

from conformask.arithmetic import window_index
from conformask.calibration import ScoredBatch
from conformask.data.formats.format import SourceImage
from conformask.data.formats.header import DataRange, Header, Places, bits_of, range_of
from conformask.data.memory import zeros_on_disk
from conformask.data.rasters import Raster
from conformask.data.rows import Role
from conformask.deployment.scored_image import ScoredImage
from conformask.deployment.whole import (
    WholeImage,
    check_whole,
    facts_of,
    finish_score,
    parts_of_score,
    shape_of_score,
    windows_of,
)
from conformask.errors import MismatchError
from conformask.masker.masker import Masker
from conformask.plugins.napari.layers import Index, finest_array
from conformask.plugins.napari.register import size_of
from conformask.records.domain import Domain
from conformask.records.reading import PLAIN
from conformask.records.size import Size
from conformask.storage.as_arrays import Array
from conformask.types import Score

RGB = 3
"""Number of channels of a layer that is shown in colour; its opacity is not read."""


@dataclass(frozen=True)
class Frames:
    """The images of a layer, at its finest resolution: one for each place along the axes before the last."""

    layer: Image
    dimensions: int
    """Number of axes of an image: 2 or 3."""

    def __post_init__(self) -> None:
        if self.layer.ndim < self.dimensions:
            raise MismatchError(
                f"layer {self.layer.name!r} has {self.layer.ndim} axes, but the calibration images have "
                f"{self.dimensions} spatial axes; choose a layer of volumes, or a run for planes"
            )

    @property
    def lead(self) -> Size:
        """Number of images along each axis before the spatial ones."""
        return tuple(finest_array(self.layer).shape[: self.layer.ndim - self.dimensions])

    @property
    def size(self) -> Size:
        """Size of an image, (H, W) or (D, H, W)."""
        return size_of(self.layer, self.dimensions)

    def raster(self, index: Index, role: Role, card: Domain, data_range: DataRange | None) -> Raster:
        """Return one image as a raster, without reading it.

        Raises:
            ImageError: the layer holds neither integers nor floats.
            MismatchError: integers whose type or range differs from the calibration.
        """
        plain = self.plain_raster(index)
        if data_range is None:
            return replace(plain, reading=card.reading_of(role, np.dtype(finest_array(self.layer).dtype)))
        reading = replace(card.reading, data_range=data_range, turned=role in card.turned)
        return replace(plain, reading=reading.of(role))

    def plain_raster(self, index: Index) -> Raster:
        """Return one image, such as a map beside y_hat, with the values of the layer, without reading it.

        Raises:
            ImageError: the layer holds neither integers nor floats.
        """
        name = f"layer {self.layer.name!r}" + (f" at {', '.join(map(str, index))}" if index else "")
        array = finest_array(self.layer)
        dtype = np.dtype(array.dtype)
        channels = RGB if self.layer.rgb else 1
        header = Header(channels, self.size, bits_of(dtype), range_of(dtype, name))

        def read_window(places: Places) -> Array:
            values = np.asarray(array[(*index, *places)])
            return values[..., :RGB] if self.layer.rgb else values

        return Raster(name, header, PLAIN, read_window)


def images_of(
    masker: Masker, x: Image, y_hat: Image, data_range: DataRange | None, cues: Image | None = None
) -> list[WholeImage]:
    """Return the images of layers in order, checked as far as possible without reading them.

    Args:
        masker: the masker that is to mask them.
        x: the layer of the inputs.
        y_hat: the layer of the network's outputs, with as many images.
        data_range: the values that become 0 and 1; if None, those of the calibration, or of the type.
        cues: the layer of the maps beside y_hat, of its size, if the score is read from them.

    Raises:
        MismatchError: the layers have other axes or channels than the masker takes, or differ in number.
        ImageError: they hold neither integers nor floats, or the maps have another size than y_hat.
        InvalidArgumentError: images too large for what the promise has to know about them.
    """
    layers = (x, y_hat) if cues is None else (x, y_hat, cues)
    inputs, outputs, *maps = (Frames(layer, len(masker.card.sizes[0])) for layer in layers)
    for other in (inputs, *maps):
        if other.lead != outputs.lead:
            raise MismatchError(
                f"layer {other.layer.name!r} has {other.lead} images along its first axes, but layer "
                f"{y_hat.name!r} has {outputs.lead}: each output needs its own"
            )
    images = [
        _image(inputs, outputs, index, masker.card, data_range, *maps) for index in np.ndindex(outputs.lead)
    ]
    masker.card.check_shape(images[0].y_hat.header.shape, f"{images[0].name}: ")
    check_whole(masker, images[0])
    return images


def _image(
    inputs: Frames, outputs: Frames, index: Index, card: Domain, data_range: DataRange | None, *maps: Frames
) -> WholeImage:
    x, y_hat = inputs.raster(index, "x", card, data_range), outputs.raster(index, "y_hat", card, data_range)
    under, cues = SourceImage(None, None, y_hat.reading), (frames.plain_raster(index) for frames in maps)
    return WholeImage(y_hat.name, x, y_hat, None, None, None, under, *cues)


def score_images(masker: Masker, images: Sequence[WholeImage]) -> Generator[int, None, list[ScoredImage]]:
    """Score images of one size into one temporary file; yield, at each tile, the total number of tiles.

    Raises:
        ImageError: values outside the range, NaN or infinity; the message says where.
        OutputError: the disk has no room for the scores.
    """
    _, *shape = shape_of_score(masker, images[0])
    scores = zeros_on_disk(f"the score of {images[0].name}", (len(images), *shape))
    total = len(images) * len(windows_of(masker, images[0]))
    for index, image in enumerate(images):
        for window, part in parts_of_score(masker, image):
            scores[index : index + 1][window_index(window)] += part
            yield total
        finish_score(masker, image, scores[index : index + 1])
    return [_scored_image(masker, image, scores[index : index + 1]) for index, image in enumerate(images)]


def _scored_image(masker: Masker, image: WholeImage, score: Array) -> ScoredImage:
    return ScoredImage(ScoredBatch(facts_of(masker, image), Score(torch.from_numpy(score))), image.y_hat.size)
