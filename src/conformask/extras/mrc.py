"""MRC2014: micrographs, stacks, tomograms; masks with the header of their image. Needs the extra mrc.

A volume is one image (Z, Y, X), a stack is a time series of images (Y, X); lengths are in Ångström.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np

from conformask.errors import ImageError, warn_once
from conformask.extensions import required
from conformask.images.formats import (
    Blocks,
    DiskArray,
    Format,
    Header,
    ImageHandle,
    Shape,
    SourceImage,
    bits_of,
    range_of,
    time_point,
    window_of,
)
from conformask.records.reading import UNITS, Geometry, Reading
from conformask.records.record import Array

SUFFIXES = (".mrc", ".mrcs", ".map", ".rec", ".st")
OF_STACKS, OF_VOLUMES = (".mrcs", ".st"), (".map", ".rec")
"""Suffixes that say what a file is whose header does not."""
HEADER_BYTES = 1024
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
"""Type of the values by mode."""
OTHER_MODES = {3: "complex integers", 4: "complex numbers", 16: "colours", 101: "integers of 4 bits"}
BYTE_ORDERS = {0x44: "<", 0x11: ">"}
"""Order of bytes by the first byte of the machine stamp."""
OF_IMOD = 1146047817
"""Number at byte 152 of files written by IMOD."""
STACK, VOLUME, VOLUMES = 0, 1, 401
"""Space groups of a stack of images, of a volume, and the first of stacks of volumes."""
LAST_OF_VOLUME, LAST_OF_VOLUMES = 230, 630
PER_NM = 10
"""Ångström in a nanometre."""
LONGEST = 1e6
"""The longest step in nm from voxel to voxel, 1 mm, that is taken for one."""
AXES = ("ZYX", "TYX", "TZYX")
MASK = "conformask mask, 1 = trusted"
"""Label in the header of masks."""


@dataclass(frozen=True)
class MrcFile:
    """The header of an MRC file, and what its sections are."""

    path: Path
    header: Any
    """A record of mrcfile's HEADER_DTYPE."""
    count: int | None
    """Number of images in a stack; None for one image."""
    depth: int | None
    """Number of planes of a volume; None for images (H, W)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored type; IMOD's bytes are unsigned unless it states that they are signed."""
        header, mode = self.header, int(self.header["mode"])
        extra = np.frombuffer(header["extra2"].tobytes()[40:48], header["mode"].dtype)
        unsigned = mode == 0 and extra[0] == OF_IMOD and not extra[1] & 1
        return np.dtype("u1" if unsigned else MODES[mode]).newbyteorder(header["mode"].dtype.byteorder)

    @property
    def sides(self) -> tuple[int, ...]:
        """Number of sections, rows and columns."""
        return tuple(int(self.header[name]) for name in ("nz", "ny", "nx"))

    @property
    def offset(self) -> int:
        """Byte at which the values begin, after the extended header."""
        return HEADER_BYTES + int(self.header["nsymbt"])

    @property
    def geometry(self) -> Geometry | None:
        """Voxel size in nm; None where the header states none, or with a warning one that no image has."""
        axes = "yx" if self.depth is None else "zyx"
        steps = [step_of(self.header, axis) / PER_NM for axis in axes]
        spacing = tuple(float(f"{step:.7g}") for step in steps)  # the header has float32
        if max(spacing) > LONGEST:
            warn_once(
                "cell",
                f"{self.path} states voxels of {max(spacing):.4g} nm: its spacing is ignored, here and in "
                "files like it. Correct its cell, such as with IMOD's alterheader -del",
            )
        return Geometry(spacing, "nm") if min(spacing) > 0 and max(spacing) <= LONGEST else None

    def image(self, time: int) -> Array:
        """Return an image of the file, which is mapped."""
        mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.sides)
        if self.depth is None:
            return np.asarray(mapped[time])
        return np.asarray(mapped[time * self.depth : (time + 1) * self.depth])


def step_of(header: Any, axis: str) -> float:
    """Return the step from voxel to voxel along x, y or z in Ångström; 0 where it is unknown."""
    cell, intervals = float(header["cella"][axis]), int(header[f"m{axis}"])
    return cell / intervals if intervals > 0 and isfinite(cell) and cell > 0 else 0.0


