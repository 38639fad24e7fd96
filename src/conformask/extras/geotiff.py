"""GeoTIFF and COG: scenes with coordinates, and masks with those of their scene. Needs the extra geotiff.

Bands are channels, and what a file declares as nodata is NaN. What lies beside the file does not count.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from importlib.util import find_spec
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np

from conformask.errors import ImageError, one_line, warn_once
from conformask.extensions import pip_install, required
from conformask.images.formats import (
    Blocks,
    DiskArray,
    Format,
    Header,
    ImageHandle,
    Places,
    Shape,
    SourceImage,
    bits_of,
    check_memory,
    range_of,
    rounded_down,
)
from conformask.records.reading import Geometry, Ground, Reading
from conformask.records.record import Array

COORDINATES = (33550, 34264, 34735)
"""TIFF tags of coordinates: the size of pixels, a matrix, the coordinate system."""
STRETCHED = 3857
"""EPSG code of web maps, whose metres are longer than those on the ground, but at the equator."""
SHEARED = 0.01
"""Cosine of the angle between rows and columns from which on pixels are no rectangles."""
ALONE = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}
"""Settings of GDAL by which it neither reads nor writes files beside an image."""


def is_geotiff(path: Path) -> bool:
    """Return whether a TIFF file states coordinates, and rasterio is there to read them.

    Warns:
        ConformaskWarning: rasterio is missing, once per process; the file is then read as any other TIFF.
    """
    try:
        state = path.stat()
    except OSError:
        return False
    if not _states_coordinates(path, state.st_mtime_ns, state.st_size):
        return False
    if find_spec("rasterio") is not None:
        return True
    warn_once(
        "rasterio",
        f"{path} is a GeoTIFF, and read as a plain TIFF: coordinates and nodata are ignored, in this image "
        f"and in others, and masks have no coordinates. To keep them: {pip_install('geotiff')}",
    )
    return False


@lru_cache(maxsize=2**14)
def _states_coordinates(path: Path, time: int, size: int) -> bool:
    """Return whether the first image of a file, of this time and size, has a tag of coordinates."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            tags = file.pages.first.tags
            return any(code in tags for code in COORDINATES)
    except Exception:  # of any type; the reader of TIFF says what is wrong
        return False


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file as a dataset of rasterio, which is used in one thread alone."""
    rasterio = required("rasterio", path, "geotiff")
    with rasterio.Env(**ALONE), rasterio.open(path, driver="GTiff") as dataset:
        yield dataset


def open_geotiff(path: Path, reading: Reading, time: int | None) -> AbstractContextManager[ImageHandle]:
    """Open the image of a file; windows are read from the blocks that they touch."""
    with _opened(path) as dataset:
        _check(path, dataset)
        dtype, bands = np.dtype(dataset.dtypes[0]), _bands(dataset)
        header = Header(
            len(bands),
            dataset.shape,
            bits_of(dtype),
            range_of(dtype, str(path)),
            _geometry(path, dataset),
            ground=_ground(dataset),
            is_lossy="JPEG" in str(dataset.profile.get("compress", "")).upper(),
        )
    read = partial(_window, path, reading)
    return nullcontext(ImageHandle(header, lambda: read(header.everywhere), lambda: read))


def _check(path: Path, dataset: Any) -> None:
    """Raise for a file that is damaged, or holds no single image."""
    if dataset.subdatasets:
        raise ImageError(f"{path} holds {len(dataset.subdatasets)} images: write each to its own file")
    if len(set(dataset.dtypes)) > 1:
        raise ImageError(f"{path} has bands of types {', '.join(dataset.dtypes)}: write them with one type")
    rows, columns = dataset.block_shapes[0]
    values = rows * columns * (dataset.count if dataset.profile.get("interleave") == "pixel" else 1)
    check_memory(
        f"a block of {path}, {rows} x {columns} pixels,", values * np.dtype(dataset.dtypes[0]).itemsize
    )
    starts, counts = _segments(path)
    size, missing = path.stat().st_size, int((counts == 0).sum())
    if len(starts) and int((starts + counts).max()) > size:
        raise ImageError(
            f"{path} has {size} bytes, but its last block ends at byte {int((starts + counts).max())}: it is "
            "truncated; copy it again"
        )
    if missing and dataset.nodata is None:
        raise ImageError(
            f"{path} lacks {missing} of {len(counts)} blocks, and states no value for nodata: write them, or "
            "state one (gdal_edit -a_nodata)"
        )


def _segments(path: Path) -> tuple[Array, Array]:
    """Return where the blocks of the full resolution begin, and their numbers of bytes."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            starts, counts = (np.array(each, np.int64) for each in (page.dataoffsets, page.databytecounts))
    except Exception as error:  # the type depends on where the file is damaged
        raise ImageError(f"{path} does not say where its blocks lie: it is damaged; copy it again") from error
    if len(starts) != len(counts):
        raise ImageError(
            f"{path} states {len(starts)} beginnings and {len(counts)} sizes of blocks: it is damaged; copy "
            "it again"
        )
    return starts, counts


