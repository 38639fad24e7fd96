"""Images of a torch Dataset or another sequence, read lazily."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conformask.errors import ImageError, InvalidArgumentError
from conformask.storage.as_arrays import Array

ROLES = ("x", "y_hat", "y", "cues", "repeat")
AXES = {3: "CYX", 4: "CZYX"}
"""Axes of a tensor by its number of dimensions."""


@dataclass(frozen=True, eq=False)
class DatasetImage:
    """One image of an item of a dataset; np.asarray reads it."""

    dataset: Any
    index: int
    key: str | int

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return the image, with the axes that the dataset gives it.

        Raises:
            ImageError: the item has no such image.
        """
        item = self.dataset[self.index]
        try:
            image = item[self.key]
        except (KeyError, IndexError, TypeError) as error:
            raise ImageError(
                f"item {self.index} of the dataset has no {self.key!r}: it is {_text(item)}; name the keys "
                "or positions of x, y_hat and y with keys=(...)"
            ) from error
        array = image.detach().cpu().numpy() if hasattr(image, "detach") else np.asarray(image)
        return array if dtype is None else array.astype(dtype)


UnreadImage = Path | Array | DatasetImage
"""The file of an image, an array, or an image of a dataset."""


Keys = Sequence[str | int] | Mapping[str, str | int]
"""Keys or positions of the images in an item, in the order of ROLES or by role."""


def images_of(dataset: Any, keys: Keys | None) -> tuple[dict[str, list[DatasetImage]], str]:
    """Return the images of every item by role, and their axes, taken from the first item.

    Raises:
        InvalidArgumentError: a dataset without length or indexing, items of fewer than two images or more
            than five, or keys of unknown roles.
        ImageError: images of other axes than (C, H, W) or (C, D, H, W).
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise InvalidArgumentError(
            f"{type(dataset).__name__} has no items by index: give a sequence or a torch Dataset with a "
            "length; for a DataLoader, give its .dataset"
        )
    if len(dataset) == 0:
        raise InvalidArgumentError("the dataset is empty; give at least one item")
    first = dataset[0]
    if keys is None and isinstance(first, Mapping):
        named: dict[str, str | int] = {role: role for role in ROLES if role in first}
    elif isinstance(keys, Mapping):
        named = dict(keys) if keys.keys() <= set(ROLES) else {}
    else:
        # a fourth that is not named may be anything, such as a label
        places, most = (range(len(first)), 3) if keys is None else (keys, len(ROLES))
        named = dict(zip(ROLES, places, strict=False)) if len(places) <= most else {}
    if not {"x", "y_hat"} <= named.keys():
        raise InvalidArgumentError(
            f"items are {_text(first)}: give items (x, y_hat) or (x, y_hat, y), or name the keys of x, "
            "y_hat, y, cues and repeat with keys=(...) or keys={'x': ...}"
        )
    images = {
        role: [DatasetImage(dataset, index, key) for index in range(len(dataset))]
        for role, key in named.items()
    }
    dimensions = np.asarray(images["y_hat"][0]).ndim
    if dimensions not in AXES:
        raise ImageError(
            f"y_hat of item 0 has {dimensions} axes: images of a dataset must be (C, H, W) or (C, D, H, W)"
        )
    return images, AXES[dimensions]


def _text(item: Any) -> str:
    if isinstance(item, Mapping):
        return f"a mapping with {list(item)}"
    return f"{type(item).__name__} of {len(item)}" if hasattr(item, "__len__") else type(item).__name__