def load_mrc(path: Path, axes: str | None) -> MrcFile:
    """Read and check the header of a file.

    Args:
        path: the file.
        axes: ZYX, TYX or TZYX, which count where there are several sections; None as the header says.
    """
    header = _header_of(path)
    counts = [int(header[name]) for name in ("nx", "ny", "nz")]
    if min(counts) < 1 or header["nsymbt"] < 0:
        raise ImageError(f"{path} states {counts} columns, rows and sections: it is damaged; copy it again")
    if int(header["mode"]) not in MODES:
        what = OTHER_MODES.get(int(header["mode"]), "an unknown type")
        raise ImageError(
            f"{path} has mode {header['mode']}, {what}: modes 0, 1, 2, 6 and 12 are read; convert it, such "
            "as with IMOD's newstack -mode 2"
        )
    order = tuple(int(header[name]) for name in ("mapc", "mapr", "maps"))
    if order not in ((1, 2, 3), (0, 0, 0)):
        raise ImageError(
            f"{path} stores its axes in the order {order} (MAPC, MAPR, MAPS): write it again as (1, 2, 3)"
        )
    file = MrcFile(path, header, *_layout(path, header, axes))
    expected, size = file.offset + prod(file.sides) * file.dtype.itemsize, path.stat().st_size
    if size != expected:
        remedy = (
            "it is truncated; copy it again" if size < expected else "its header is wrong; write it again"
        )
        raise ImageError(f"{path} has {size} bytes, but its header states {expected}: {remedy}")
    return file


def _header_of(path: Path) -> Any:
    dtype = required("mrcfile.dtypes", path, "mrc").HEADER_DTYPE
    with path.open("rb") as file:
        content = file.read(HEADER_BYTES)
    if len(content) < HEADER_BYTES:
        raise ImageError(
            f"{path} has {len(content)} bytes, fewer than the header of an MRC file: copy it again"
        )
    header = np.frombuffer(content, dtype).reshape(())
    order = BYTE_ORDERS.get(int(header["machst"][0]))
    if header["map"].item()[:3] != b"MAP" or order is None:
        raise ImageError(
            f"{path} is not an MRC2014 file, as MAP and the machine stamp at bytes 208 to 215 say: write it "
            "again, such as with IMOD's newstack"
        )
    return np.frombuffer(content, dtype.newbyteorder(order)).reshape(())


def _layout(path: Path, header: Any, axes: str | None) -> tuple[int | None, int | None]:
    """Return the number of images in a stack, and the number of planes of a volume."""
    sections, intervals, group = (int(header[name]) for name in ("nz", "mz", "ispg"))
    if sections == 1:
        return None, None
    kind = axes or _axes_of(path, sections, intervals, group)
    if kind == "ZYX":
        return None, sections
    if kind == "TYX":
        return sections, None
    if kind not in AXES:
        raise ImageError(
            f"{path} has {sections} sections, which do not match the given axes {axes}: give ZYX for a "
            "volume, TYX for a stack of images or TZYX for one of volumes"
        )
    if intervals < 1 or sections % intervals:
        raise ImageError(
            f"{path} has {sections} sections, which are not volumes of {intervals} (MZ): write it again"
        )
    return sections // intervals, intervals


def _axes_of(path: Path, sections: int, intervals: int, group: int) -> str:
    """Return what the header states: the space group, and for group 0 the number of intervals along z."""
    if VOLUME <= group <= LAST_OF_VOLUME:
        return "ZYX"
    if VOLUMES <= group <= LAST_OF_VOLUMES:
        return "TZYX"
    if group == STACK and intervals == 1:
        return "TYX"
    suffix = path.suffix.lower()
    if group == STACK and suffix in OF_STACKS + OF_VOLUMES:
        return "TYX" if suffix in OF_STACKS else "ZYX"
    raise ImageError(
        f"{path} has {sections} sections, space group {group} and MZ {intervals}, which says neither a "
        "volume nor a stack: name its axes, --axes ZYX for a volume or TYX for a stack of images"
    )


def open_mrc(path: Path, reading: Reading, time: int | None) -> AbstractContextManager[ImageHandle]:
    """Open an image of a file, which is mapped."""
    file = load_mrc(path, reading.axes)
    place = time_point(path, file.count, time)
    planes = () if file.depth is None else (file.depth,)
    space, dtype = (*planes, *file.sides[1:]), file.dtype
    header = Header(1, space, bits_of(dtype), range_of(dtype, str(path)), file.geometry)
    return nullcontext(
        ImageHandle(header, lambda: np.array(file.image(place)), lambda: window_of(file.image(place)))
    )


def times_of_mrc(path: Path, reading: Reading) -> int | None:
    """Return the number of images in a stack; None for a file with one image."""
    return load_mrc(path, reading.axes).count


