"""One photograph is one image, whatever its format says of how to turn it; against Pillow's own turns."""

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageOps

from conformask.images.read import decode, open_raster, read_header, read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 32, 3)).astype(np.uint8)
DEEP = PIXELS.astype(np.uint16) * 257 ^ 3
PALETTE = np.random.default_rng(1).integers(0, 65536, (3, 256)).astype(np.uint16)


def exif(orientation: int) -> Pillow.Exif:
    tags = Pillow.Exif()
    tags[274] = orientation
    return tags


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """By Pillow, channel by channel."""
    planes = []
    for plane in np.moveaxis(np.atleast_3d(pixels), -1, 0):
        image = Pillow.fromarray(plane)
        image.getexif()[274] = orientation
        planes.append(np.asarray(ImageOps.exif_transpose(image)))
    return np.stack(planes)


def png(pixels: np.ndarray, orientation: int, late: bool = False) -> bytes:
    """With the orientation before or after the pixels."""
    content, tags = imagecodecs.png_encode(pixels), b"eXIf" + exif(orientation).tobytes()[6:]
    at = len(content) - 12 if late else 33
    chunk = struct.pack(">I", len(tags) - 4) + tags + struct.pack(">I", zlib.crc32(tags))
    return content[:at] + chunk + content[at:]


def tiff(path: Path, pixels: np.ndarray, orientation: int, **more) -> None:
    tifffile.imwrite(path, pixels, extratags=[(274, "H", 1, orientation, True)], **more)


def write(folder: Path, kind: str, orientation: int) -> tuple[Path, np.ndarray]:
    """A file of that kind, and the pixels that are stored in it."""
    path = folder / f"a.{kind.split()[-1]}"
    stored = PIXELS[..., 0].copy() if kind in ("grey png", "palette tif", "white tif") else PIXELS
    if kind == "jpg":
        Pillow.fromarray(PIXELS).save(path, exif=exif(orientation))
        stored = np.asarray(Pillow.open(path))
    elif kind.endswith("png"):
        stored = DEEP if kind == "deep png" else stored
        path.write_bytes(png(stored, orientation, kind == "late png"))
    elif kind == "tif":
        stored = DEEP
        tiff(path, DEEP, orientation, photometric="rgb", byteorder=">")
    elif kind == "tiles tif":
        tiff(path, PIXELS, orientation, photometric="rgb", tile=(16, 16), compression="zlib")
    elif kind == "planes tif":
        tiff(path, np.moveaxis(PIXELS, -1, 0), orientation, photometric="rgb", planarconfig="separate")
    elif kind == "white tif":
        tiff(path, 255 - stored, orientation, photometric="miniswhite")
    else:
        tiff(path, stored, orientation, photometric="palette", colormap=PALETTE)
        stored = np.moveaxis((PALETTE >> 8).astype(np.uint8)[:, stored], 0, -1)
    return path, stored


KINDS = ("jpg", "png", "grey png", "late png", "deep png", "tif", "tiles tif", "planes tif", "palette tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [*KINDS, "white tif"])
def test_every_format_is_turned_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    path, stored = write(tmp_path, kind, orientation)
    expected = turned(stored, orientation)
    array, header, raster = decode(path), read_header(path), open_raster(path)
    np.testing.assert_array_equal(np.moveaxis(np.atleast_3d(array), -1, 0), expected)
    assert header.shape == expected.shape
    assert raster.size == expected.shape[1:]
    whole = read_image(path)
    np.testing.assert_array_equal(raster.read((slice(5, 21), slice(3, 30))), whole[:, 5:21, 3:30])
    np.testing.assert_array_equal(raster.read(header.everywhere), whole)


@pytest.mark.parametrize("value", [0, 9, 65535])
@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
def test_a_value_that_is_no_orientation_turns_nothing(tmp_path: Path, kind: str, value: int) -> None:
    path, stored = write(tmp_path, kind, value)
    np.testing.assert_array_equal(decode(path), stored)


def test_the_same_photograph_in_two_formats_is_the_same_image(tmp_path: Path) -> None:
    """x as the camera saved it, y_hat as another program did."""
    flat = np.repeat(np.repeat([[[200, 40, 90], [20, 200, 10]]], 32, 0), 16, 1).astype(np.uint8)
    Pillow.fromarray(flat).save(tmp_path / "a.jpg", exif=exif(6), quality=95, subsampling=0)
    (tmp_path / "a.png").write_bytes(png(flat, 6))
    tiff(tmp_path / "a.tif", flat, 6, photometric="rgb")
    camera = read_image(tmp_path / "a.jpg")
    for name in ("a.png", "a.tif"):
        np.testing.assert_allclose(read_image(tmp_path / name), camera, atol=0.1)
