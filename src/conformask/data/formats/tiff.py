"""TIFF files of one image or volume, plain, ImageJ or OME: palettes looked up, turned upright."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from conformask.data.formats.format import Format
from conformask.data.formats.header import (
    ORIENTATION,
    SIDEWAYS,
    Header,
    ImageHandle,
    Window,
    bits_of,
    orientation_of,
    range_of,
    range_of_bits,
    upright,
    warn_transparent,
)
from conformask.data.formats.ome import (
    check_depths,
    geometry_of,
    other_files,
    significant_bits,
    steps_of_imagej,
    steps_of_xml,
)
from conformask.data.formats.tiff_masks import write_tiff_blocks, write_tiff_over
from conformask.data.formats.tiff_stack import PageStack, check_segments, stack_of
from conformask.errors import ImageError
from conformask.records.geometry import Geometry
from conformask.records.reading import Reading
from conformask.storage.as_arrays import Array

PALETTE = 3
"""Photometric interpretation of a palette."""
JPEG = (6, 7, 33007, 34892)
"""Compressions that decode YCbCr to RGB, unless its planes are stored separately."""
ALPHA = (1, 2)
"""Extra samples that hold the opacity of a pixel."""


@contextmanager
def open_tiff(path: Path, reading: Reading, time: int | None) -> Iterator[ImageHandle]:
    """Open the only image of a TIFF file, or one time point of it.

    Raises:
        ImageError: it is a stack of unknown axes, has several time points and none is named, has unsupported
            colours, or strips or tiles of it are missing.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        stack = stack_of(path, file, reading.axes).at(time)
        check_segments(stack)
        channels, colours = _colours(stack, as_stored=reading.as_stored)
        orientation = orientation_of(stack.page.tags.valueof(ORIENTATION))

        def decode() -> Array:
            return colours(_upright(stack, stack.decode(), orientation))

        def window() -> Window:
            view = stack.views()
            return lambda places: colours(_upright(stack, view(places[0]), orientation)[places])

        yield ImageHandle(_header(stack, channels, orientation >= SIDEWAYS), decode, window)


def companions_of_tiff(path: Path) -> list[Path]:
    """Return the other files in which planes of an OME-TIFF lie."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        xml = file.ome_metadata
    return [other for other in other_files(path, xml) if other.is_file()] if xml else []


def times_of_tiff(path: Path, reading: Reading) -> int | None:
    """Return the number of time points of a file; None where it has one, or no axis of time."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        times = stack_of(path, file, reading.axes).times
    return times if times is not None and times > 1 else None


def _upright(stack: PageStack, image: Array, orientation: int) -> Array:
    """Return a view of an image or volume, each plane turned upright."""
    if not stack.is_volume:
        return upright(image, orientation)
    turned = upright(image.swapaxes(0, 1).swapaxes(1, 2), orientation)  # (H, W, D) or (H, W, D, C)
    return turned.swapaxes(1, 2).swapaxes(0, 1)


def _colours(stack: PageStack, *, as_stored: bool) -> tuple[int, Callable[[Array], Array]]:
    """Return the number of channels, and a function that makes them from the stored numbers."""
    page, samples = stack.page, stack.samples
    kind = getattr(page.photometric, "name", page.photometric)
    if kind == "PALETTE" and samples == 1:
        # 16 bits, of which some writers fill only the lower 8
        entries = np.asarray(page.colormap)
        palette = (entries if entries.max() < 256 else entries >> 8).astype(np.uint8).T
        return 3, lambda array: np.take(palette, array, axis=0)
    if kind == "RGB" and samples >= 3:
        alpha = {3 + place for place, extra in enumerate(page.extrasamples) if extra in ALPHA}
        colours = [place for place in range(samples) if place not in alpha]
        return len(colours), lambda array: _without_alpha(stack.path, array, colours, sorted(alpha))
    becomes_rgb = kind == "YCBCR" and page.compression in JPEG and page.planarconfig == 1
    if kind not in ("MINISBLACK", "MINISWHITE") and not becomes_rgb:
        raise ImageError(f"{stack.path} has {kind} colours; save it as grey or RGB")
    with_alpha = samples == 2 and any(extra in ALPHA for extra in page.extrasamples[:1])
    black = _black(stack) if kind == "MINISWHITE" and not as_stored else None

    def grey(array: Array) -> Array:
        planes = _without_alpha(stack.path, array, [0], [1])[..., 0] if with_alpha else array
        return planes if black is None else planes ^ black  # all bits flipped: black - planes

    return 1 if with_alpha else samples, grey


