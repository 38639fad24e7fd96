"""Images of any format: read, written, refused before they fill memory, and shown in pictures."""

import gc
import io
import json
import os
import struct
import time
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as Pillow

from conformask import errors
from conformask.errors import ConformaskError, ImageError, InvalidArgumentError, MissingFileError, OutputError
from conformask.images import pictures as pixels, svg
from conformask.images.formats import SourceImage
from conformask.images.layers import region_of_array
from conformask.images.pictures import planes_of, select_slices
from conformask.images.read import (
    LONGEST_NAME,
    check_name,
    decode,
    image_and_header,
    is_constant,
    list_images,
    open_raster,
    pixel_hash,
    quantised,
    read_header,
    read_image,
    write_blocks,
    write_image,
)
from conformask.records.reading import PLAIN, Geometry, Reading, affine_of
from leaves import asking
from stacks import packed, tiff

SUFFIXES = (".png", ".tif", ".tiff")


def read_array(array, *more, **named):
    """What a user's array becomes, (C, *space) in [0, 1]."""
    return image_and_header(array, *more, **named)[0]


def levels(channels, bits, seed=0):
    """All extremes and every kind of level, as a file would hold them."""
    rng = np.random.default_rng(seed)
    top = 2**bits - 1
    image = rng.integers(0, top, (channels, 37, 29), endpoint=True)
    image.reshape(-1)[:4] = (0, top, 1, top - 1)
    return (image / top).astype(np.float32)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("round_down", [False, True])
def test_a_quantised_image_comes_back_identical(tmp_path, suffix, bits, channels, round_down):
    image = levels(channels, bits)
    path = tmp_path / f"image{suffix}"
    write_image(path, image, bits=bits, round_down=round_down)
    back = read_image(path)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, image)
    assert decode(path).dtype == (np.uint8 if bits == 8 else np.uint16)
    header = read_header(path)
    assert (*header.shape, header.bits) == (channels, 37, 29, bits)


@pytest.mark.parametrize("bits", [8, 16])
def test_every_level_survives_rounding_down(tmp_path, bits):
    top = 2**bits - 1
    image = (np.arange(top + 1) / top).astype(np.float32).reshape(1, 16, -1)
    write_image(tmp_path / "all.png", image, bits=bits, round_down=True)
    np.testing.assert_array_equal(read_image(tmp_path / "all.png"), image)


@pytest.mark.parametrize("bits", [8, 16])
def test_rounding_down_never_raises_a_value(tmp_path, bits):
    image = np.random.default_rng(0).random((1, 200, 200), dtype=np.float32)
    image[0, 0, 0] = np.nextafter(np.float32(1), np.float32(0))
    write_image(tmp_path / "down.png", image, bits=bits, round_down=True)
    write_image(tmp_path / "near.png", image, bits=bits)
    down, near = read_image(tmp_path / "down.png"), read_image(tmp_path / "near.png")
    step = 1 / (2**bits - 1)
    assert (down <= image).all()
    assert (image - down < step * 1.001).all()
    assert np.abs(near - image).max() <= step / 2 * 1.001
    assert (near > image).any()
    np.testing.assert_array_equal(near, quantised(image, bits))


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_npy_keeps_float32(tmp_path, channels):
    image = np.random.default_rng(1).random((channels, 9, 7), dtype=np.float32)
    write_image(tmp_path / "image.npy", image)
    np.testing.assert_array_equal(read_image(tmp_path / "image.npy"), image)
    assert read_header(tmp_path / "image.npy").channels == channels
    assert list(tmp_path.iterdir()) == [tmp_path / "image.npy"]


