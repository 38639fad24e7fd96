"""Masks as OME-Zarr (NGFF 0.5), with physical sizes, position and a pyramid. Needs the extra zarr."""

from itertools import accumulate
from operator import mul
from pathlib import Path
from typing import Any

from conformask.data.formats.format import Blocks, Shape, SourceImage, rounded_down
from conformask.data.formats.ome import LETTERS, NGFF_UNITS, Placement, axes_of, image_of, placement_of
from conformask.data.formats.pyramid import Factors, fill_level, halved, halvings
from conformask.errors import MissingFileError
from conformask.extensions import pip_install

COLOURS = ("FF0000", "00FF00", "0000FF")
"""Colours of three channels; any other number of channels is shown in white."""
WINDOW = {"min": 0, "max": 65535, "start": 0, "end": 65535}
"""Display range, from black to white, for viewers."""
TYPES = {letter: kind for kind, letter in LETTERS.items()}
"""Types of the axes that are not spatial."""


def write_zarr_blocks(path: Path, shape: Shape, blocks: Blocks, block: int, under: SourceImage) -> None:
    """Write a mask of 16 bits, [t, c, z, y, x] without t or z where it has none, and its smaller levels.

    The chunks are the blocks.

    Raises:
        MissingFileError: the extra zarr is not installed.
    """
    try:
        import zarr

        axes = ["t", "c", *"zyx"[2 - len(shape) :]] if under.is_film else ["c", *"zyx"[1 - len(shape) :]]
        lead, spacing = axes.index("c") + 1, under.geometry.spacing if under.geometry else None
        steps = [(*(1,) * lead, *factors) for factors in halvings(shape[lead:], spacing)]
        attributes = {"ome": _metadata(axes, shape[0], steps, under)}
    except ImportError as error:
        raise MissingFileError(f"{path} needs zarr: {pip_install('zarr')}") from error
    group = zarr.create_group(path, zarr_format=3, attributes=attributes)
    level = _level(group, 0, _as_stored(shape, lead), axes, block)
    for places, values in blocks:
        level[_as_stored((slice(None), *places), lead)] = rounded_down(values).swapaxes(0, lead - 1)
    for number, factors in enumerate(steps, 1):
        smaller = _level(group, number, halved(level.shape, factors), axes, block)
        fill_level(smaller, level, factors, smaller.chunks)
        level = smaller


def _level(group: Any, number: int, shape: Shape, axes: list[str], block: int) -> Any:
    return group.create_array(
        str(number),
        shape=shape,
        chunks=tuple(min(1 if axis in "tc" else block, side) for axis, side in zip(axes, shape, strict=True)),
        dtype="uint16",
        dimension_names=axes,
        config={"write_empty_chunks": True},
    )


def _as_stored(values: tuple[Any, ...], lead: int) -> tuple[Any, ...]:
    """Reorder C, [T], space to the order of the file: [T], C (`lead` axes), space."""
    return (*values[1:lead], values[0], *values[lead:])


def _metadata(axes: list[str], count: int, steps: list[Factors], under: SourceImage) -> dict[str, Any]:
    """Return the NGFF metadata of a mask and its levels, validated by yaozarrs."""
    from yaozarrs.v05 import Image

    base = _placement(under, axes)
    units = ({} if unit is None else {"unit": unit} for unit in base.units)
    totals = accumulate(steps, lambda total, step: tuple(map(mul, total, step)), initial=(1,) * len(axes))
    image = {
        "name": f"mask of {under.path.name}, 1 = trusted" if under.path else "mask, 1 = trusted",
        "axes": [
            {"name": axis, "type": TYPES.get(axis, "space"), **unit}
            for axis, unit in zip(axes, units, strict=True)
        ],
        "datasets": [
            {"path": str(number), "coordinateTransformations": _transformations(base, factors)}
            for number, factors in enumerate(totals)
        ],
        "type": "mean",
        "metadata": {"description": "means of neighbouring pixels, rounded down"},
    }
    colours = COLOURS if count == len(COLOURS) else ("FFFFFF",) * count
    channels = [{"color": colour, "window": WINDOW, "label": "mask", "active": True} for colour in colours]
    model = Image.model_validate({"version": "0.5", "multiscales": [image], "omero": {"channels": channels}})
    metadata: dict[str, Any] = model.model_dump(mode="json", exclude_none=True)
    return metadata


def _placement(under: SourceImage, axes: list[str]) -> Placement:
    """Return the placement of the image under a mask, by its geometry and, for an OME-Zarr, its metadata."""
    source = _placement_of_zarr(under.file_and_time[0], axes)
    if under.geometry is None:
        return source
    spacing, unit = under.geometry.spacing, NGFF_UNITS[under.geometry.unit]
    lead = len(axes) - len(spacing)
    units = (*source.units[:lead], *(unit,) * len(spacing))
    return Placement((*source.scale[:lead], *spacing), source.translation, units)


def _placement_of_zarr(folder: Path | None, axes: list[str]) -> Placement:
    """Return the placement stated by an OME-Zarr, but for c; scale 1, origin 0, no unit if it is unknown."""
    import zarr

    unknown = Placement((1.0,) * len(axes), (0.0,) * len(axes), (None,) * len(axes))
    if folder is None or not (folder.suffix == ".zarr" and folder.is_dir()):
        return unknown
    image = image_of(zarr.open_group(folder, mode="r").attrs)
    letters, others = axes_of(image), [axis for axis in axes if axis != "c"]
    if not set(others) <= set(letters):
        return unknown
    source, c = placement_of(image).of(letters, others), axes.index("c")
    return Placement(
        (*source.scale[:c], 1.0, *source.scale[c:]),
        (*source.translation[:c], 0.0, *source.translation[c:]),
        (*source.units[:c], None, *source.units[c:]),
    )


def _transformations(base: Placement, factors: Factors) -> list[dict[str, Any]]:
    """Return the transformations of a level; the centre of its first pixel, a mean, lies further in."""
    scale = [step * factor for step, factor in zip(base.scale, factors, strict=True)]
    centre = [
        origin + step * (factor - 1) / 2
        for origin, step, factor in zip(base.translation, base.scale, factors, strict=True)
    ]
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    return steps + ([{"type": "translation", "translation": centre}] if any(centre) else [])
