"""A file that declares more than memory should hold is refused before anything is decoded."""

import io
import json
import struct
import tracemalloc
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as Pillow

from conformask.errors import ImageError, InvalidArgumentError
from conformask.images.read import decode, image_and_header, open_raster, read_header, read_image
from hand_made_tiff import tiff
from leaves import asking

VARIABLE = "CONFORMASK_MAX_IMAGE_BYTES"
PIXELS = np.random.default_rng(0).integers(0, 256, (60, 50, 3)).astype(np.uint8)
NEEDED = 4 * 60 * 50 * 3
"""As float32."""
KINDS = ("png", "deep.png", "jpg", "tif", "zlib.tif", "tiles.tif", "npy", "zarr")
BY_ROWS = ("tif", "zlib.tif", "tiles.tif", "npy", "zarr")


def write(folder: Path, kind: str) -> Path:
    path = folder / f"a.{kind}"
    if kind.endswith("png"):
        path.write_bytes(imagecodecs.png_encode(PIXELS.astype(np.uint16) if kind == "deep.png" else PIXELS))
    elif kind == "jpg":
        Pillow.fromarray(PIXELS).save(path)
    elif kind.endswith("tif"):
        how = {"tile": (16, 16)} if kind == "tiles.tif" else {"rowsperstrip": 4}
        compression = None if kind == "tif" else "zlib"
        tifffile.imwrite(path, PIXELS, photometric="rgb", compression=compression, **how)
    elif kind == "npy":
        np.save(path, PIXELS)
    else:
        write_zarr(path, np.moveaxis(PIXELS, -1, 0), (1, 20, 20))
    return path


def write_zarr(path: Path, array: np.ndarray, chunks: tuple[int, ...]) -> None:
    axes = [{"name": name} for name in "cyx"]
    image = {"axes": axes, "datasets": [{"path": "0"}]}
    group = zarr.create_group(path, attributes={"ome": {"version": "0.5", "multiscales": [image]}})
    group.create_array("0", data=array, chunks=chunks)


@pytest.mark.parametrize("kind", [*KINDS[:-1], asking("formats", "zarr")])
def test_the_limit_counts_bytes_of_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = write(tmp_path, kind)
    monkeypatch.setenv(VARIABLE, str(NEEDED - 1))
    message = (
        rf"a\.{kind}, \(3, 60, 50\) \(C, \*space\) in float32, takes {NEEDED} bytes .* {VARIABLE} to {NEEDED}"
    )
    for read in (read_image, decode):
        with pytest.raises(ImageError, match=message):
            read(path)
    if kind in BY_ROWS:
        assert read_header(path).space == (60, 50)
    else:
        with pytest.raises(ImageError, match=message):
            read_header(path)
    monkeypatch.setenv(VARIABLE, str(NEEDED))
    assert read_image(path).shape == (3, 60, 50)


@pytest.mark.parametrize("kind", [*KINDS[:-1], asking("formats", "zarr")])
def test_windows_need_no_room_for_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """But for the formats that are decoded whole."""
    path = write(tmp_path, kind)
    whole = read_image(path)
    monkeypatch.setenv(VARIABLE, str(4 * 10 * 50 * 3))
    message = rf"a\.{kind}.* bytes of memory, but only 6000 are allowed"
    if kind not in BY_ROWS:
        with pytest.raises(ImageError, match=message):
            open_raster(path)
        return
    raster = open_raster(path)
    np.testing.assert_array_equal(raster.read((slice(20, 30), slice(0, 50))), whole[:, 20:30])
    with pytest.raises(ImageError, match=message):
        raster.read((slice(20, 31), slice(0, 50)))


@pytest.mark.parametrize("value", ["2GB", "-1", "", "1e9", "²"])
def test_the_variable_is_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    path = write(tmp_path, "png")
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(InvalidArgumentError, match=f"{VARIABLE} is .*; give a number of bytes, such as"):
        read_image(path)


def png(width: int, height: int, depth: int, colour_type: int) -> bytes:
    """All black, said in a few bytes."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(bytes(10000))), (b"IEND", b"")]
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in chunks:
        sums = struct.pack(">I", len(content)), struct.pack(">I", zlib.crc32(kind + content))
        parts += [sums[0], kind, content, sums[1]]
    return b"".join(parts)


def jpeg(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", (8, 8)).save(file, "JPEG")
    content = bytearray(file.getvalue())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", png(30000, 30000, 8, 0)),
        ("a.png", png(30000, 30000, 16, 2)),
        ("a.png", png(2**31 - 1, 2**31 - 1, 16, 6)),
        ("a.jpg", jpeg(65500, 65500)),
        ("a.png", jpeg(30000, 30000)),
    ],
)
def test_pixels_that_are_only_declared(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for read in (read_image, lambda path: open_raster(path).read((slice(0, 9), slice(0, 9)))):
        with pytest.raises(ImageError, match=rf"{name}, .* bytes of memory, but only {2**31} are allowed"):
            read(path)


@pytest.mark.filterwarnings("error")
def test_what_pillow_would_warn_of_is_read(tmp_path: Path) -> None:
    Pillow.new("L", (10000, 9000)).save(tmp_path / "a.jpg")
    assert decode(tmp_path / "a.jpg").shape == (9000, 10000)


def test_a_tile_that_is_larger_than_memory(tmp_path: Path) -> None:
    tile = imagecodecs.zlib_encode(bytes(1000))
    tags = {"TILE_WIDTH": 2**20, "TILE_HEIGHT": 2**20, "COMPRESSION": 8}
    path = tiff(tmp_path / "a.tif", (6, 7), [tile], **tags)
    for read in (read_image, read_header, open_raster):
        with pytest.raises(ImageError, match=rf"a tile of .*a\.tif takes {2**40} bytes"):
            read(path)


@pytest.mark.leaf("formats")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk_shape": [1, 10**6, 10**6]}, rf"a chunk of .*a\.zarr takes {10**12} bytes"),
        ({"shape": [3, 10**12, 10**12]}, r"a\.zarr is missing chunks c/0/0/3, c/0/0/4, c/0/0/5 and more"),
        ({"shape": [10**15, 60, 50]}, r"a\.zarr is missing chunks c/3/0/0"),
    ],
)
def test_a_zarr_of_absurd_shapes(tmp_path: Path, change: dict, message: str) -> None:
    file = write(tmp_path, "zarr") / "0" / "zarr.json"
    metadata = json.loads(file.read_text())
    if "chunk_shape" in change:
        metadata["chunk_grid"]["configuration"] |= change
    else:
        metadata |= change
    file.write_text(json.dumps(metadata))
    for read in (read_image, read_header, open_raster):
        with pytest.raises(ImageError, match=message):
            read(tmp_path / "a.zarr")


def test_an_npy_that_only_declares_its_numbers(tmp_path: Path) -> None:
    for shape in ("(60, 50, 90)", f"({2**40}, {2**40})", f"({2**62}, 4)", "(-1, 50, 3)", "(9000,)", "(0, 9)"):
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".ljust(117).encode() + b"\n"
        path = tmp_path / "a.npy"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(9000))
        for read in (read_image, read_header, open_raster):
            with pytest.raises(ImageError, match=r"a\.npy"):
                read(path)


def test_reading_takes_little_more_than_the_image() -> None:
    pixels = np.zeros((2048, 2048, 3), np.uint8)
    tracemalloc.start()
    try:
        image, _ = image_and_header(pixels)
        assert tracemalloc.get_traced_memory()[1] < 1.8 * image.nbytes
    finally:
        tracemalloc.stop()
