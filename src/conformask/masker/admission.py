"""Admission of new images: whether they are those that a promise is about, and what to say where not.

`Masker.admit` asks before an image is scored, `Masker.admit_scored` after; nothing else asks.
"""

import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from conformask.arrays import Batch
from conformask.errors import ConformaskWarning
from conformask.images.formats import DataRange, Header
from conformask.images.triplets import Triplets
from conformask.masker.looks import outliers_text
from conformask.records.card import CalibrationCard
from conformask.records.geometry import Geometry, Size
from conformask.records.reading import Caveat
from conformask.records.words import clipped_text
from conformask.scores.steps import Tiled

INSIDE = str(Path(__file__).parents[1])
"""Folder of conformask's own code: a warning names the line outside of it."""


@dataclass(frozen=True)
class NewImage:
    """What is known of a new image before it is scored."""

    name: str
    """Its name; "" where messages need none."""
    shape: tuple[int, ...]
    """Shape (C, *space) of y_hat."""
    geometry: Geometry | None = None
    ranges: Mapping[str, DataRange | None] = field(default_factory=dict)
    """Stored values that became 0 and 1, by role, where a file or a type states them."""

    @classmethod
    def of(cls, images: Triplets, index: int, header: Header | None = None) -> "NewImage":
        """Return an image of a collection, by its headers or, for y_hat, by this one."""
        one, stated = images.select([index]), header or images.header(index)
        ranges = {"x": one.range_of("x"), "y_hat": one.range_of("y_hat")}
        return cls(images.names[index], stated.shape, stated.geometry, ranges)

    @classmethod
    def of_batch(cls, batch: Batch) -> "NewImage":
        """Return what the images of a batch have in common; one by itself has its name."""
        geometry = batch.geometry[0] if batch.geometry else None
        return cls(batch.names[0] if geometry else "", tuple(batch.y_hat.shape[1:]), geometry)


@dataclass(frozen=True)
class Admission:
    """What is to be said of new images: nothing where they are those that a promise is about."""

    names: tuple[str, ...] = ()
    caveat: Caveat | None = None
    """Caveat on the network that made them: another one, or an unknown one."""
    groups: str | None = None
    """What to say of their groups."""
    sizes: Mapping[str, str] = field(default_factory=dict)
    """How the size of an image is not covered, by name."""
    spacings: Mapping[str, str] = field(default_factory=dict)
    """How the spacing of an image differs, by name."""
    ranges: Mapping[str, str] = field(default_factory=dict)
    """How the range of the stored values of an image differs, by name."""
    outliers: Mapping[str, str] = field(default_factory=dict)
    """How images lie far outside of all calibration images, by name."""
    clipped: Mapping[str, float] = field(default_factory=dict)
    """Share of the values of each image that were clipped to the range, by name."""
    clipped_before: float = 0.0
    """That share of the calibration images."""

    @property
    def texts(self) -> tuple[str, ...]:
        """What to say of all of them, but for the caveat: of each kind once, with the name of the first."""
        facts = (next(iter(each.items()), None) for each in (self.sizes, self.spacings, self.ranges))
        first = [fact and ": ".join(filter(None, fact)) for fact in facts]
        return tuple(filter(None, (self.groups, *first, *self._scored)))

    @property
    def notes(self) -> tuple[str, ...]:
        """What to say beside the one image, but for the caveat."""
        facts = (text for each in (self.sizes, self.spacings, self.ranges) for text in each.values())
        return tuple(filter(None, (self.groups, *facts, *self._scored)))

    @property
    def _scored(self) -> tuple[str | None, ...]:
        far = outliers_text(self.outliers, len(self.names)) if self.outliers else None
        return far, clipped_text(self.clipped, self.clipped_before)

    def warn(self, where: str = "") -> "Admission":
        """Warn of `texts`, after the words `where`, and return this."""
        for text in self.texts:
            warnings.warn(where + text, category=ConformaskWarning, stacklevel=_outside())
        return self


def _outside() -> int:
    """Return the stack level, for a warning of the caller, of the first line outside of conformask."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(INSIDE):
        frame, level = frame.f_back, level + 1
    return level


def admitted(card: CalibrationCard, tiled: Tiled, images: Iterable[NewImage]) -> Admission:
    """Check images by their headers; `tiled` scores those that no tile holds.

    Raises:
        MismatchError: an image has other channels, or is a volume for a promise about planes, or the reverse.
    """
    names: list[str] = []
    sizes: dict[str, str | None] = {}
    spacings: dict[str, str | None] = {}
    ranges: dict[str, str | None] = {}
    for image in images:
        name = image.name
        card.check_shape(image.shape, f"{name}: " if name else "")
        names += [name] if name else []
        sizes[name] = _other_size(card, tiled, image.shape[1:])
        spacings[name] = card.other_spacing(image.geometry)
        others = (card.other_range(role, stored) for role, stored in image.ranges.items())
        ranges[name] = "; ".join(filter(None, others))
    return Admission(tuple(names), sizes=_said(sizes), spacings=_said(spacings), ranges=_said(ranges))


def _said(texts: Mapping[str, str | None]) -> dict[str, str]:
    return {name: text for name, text in texts.items() if text}


def _other_size(card: CalibrationCard, tiled: Tiled, size: Size) -> str | None:
    reason = card.not_covered(size)
    if reason is None or card.tiles is not None or tiled.holds(size):
        return reason
    return (
        f"{reason}, not whole images scored by tiles: calibrate whole images with --tiled for a promise that "
        "does"
    )
