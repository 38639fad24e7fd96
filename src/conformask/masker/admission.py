"""Admission of new images: whether they are those that a promise is about, and what to say where not.

`Masker.admit` asks before an image is scored, `Masker.admit_scored` after; nothing else asks.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from conformask.arrays import Batch
from conformask.errors import warn
from conformask.images.formats import DataRange, Header
from conformask.images.rows import OpenedTriplet
from conformask.images.triplets import Triplets
from conformask.masker.looks import outliers_text
from conformask.records.card import CalibrationCard
from conformask.records.geometry import Geometry
from conformask.records.reading import Caveat
from conformask.records.words import clipped_text
from conformask.scores.steps import Tiled

BY_TILES = "not whole images scored by tiles: calibrate whole images with --tiled for a promise that does"
"""What to add of an image that no tile holds."""


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
        headers = {"x": images.header(index, "x"), "y_hat": header or images.header(index)}
        ranges = {role: each.stored_ends(images.reading.of(role)) for role, each in headers.items()}
        return cls(images.names[index], headers["y_hat"].shape, headers["y_hat"].geometry, ranges)

    @classmethod
    def of_opened(cls, image: OpenedTriplet) -> "NewImage":
        """Return an image that is read window by window."""
        header = image.y_hat.header
        return cls(image.name, header.shape, header.geometry)

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
            warn(where + text)
        return self


def admitted(card: CalibrationCard, tiled: Tiled, images: Iterable[NewImage]) -> Admission:
    """Check images by their headers; `tiled` scores those that no tile holds.

    Raises:
        MismatchError: an image has other channels, or is a volume for a promise about planes, or the reverse.
    """
    names: list[str] = []
    sizes, spacings, ranges = dict[str, str](), dict[str, str](), dict[str, str]()
    for image in images:
        name, size = image.name, image.shape[1:]
        card.check_shape(image.shape, f"{name}: " if name else "")
        names += [name] if name else []
        if (reason := card.not_covered(size)) is not None:
            one_pass = card.tiles is not None or tiled.holds(size)
            sizes[name] = reason if one_pass else f"{reason}, {BY_TILES}"
        if spacing := card.other_spacing(image.geometry):
            spacings[name] = spacing
        if others := [text for role in image.ranges if (text := card.other_range(role, image.ranges[role]))]:
            ranges[name] = "; ".join(others)
    return Admission(tuple(names), sizes=sizes, spacings=spacings, ranges=ranges)