def test_16_bit_colour_png_keeps_its_low_bits(tmp_path):
    pixels = np.array([[[1, 257, 300], [65535, 65534, 0]]], np.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(imagecodecs.png_encode(pixels))
    np.testing.assert_array_equal(read_image(path), np.moveaxis(pixels / 65535, -1, 0).astype(np.float32))
    disguised = tmp_path / "deep.jpg"
    disguised.write_bytes(path.read_bytes())
    np.testing.assert_array_equal(read_image(disguised), read_image(path))
    assert read_header(disguised).bits == 16


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_is_dropped_from_png(tmp_path, channels, dtype):
    pixels = np.random.default_rng(2).integers(0, 255, (5, 6, channels)).astype(dtype)
    path = tmp_path / "alpha.png"
    path.write_bytes(imagecodecs.png_encode(pixels))
    kept = pixels[..., : channels - 1]
    expected = np.moveaxis(kept / np.iinfo(dtype).max, -1, 0).astype(np.float32)
    np.testing.assert_array_equal(read_image(path), expected)
    assert read_header(path).channels == channels - 1


def test_palette_becomes_rgb_and_one_bit_grey(tmp_path):
    colour = Pillow.new("P", (4, 3), 1)
    colour.putpalette([0, 0, 0, 255, 128, 0])
    colour.save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png")[:, 0, 0] == pytest.approx([1, 128 / 255, 0])
    assert read_header(tmp_path / "palette.png").channels == 3
    Pillow.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png")[0], np.eye(4))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_png_of_few_bits_is_spread_over_eight(tmp_path, bits):
    """As every reader of PNG does; a stated range is that of the 8 bits."""
    top = 2**bits - 1
    values = np.random.default_rng(bits).integers(0, top, (5, 7), endpoint=True).astype(np.uint8)
    rows = b"".join(b"\0" + packed(row[None], bits) for row in values)
    header = struct.pack(">IIBBBBB", 7, 5, bits, 0, 0, 0, 0)
    path = tmp_path / "a.png"
    path.write_bytes(png((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")))
    for data_range in (None, (0, 255)):
        np.testing.assert_array_equal(
            read_image(path, Reading(data_range))[0], (values / top).astype(np.float32)
        )
    np.testing.assert_array_equal(np.asarray(Pillow.open(path).convert("L")), values * (255 // top))
    with pytest.raises(ImageError, match="contains the value 255"):
        read_image(path, Reading((0, top)))


def png(*chunks):
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in chunks:
        parts += [
            struct.pack(">I", len(content)),
            kind,
            content,
            struct.pack(">I", zlib.crc32(kind + content)),
        ]
    return b"".join(parts)


def test_a_png_whose_checksums_fail_is_refused(tmp_path):
    """Pillow takes it, where the sum of the whole stream comes in a chunk of its own."""
    stream = zlib.compress(b"".join(b"\0" + bytes(range(40)) for _ in range(30)), level=0)
    parts = [(b"IDAT", stream[:-4]), (b"IDAT", stream[-4:])]
    header = struct.pack(">IIBBBBB", 40, 30, 8, 0, 0, 0, 0)
    content = bytearray(png((b"IHDR", header), *parts, (b"IEND", b"")))
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert read_image(path).max() == np.float32(39 / 255)
    content[content.index(bytes(range(40))) + 20] ^= 64
    path.write_bytes(content)
    assert np.asarray(Pillow.open(path)).max() == 84
    with pytest.raises(ImageError, match=r"a\.png cannot be read"):
        read_image(path)


def test_jpeg_is_turned_upright(tmp_path):
    pixels = np.zeros((32, 48), np.uint8)
    pixels[:, :16] = 255
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "turned.jpg")
    assert image.shape == (1, 48, 32)
    assert image[0, :12].min() > 0.9
    assert image[0, 24:].max() < 0.1
    header = read_header(tmp_path / "turned.jpg")
    assert header.space == (48, 32)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("CMYK", 3)])
def test_jpeg_modes(tmp_path, mode, channels):
    Pillow.new(mode, (8, 6)).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").shape == (channels, 6, 8)
    assert read_header(tmp_path / "a.jpg").channels == channels


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiff_colour_of_either_layout(tmp_path, planar, dtype):
    top = 1 if dtype is np.float32 else np.iinfo(dtype).max
    pixels = (np.random.default_rng(3).random((3, 8, 9)) * top).astype(dtype)
    stored = pixels if planar == "separate" else np.moveaxis(pixels, 0, -1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), (pixels / top).astype(np.float32))
    assert read_header(tmp_path / "a.tif").channels == 3


def test_tiff_alpha_palette_white_is_zero_and_imagej_channels(tmp_path):
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, 255, (8, 9, 4)).astype(np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(
        read_image(path), np.moveaxis(pixels[..., :3] / 255, -1, 0).astype(np.float32)
    )
    tifffile.imwrite(path, pixels[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_image(path)[0], ((255 - pixels[..., 0]) / 255).astype(np.float32))
    colours = (np.stack([np.arange(256), np.zeros(256), 255 - np.arange(256)]) * 257).astype(np.uint16)
    tifffile.imwrite(path, pixels[..., 0], photometric="palette", colormap=colours)
    assert read_header(path).channels == 3
    np.testing.assert_array_equal(decode(path)[..., 2], 255 - pixels[..., 0])
    tifffile.imwrite(
        path, rng.integers(0, 9, (2, 8, 9)).astype(np.uint16), imagej=True, metadata={"axes": "CYX"}
    )
    assert read_image(path).shape == (2, 8, 9)
    assert read_header(path).channels == 2


@pytest.mark.parametrize("metadata", [None, {}])
def test_a_stack_of_unknown_axes_is_refused(tmp_path, metadata):
    stack = np.zeros((4, 8, 9), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack", metadata=metadata)
    for read in (read_image, read_header):
        with pytest.raises(ImageError, match=r"stack\.tif is a stack \([QI]YX \(4, 8, 9\)\): name its axes"):
            read(tmp_path / "stack.tif")


def test_an_animated_png_is_refused(tmp_path):
    frames = [Pillow.new("L", (4, 4), value) for value in (0, 90)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="animation"):
        read_image(tmp_path / "a.png")


def test_the_range_follows_the_type_unless_given(tmp_path):
    twelve_bits = np.array([[0, 4095]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", twelve_bits)
    assert read_image(tmp_path / "a.tif")[0, 0, 1] == pytest.approx(4095 / 65535)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", Reading((0, 4095)))[0], [[0, 1]])
    np.testing.assert_array_equal(
        read_array(np.array([[-1.0, 0.0, 1.0]]), Reading((-1, 1)))[0], [[0, 0.5, 1]]
    )
    big_endian = twelve_bits.astype(">u2")
    np.testing.assert_array_equal(read_array(big_endian), read_array(twelve_bits))


def test_values_outside_the_range_are_named(tmp_path):
    np.save(tmp_path / "bright.npy", np.array([[0.0, 1.5]]))
    with pytest.raises(ImageError, match=r"bright\.npy contains the value 1\.5.*\(0, 1\).*--data-range"):
        read_image(tmp_path / "bright.npy")
    with pytest.raises(ImageError, match=r"value 5000, outside its range \(0, 4095\)"):
        read_array(np.array([[5000, 3]], np.uint16), Reading((0, 4095)))
    with pytest.raises(ImageError, match=r"value -3, outside"):
        read_array(np.array([[0.5, -3.0]]))


def test_rounding_noise_is_clipped():
    image = read_array(np.array([[-5e-7, 1 + 5e-7]]))
    np.testing.assert_array_equal(image[0], [[0, 1]])
    with pytest.raises(ImageError):
        read_array(np.array([[0, 1 + 5e-6]]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(tmp_path, bad):
    np.save(tmp_path / "hole.npy", np.array([[0.1, bad]]))
    with pytest.raises(ImageError, match=r"hole\.npy contains (NaN|infinite)"):
        read_image(tmp_path / "hole.npy")
    with pytest.raises(ImageError, match="NaN or infinite"):
        write_image(tmp_path / "out.png", np.full((1, 2, 2), bad, np.float32))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2), np.int32), "int32"),
        (np.zeros((3, 50, 50), np.uint8), "channels last"),
        (np.zeros(5), "shape"),
        (np.zeros((1, 2, 3, 4)), "shape"),
        (np.zeros((0, 4)), "shape"),
        (np.array([["a"]]), "<U1"),
        (np.zeros((2, 2), complex), "complex128"),
    ],
)
def test_arrays_that_are_no_images(array, message):
    with pytest.raises(ImageError, match=message):
        read_array(array, name="mine")


@pytest.mark.parametrize(
    "array",
    [
        np.full((2, 2), 3 + 4j),
        np.array([["1", "2"], ["3", "4"]]),
        np.array([[b"1", b"2"]]),
        np.array([["2020-01-01", "2021-01-01"]], "datetime64[D]"),
        np.array([[1, 2]], "timedelta64[s]"),
        np.zeros((2, 2), [("red", "u1"), ("green", "u1")]),
        np.array([[1, 2.5]], object),
    ],
    ids=lambda array: array.dtype.kind,
)
def test_a_stated_range_makes_no_numbers_of_other_types(tmp_path, array):
    with pytest.raises(ImageError, match=r"mine contains .*integers or floats"):
        read_array(array, Reading((0, 9999)), "mine")
    if array.dtype.kind != "O":
        np.save(tmp_path / "a.npy", array)
        for read in (lambda path: read_image(path, Reading((0, 9999))), read_header):
            with pytest.raises(ImageError, match=r"a\.npy contains .*integers or floats"):
                read(tmp_path / "a.npy")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("values", "data_range", "expected"),
    [
        (np.array([[0, 0.5, 1]], np.float16), None, [0, 0.5, 1]),
        (np.array([[0, 65504]], np.float16), (0, 65504), [0, 1]),
        (np.array([[0, 0.25, 1]], np.longdouble), None, [0, 0.25, 1]),
        (np.array([[-(2**63), 0, 2**63 - 1]], np.int64), (-(2**63), 2**63), [0, 0.5, 1]),
        (np.array([[0, 2**63, 2**64 - 1]], np.uint64), (0, 2**64), [0, 0.5, 1]),
        (np.array([[-8e307, 0, 8e307]]), (-8e307, 8e307), [0, 0.5, 1]),
    ],
)
def test_extremes_of_every_type_are_mapped(values, data_range, expected):
    np.testing.assert_allclose(read_array(values, Reading(data_range))[0, 0], expected, atol=1e-7)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("values", "data_range", "message"),
    [
        (np.array([[0, np.inf]], np.float16), None, "infinite"),
        (np.array([[0, 1e4000]], np.longdouble), None, "infinite"),
        (np.array([[0, 1.5e308]]), (-1e308, 5e307), "contains the value 1.5e\\+308, outside"),
        (np.array([[-1.5e308, 0]]), (0, 1), "contains the value -1.5e\\+308, outside"),
        (np.array([[0, 1e300]]), (0, 1e-300), "contains the value 1e\\+300, outside"),
        (np.array([[0, 2**63 - 1]]), (0, 2**62), "outside its range"),
    ],
)
def test_extremes_outside_the_range_are_refused(values, data_range, message):
    with pytest.raises(ImageError, match=message):
        read_array(values, Reading(data_range))


@pytest.mark.parametrize(
    "bad",
    [(1, 0), (0, 0), (0, float("nan")), (0, float("inf")), (-1e308, 1e308), (2**62, 2**62 + 9), (0, 10**400)],
)
def test_bad_ranges(bad):
    with pytest.raises(InvalidArgumentError, match="data_range"):
        read_array(np.zeros((2, 2)), Reading(bad))


@pytest.mark.parametrize("shape", [(700, 900), (1, 3000), (3000, 1), (70, 90, 3), (90, 70, 7), (5, 6, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_block_by_block_is_all_at_once(monkeypatch, shape, dtype):
    """Against the arithmetic on the whole image in float64."""
    monkeypatch.setattr("conformask.images.read.BLOCK", 1000)
    top = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    array = (np.random.default_rng(0).random(shape) * top).astype(dtype)
    planes = np.moveaxis(np.atleast_3d(array), -1, 0)
    for data_range in (None, (-0.3 * top, 1.7 * top)):
        low, high = data_range or (0, top)
        expected = ((planes.astype(np.float64) - low) / (high - low)).astype(np.float32)
        for given in (array, array[::-1][::-1]):
            np.testing.assert_array_equal(read_array(given, Reading(data_range)), expected)


def test_the_hash_of_pixels_does_not_depend_on_blocks(monkeypatch):
    image = levels(3, 16)
    whole = pixel_hash(image)
    monkeypatch.setattr("conformask.images.read.BLOCK", 100)
    assert pixel_hash(image) == whole == pixel_hash(image.copy(order="F"))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".jpg"])
def test_truncated_files_are_refused(tmp_path, suffix, bits, channels):
    whole = tmp_path / f"whole{suffix}"
    image = levels(channels, bits)
    if suffix == ".jpg":
        pixels = (image[0] * 255).astype(np.uint8)
        Pillow.fromarray(pixels).save(whole)
    else:
        write_image(whole, image, bits=bits)
    content = whole.read_bytes()
    for kept in (0, 10, len(content) // 2, len(content) * 9 // 10):
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(content[:kept])
        with pytest.raises(ImageError, match=r"cut"):
            read_image(cut)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_text_is_neither_a_png_nor_a_jpeg(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_text("a page of a server that is down")
    with pytest.raises(ImageError, match="neither a PNG nor a JPEG file"):
        read_image(path)


def test_an_uncompressed_tiff_that_is_truncated_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "cut.tif", np.ones((40, 40), np.uint8))
    content = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[:-800])
    with pytest.raises(ImageError, match=r"cut\.tif"):
        read_image(tmp_path / "cut.tif")


@pytest.fixture
def switching_often():
    """A collection of garbage after every few objects, and in each another thread goes on."""
    before = gc.get_threshold()
    gc.callbacks.append(give_way)
    gc.set_threshold(20)
    yield
    gc.set_threshold(*before)
    gc.callbacks.remove(give_way)


def give_way(phase, info):
    time.sleep(0)


@pytest.mark.usefixtures("switching_often")
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_are_read_by_several_threads(tmp_path, suffix):
    """NumPy's parser of headers is not made for that: AST constructor recursion depth mismatch."""
    path, image = tmp_path / f"image{suffix}", np.ones((8, 8), np.float32)
    np.save(path, image) if suffix == ".npy" else np.savez(path, image)

    def read(depth):
        return read(depth - 1) if depth else decode(path)

    with ThreadPoolExecutor(4) as pool:
        for pixels in pool.map(read, [place % 7 for place in range(2000)]):
            np.testing.assert_array_equal(pixels, image)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".jpg", ".gif", ".txt"])
