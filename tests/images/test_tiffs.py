"""What a TIFF says of its bits, colours and places in the file, obeyed or refused."""

import shutil
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

import conformask as cm
from conformask.errors import ImageError
from conformask.images.layers import read_region, read_values, region_window
from conformask.images.read import decode, open_raster, read_header, read_image
from conformask.images.rows import TripletRow
from conformask.records.reading import PLAIN, Reading
from hand_made_tiff import packed, tiff

SIZE = (6, 7)


def numbers(bits: int, shape: tuple[int, ...] = SIZE) -> np.ndarray:
    values = np.random.default_rng(bits).integers(0, 2**bits, shape)
    values.reshape(-1)[:2] = (0, 2**bits - 1)
    return values


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8, 9, 10, 12, 14, 15, 16])
def test_white_is_the_largest_number_that_the_bits_hold(tmp_path: Path, bits: int) -> None:
    values = numbers(bits)
    data = values.astype("<u2").tobytes() if bits == 16 else packed(values, bits)
    path = tiff(tmp_path / "a.tif", SIZE, [data], bits)
    expected = (values / (2**bits - 1)).astype(np.float32)[None]
    np.testing.assert_array_equal(read_image(path), expected)
    window = open_raster(path).read((slice(1, 4), slice(2, 7)))
    np.testing.assert_array_equal(window, expected[:, 1:4, 2:7])
    assert read_header(path).bits == (8 if bits <= 8 else 16)
    if bits in (1, 2, 4, 8):
        np.testing.assert_array_equal(
            np.asarray(Pillow.open(path).convert("L")) / np.float32(255), expected[0]
        )


@pytest.mark.parametrize("bits", [1, 2, 4, 10, 12, 14])
def test_a_stated_range_maps_the_numbers_as_they_are(tmp_path: Path, bits: int) -> None:
    values = numbers(bits)
    path = tiff(tmp_path / "a.tif", SIZE, [packed(values, bits)], bits)
    np.testing.assert_array_equal(decode(path), values)
    np.testing.assert_array_equal(
        read_image(path, Reading((0, 65535)))[0], (values / 65535).astype(np.float32)
    )
    with pytest.raises(ImageError, match="outside its range"):
        read_image(path, Reading((0, (2**bits - 1) / 2)))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_where_0_is_white_the_largest_number_is_black(tmp_path: Path, bits: int) -> None:
    values = numbers(bits)
    data = values.astype("<u2").tobytes() if bits == 16 else packed(values, bits)
    path = tiff(tmp_path / "a.tif", SIZE, [data], bits, PHOTOMETRIC=0)
    expected = (1 - values / (2**bits - 1)).astype(np.float32)[None]
    np.testing.assert_allclose(read_image(path), expected, atol=1e-7)
    if bits in (1, 2, 4, 8):
        np.testing.assert_allclose(np.asarray(Pillow.open(path).convert("L")) / 255, expected[0], atol=1e-7)


def test_maps_and_regions_are_read_as_stored_where_0_is_white(tmp_path: Path) -> None:
    values = np.zeros(SIZE, bool)
    values[2:4, 3:] = True
    tifffile.imwrite(tmp_path / "bool.tif", values)
    tifffile.imwrite(tmp_path / "white.tif", 3 * values.astype(np.uint8), photometric="miniswhite")
    assert tifffile.TiffFile(tmp_path / "bool.tif").pages[0].photometric == 0
    for path in sorted(tmp_path.iterdir()):
        expected = tifffile.imread(path).astype(np.float32)[None]
        np.testing.assert_array_equal(read_region(path, SIZE), expected > 0)
        window = region_window(path, SIZE)((slice(1, 4), slice(2, 7)))
        np.testing.assert_array_equal(window, expected[:, 1:4, 2:7] > 0)
        np.testing.assert_array_equal(read_values(path, PLAIN.of("cues"), "cues"), expected)
        triplets = cm.Triplets([TripletRow("a", x=path, y_hat=path, layers={"cues": path})])
        np.testing.assert_array_equal(
            triplets.opened(0).layers["cues"].read((slice(0, 6), slice(0, 7))), expected
        )
        assert triplets[0].y_hat.max() == 1, "images are inverted"
        assert triplets[0].y_hat[0, 0, 0] == 1