def _bands(dataset: Any) -> list[int]:
    """Return the numbers of the bands but for alpha."""
    return [
        band for band, kind in zip(dataset.indexes, dataset.colorinterp, strict=True) if kind.name != "alpha"
    ]


def _geometry(path: Path, dataset: Any) -> Geometry | None:
    """Return the size of pixels in metres; None in degrees, where metres are stretched, and of sheared ones.

    Warns:
        ConformaskWarning: pixels are sheared, once per process.
    """
    crs, matrix = dataset.crs, dataset.transform
    if crs is None or not crs.is_projected or matrix.is_identity or crs.to_epsg() == STRETCHED:
        return None
    down, right = hypot(matrix.b, matrix.e), hypot(matrix.a, matrix.d)
    if abs(matrix.a * matrix.b + matrix.d * matrix.e) > SHEARED * down * right:
        warn_once(
            "sheared",
            f"{path} has sheared pixels, whose rows and columns do not meet at right angles: no spacing is "
            "read, of this image and of others like it. Promises in metres need one: warp it (gdalwarp)",
        )
        return None
    metres = crs.linear_units_factor[1]
    return Geometry((metres * down, metres * right), "m")


def _ground(dataset: Any) -> Ground | None:
    """Return where an image lies; None where its file has no matrix, as with ground control points."""
    matrix, (height, width) = dataset.transform, dataset.shape
    if matrix.is_identity:
        return None
    a, b, c, d, e, f = matrix[:6]
    corners = (c, f), (c + a * width, f + d * width), (c + b * height, f + e * height)
    return Ground(dataset.crs.to_epsg() if dataset.crs else None, corners)


def _window(path: Path, reading: Reading, places: Places) -> Array:
    """Return a window of the bands, (H, W) or (H, W, C); NaN, or 0 in layers of integers, for nodata."""
    with _opened(path) as dataset:
        window = required("rasterio.windows", path, "geotiff").Window.from_slices(*places)
        bands = _bands(dataset)
        flags = {flag.name for band in bands for flag in dataset.mask_flag_enums[band - 1]}
        try:
            values: Array = dataset.read(bands, window=window)
            nodata = None if flags == {"all_valid"} else dataset.read_masks(bands, window=window) == 0
        except OSError as error:  # rasterio's own are of this kind
            where = " and ".join(f"{span.start} to {span.stop}" for span in places)
            raise ImageError(
                f"{path}: a block of the rows and columns {where} cannot be decoded "
                f"({one_line(error.__cause__ or error)}): it is damaged; copy it again"
            ) from error
    values = values if nodata is None else _without_nodata(path, reading, values, nodata)
    return values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)


def _without_nodata(path: Path, reading: Reading, values: Array, nodata: Array) -> Array:
    if reading.as_stored and values.dtype.kind in "bui":  # regions and labels
        return np.where(nodata, values.dtype.type(0), values)
    if nodata.any() and reading.nan is None and not reading.as_stored:
        raise ImageError(
            f"{path} has pixels without data: leave them out of the promise, nan='outside' (--nan outside)"
        )
    kind = np.result_type(values.dtype, np.float32)  # float64 for integers of more than 16 bits
    return np.where(nodata, kind.type(np.nan), values.astype(kind))


