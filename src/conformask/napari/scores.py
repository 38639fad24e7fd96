"""A pair of layers that was scored once, and the range of the slider of its threshold."""

import math
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from napari.layers import Image

from conformask.data.formats.header import DataRange
from conformask.deployment.scored_image import ScoredImage
from conformask.deployment.whole import tiled_scorer
from conformask.errors import InvalidArgumentError, MismatchError, one_line
from conformask.masker.load import load
from conformask.masker.masker import Masker
from conformask.masker.sliders import SliderLimits, bound_text, sliders
from conformask.napari.frames import Frames, images_of, scored
from conformask.records.size import Size

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

    def threshold(self, place: int) -> float | None:
        """Return the threshold at a position of the slider; None at the calibrated one."""
        low, high = self.ends.threshold
        return None if place == self.home else float(f"{low * (high / low) ** (place / STEPS):.{DIGITS}g}")


def scores_of(
    run: Path | None, x: Image | None, y_hat: Image | None, data_range: str
) -> Generator[int, None, Scores]:
    """Load a run and score the layers; yield the total number of tiles at each.

    Raises:
        InvalidArgumentError: something was not chosen, the data range is invalid, or the promise needs a fact
            that layers do not have.
        MissingFileError: the folder holds no calibrated masker.
        MismatchError: the layers are not what the masker takes.
        ImageError: values outside the range, NaN or infinity.
        OutputError: the disk has no room for the scores.
    """
    if run is None or x is None or y_hat is None:
        raise InvalidArgumentError("choose a run (a calibrated folder) and the layers of input and output")
    masker = load(run)
    images = images_of(masker, x, y_hat, range_in(data_range))
    try:
        made = yield from scored(masker, images)
    except RuntimeError as error:  # napari would take it for a deleted worker
        raise MismatchError(f"the layers cannot be scored: {one_line(error)}") from error
    masker.lambdas(made[0].item)
    return Scores(masker, x, y_hat, made, Frames(y_hat, len(images[0].y_hat.size)).lead, sliders(masker))


def range_in(text: str) -> DataRange | None:
    """Parse the two numbers of "0 4095"; return None for an empty text.

    Raises:
        InvalidArgumentError: the text is neither.
    """
    try:
        low_and_high = [float(part) for part in text.replace(",", " ").split()]
        low, high = low_and_high or (None, None)
    except ValueError as error:
        raise InvalidArgumentError(
            f"data range {text!r}: give two numbers, such as 0 4095, or nothing for the range of the "
            "calibration or of the type"
        ) from error
    return None if low is None or high is None else (low, high)