def test_numbers_with_a_sign_do_not_say_what_is_black(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", SIZE, [packed(numbers(8), 8)], PHOTOMETRIC=0, SAMPLE_FORMAT=2)
    with pytest.raises(ImageError, match=r"a\.tif contains int8 and states that 0 is white"):
        read_header(path)


CODECS = {5: imagecodecs.lzw_encode, 8: imagecodecs.zlib_encode, 32773: imagecodecs.packbits_encode}


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("compression", CODECS)
def test_packed_bits_that_are_compressed(tmp_path: Path, bits: int, compression: int) -> None:
    values = numbers(bits)
    data = CODECS[compression](packed(values, bits))
    path = tiff(tmp_path / "a.tif", SIZE, [data], bits, COMPRESSION=compression)
    np.testing.assert_array_equal(read_image(path)[0], (values / (2**bits - 1)).astype(np.float32))


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("compression", [None, "jpeg2000"])
def test_packed_bits_of_colour(tmp_path: Path, bits: int, compression: str | None) -> None:
    """As tifffile writes them."""
    values = numbers(bits, (40, 50, 3)).astype(np.uint16)
    how = {"photometric": "rgb", "bitspersample": bits, "compression": compression}
    tifffile.imwrite(tmp_path / "a.tif", values, **how)
    expected = np.moveaxis(values / (2**bits - 1), -1, 0).astype(np.float32)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


def test_a_palette_of_few_bits(tmp_path: Path) -> None:
    for bits in (1, 2, 4):
        colours = np.random.default_rng(bits).integers(0, 65536, (3, 2**bits)).astype(np.uint16)
        values = numbers(bits)
        tiff(
            tmp_path / "a.tif",
            SIZE,
            [packed(values, bits)],
            bits,
            PHOTOMETRIC=3,
            PALETTE=colours.ravel().tolist(),
        )
        expected = np.moveaxis((colours >> 8)[:, values], 0, -1)
        np.testing.assert_array_equal(decode(tmp_path / "a.tif"), expected)
        np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "a.tif").convert("RGB")), expected)
        np.testing.assert_allclose(
            read_image(tmp_path / "a.tif"), np.moveaxis(expected, -1, 0) / 255, atol=1e-7
        )


@pytest.mark.parametrize("bits", [20, 24, 32])
def test_more_than_16_bits_do_not_say_their_range(tmp_path: Path, bits: int) -> None:
    values = numbers(bits)
    data = values.astype("<u4").tobytes() if bits == 32 else packed(values, bits)
    path = tiff(tmp_path / "a.tif", SIZE, [data], bits)
    with pytest.raises(ImageError, match="uint32, which does not define its range"):
        read_image(path)
    assert read_image(path, Reading((0, 2**bits - 1))).max() == 1


def test_bits_that_no_type_has_are_refused(tmp_path: Path) -> None:
    """tifffile returns nothing, and leaves the memory of the image as it is."""
    path = tiff(tmp_path / "a.tif", SIZE, [packed(numbers(8), 8)], BITS=65535)
    for read in (read_image, lambda path: open_raster(path).read((slice(0, 2), slice(0, 2)))):
        with pytest.raises(ImageError, match=r"a\.tif"):
            read(path)


STRIPS = [bytes([9] * 14)] * 3
"""Of two rows each."""
TILES = [bytes([9] * 256)] * 4


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"OFFSETS": [8, 0, 36]}, "strips 1:"),
        ({"COUNTS": [14, 0, 0]}, "strips 1, 2:"),
        ({"OFFSETS": [8, 22, 5000]}, "strips 2:"),
        ({"COUNTS": [14, 14, 5000]}, "strips 2:"),
        ({"OFFSETS": [8, 22], "COUNTS": [14, 14]}, "strips 2:"),
        ({"OFFSETS": [0, 0, 0], "COUNTS": [0, 0, 0]}, "strips 0, 1, 2:"),
        ({"HEIGHT": 3_000_000}, "strips 3, 4, 5 and more:"),
    ],
)
def test_missing_strips_are_named(tmp_path: Path, change: dict, missing: str) -> None:
    """tifffile itself reads them as black."""
    path = tiff(tmp_path / "a.tif", SIZE, STRIPS, **change)
    for read in (read_image, read_header, open_raster):
        with pytest.raises(ImageError, match=rf"a\.tif is missing {missing} copy it again"):
            read(path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("change", "missing"),
    [({"OFFSETS": 1}, "tiles 1:"), ({"COUNTS": 2}, "tiles 2:"), ({"HEIGHT": 40}, "tiles 4, 5:")],
)
def test_missing_tiles_are_named(tmp_path: Path, compressed: bool, change: dict, missing: str) -> None:
    tiles = [imagecodecs.zlib_encode(tile) for tile in TILES] if compressed else TILES
    starts = np.cumsum([8, *map(len, tiles)])[:-1].tolist()
    tags = {"TILE_WIDTH": 16, "TILE_HEIGHT": 16, "COMPRESSION": 8 if compressed else 1}
    whole = tiff(tmp_path / "whole.tif", (32, 32), tiles, **tags)
    assert (decode(whole) == 9).all()
    for name, values in (("OFFSETS", starts), ("COUNTS", [len(tile) for tile in tiles])):
        if name in change:
            change = {name: [0 if index == change[name] else value for index, value in enumerate(values)]}
    path = tiff(tmp_path / "a.tif", (32, 32), tiles, **tags, **change)
    with pytest.raises(ImageError, match=rf"a\.tif is missing {missing}"):
        read_image(path)