def write_geotiff_blocks(path: Path, shape: Shape, blocks: Blocks, block: int, under: SourceImage) -> None:
    """Write a mask of 16 bits, or labels, with coordinates and blocks of its scene, by a temporary file."""
    mask = DiskArray(shape, np.dtype(np.uint16), path.parent, reserve=True)
    for places, values in blocks:
        mask[:, *places] = rounded_down(values)
    _write(path, mask, under, "nearest" if under.is_labels else "average")


def write_geotiff(path: Path, image: Array, under: SourceImage) -> None:
    """Write an image (C, H, W) as float32, with the coordinates of the scene that it was made from."""
    _write(path, image.astype(np.float32), under, "average")


def _write(path: Path, image: Any, under: SourceImage, resampling: str) -> None:
    """Write an array with shape and windows, block by block, and its overviews; a COG is copied as one."""
    rasterio = required("rasterio", path, "geotiff")
    source, _ = under.file_and_time
    assert source is not None
    with _opened(source) as scene:
        profile, overviews = _profile(scene, image), scene.overviews(1)
        is_cog = scene.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
        tags = {name: value for name, value in scene.tags().items() if name == "AREA_OR_POINT"}
    plain = path.with_name(f"{path.name}.plain.tif") if is_cog else path
    try:
        with rasterio.Env(**ALONE, COMPRESS_OVERVIEW="DEFLATE"):
            with rasterio.open(plain, "w", **profile) as file:
                for _, window in file.block_windows(1):
                    file.write(image[(slice(None), *window.toslices())], window=window)
                file.update_tags(**tags)
            if overviews:
                with rasterio.open(plain, "r+") as file:
                    file.build_overviews(overviews, rasterio.enums.Resampling[resampling])
            if is_cog:
                _copy_as_cog(plain, path, profile)
    finally:
        if is_cog:
            plain.unlink(missing_ok=True)


def _profile(scene: Any, image: Any) -> dict[str, Any]:
    """Return how an image (C, H, W) is stored: where the scene lies and, in its size, with its blocks."""
    bands, rows, columns = image.shape
    (height, width), matrix = scene.shape, scene.transform
    (points, system), blocks = scene.gcps, scene.block_shapes[0]
    place = (
        {"gcps": points, "crs": system} if points and (rows, columns) == scene.shape else {"crs": scene.crs}
    )
    if not matrix.is_identity:
        (a, b, c, d, e, f), x, y = matrix[:6], width / columns, height / rows
        place["transform"] = type(matrix)(a * x, b * y, c, d * x, e * y, f)
    tiled = scene.profile.get("tiled", False)
    layout = {"blockysize": blocks[0], **({"blockxsize": blocks[1]} if tiled else {}), "tiled": tiled}
    return {
        "driver": "GTiff",
        "dtype": image.dtype,
        "count": bands,
        "height": rows,
        "width": columns,
        "interleave": scene.profile.get("interleave", "pixel"),
        "compress": "deflate",
        "bigtiff": "if_safer",
        "photometric": "minisblack",
        **layout,
        **place,
    }


def _copy_as_cog(plain: Path, path: Path, profile: dict[str, Any]) -> None:
    """Copy a TIFF, with its overviews, as a cloud-optimised one."""
    required("rasterio.shutil", path, "geotiff").copy(
        plain,
        path,
        driver="COG",
        blocksize=profile.get("blockxsize", profile["blockysize"]),
        compress="deflate",
        bigtiff="if_safer",
        overviews="force_use_existing",
    )


GEOTIFF = Format(
    open_geotiff,
    write_over=write_geotiff,
    rescales=True,
    write_blocks=write_geotiff_blocks,
    any_channels=True,
    mask_suffix=None,
    recognises=is_geotiff,
)
