"""Metadata of microscope files, OME-XML, ImageJ and NGFF: physical sizes, units, times and positions."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from conformask.errors import ImageError
from conformask.records.geometry import OTHER, UNITS, Geometry

LETTERS = {"time": "t", "channel": "c"}
"""Letters of NGFF axes by their types, whatever their names."""
NGFF_UNITS = {"mm": "millimeter", "\u00b5m": "micrometer", "nm": "nanometer", "m": "meter"}
"""Units of a Geometry, as OME-Zarr spells them."""
SPELLINGS = {
    **{name: name for name in UNITS},
    **{name: unit for unit, name in NGFF_UNITS.items()},
    **{name.replace("meter", "metre"): unit for unit, name in NGFF_UNITS.items()},
    **dict.fromkeys(("\u03bcm", "um", "\\u00B5m", "\\u00b5m", "\\u03BCm", "micron", "microns"), "\u00b5m"),
}
"""Units of a Geometry, by the names in files."""
INTERVAL = ("TimeIncrement", "TimeIncrementUnit")
"""Attributes of the time between time points."""
TIME_UNITS = {"ms": "ms", "msec": "ms", "s": "s", "sec": "s", "min": "min", "h": "h"}
"""Units of OME-XML, by ImageJ's names."""
EVEN = 0.25
"""Relative tolerance of the steps between planes, since stages do not stop exactly."""
MOST_PLANES, SMALLEST_PLANE = 1000, 64
"""Number of planes that any file may state; and the fewest bytes of a plane in another file."""
Step = tuple[Any, Any]
"""Step from pixel to pixel along an axis, and its unit, as a file states them."""


def geometry_of(steps: Sequence[Step]) -> Geometry | None:
    """Return the spacing that a file states, in the unit of its last axis; None if a step is unknown."""
    sizes = [_number(size) for size, _ in steps]
    units = [SPELLINGS.get(str(unit)) for _, unit in steps]
    unit = units[-1]
    if unit is None or not all(math.isfinite(size) and size > 0 for size in sizes):
        return None
    spacing = []
    for size, own_unit in zip(sizes, units, strict=True):
        if own_unit is None:
            return None
        ratio = UNITS[own_unit] / UNITS[unit]  # a power of 1000, of which a float holds none below 1
        spacing.append(size * round(ratio) if ratio >= 1 else size / round(1 / ratio))
    return Geometry(tuple(spacing), unit)


def _number(value: Any) -> float:
    """Convert to float; NaN for what is not a number."""
    with suppress(TypeError, ValueError):
        return float(value)
    return math.nan


def steps_of_xml(xml: str, axes: str) -> list[Step]:
    """Return the physical size along each axis, letters of ZYX, that OME-XML states for its first image."""
    pixels = _pixels_of_xml(xml)
    names = [f"PhysicalSize{axis}" for axis in axes]
    return [(pixels.get(name), pixels.get(f"{name}Unit", "\u00b5m")) for name in names]


def significant_bits(xml: str) -> int | None:
    """Return the bits per value that OME-XML states for its first image; None where it states none."""
    bits = _number(_pixels_of_xml(xml).get("SignificantBits"))
    return int(bits) if bits >= 1 and bits.is_integer() else None


def interval_of_xml(xml: str) -> dict[str, str]:
    """Return the time between time points that OME-XML states for its first image, as attributes."""
    attributes = _pixels_of_xml(xml).attrib
    return {name: attributes[name] for name in INTERVAL if name in attributes}