def test_a_strip_of_too_few_bytes_is_missing(tmp_path: Path) -> None:
    """What lies behind it in the file is no part of the image."""
    path = tiff(tmp_path / "a.tif", SIZE, [bytes(42)], COUNTS=[20])
    with pytest.raises(ImageError, match="missing strips 0"):
        read_image(path)


def test_planes_that_lie_in_no_known_way_are_refused(tmp_path: Path) -> None:
    """tifffile decodes the first one, and leaves the memory of the others as it is."""
    bits = [packed(numbers(1), 1)] * 2
    tiff(tmp_path / "good.tif", SIZE, bits, 1, SAMPLES=2, ROWS=6, PLANES=2)
    assert read_header(tmp_path / "good.tif").channels == 2
    tiff(tmp_path / "a.tif", SIZE, bits, 1, SAMPLES=2, ROWS=6, PLANES=8)
    with pytest.raises(ImageError, match=r"a\.tif has strips for only some of its planes"):
        read_image(tmp_path / "a.tif")


def test_a_tiff_that_follows_itself_is_refused(tmp_path: Path) -> None:
    """tifffile follows the circle for ever."""
    path = tiff(tmp_path / "a.tif", SIZE, [packed(numbers(8), 8)])
    content = bytearray(path.read_bytes())
    start = struct.unpack_from("<I", content, 4)[0]
    after = start + 2 + 12 * struct.unpack_from("<H", content, start)[0]
    content[after : after + 4] = struct.pack("<I", start)
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.tif names an image as its own successor"):
        read_header(path)


def test_a_plane_that_is_missing(tmp_path: Path) -> None:
    planes = np.full((3, 40, 50), 9, np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", planes, metadata={"axes": "CYX"}, compression="zlib")
    xml = tifffile.tiffcomment(tmp_path / "a.ome.tif").replace('SizeC="3"', 'SizeC="4"')
    tifffile.tiffcomment(tmp_path / "a.ome.tif", xml)
    for read in (read_image, read_header):
        with pytest.raises(ImageError, match=r"a\.ome\.tif"):
            read(tmp_path / "a.ome.tif")


def test_two_channels_are_no_alpha(tmp_path: Path) -> None:
    """Only what the file says to be opacity is dropped."""
    both = np.random.default_rng(0).integers(0, 256, (*SIZE, 2)).astype(np.uint8)
    for extra, channels in (("unspecified", 2), ("unassalpha", 1), ("assocalpha", 1)):
        tifffile.imwrite(tmp_path / "a.tif", both, photometric="minisblack", extrasamples=[extra])
        assert read_header(tmp_path / "a.tif").channels == channels
        np.testing.assert_array_equal(
            read_image(tmp_path / "a.tif"), np.moveaxis(both / 255, -1, 0).astype(np.float32)[:channels]
        )


def test_ycbcr_is_read_only_where_it_becomes_rgb(tmp_path: Path) -> None:
    flat, path = np.full((16, 16, 3), (200, 40, 90), np.uint8), tmp_path / "a.tif"
    for compression in ("jpeg", None, "zlib"):
        subsampling = (1, 1) if compression is None else None
        tifffile.imwrite(path, flat, photometric="ycbcr", compression=compression, subsampling=subsampling)
        if compression == "jpeg":
            np.testing.assert_allclose(decode(path), np.asarray(Pillow.open(path).convert("RGB")), atol=2)
            continue
        with pytest.raises(ImageError, match=r"a\.tif has YCBCR colours"):
            read_image(path)


def test_a_full_disk_is_said_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    pixels = np.zeros((40, 50), np.uint8)
    tifffile.imwrite(tmp_path / "plain.tif", pixels)
    assert open_raster(tmp_path / "plain.tif").read((slice(0, 9), slice(0, 9))).max() == 0
    tifffile.imwrite(tmp_path / "zlib.tif", pixels, compression="zlib")
    with pytest.raises(ImageError, match=r"zlib\.tif needs 0\.0 GB"):
        open_raster(tmp_path / "zlib.tif").read((slice(0, 9), slice(0, 9)))
