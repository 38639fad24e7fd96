"""Placement of layers: masks over their image, even if two readers disagree on the scale of one file."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from napari.layers import Image

from conformask.plugins.napari.layers import finest_array
from conformask.records.geometry import Geometry
from conformask.records.size import Size
from conformask.storage.as_arrays import Array


def placement_of(layer: Image) -> dict[str, Any]:
    """Return the placement of a layer, for a mask of it."""
    names = ("scale", "translate", "rotate", "shear", "units", "axis_labels")
    shared = {name: getattr(layer, name) for name in names}
    return {**shared, "affine": np.array(layer.affine.affine_matrix)}


def placement_from_geometry(geometry: Geometry | None, lead: Sequence[str], size: Size) -> dict[str, Any]:
    """Return the placement of masks according to their files.

    Args:
        geometry: the geometry in the files; if None, a pixel has size 1.
        lead: the labels of the axes before the spatial ones, such as t.
        size: the size of a mask, (H, W) or (D, H, W).
    """
    steps, unit = ((1.0,) * len(size), "pixel") if geometry is None else (geometry.spacing, geometry.unit)
    return {
        "axis_labels": (*lead, *"zyx"[-len(size) :]),
        "scale": (*(1.0,) * len(lead), *steps),
        "translate": (0.0,) * (len(lead) + len(size)),
        "units": (*("pixel",) * len(lead), *(unit,) * len(size)),
    }


def geometry_of(layer: Image, axes: int, unit: str) -> Geometry | None:
    """Return the spacing of a layer along its last axes, in a unit; None where it has no units of length."""
    units = layer.units[-axes:]
    if not all(each.is_compatible_with(unit) for each in units):
        return None
    steps = zip(layer.scale[-axes:], units, strict=True)
    return Geometry(tuple(float((step * each).to(unit).magnitude) for step, each in steps), unit)


def align_to(layer: Image, placement: dict[str, Any]) -> dict[str, Any]:
    """Move masks to where a layer lies, along the axes that both have, counted from the last."""

    def align_values(name: str) -> tuple[Any, ...]:
        values, layer_values = tuple(placement[name]), tuple(getattr(layer, name))
        return (*values[: -len(layer_values)], *layer_values[-len(values) :])

    return {**placement, **{name: align_values(name) for name in ("scale", "translate", "units")}}


def with_size(layers: Iterable[Image], size: Size) -> list[Image]:
    """Return the layers whose last axes have this size."""
    return [layer for layer in layers if layer.ndim >= len(size) and size_of(layer, len(size)) == size]


def size_of(layer: Image, axes: int) -> Size:
    """Return the number of pixels of a layer along its last axes, at its finest resolution."""
    return tuple(finest_array(layer).shape[layer.ndim - axes : layer.ndim])


def explain_offset(layer: Image, other: Image, axes: int) -> str | None:
    """Explain how to lay a layer over another, if their ends along the last axes differ by over a pixel."""
    ends, target = _ends(layer, axes), _ends(other, axes)
    in_units_of_other = _ratios(layer.units[-axes:], other.units[-axes:])
    if (abs(ends * in_units_of_other - target) <= other.scale[-axes:]).all():
        return None
    scale = (target[1] - target[0]) / size_of(layer, axes)
    assignments = {
        "scale": _numbers((*layer.scale[:-axes], *scale)),
        "translate": _numbers((*layer.translate[:-axes], *target[0])),
        "units": repr(tuple(map(str, (*layer.units[:-axes], *other.units[-axes:])))),
    }
    lines = "; ".join(
        f"viewer.layers[{layer.name!r}].{name} = {value}" for name, value in assignments.items()
    )
    return (
        f"Layer {layer.name!r} does not lie over {other.name!r}, because its scale or translation differs. "
        f"To place it over {other.name!r}, type into napari's console: {lines}"
    )


def _ends(layer: Image, axes: int) -> Array:
    """Return where the layer starts and where it ends along its last axes, in its units, (2, axes)."""
    start, step = layer.translate[-axes:], layer.scale[-axes:]
    return np.stack([start, start + step * size_of(layer, axes)])


def _ratios(units: Sequence[Any], others: Sequence[Any]) -> Array:
    """Return factors that convert lengths; 1 for inconvertible units, which napari then ignores."""
    pairs = zip(units, others, strict=True)
    return np.array([(1 * a).to(b).magnitude if a.is_compatible_with(b) else 1.0 for a, b in pairs])


def _numbers(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in values)})"