def interval_of_imagej(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the time between time points that ImageJ states, as OME-XML attributes; {} for unknown units."""
    step, unit = metadata.get("finterval"), TIME_UNITS.get(metadata.get("tunit", "s"))
    return {} if step is None or unit is None else dict(zip(INTERVAL, (str(step), unit), strict=True))


def other_files(path: Path, xml: str) -> list[Path]:
    """Return the files beside a TIFF file, or in folders beside it, where its OME-XML says that planes lie.

    Raises:
        ImageError: one lies elsewhere: an image that was copied from somebody could name any file.
    """
    folder = path.parent.resolve()
    names = {uuid.get("FileName", "") for uuid in _root_of_xml(xml).iterfind(".//{*}UUID")}
    others = {name: (folder / name).resolve() for name in names - {"", path.name}}
    for name, file in others.items():
        if not file.is_relative_to(folder):
            raise ImageError(f"{path} refers to planes in {name}: put that file beside it, under this name")
    return sorted(others.values())


def check_planes(path: Path, xml: str, pages: int) -> None:
    """Raise for OME-XML with more planes than there can be, since tifffile would list them all.

    Raises:
        ImageError: there are too many, or planes are said to lie outside the folder.
    """
    others = [file for file in other_files(path, xml) if file.is_file()]
    most_planes = max(MOST_PLANES, pages + sum(file.stat().st_size // SMALLEST_PLANE for file in others))
    for pixels in _root_of_xml(xml).iterfind("{*}Image/{*}Pixels"):
        planes = math.prod(_number(pixels.get(f"Size{axis}", 1)) for axis in "ZCT")
        if not planes <= most_planes:  # also where a size is not a number
            raise ImageError(f"{path} states {planes:,.0f} planes but contains {pages}: copy it again")


@lru_cache(maxsize=1)
def planes_of_xml(xml: str) -> dict[tuple[str | None, str | None], dict[str, str]]:
    """Return attributes of the planes of OME-XML's first image, of their first channel, by time and z."""
    planes = (plane.attrib for plane in _pixels_of_xml(xml).findall("{*}Plane"))
    return {(plane.get("TheT"), plane.get("TheZ")): plane for plane in planes if plane.get("TheC") == "0"}


def check_depths(path: Path, xml: str, time: int, geometry: Geometry, count: int) -> None:
    """Raise for a volume whose planes, by their stated positions, are not as far apart as its spacing says.

    They may go up or down. Positions that are not lengths are ignored, and so are those of a stage that
    stood still while the focus moved.

    Raises:
        ImageError: the steps between planes differ, or are not the spacing along z.
    """
    planes, unit, spacing = planes_of_xml(xml), geometry.unit, geometry.spacing[0]
    depths = np.array([_depth(planes.get((str(time), str(z)), {}), unit) for z in range(count)])
    if not (np.ptp(depths) >= spacing / 2):  # also where one is NaN
        return
    steps = np.diff(depths)
    usual, mean = float(np.median(steps)), abs(float(steps.mean()))
    odd = int(abs(steps - usual).argmax())
    if abs(steps[odd] - usual) > EVEN * abs(usual):
        raise ImageError(
            f"{path}: from plane {odd} to {odd + 1} PositionZ changes by {steps[odd]:.4g} {unit}, elsewhere "
            f"by {usual:.4g}: a plane may be missing or out of order; export it again. If these are not the "
            "positions of its planes, remove them from its OME-XML"
        )
    if not 1 / OTHER <= mean / spacing <= OTHER:
        raise ImageError(
            f"{path}: its planes lie {mean:.4g} {unit} apart by PositionZ, and {spacing:.4g} by "
            "PhysicalSizeZ: correct the one that is wrong in its OME-XML"
        )


def _depth(plane: Mapping[str, str], unit: str) -> float:
    """Return the position along z in this unit; NaN where no length is stated."""
    own_unit = SPELLINGS.get(plane.get("PositionZUnit", ""))
    return math.nan if own_unit is None else _number(plane.get("PositionZ")) * UNITS[own_unit] / UNITS[unit]


@lru_cache(maxsize=1)
def _root_of_xml(xml: str) -> ElementTree.Element:
    """Parse OME-XML; return an empty element where that fails."""
    with suppress(ElementTree.ParseError):
        return ElementTree.fromstring(xml)
    return ElementTree.Element("OME")


def _pixels_of_xml(xml: str) -> ElementTree.Element:
    """Return the Pixels of the first image; an empty element where there are none."""
    pixels = _root_of_xml(xml).find("{*}Image/{*}Pixels")
    return ElementTree.Element("Pixels") if pixels is None else pixels


def steps_of_imagej(metadata: Mapping[str, Any], tags: Any, axes: str) -> list[Step]:
    """Return ImageJ's spacing along each axis, letters of ZYX; in x and y it states pixels per unit."""
    steps: dict[str, Step] = {"Z": (metadata.get("spacing"), metadata.get("zunit", metadata.get("unit")))}
    for axis, unit in (("X", "unit"), ("Y", "yunit")):
        pixels, length = tags.valueof(f"{axis}Resolution", (0, 0))
        size = length / pixels if pixels else math.nan
        steps[axis] = (size, metadata.get(unit, metadata.get("unit")))
    return [steps[axis] for axis in axes]


@dataclass(frozen=True)
class Placement:
    """Step, origin and unit of each axis of an NGFF image; the unit is None where none is stated."""

    scale: tuple[float, ...]
    translation: tuple[float, ...]
    units: tuple[str | None, ...]

    def of(self, axes: Sequence[str], subset: Sequence[str]) -> "Placement":
        """Return the placement of a subset of the axes."""
        places = [axes.index(axis) for axis in subset]
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
        for transformation in holder.get("coordinateTransformations") or ():
            if "scale" in transformation:
                scaled, scale = True, _axis_by_axis(float.__mul__, scale, transformation["scale"])
                translation = _axis_by_axis(float.__mul__, translation, transformation["scale"])
            elif "translation" in transformation:
                translation = _axis_by_axis(float.__add__, translation, transformation["translation"])
    # units mean nothing for steps that are only counted
    units = (axis.get("unit") if scaled and isinstance(axis, Mapping) else None for axis in axes)
    return Placement(tuple(scale), tuple(translation), tuple(unit and str(unit) for unit in units))


def _axis_by_axis(operation: Any, values: list[float], others: Sequence[Any]) -> list[float]:
    return [operation(value, float(other)) for value, other in zip(values, others, strict=True)]
