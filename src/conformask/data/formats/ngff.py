"""Placement of the pixels of an OME-Zarr image, by its metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LETTERS = {"time": "t", "channel": "c"}
"""Letters of axes by their types, whatever their names."""


@dataclass(frozen=True)
class Placement:
    """Step, origin and unit of each axis; the unit is None where none is stated."""

    scale: tuple[float, ...]
    translation: tuple[float, ...]
    units: tuple[str | None, ...]

    def of(self, axes: Sequence[str], some: Sequence[str]) -> "Placement":
        """Return the placement of some of the axes."""
        places = [axes.index(axis) for axis in some]
        return Placement(
            tuple(self.scale[place] for place in places),
            tuple(self.translation[place] for place in places),
            tuple(self.units[place] for place in places),
        )


def image_of(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the first of the multiscales in the attributes of a group, of NGFF 0.4 or 0.5.

    Raises:
        KeyError, IndexError, TypeError: there is none.
    """
    image: Mapping[str, Any] = attributes.get("ome", attributes)["multiscales"][0]
    return image


def axes_of(image: Mapping[str, Any]) -> tuple[str, ...]:
    """Return t, c, z, y or x for each axis; the name for others."""
    return tuple(axis if isinstance(axis, str) else _letter(axis) for axis in image["axes"])


def _letter(axis: Mapping[str, Any]) -> str:
    name = str(axis["name"])
    return LETTERS.get(str(axis.get("type")), name.lower() if axis.get("type") == "space" else name)


def placement_of(image: Mapping[str, Any]) -> Placement:
    """Return the placement of the highest resolution, by its dataset's transformations, then the image's.

    Raises:
        KeyError, TypeError, ValueError: the metadata do not follow NGFF.
    """
    axes = image["axes"]
    scale, translation, scaled = [1.0] * len(axes), [0.0] * len(axes), False
    for holder in (image["datasets"][0], image):
        for step in holder.get("coordinateTransformations") or ():
            if "scale" in step:
                scaled, scale = True, _each(scale, step["scale"], float.__mul__)
                translation = _each(translation, step["scale"], float.__mul__)
            elif "translation" in step:
                translation = _each(translation, step["translation"], float.__add__)
    units = (axis.get("unit") if scaled and isinstance(axis, Mapping) else None for axis in axes)
    return Placement(tuple(scale), tuple(translation), tuple(unit and str(unit) for unit in units))


def _each(values: list[float], others: Sequence[Any], operation: Any) -> list[float]:
    return [operation(value, float(other)) for value, other in zip(values, others, strict=True)]
