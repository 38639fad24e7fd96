"""Numbers of an image: a volume, an area, a count, a mean, a sum, or a function of somebody's own."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from conformask.arrays import Array, Batch, best_device
from conformask.background import tracked
from conformask.errors import ImageError, InvalidArgumentError, MismatchError
from conformask.images.rows import Role
from conformask.images.triplets import Triplets, truth_ids
from conformask.promises.order import Curves
from conformask.records.numbers import Values
from conformask.records.reading import Geometry
from conformask.scores.scorer import Scorer, score_of_batch

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


Numbers = Float[np.ndarray, "n"]
TINY = 1e-12
"""Added to the mean score of an image."""


@dataclass(frozen=True)
class Measured:
    """Numbers of images, and what the score says of each."""

    outputs: Numbers
    truths: Numbers | None
    scores: Numbers
    """Mean score where the number is computed, above 0; 1 where it is not needed."""
    ids: tuple[str, ...]
    """Hashes of the truths, by which images are recognised; "" where they are not known."""


def facts_of(images: Triplets) -> Curves:
    """Return the groups and categories of images, as the theorems take them."""
    known = None not in images.categories
    category = np.array(images.categories, dtype=np.str_) if known else None
    empty = np.zeros((len(images), 2))
    return Curves(
        np.array(images.names), np.array([0.0, math.inf]), empty, empty,
        group=np.array(images.groups), category=category,
    )  # fmt: skip


def measured_of(
    scorer: Scorer, triplets: Triplets, of: Quantity, label: int | None, unit: str, *, scored: bool
) -> Measured:
    """Compute the number of y_hat and y of each image, and if `scored` its mean score where they are."""
    check_measurable(triplets, of)
    values = triplets.values
    numbers: dict[Role, list[float]] = {"y_hat": []}
    if triplets.has_truth and (of.about == "values" or triplets.has("y_labels")):
        numbers["y"] = []
    scores: list[float] = []
    ids: list[str] = []
    for batch in tracked(triplets.batches(), of.name, len(triplets), len):
        maps = np.ones((len(batch), *batch.y_hat.shape[2:]))
        if scored:
            score = score_of_batch(scorer, batch.to(best_device()))
            maps = score.map.mean(dim=1).cpu().numpy()
        ids += truth_ids(batch).tolist()
        for index, name in enumerate(batch.names):
            parts = {role: part_of(batch, index, role, values, label) for role in numbers}
            if (own := of.unit(parts["y_hat"].geometry, values)) != unit:
                raise MismatchError(
                    f"{name!r} has a spacing in {own or 'no unit'}, but the {of.name} is in {unit}"
                )
            for role, part in parts.items():
                numbers[role].append(of.of(part, f"{role} of {name!r}"))
            labels = parts["y_hat"].labels
            inside = maps[index] if labels is None or not labels.any() else maps[index][labels > 0]
            scores.append(float(inside.mean(dtype=np.float64)) + TINY)
    truths = np.array(numbers["y"]) if "y" in numbers else None
    return Measured(np.array(numbers["y_hat"]), truths, np.array(scores), tuple(ids))


def check_measurable(triplets: Triplets, of: Quantity, *, with_truth: bool = False) -> None:
    """Raise where the images lack what the number of y_hat, and perhaps that of y, is computed from."""
    if of.dimensions not in (None, triplets.dimensions):
        other = "area" if of.name == "volume" else "volume"
        raise InvalidArgumentError(
            f"the images have {triplets.dimensions} axes: measure their {other}, not {of.name}"
        )
    needed = ["labels", *["y_labels"] * with_truth] if of.about == "labels" else []
    for name in needed:
        if not triplets.has(name):
            raise InvalidArgumentError(
                f"the {of.name} is that of labels of y_hat and of y, and some images have no {name}: name "
                "their folder with --objects (objects= of a Reading), or give labels= and y_labels= to "
                "from_arrays"
            )


def widths_of(measured: Measured, *, relative: bool, exponent: float) -> Numbers:
    """Return u of each image."""
    return (np.abs(measured.outputs) if relative else 1.0) * measured.scores**exponent
