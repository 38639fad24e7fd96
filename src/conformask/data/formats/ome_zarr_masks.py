"""Masks as OME-Zarr (NGFF 0.5): with physical sizes, in their place, and a pyramid. Needs the extra zarr."""

from itertools import accumulate
from pathlib import Path
from typing import Any

from conformask.data.formats.format import Blocks, Shape, Under
from conformask.data.formats.ngff import Placement, axes_of, image_of, placement_of
from conformask.data.formats.ome import NGFF_UNITS
from conformask.data.formats.pyramid import Factors, fill_level, halved, halvings
from conformask.data.formats.quantised import rounded_down
from conformask.errors import MissingFileError

COLOURS = ("FF0000", "00FF00", "0000FF")
"""Of three channels; any other number is shown in white."""
WINDOW = {"min": 0, "max": 65535, "start": 0, "end": 65535}
"""What viewers show as black and white."""


def write_zarr_blocks(path: Path, shape: Shape, blocks: Blocks, block: int, under: Under) -> None:
    """Write a mask of 16 bits, [c, z, y, x] or [c, y, x], in chunks of the blocks, and its smaller levels.

    Raises:
        MissingFileError: the extra zarr is not installed.
    """
    try:
        import zarr

        steps = list(halvings(shape[1:], under.geometry.spacing if under.geometry else None))
        attributes = {"ome": _metadata(shape, steps, under)}
    except ImportError as error:
        raise MissingFileError(f"{path} needs zarr: pip install 'conformask[zarr]'") from error
    group = zarr.create_group(path, zarr_format=3, attributes=attributes)
    level = _level(group, 0, shape, block)
    for places, values in blocks:
        level[:, *places] = rounded_down(values)
    for number, factors in enumerate(steps, 1):
        smaller = _level(group, number, (shape[0], *halved(level.shape[1:], factors)), block)
        fill_level(smaller, level, (1, *factors), smaller.chunks)
        level = smaller


def _level(group: Any, number: int, shape: Shape, block: int) -> Any:
    return group.create_array(
        str(number),
        shape=shape,
        chunks=(1, *(min(block, side) for side in shape[1:])),
        dtype="uint16",
        dimension_names=_axes(shape),
        config={"write_empty_chunks": True},
    )


def _axes(shape: Shape) -> list[str]:
    return ["c", *"zyx"[-len(shape) + 1 :]]


def _metadata(shape: Shape, steps: list[Factors], under: Under) -> dict[str, Any]:
    """What NGFF says of a mask and its levels, checked by yaozarrs."""
    from yaozarrs.v05 import Image

    base = _placement(under, _axes(shape)[1:])
    units = ({} if unit is None else {"unit": unit} for unit in base.units)
    spatial = [
        {"name": name, "type": "space", **unit} for name, unit in zip(_axes(shape)[1:], units, strict=True)
    ]
    totals = accumulate(steps, lambda old, new: _times(old, new), initial=(1,) * len(spatial))
    image = {
        "name": f"mask of {under.path.name}, 1 = trusted" if under.path else "mask, 1 = trusted",
        "axes": [{"name": "c", "type": "channel"}, *spatial],
        "datasets": [
            {"path": str(number), "coordinateTransformations": _transformations(base, factors)}
            for number, factors in enumerate(totals)
        ],
        "type": "mean",
        "metadata": {"description": "means of neighbouring pixels, rounded down"},
    }
    colours = COLOURS if shape[0] == len(COLOURS) else ("FFFFFF",) * shape[0]
    channels = [{"color": colour, "window": WINDOW, "label": "mask", "active": True} for colour in colours]
    model = Image.model_validate({"version": "0.5", "multiscales": [image], "omero": {"channels": channels}})
    checked: dict[str, Any] = model.model_dump(mode="json", exclude_none=True)
    return checked


def _times(old: Factors, new: Factors) -> Factors:
    return tuple(a * b for a, b in zip(old, new, strict=True))


def _placement(under: Under, axes: list[str]) -> Placement:
    """Where the image under a mask lies: by its geometry, and by its own metadata where it is an OME-Zarr."""
    source = _source(under.file_and_time[0], axes)
    if under.geometry is None:
        return source or Placement((1.0,) * len(axes), (0.0,) * len(axes), (None,) * len(axes))
    unit = NGFF_UNITS[under.geometry.unit]
    origin = source.translation if source else (0.0,) * len(axes)
    return Placement(under.geometry.spacing, origin, (unit,) * len(axes))


def _source(folder: Path | None, axes: list[str]) -> Placement | None:
    import zarr

    if folder is None or not (folder.suffix == ".zarr" and folder.is_dir()):
        return None
    image = image_of(zarr.open_group(folder, mode="r").attrs)
    letters = axes_of(image)
    return placement_of(image).of(letters, axes) if set(axes) <= set(letters) else None


def _transformations(base: Placement, factors: Factors) -> list[dict[str, Any]]:
    """Of a level whose pixels are means of so many: the centre of its first lies further in."""
    scale = [step * factor for step, factor in zip(base.scale, factors, strict=True)]
    centre = [
        origin + step * (factor - 1) / 2
        for origin, step, factor in zip(base.translation, base.scale, factors, strict=True)
    ]
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0, *scale]}]
    return steps + ([{"type": "translation", "translation": [0.0, *centre]}] if any(centre) else [])
