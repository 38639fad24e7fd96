"""Facts about all triplets: shapes and hashes from one pass over them, and columns of their curves."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import UInt8

from conformask.conformal.curves import Curves
from conformask.data.images import hash_unless_constant
from conformask.data.perceptual_hashes import perceptual_hash
from conformask.data.repeat_warnings import ReferenceMeasures, measure_triplet
from conformask.data.swaps import role_distances, swap_question
from conformask.data.triplets import Triplets
from conformask.errors import InvalidArgumentError
from conformask.progress import tracked
from conformask.records.geometry import Geometry
from conformask.records.size import Size
from conformask.storage.as_arrays import Array


@dataclass(frozen=True)
class DatasetSummary:
    """Facts about all images, from one pass over them."""

    channels: int
    x_channels: int
    sizes: tuple[Size, ...]
    names: tuple[str, ...]
    pixels: tuple[str | None, ...]
    """Pixel hash of each image's truth; None for constant images, which are all alike."""
    outputs: tuple[str | None, ...]
    """Pixel hash of each y_hat, by which an image is recognised where its truth is not known.

    None where it or the truth is constant, such as what a network makes of an empty field.
    """
    groups: tuple[str | None, ...]
    """Hash of each image's group name; None where it has no group."""
    perceptual_hashes: UInt8[np.ndarray, "n w b"]
    """Perceptual hashes of the truths; see `perceptual_hashes`."""
    geometries: tuple[Geometry | None, ...]
    """Geometry of each image, where its file states it."""
    contents: str
    """A hash of all pixels of all images, in their order."""
    swapped: str | None
    """The question whether two of the folders were swapped; None where nothing suggests it."""
    clipped: float
    """Mean of the shares of values that were clipped."""
    references: Mapping[str, ReferenceMeasures]
    """Measures of the noisy references, by name; empty where y is the truth."""

    @property
    def geometry(self) -> Geometry | None:
        """Spacing and orientation of the first image, where its file states them, without its place."""
        first = self.geometries[0]
        return None if first is None else first.without_place

    @property
    def smallest(self) -> Size:
        """Size of the largest crop that fits into every image."""
        return tuple(map(min, zip(*self.sizes, strict=True)))

    @property
    def image_ids(self) -> tuple[str, ...]:
        """All hashes by which these images and groups are recognised, sorted."""
        return tuple(sorted(filter(None, {*self.pixels, *self.outputs, *self.groups})))

    @property
    def truth_ids(self) -> tuple[str, ...]:
        """The hashes of truths and groups, which other outputs for the same images leave as they are."""
        return tuple(sorted(filter(None, {*self.pixels, *self.groups})))


def scan(triplets: Triplets, title: str = "reading images") -> DatasetSummary:
    """Read every triplet once and return the facts.

    Raises:
        ImageError: an image cannot be used, or its channels differ from the first's.
        InvalidArgumentError: the truth is not known.
    """
    if not triplets.has_truth:
        raise InvalidArgumentError(
            "these triplets have no y, but the truth is needed here: add a folder y/ or, where nobody has "
            "it, repeats/ with one or two acquisitions of each image"
        )
    sizes, pixels, outputs = set(), [], []
    perceptual_hashes, contents = [], hashlib.sha256()
    geometries, distances, clipped, references = [], [], [], {}
    for triplet in tracked(triplets.checked(), title, len(triplets)):
        geometries.append(triplet.geometry)
        clipped.append(triplet.clipped)
        truth = triplet.truth()
        sizes.add(truth.shape[1:])
        pixels.append(hash_unless_constant(truth))
        outputs.append(hash_unless_constant(triplet.y_hat) if pixels[-1] else None)
        perceptual_hashes.append(perceptual_hash(truth))
        distances.append(role_distances(triplet))
        if (measures := measure_triplet(triplet)) is not None:
            references[triplet.name] = measures
        others = [image for image in (triplet.region, triplet.cues, triplet.y_labels) if image is not None]
        for image in (triplet.x, triplet.y_hat, truth, *others):
            contents.update(repr(image.shape).encode() + np.ascontiguousarray(image).data)
    return DatasetSummary(
        channels=len(triplet.y_hat),
        x_channels=len(triplet.x),
        sizes=tuple(sorted(sizes)),
        names=triplets.names,
        pixels=tuple(pixels),
        outputs=tuple(outputs),
        groups=triplets.group_ids,
        perceptual_hashes=np.stack(perceptual_hashes),
        geometries=tuple(geometries),
        contents=contents.hexdigest(),
        swapped=swap_question(distances),
        clipped=float(np.mean(clipped)),
        references=references,
    )


def columns_of(triplets: Triplets) -> dict[str, Array | None]:
    """Return group, category and weight of the triplets; None for what they do not have."""
    category, weight = triplets.categories, triplets.weights
    return {
        "group": np.array(triplets.groups),
        "category": None if None in category else np.array(category),
        "weight": None if None in weight else np.array(weight, dtype=np.float64),
    }


def labelled(curves: Curves, triplets: Triplets) -> Curves:
    """Add the columns of these triplets to their curves, except those that the curves already have."""
    columns: dict[str, Any] = columns_of(triplets)
    return replace(curves, **{name: columns[name] for name in columns if getattr(curves, name) is None})