def _without_alpha(path: Path, array: Array, colours: list[int], alpha: list[int]) -> Array:
    """Return the samples without alpha; warn where pixels are transparent."""
    if not alpha:
        return array
    warn_transparent(path, array[..., alpha])
    alpha_is_last = colours == list(range(len(colours)))
    return array[..., : len(colours)] if alpha_is_last else array[..., colours]


def _black(stack: PageStack) -> Any:
    """Return the number that means black, where 0 is white."""
    dtype = stack.series.dtype
    if dtype.kind not in "bu":
        raise ImageError(f"{stack.path} contains {dtype} and states that 0 is white; save it with 0 as black")
    return dtype.type(2 ** _bits(stack) - 1)


def _bits(stack: PageStack) -> int:
    """Return the bits of one sample, by the OME-XML or else the TIFF; RGB of 5, 6 and 5 bits decodes to 8."""
    bits = stack.page.bitspersample
    if stack.series.kind == "ome" and stack.series.dtype.kind == "u":
        return significant_bits(stack.series.parent.ome_metadata or "") or 8 * stack.series.dtype.itemsize
    return bits if isinstance(bits, int) else 8 * stack.series.dtype.itemsize


def _header(stack: PageStack, channels: int, sideways: bool) -> Header:
    """Return the header of the upright image; palette colours have 8 bits, whatever their indices have."""
    dtype, bits = stack.series.dtype, _bits(stack)
    if stack.page.photometric == PALETTE:
        dtype, bits = np.dtype(np.uint8), 8
    packed = dtype.kind == "u" and bits < 8 * dtype.itemsize <= 16
    data_range = range_of_bits(bits) if packed else range_of(dtype, str(stack.path))
    axes = ("Z" if stack.is_volume else "") + ("XY" if sideways else "YX")
    space = tuple(stack.sides[axis] for axis in axes)
    geometry, is_lossy = _geometry(stack, axes), stack.page.compression in JPEG
    return Header(channels, space, bits_of(dtype), data_range, geometry, is_lossy=is_lossy)


def _geometry(stack: PageStack, axes: str) -> Geometry | None:
    """Return the physical sizes that OME-XML or ImageJ state; dots per inch are not such sizes."""
    file, kind = stack.series.parent, stack.series.kind
    if kind == "ome":
        xml = file.ome_metadata or ""
        geometry = geometry_of(steps_of_xml(xml, axes))
        if geometry is not None and stack.is_volume:
            check_depths(stack.path, xml, stack.time, geometry, stack.sides["Z"])
        return geometry
    if kind == "imagej":
        return geometry_of(steps_of_imagej(file.imagej_metadata or {}, stack.page.tags, axes))
    return None


def write_tiff(path: Path, array: Array) -> None:
    """Write integers (H, W) or (H, W, 3) of 8 or 16 bits."""
    import tifffile

    kind = "minisblack" if array.ndim == 2 else "rgb"
    tifffile.imwrite(path, array, photometric=kind, compression="zlib")


TIFF = Format(
    open_tiff,
    write_tiff,
    write_over=write_tiff_over,
    write_blocks=write_tiff_blocks,
    volumes=True,
    films=True,
    mask_suffix=None,
    times=times_of_tiff,
    companions=companions_of_tiff,
)
