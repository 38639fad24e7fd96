"""What a promise counts: images, or images of new groups."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from conformask.storage.as_arrays import Array

Columns = Mapping[str, Array | None]
"""group, category and weight of the images, where they have them."""


@dataclass(frozen=True)
class Image:
    """A new image, where no two of a calibration are dependent."""

    says: ClassVar[str] = "of new images"
    reads: ClassVar[frozenset[str]] = frozenset()
    given: ClassVar[str] = ""
    plural: ClassVar[str] = "images"
    drawn: ClassVar[str] = "calibration images and a new image from the same source"
    new: ClassVar[str] = "the new image"
    each: ClassVar[tuple[str, ...]] = ("for each image", "for each kind of image")
    """For whom nothing is promised."""

    def count(self, n: int, columns: Columns) -> int:
        """How many units n images are."""
        return n


@dataclass(frozen=True)
class Member:
    """A random image of a new group; images of a group are dependent, groups are exchangeable."""

    says: ClassVar[str] = "of images of a new group"
    reads: ClassVar[frozenset[str]] = frozenset({"group"})
    given: ClassVar[str] = " in a new group"
    plural: ClassVar[str] = "groups"
    drawn: ClassVar[str] = "calibration groups and a new group from the same source"
    new: ClassVar[str] = "an image of the new group"
    each: ClassVar[tuple[str, ...]] = ("for each group",)

    def count(self, n: int, columns: Columns) -> int:
        """How many groups n images lie in."""
        group = columns.get("group")
        return n if group is None else len(np.unique(group))


Unit = Image | Member
