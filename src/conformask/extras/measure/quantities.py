"""Numbers of an image: a volume, an area, a count, a mean, a sum, or a function of somebody's own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from conformask.arrays import Array, Batch
from conformask.errors import ImageError, InvalidArgumentError
from conformask.images.rows import Role
from conformask.records.geometry import Geometry
from conformask.records.numbers import Values

Function = Callable[[Array, Array | None], float]
"""A number of an image (C, *space), in the values of the files, and its labels (*space), None without."""


@dataclass(frozen=True)
class Part:
    """The part of an image that a number is about: where labels are, else the region, else all of it."""

    image: Array
    """Values (C, *space), those of the files."""
    labels: Array | None
    """Labels (*space), 0 outside of the part; None where all of the image is the part."""
    geometry: Geometry | None
    """The spacing of the pixels, where the file states it."""

    @property
    def pixels(self) -> int:
        """The number of pixels of the part."""
        return self.image[0].size if self.labels is None else int(np.count_nonzero(self.labels))

    @property
    def values(self) -> Array:
        """The values of the part, (C, pixels)."""
        return (
            self.image.reshape(len(self.image), -1) if self.labels is None else self.image[:, self.labels > 0]
        )


def _extent(part: Part) -> float:
    return part.pixels * (1.0 if part.geometry is None else float(np.prod(part.geometry.spacing)))


def _count(part: Part) -> float:
    return float(len(np.unique(part.labels[part.labels > 0]))) if part.labels is not None else 0.0


def _mean(part: Part) -> float:
    return float(part.values.mean(dtype=np.float64)) if part.pixels else 0.0


def _sum(part: Part) -> float:
    return float(part.values.mean(axis=0).sum(dtype=np.float64))


@dataclass(frozen=True)
class Quantity:
    """A number that is computed from an output and, in the same way, from the truth."""

    name: str
    """Its name in sentences, such as volume."""
    compute: Callable[[Part], float]
    about: Literal["labels", "values"]
    """What it is computed from: of labels, those of y_hat and of y are needed."""
    dimensions: int | None = None
    """The number of spatial axes that it is about; None for any."""

    def unit(self, geometry: Geometry | None, values: Values | None) -> str:
        """Return its unit: of length, area or volume, of the values, or "" for a count."""
        if self.compute is _extent:
            power = "" if geometry is None else "\u00b2\u00b3"[len(geometry.spacing) - 2]
            return "pixels" if geometry is None else f"{geometry.unit}{power}"
        return "" if self.about == "labels" or values is None else values.units or ""

    def of(self, part: Part, name: str) -> float:
        """Return the number; `name` says in errors whose it is."""
        number = float(self.compute(part))
        if not np.isfinite(number):
            raise ImageError(f"the {self.name} of {name} is {number}: it must be a finite number")
        return number


QUANTITIES: Mapping[str, Quantity] = {
    "volume": Quantity("volume", _extent, "labels", 3),
    "area": Quantity("area", _extent, "labels", 2),
    "count": Quantity("count", _count, "labels"),
    "mean": Quantity("mean", _mean, "values"),
    "sum": Quantity("sum", _sum, "values"),
}


def quantity(of: str | Function) -> Quantity:
    """Return the quantity with this name, or that of a function; see `Function`."""
    if isinstance(of, str):
        if of not in QUANTITIES:
            raise InvalidArgumentError(
                f"no number is called {of!r}: give {', '.join(QUANTITIES)}, or a function in Python"
            )
        return QUANTITIES[of]
    name = getattr(of, "__name__", "number")
    return Quantity(name.strip("<>"), lambda part: of(part.image, part.labels), "values")


def part_of(batch: Batch, index: int, role: Role, values: Values | None, label: int | None) -> Part:
    """Return what a number of y_hat or y of an image is computed from.

    Values of y are taken where the labels of y are, or if these are not known, where those of y_hat are.
    """
    images = batch.y_hat if role == "y_hat" else batch.y
    assert images is not None
    low, span = (0.0, 1.0) if values is None else (values.low, values.span)
    image = low + span * images[index].cpu().numpy().astype(np.float64)
    geometry = None if batch.geometry is None else batch.geometry[index]
    names = ("y_labels", "labels", "region") if role == "y" else ("labels", "region")
    place = next((batch.layers[name] for name in names if name in batch.layers), None)
    if place is None:
        return Part(image, None, geometry)
    labels = place[index, 0].cpu().numpy()
    return Part(image, labels if label is None else np.where(labels == label, labels, 0), geometry)