def write_mrc_blocks(path: Path, shape: Shape, blocks: Blocks, block: int, under: SourceImage) -> None:
    """Write a mask as float32 from 0 to 1, or labels as uint16, with the header of its image.

    It uses a temporary file, as large as the mask.
    """
    _check_channels(path, shape)
    stored = DiskArray(shape[1:], np.dtype("<u2" if under.is_labels else "<f4"), path.parent, reserve=True)
    for places, values in blocks:
        stored[places] = values[0] if under.is_labels else np.clip(values[0], 0, 1)
    planes = (stored[tuple(slice(i, i + 1) for i in place)] for place in np.ndindex(shape[1:-2]))
    _write(path, stored.shape, stored.dtype, planes, under, "" if under.is_labels else MASK)


def write_mrc(path: Path, image: Array, under: SourceImage) -> None:
    """Write an image (1, *space) as float32, with the header of the image that it was made from."""
    _check_channels(path, image.shape)
    planes = (image[0][place] for place in np.ndindex(image.shape[1:-2]))
    _write(path, image.shape[1:], np.dtype("<f4"), planes, under, "")


def _check_channels(path: Path, shape: Shape) -> None:
    if shape[0] != 1:
        raise ImageError(f"{path} cannot store {shape[0]} channels: MRC has one; OME-TIFF and npy have more")


def _write(
    path: Path, sides: Shape, dtype: np.dtype[Any], planes: Iterator[Array], under: SourceImage, label: str
) -> None:
    """Write planes one after the other, and then the header with their statistics."""
    header = _new_header(path, sides, under)
    header["mode"] = next(mode for mode, kind in MODES.items() if np.dtype(kind).newbyteorder("<") == dtype)
    header["nlabl"], header["label"] = bool(label), b""
    header["label"][0] = label.encode()
    low, high, total, squares, count = np.inf, -np.inf, 0.0, 0.0, prod(sides)
    with path.open("wb") as file:
        file.seek(HEADER_BYTES)
        for plane in planes:
            values = plane.astype(np.float64)
            low, high = min(low, values.min()), max(high, values.max())
            total, squares = total + values.sum(), squares + np.square(values).sum()
            file.write(plane.astype(dtype).tobytes())
        mean = total / count
        header["dmin"], header["dmax"], header["dmean"] = low, high, mean
        header["rms"] = max(squares / count - mean**2, 0) ** 0.5
        file.seek(0)
        file.write(header.tobytes())


def _new_header(path: Path, sides: Shape, under: SourceImage) -> Any:
    """Return the header of the image under the mask, in little endian, or a new one with its spacing.

    What describes the image alone is left out: its extended header, labels and program's own entries.
    """
    dtype = required("mrcfile.dtypes", path, "mrc").HEADER_DTYPE.newbyteorder("<")
    source, _ = under.file_and_time
    header = np.zeros((), dtype)
    if source is not None and source.name.lower().endswith(SUFFIXES):
        header = load_mrc(source, under.reading.axes).header.astype(dtype)
    elif under.geometry is not None:
        for axis, step in zip("xyz", reversed(under.geometry.spacing), strict=False):
            header["cella"][axis] = step * UNITS[under.geometry.unit] / UNITS["nm"] * PER_NM
            header[f"m{axis}"] = 1
    return _adapted(header, sides, under)


def _adapted(header: Any, sides: Shape, under: SourceImage) -> Any:
    """Return a header for sides ([T, ][Z, ]Y, X), whose voxels keep their size."""
    is_volume = len(sides) - under.is_film == 3
    for axis, side in zip("xyz", (sides[-1], sides[-2], sides[-3] if is_volume else 1), strict=True):
        step = step_of(header, axis)
        if header[f"n{axis}"] != side:
            header[f"m{axis}"], header["cella"][axis] = side, step * side
    header["nx"], header["ny"], header["nz"] = sides[-1], sides[-2], prod(sides[:-2])
    header["ispg"] = (VOLUMES if under.is_film else VOLUME) if is_volume else STACK
    header["nsymbt"], header["exttyp"], header["extra1"], header["extra2"] = 0, b"", b"", b""
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["cellb"], header["nversion"] = (90, 90, 90), 20141
    header["map"], header["machst"] = b"MAP ", (0x44, 0x44, 0, 0)
    return header


MRC = Format(
    open_mrc,
    write_over=write_mrc,
    write_blocks=write_mrc_blocks,
    volumes=True,
    films=True,
    mask_suffix=None,
    times=times_of_mrc,
)
