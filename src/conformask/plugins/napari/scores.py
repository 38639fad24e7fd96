"""A pair of layers that was scored once: its masks at any setting, and the slider of its threshold."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import dask.array as da
import numpy as np
from napari.layers import Image
from torch import Tensor

from conformask.arithmetic import window_index
from conformask.data.formats.header import DataRange, Places
from conformask.deployment.scored_image import ScoredImage, level_of, mask_size_of
from conformask.deployment.whole import tiled_scorer
from conformask.errors import InvalidArgumentError, MismatchError, one_line
from conformask.masker.load import load
from conformask.masker.masker import Masker
from conformask.plugins.napari.frames import Frames, images_of, score_images
from conformask.plugins.napari.layers import Index, lazy_masks
from conformask.plugins.napari.roles import SAME_LAYER
from conformask.records.size import Size
from conformask.report.sliders import SliderLimits, bound_text, sliders
from conformask.storage.as_arrays import Array

STEPS = 1000
"""Number of steps of the slider, which is logarithmic."""
DIGITS = 4
"""Significant digits of a threshold that the slider gives."""


@dataclass(frozen=True)
class Scores:
    """Images of an output layer with their scores."""

    masker: Masker
    """The masker as calibrated."""
    x: Image
    y_hat: Image
    images: list[ScoredImage]
    lead: Size
    """Number of images of the layer, along each of its first axes."""
    ends: SliderLimits

    @property
    def in_one_pass(self) -> bool:
        """True if one tile holds an image, so that its mask follows a slider at once."""
        return tiled_scorer(self.masker).holds(self.images[0].size)

    def bound(self, image: ScoredImage) -> str | None:
        """Return the largest possible difference of output and truth, in words; None where unknown."""
        return bound_text(self.masker, image.item) if self.in_one_pass else None

    @property
    def home(self) -> int:
        """Position of the slider as calibrated."""
        (low, high), threshold = self.ends.threshold, self.masker.card.threshold
        return round(STEPS * math.log(threshold / low) / math.log(high / low)) if high > low else 0

    def threshold(self, position: int) -> float | None:
        """Return the threshold at a position of the slider; None at the calibrated one."""
        low, high = self.ends.threshold
        return (
            None if position == self.home else float(f"{low * (high / low) ** (position / STEPS):.{DIGITS}g}")
        )


def scores_of(
    run: Path | None, x: Image | None, y_hat: Image | None, data_range: str, cues: Image | None = None
) -> Generator[int, None, Scores]:
    """Load a run and score the layers, by the map `cues` if it needs one; yield the number of tiles at each.

    Raises:
        InvalidArgumentError: something was not chosen, one layer was chosen twice, the data range is invalid,
            or the promise needs a fact that layers do not have.
        MissingFileError: the folder holds no calibrated masker.
        MismatchError: the layers are not what the masker takes.
        ImageError: values outside the range, NaN or infinity.
        OutputError: the disk has no room for the scores.
    """
    if run is None or x is None or y_hat is None:
        raise InvalidArgumentError("choose a run (a calibrated folder) and the layers of input and output")
    if x is y_hat:
        raise InvalidArgumentError(SAME_LAYER)
    masker = load(run)
    if not masker.scorer.cue_channels:
        cues = None
    elif cues is None:
        raise InvalidArgumentError("the score is read from a map beside ŷ: choose its layer")
    images = images_of(masker, x, y_hat, parse_range(data_range), cues)
    try:
        scored_images = yield from score_images(masker, images)
    except RuntimeError as error:  # napari would take it for a deleted worker
        raise MismatchError(f"the layers cannot be scored: {one_line(error)}") from error
    masker.lambdas(scored_images[0].item)
    return Scores(
        masker, x, y_hat, scored_images, Frames(y_hat, len(images[0].y_hat.size)).lead, sliders(masker)
    )


def parse_range(text: str) -> DataRange | None:
    """Parse the two numbers of "0 4095"; return None for an empty text.

    Raises:
        InvalidArgumentError: the text is neither.
    """
    try:
        numbers = [float(number) for number in text.replace(",", " ").split()]
        low, high = numbers or (None, None)
    except ValueError as error:
        raise InvalidArgumentError(
            f"data range {text!r}: give two numbers, such as 0 4095, or nothing for the range of the "
            "calibration or of the type"
        ) from error
    return None if low is None or high is None else (low, high)


class MasksOfLayer:
    """The masks of the images of a layer at one setting, each computed when it is first looked at."""

    def __init__(self, masker: Masker, images: Sequence[ScoredImage], lead: Size) -> None:
        self._masker, self._images, self._lead = masker, images, lead
        self._levels: dict[Index, Tensor] = {}
        self._lock = Lock()

    @property
    def channels(self) -> int:
        """Number of channels: 1, or that of the images."""
        return self._images[0].item.score.map.shape[1]

    @property
    def array(self) -> da.Array:
        """Masks as `Masker.__call__` gives them, in [0, 1], (*lead, *size) or (*lead, *size, C)."""
        return lazy_masks(self._read, self._lead, self._images[0].size, self.channels)

    def image(self, index: Index) -> ScoredImage:
        """Return the image at a place along the first axes."""
        return self._images[int(np.ravel_multi_index(index, self._lead)) if index else 0]

    def size(self, index: Index) -> float:
        """Return the mask size of one image, mean(1 - m).

        Raises:
            InvalidArgumentError: the promise needs a weight or category of the image.
        """
        return mask_size_of(self._masker.family, self.image(index), self._level(index))

    def _level(self, index: Index) -> Tensor:
        with self._lock:
            if index not in self._levels:
                self._levels[index] = level_of(self._masker, self.image(index))[1]
            return self._levels[index]

    def _read(self, index: Index, places: Places) -> Array:
        score = self.image(index).item.score.map[window_index(places)]
        mask: Array = self._masker.family.apply(score, self._level(index))[0].numpy()
        return mask