def test_what_is_no_image_is_refused(tmp_path, suffix):
    path = tmp_path / f"fake{suffix}"
    path.write_text("hello, this is no image at all" * 9)
    for read in (read_image, read_header):
        with pytest.raises(ImageError, match="fake"):
            read(path)


def test_pickled_npy_is_never_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ImageError, match=r"a\.npy"):
        read_image(tmp_path / "a.npy")


def test_missing_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.png does not exist"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("name", "image", "settings", "message"),
    [
        ("a.jpg", np.zeros((1, 2, 2)), {}, "jpg"),
        ("a.png", np.zeros((2, 2, 2)), {}, "shape"),
        ("a.png", np.full((1, 2, 2), 1.1), {}, "1.1"),
        ("a.png", np.zeros((1, 2, 2)), {"bits": 12}, "bits is 12"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, image, settings, message):
    with pytest.raises(ConformaskError, match=message):
        write_image(tmp_path / name, image, **settings)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_image(tmp_path / "file" / "a.png", np.zeros((1, 2, 2)))


@pytest.mark.leaf("formats")
def test_listing_is_sorted_and_passes_over_hidden_files(tmp_path):
    for name in ("b.PNG", "a.tif", ".hidden.png", "notes.txt", "deep/c.jpg", ".trash/d.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    assert [path.name for path in list_images(tmp_path)] == ["a.tif", "b.PNG"]
    assert [path.name for path in list_images(tmp_path, recursive=True)] == ["a.tif", "b.PNG", "c.jpg"]
    with pytest.raises(MissingFileError, match="contains no images"):
        list_images(_empty(tmp_path))
    with pytest.raises(MissingFileError, match="not a folder"):
        list_images(tmp_path / "none")


@pytest.mark.parametrize("name", [b"caf\xe9", "ü".encode() * 124, b"a\\b"])
def test_names_that_can_name_no_file_are_refused_with_the_files(tmp_path, name):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / os.fsdecode(name + b".png")).write_text("")
    with pytest.raises(InvalidArgumentError, match=r"^'.*/images/.*\.png': name .*"):
        list_images(folder)
    with pytest.raises(InvalidArgumentError):
        check_name(os.fsdecode(name), "here")


def test_a_name_of_the_longest_length_can_be_written(tmp_path):
    name = "n" * LONGEST_NAME
    check_name(name, "here")
    write_image(tmp_path / f"{name}.tiff", levels(1, 8))
    write_blocks(
        tmp_path / f"{name}.ome.tiff",
        (1, 4, 4),
        iter([((slice(0, 4), slice(0, 4)), np.zeros((1, 4, 4), np.float32))]),
        SourceImage(None, None, PLAIN),
    )
    assert [path.name for path in list_images(tmp_path)] == [f"{name}.ome.tiff", f"{name}.tiff"]
    with pytest.raises(InvalidArgumentError, match=f"here: name 'nn*' .* {LONGEST_NAME + 1} bytes; rename"):
        check_name(name + "n", "here")


def _empty(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


def test_pixel_hash_tells_images_apart_but_not_rounding():
    image = levels(1, 16)
    assert len(pixel_hash(image)) == 16
    assert pixel_hash(image) == pixel_hash(image.astype(np.float64) + 1e-7)
    other = image.copy()
    other[0, 5, 5] += 1 / 65535 if other[0, 5, 5] < 0.5 else -1 / 65535
    assert pixel_hash(other) != pixel_hash(image)
    assert pixel_hash(np.zeros((1, 2, 3))) != pixel_hash(np.zeros((1, 3, 2)))


def test_is_constant_looks_at_each_channel():
    flat = np.stack([np.zeros((3, 3)), np.ones((3, 3))])
    assert is_constant(flat)
    flat[1, 2, 2] = 0.5
    assert not is_constant(flat)


def test_transparent_pixels_are_said_once(tmp_path, monkeypatch):
    monkeypatch.setattr(errors, "_SAID", set())
    for name, alpha in (("opaque", 255), ("clear", 0), ("half", 128)):
        rgba = np.full((4, 4, 4), 100, np.uint8)
        rgba[..., 3] = 255
        rgba[0, :2, 3] = alpha
        Pillow.fromarray(rgba).save(tmp_path / f"{name}.png")
    with warnings.catch_warnings(record=True, action="always") as said:
        for name in ("opaque", "clear", "half"):
            assert read_image(tmp_path / f"{name}.png").shape == (3, 4, 4)
    (only,) = said
    assert "clear.png: 12.5% of its pixels are transparent, but alpha is ignored" in str(only.message)


def test_labels_that_are_floats_are_a_region():
    """As NIfTI often keeps them; other floats are weights, and above 1 they are none."""
    labels = np.array([[0.0, 1.0], [2.0, 35.0]])
    np.testing.assert_array_equal(region_of_array(labels, (2, 2), "labels"), [[[0, 1], [1, 1]]])
    weights = np.array([[0.0, 0.5], [1.0, 0.25]])
    np.testing.assert_array_equal(region_of_array(weights, (2, 2), "weights")[0], weights)
    for wrong in ([[0.0, 0.5], [1.0, 2.0]], [[-1.0, 0.0], [1.0, 1.0]], [[np.nan, 0.0], [1.0, 2.0]]):
        with pytest.raises(ImageError, match=r"regions has values outside \[0, 1\], or NaN"):
            region_of_array(np.array(wrong), (2, 2), "regions")


VARIABLE = "CONFORMASK_MAX_IMAGE_BYTES"
PIXELS = np.random.default_rng(0).integers(0, 256, (60, 50, 3)).astype(np.uint8)
NEEDED = 4 * 60 * 50 * 3
"""As float32."""
KINDS = ("png", "deep.png", "jpg", "tif", "zlib.tif", "tiles.tif", "npy", "zarr")
BY_ROWS = ("tif", "zlib.tif", "tiles.tif", "npy", "zarr")


def write(folder, kind):
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


def write_zarr(path, array, chunks):
    axes = [{"name": name} for name in "cyx"]
    image = {"axes": axes, "datasets": [{"path": "0"}]}
    group = zarr.create_group(path, attributes={"ome": {"version": "0.5", "multiscales": [image]}})
    group.create_array("0", data=array, chunks=chunks)


@pytest.mark.parametrize("kind", [*KINDS[:-1], asking("formats", "zarr")])
def test_the_limit_counts_bytes_of_float32(tmp_path, monkeypatch, kind):
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
def test_windows_need_no_room_for_the_whole(tmp_path, monkeypatch, kind):
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
def test_the_variable_is_a_number(tmp_path, monkeypatch, value):
    path = write(tmp_path, "png")
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(InvalidArgumentError, match=f"{VARIABLE} is .*; give a number of bytes, such as"):
        read_image(path)


def png_that_declares(width, height, depth, colour_type):
    """All black, said in a few bytes."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(bytes(10000))), (b"IEND", b"")]
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in chunks:
        sums = struct.pack(">I", len(content)), struct.pack(">I", zlib.crc32(kind + content))
        parts += [sums[0], kind, content, sums[1]]
    return b"".join(parts)


def jpeg(width, height):
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
        ("a.png", png_that_declares(30000, 30000, 8, 0)),
        ("a.png", png_that_declares(30000, 30000, 16, 2)),
        ("a.png", png_that_declares(2**31 - 1, 2**31 - 1, 16, 6)),
        ("a.jpg", jpeg(65500, 65500)),
        ("a.png", jpeg(30000, 30000)),
    ],
)
def test_pixels_that_are_only_declared(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    for read in (read_image, lambda path: open_raster(path).read((slice(0, 9), slice(0, 9)))):
        with pytest.raises(ImageError, match=rf"{name}, .* bytes of memory, but only {2**31} are allowed"):
            read(path)


@pytest.mark.filterwarnings("error")
def test_what_pillow_would_warn_of_is_read(tmp_path):
    Pillow.new("L", (10000, 9000)).save(tmp_path / "a.jpg")
    assert decode(tmp_path / "a.jpg").shape == (9000, 10000)


def test_a_tile_that_is_larger_than_memory(tmp_path):
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
def test_a_zarr_of_absurd_shapes(tmp_path, change, message):
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


def test_an_npy_that_only_declares_its_numbers(tmp_path):
    for shape in ("(60, 50, 90)", f"({2**40}, {2**40})", f"({2**62}, 4)", "(-1, 50, 3)", "(9000,)", "(0, 9)"):
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".ljust(117).encode() + b"\n"
        path = tmp_path / "a.npy"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(9000))
        for read in (read_image, read_header, open_raster):
            with pytest.raises(ImageError, match=r"a\.npy"):
                read(path)


def test_reading_takes_little_more_than_the_image():
    pixels = np.zeros((2048, 2048, 3), np.uint8)
    tracemalloc.start()
    try:
        image, _ = image_and_header(pixels)
        assert tracemalloc.get_traced_memory()[1] < 1.8 * image.nbytes
    finally:
        tracemalloc.stop()


def test_hidden_pixels_are_hatched_the_stronger_the_less_trusted():
    gray = np.full((200, 180), 100, np.uint8)
    assert (pixels.overlay(gray, np.full_like(gray, 255)) == 100).all()
    hidden = pixels.overlay(gray, np.zeros((200, 180, 3), np.uint8)).astype(int)
    assert np.abs(hidden[0, 0] - 0.9 * np.array(pixels.HATCH) - 0.1 * 100).max() <= 0.5
    assert hidden[0, 3].max() < 100, "a dark edge"
    assert (hidden[0, 5:8] == 100).all(), "what is between stripes is seen"
    np.testing.assert_array_equal(hidden[0, 7:], hidden[7, :-7])
    np.testing.assert_array_equal(hidden[:, :-12], hidden[:, 12:])
    half = pixels.overlay(gray, np.full_like(gray, 127)).astype(int)
    np.testing.assert_allclose(half - 100, (hidden - 100) / 2, atol=1.5)


@pytest.mark.parametrize(("side", "drawn", "period"), [(64, 320, 12), (900, 640, 24)])
def test_stripes_are_drawn_at_the_size_of_the_page(side, drawn, period):
    gray = np.zeros((side, side), np.uint8)
    row = pixels.shrunk_overlay(gray, gray, 640)[0, :, 0]
    assert len(row) == drawn
    np.testing.assert_array_equal(row[:-period], row[period:])
    assert row[0] > row[period // 2] == 0, "no more stripes than that"


def test_heat():
    assert pixels.heat(np.zeros((4, 5, 3), np.uint8)).max() <= 4
    assert (pixels.heat(np.full((4, 5), 255, np.uint8))[0, 0] == [252, 255, 164]).all()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.013, 0.0171), (-5, 7), (0, 12345), (0.3, 0.3)])
def test_ticks_are_few_and_inside(low, high):
    found = svg.ticks(low, high)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)


SIDES = {"R": 5, "A": 6, "S": 7}
"""Voxels from left to right, from posterior to anterior, from inferior to superior."""


def volume_in(orientation):
    """One body stored another way, (1, D, H, W): how far superior each voxel lies, and which it is."""
    body = np.arange(np.prod(list(SIDES.values())), dtype=np.float32).reshape(tuple(SIDES.values()))
    superior = np.broadcast_to(np.arange(SIDES["S"], dtype=np.float32), body.shape)
    images = []
    for values in (superior, body):
        there = nibabel.orientations.axcodes2ornt(orientation)
        moved = nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), there)
        image = nibabel.Nifti1Image(values, np.eye(4)).as_reoriented(moved)
        images.append(image.get_fdata(dtype=np.float32).T[None])
    return images[0], images[1], Geometry((1.0, 1.0, 1.0), "mm", affine_of(image.affine))


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR", "ILA"])
def test_slices_are_axial_and_upright_however_they_are_stored(orientation):
    superior, body, geometry = volume_in(orientation)
    mask = np.where(superior == 5, 0.25, 1.0).astype(np.float32)
    error = (superior == 2).astype(np.float32)
    shown = {what: planes for planes, what in planes_of(mask, body, geometry=geometry, error=error)}
    straight = np.arange(5 * 6 * 7).reshape(5, 6, 7)
    for level, what in ((5, "most hidden"), (2, "largest error"), (3, "middle")):
        (planes,) = (planes for text, planes in shown.items() if text.endswith(what))
        np.testing.assert_array_equal(planes[1][0], straight[::-1, ::-1, level].T)


def test_without_a_place_they_are_as_stored():
    mask = np.ones((1, 4, 3, 2), np.float32)
    mask[:, 1] = 0
    image = np.random.default_rng(0).random((2, 4, 3, 2))
    shown = list(planes_of(mask, image, geometry=Geometry((2.0, 1.0, 1.0), "µm")))
    assert [what for _, what in shown] == ["slice 2 of 4, most hidden", "slice 3 of 4, middle"]
    np.testing.assert_array_equal(shown[0][0][1], image[:, 1])


def test_of_an_image_with_fewer_slices_the_nearest():
    mask = np.ones((1, 8, 3, 2), np.float32)
    mask[:, 6] = 0
    thick = np.arange(4.0).reshape(1, 4, 1, 1) * np.ones((1, 4, 3, 2))
    (hidden, _), _ = planes_of(mask, thick, geometry=None)
    assert (hidden[1] == 3).all()


def test_planes_are_shown_as_they_are():
    mask = np.ones((1, 3, 2), np.float32)
    assert list(planes_of(mask, None, geometry=None)) == [([mask, None], None)]


def test_one_slice_may_be_telling_in_several_ways():
    mask = np.ones((1, 3, 2, 2), np.float32)
    mask[:, 1] = 0.5
    assert select_slices(mask, 1 - mask) == {1: "most hidden, largest error, middle"}
