"""What a TIFF says of its bits, colours and places in the file, obeyed or refused."""

import shutil
import struct
import tracemalloc
from pathlib import Path
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import pytest
import tifffile
import yaozarrs
from PIL import Image as Pillow

import conformask as cm
from conformask.errors import ImageError
from conformask.images.formats import SMALL, DiskArray, SourceImage, halvings, means
from conformask.images.layers import read_region, read_values, region_window
from conformask.images.read import (
    decode,
    grid,
    open_raster,
    open_window,
    read_header,
    read_image,
    times_of,
    write_blocks,
)
from conformask.images.rows import TripletRow
from conformask.records.reading import PLAIN, Geometry, Reading
from leaves import asking
from stacks import (
    GEOMETRY,
    UM,
    check_level,
    check_values,
    check_windows,
    image_of,
    levels_of,
    mask,
    numbers,
    packed,
    shared,
    tiff,
    values_of,
    written,
)

SIZE = (6, 7)


def random_bits(bits, shape=SIZE):
    values = np.random.default_rng(bits).integers(0, 2**bits, shape)
    values.reshape(-1)[:2] = (0, 2**bits - 1)
    return values


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8, 9, 10, 12, 14, 15, 16])
def test_white_is_the_largest_number_that_the_bits_hold(tmp_path, bits):
    values = random_bits(bits)
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
def test_a_stated_range_maps_the_numbers_as_they_are(tmp_path, bits):
    values = random_bits(bits)
    path = tiff(tmp_path / "a.tif", SIZE, [packed(values, bits)], bits)
    np.testing.assert_array_equal(decode(path), values)
    np.testing.assert_array_equal(
        read_image(path, Reading((0, 65535)))[0], (values / 65535).astype(np.float32)
    )
    with pytest.raises(ImageError, match="outside its range"):
        read_image(path, Reading((0, (2**bits - 1) / 2)))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_where_0_is_white_the_largest_number_is_black(tmp_path, bits):
    values = random_bits(bits)
    data = values.astype("<u2").tobytes() if bits == 16 else packed(values, bits)
    path = tiff(tmp_path / "a.tif", SIZE, [data], bits, PHOTOMETRIC=0)
    expected = (1 - values / (2**bits - 1)).astype(np.float32)[None]
    np.testing.assert_allclose(read_image(path), expected, atol=1e-7)
    if bits in (1, 2, 4, 8):
        np.testing.assert_allclose(np.asarray(Pillow.open(path).convert("L")) / 255, expected[0], atol=1e-7)


def test_maps_and_regions_are_read_as_stored_where_0_is_white(tmp_path):
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


def test_numbers_with_a_sign_do_not_say_what_is_black(tmp_path):
    path = tiff(tmp_path / "a.tif", SIZE, [packed(random_bits(8), 8)], PHOTOMETRIC=0, SAMPLE_FORMAT=2)
    with pytest.raises(ImageError, match=r"a\.tif contains int8 and states that 0 is white"):
        read_header(path)


CODECS = {5: imagecodecs.lzw_encode, 8: imagecodecs.zlib_encode, 32773: imagecodecs.packbits_encode}


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("compression", CODECS)
def test_packed_bits_that_are_compressed(tmp_path, bits, compression):
    values = random_bits(bits)
    data = CODECS[compression](packed(values, bits))
    path = tiff(tmp_path / "a.tif", SIZE, [data], bits, COMPRESSION=compression)
    np.testing.assert_array_equal(read_image(path)[0], (values / (2**bits - 1)).astype(np.float32))


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("compression", [None, "jpeg2000"])
def test_packed_bits_of_colour(tmp_path, bits, compression):
    """As tifffile writes them."""
    values = random_bits(bits, (40, 50, 3)).astype(np.uint16)
    how = {"photometric": "rgb", "bitspersample": bits, "compression": compression}
    tifffile.imwrite(tmp_path / "a.tif", values, **how)
    expected = np.moveaxis(values / (2**bits - 1), -1, 0).astype(np.float32)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


def test_a_palette_of_few_bits(tmp_path):
    for bits in (1, 2, 4):
        colours = np.random.default_rng(bits).integers(0, 65536, (3, 2**bits)).astype(np.uint16)
        values = random_bits(bits)
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
def test_more_than_16_bits_do_not_say_their_range(tmp_path, bits):
    values = random_bits(bits)
    data = values.astype("<u4").tobytes() if bits == 32 else packed(values, bits)
    path = tiff(tmp_path / "a.tif", SIZE, [data], bits)
    with pytest.raises(ImageError, match="uint32, which does not define its range"):
        read_image(path)
    assert read_image(path, Reading((0, 2**bits - 1))).max() == 1


def test_bits_that_no_type_has_are_refused(tmp_path):
    """tifffile returns nothing, and leaves the memory of the image as it is."""
    path = tiff(tmp_path / "a.tif", SIZE, [packed(random_bits(8), 8)], BITS=65535)
    for read in (read_image, lambda path: open_raster(path).read((slice(0, 2), slice(0, 2)))):
        with pytest.raises(ImageError, match=r"a\.tif"):
            read(path)


STRIPS = [bytes([9] * 14)] * 3
"""Of two rows each."""
TILES = [bytes([9] * 256)] * 4


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"OFFSETS": [8, 0, 36]}, "is missing strip 1:"),
        ({"COUNTS": [14, 0, 0]}, "is missing strips 1, 2:"),
        ({"OFFSETS": [8, 22, 5000]}, "ends too early, before the end of strip 2:"),
        ({"COUNTS": [14, 14, 5000]}, "ends too early, before the end of strip 2:"),
        ({"OFFSETS": [8, 22], "COUNTS": [14, 14]}, "is missing strip 2:"),
        ({"OFFSETS": [0, 0, 0], "COUNTS": [0, 0, 0]}, "is missing strips 0, 1, 2:"),
        ({"HEIGHT": 3_000_000}, "is missing strips 3, 4, 5 and more:"),
    ],
)
def test_missing_strips_are_named(tmp_path, change, missing):
    """tifffile itself reads them as black."""
    path = tiff(tmp_path / "a.tif", SIZE, STRIPS, **change)
    for read in (read_image, read_header, open_raster):
        with pytest.raises(ImageError, match=rf"a\.tif {missing} copy it again"):
            read(path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("change", "missing"),
    [({"OFFSETS": 1}, "tile 1:"), ({"COUNTS": 2}, "tile 2:"), ({"HEIGHT": 40}, "tiles 4, 5:")],
)
def test_missing_tiles_are_named(tmp_path, compressed, change, missing):
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


def test_a_strip_of_too_few_bytes_is_missing(tmp_path):
    """What lies behind it in the file is no part of the image."""
    path = tiff(tmp_path / "a.tif", SIZE, [bytes(42)], COUNTS=[20])
    with pytest.raises(ImageError, match="missing strip 0"):
        read_image(path)


def test_planes_that_lie_in_no_known_way_are_refused(tmp_path):
    """tifffile decodes the first one, and leaves the memory of the others as it is."""
    bits = [packed(random_bits(1), 1)] * 2
    tiff(tmp_path / "good.tif", SIZE, bits, 1, SAMPLES=2, ROWS=6, PLANES=2)
    assert read_header(tmp_path / "good.tif").channels == 2
    tiff(tmp_path / "a.tif", SIZE, bits, 1, SAMPLES=2, ROWS=6, PLANES=8)
    with pytest.raises(ImageError, match=r"a\.tif has strips for only some of its planes"):
        read_image(tmp_path / "a.tif")


def test_a_tiff_that_follows_itself_is_refused(tmp_path):
    """tifffile follows the circle for ever."""
    path = tiff(tmp_path / "a.tif", SIZE, [packed(random_bits(8), 8)])
    content = bytearray(path.read_bytes())
    start = struct.unpack_from("<I", content, 4)[0]
    after = start + 2 + 12 * struct.unpack_from("<H", content, start)[0]
    content[after : after + 4] = struct.pack("<I", start)
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.tif names an image as its own successor"):
        read_header(path)


def test_a_plane_that_is_missing(tmp_path):
    planes = np.full((3, 40, 50), 9, np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", planes, metadata={"axes": "CYX"}, compression="zlib")
    xml = tifffile.tiffcomment(tmp_path / "a.ome.tif").replace('SizeC="3"', 'SizeC="4"')
    tifffile.tiffcomment(tmp_path / "a.ome.tif", xml)
    for read in (read_image, read_header):
        with pytest.raises(ImageError, match=r"a\.ome\.tif"):
            read(tmp_path / "a.ome.tif")


def test_two_channels_are_no_alpha(tmp_path):
    """Only what the file says to be opacity is dropped."""
    both = np.random.default_rng(0).integers(0, 256, (*SIZE, 2)).astype(np.uint8)
    for extra, channels in (("unspecified", 2), ("unassalpha", 1), ("assocalpha", 1)):
        tifffile.imwrite(tmp_path / "a.tif", both, photometric="minisblack", extrasamples=[extra])
        assert read_header(tmp_path / "a.tif").channels == channels
        np.testing.assert_array_equal(
            read_image(tmp_path / "a.tif"), np.moveaxis(both / 255, -1, 0).astype(np.float32)[:channels]
        )


def test_ycbcr_is_read_only_where_it_becomes_rgb(tmp_path):
    flat, path = np.full((16, 16, 3), (200, 40, 90), np.uint8), tmp_path / "a.tif"
    for compression in ("jpeg", None, "zlib"):
        subsampling = (1, 1) if compression is None else None
        tifffile.imwrite(path, flat, photometric="ycbcr", compression=compression, subsampling=subsampling)
        if compression == "jpeg":
            np.testing.assert_allclose(decode(path), np.asarray(Pillow.open(path).convert("RGB")), atol=2)
            continue
        with pytest.raises(ImageError, match=r"a\.tif has YCBCR colours"):
            read_image(path)


def test_a_full_disk_is_said_before_decoding(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    pixels = np.zeros((40, 50), np.uint8)
    tifffile.imwrite(tmp_path / "plain.tif", pixels)
    assert open_raster(tmp_path / "plain.tif").read((slice(0, 9), slice(0, 9))).max() == 0
    tifffile.imwrite(tmp_path / "zlib.tif", pixels, compression="zlib")
    with pytest.raises(ImageError, match=r"zlib\.tif needs 0\.0 GB"):
        open_raster(tmp_path / "zlib.tif").read((slice(0, 9), slice(0, 9)))


# ---------------------------------------------------------------------------- real files
STACKS = {
    "golgi": ((25, 137, 147), (0.388, 0.351, 0.351)),
    "chromosomes": ((40, 152, 126), (0.15, 0.034, 0.034)),
    "nuclear_envelope": ((14, 224, 305), None),
    "mitotic_plate": ((6, 263, 263), (3.0, 0.085, 0.085)),
    "nuclei3d": ((40, 160, 160), (0.29, 0.26, 0.26)),
}
"""Shape and spacing, as their README says."""


@pytest.mark.parametrize("name", STACKS)
def test_imagej_stacks(name):
    path, (shape, spacing) = shared(f"stacks/{name}.tif"), STACKS[name]
    header = read_header(path)
    assert (header.shape, times_of(path)) == ((1, *shape), None)
    check_windows(path, tifffile.imread(path))
    if spacing is None:
        assert header.geometry is None
    else:
        assert header.geometry is not None
        np.testing.assert_allclose(header.geometry.spacing, spacing, atol=0.001)
        assert (header.geometry.unit, header.geometry.affine) == (UM, None)


def test_the_spacing_of_imagej_is_what_its_tags_say():
    geometry = read_header(shared("stacks/nuclei3d.tif")).geometry
    assert geometry == Geometry((0.29, 13 / 50, 13 / 50), UM)


def test_an_ome_tiff_of_channels_and_planes():
    path = shared("ome/nucleus_zcyx.ome.tif")
    header = read_header(path)
    assert header.shape == (2, 45, 130, 133)
    assert header.geometry == Geometry((0.4994126016284111, 0.5118778700352326, 0.5118778700352326), UM)
    check_windows(path, np.moveaxis(tifffile.imread(path), 1, -1))


def test_an_ome_tiff_of_time_points():
    path, array = shared("ome/golgi_tyx.ome.tif"), tifffile.imread(shared("ome/golgi_tyx.ome.tif"))
    assert times_of(path) == 30
    for time in (0, 17, 29):
        point = path.with_name(f"{path.name}#t={time}")
        check_windows(point, array[time], Reading((0, 65535)))
        assert times_of(point) is None
        assert read_header(point).geometry == Geometry((0.3514352968960532,) * 2, UM)
    with pytest.raises(ImageError, match=r"has 30 time points: choose one, such as golgi_tyx\.ome\.tif#t=0"):
        read_header(path)
    with pytest.raises(ImageError, match="has 30 time points, counted from 0: there is no 30"):
        read_header(path.with_name(f"{path.name}#t=30"))


def test_an_ome_tiff_volume():
    path = shared("ome/golgi_zyx.ome.tif")
    check_windows(path, tifffile.imread(path))
    assert read_header(path).geometry == Geometry((0.3875999999999999,) + (0.3514352968960532,) * 2, UM)
    with pytest.raises(ImageError, match="has no time axis: leave out #t=3"):
        read_header(path.with_name(f"{path.name}#t=3"))


# ---------------------------------------------------------------------------- TIFF in
ORDERS = ["TZCYX", "TCZYX", "CTZYX", "ZTCYX", "TZYX", "ZCYX", "CZYX", "TCYX", "ZYX", "CYX", "TYX", "YX"]
HOW = {
    "plain": {},
    "zlib": {"compression": "zlib"},
    "tiles": {"compression": "zlib", "tile": (16, 16)},
    "big endian": {"byteorder": ">"},
}


def write_tiff(path, array, axes, how="plain", **metadata):
    tifffile.imwrite(
        path, array, photometric="minisblack", metadata={"axes": axes, **metadata}, ome=True, **HOW[how]
    )
    return path


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("axes", [order for order in ORDERS if order != "CTZYX"])
def test_ome_tiffs_of_all_axes(tmp_path, axes, how):
    array = numbers(axes)
    path = write_tiff(tmp_path / "a.ome.tif", array, axes, how)
    assert times_of(path) == (3 if "T" in axes else None)
    for time in range(3 if "T" in axes else 1):
        point = tmp_path / f"a.ome.tif#t={time}" if "T" in axes else path
        check_windows(point, image_of(array, axes, time))


@pytest.mark.parametrize("axes", ["TZCYX", "TZYX", "ZYX", "TYX", "CYX", "ZCYX"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_hyperstacks_of_imagej(tmp_path, axes, compression):
    array = numbers(axes)
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": axes}, compression=compression)
    for time in range(3 if "T" in axes else 1):
        point = tmp_path / (f"a.tif#t={time}" if "T" in axes else "a.tif")
        check_windows(point, image_of(array, axes, time))


@pytest.mark.parametrize("how", [{"imagej": True}, {"photometric": "minisblack"}], ids=["imagej", "tifffile"])
def test_large_stacks_with_one_header(tmp_path, how):
    """As ImageJ writes more than 4 GB: the planes lie behind the first, without headers."""
    array = numbers("TZYX")
    tifffile.imwrite(tmp_path / "a.tif", array, metadata={"axes": "TZYX"}, truncate=True, **how)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages) == 1
    check_windows(tmp_path / "a.tif#t=2", array[2])
    (tmp_path / "cut.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:-1000])
    for name in ("cut.tif", "cut.tif#t=0"):
        message = r"cut\.tif (states 12 images but ends|has 3 time points|ends too early, .* of strip 10:)"
        with pytest.raises(ImageError, match=message):
            read_header(tmp_path / name)


def test_colour_volumes_and_orientation(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (5, 20, 23, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", metadata={"axes": "ZYXS"})
    check_windows(tmp_path / "a.tif", array)
    turn = (274, 3, 1, 6, True)  # rows become columns from right to left
    sizes = {"PhysicalSizeX": 3.0, "PhysicalSizeY": 2.0, "PhysicalSizeZ": 5.0}
    for how in (None, "zlib"):
        tifffile.imwrite(
            tmp_path / "t.ome.tif",
            array[..., 0],
            photometric="minisblack",
            metadata={"axes": "ZYX", **sizes},
            extratags=[turn],
            compression=how,
        )
        check_windows(tmp_path / "t.ome.tif", np.stack([np.rot90(plane, -1) for plane in array[..., 0]]))
        header = read_header(tmp_path / "t.ome.tif")
        assert (header.space, header.geometry) == ((5, 23, 20), Geometry((5.0, 3.0, 2.0), UM))


@pytest.mark.parametrize("axes", ["ZYX", "TYX", "CYX", "YXZ", "ZXY"])
def test_told_axes_of_a_plain_stack(tmp_path, axes):
    array = numbers("ZYX")
    for how in HOW.values():
        tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", **how)
        for name in ("a.tif",) if "T" not in axes else (f"a.tif#t={time}" for time in range(4)):
            expected = image_of(array, axes, int(name[-1]) if "#" in name else 0)
            check_windows(tmp_path / name, expected, Reading(axes=axes))
    assert times_of(tmp_path / "a.tif", Reading(axes=axes)) == (4 if "T" in axes else None)


def test_unknown_axes_are_asked_for(tmp_path):
    array = np.zeros((40, 16, 17), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    message = (
        r"a\.tif is a stack \(QYX \(40, 16, 17\)\): name its axes, --axes ZYX for a volume, TYX for "
        r"time points, CYX for channels$"
    )
    assert times_of(tmp_path / "a.tif") is None
    for read in (read_header, decode):
        with pytest.raises(ImageError, match=message):
            read(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"axes QYX \(40, 16, 17\), which do not match the given axes TZYX"):
        read_header(tmp_path / "a.tif", Reading(axes="TZYX"))
    tifffile.imwrite(tmp_path / "b.tif", array.reshape(2, 20, 16, 17), photometric="minisblack")
    with pytest.raises(ImageError, match=r"name its axes, --axes with a letter of TCZYX for each"):
        read_header(tmp_path / "b.tif")
    assert read_header(tmp_path / "b.tif", Reading(axes="CZYX")).shape == (2, 20, 16, 17)
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((4, 16, 17, 3), np.uint8), photometric="rgb")
    with pytest.raises(ImageError, match=r"stack \(QYXS .*--axes ZYX for a volume"):
        read_header(tmp_path / "c.tif")
    assert read_header(tmp_path / "c.tif", Reading(axes="ZYX")).shape == (3, 4, 16, 17)
    with pytest.raises(ImageError, match="stack of colour images"):
        read_header(tmp_path / "c.tif", Reading(axes="CYX"))


def test_told_axes_win_over_as_many_of_the_file(tmp_path):
    array, told = numbers("ZYX"), Reading(axes="TYX")
    path = write_tiff(tmp_path / "a.ome.tif", array, "ZYX")
    assert times_of(path, told) == 4
    check_windows(tmp_path / "a.ome.tif#t=1", array[1], told)
    flat = write_tiff(tmp_path / "b.ome.tif", array[0], "YX")
    check_windows(flat, array[0], Reading(axes="ZYX"))
    more = write_tiff(tmp_path / "c.ome.tif", numbers("ZCYX"), "ZCYX")
    check_windows(more, image_of(numbers("ZCYX"), "ZCYX"), Reading(axes="ZYX"))


def test_several_images_in_a_file_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for side in (20, 30):
            file.write(np.zeros((side, side), np.uint8))
    with pytest.raises(ImageError, match=r"a\.tif is a stack of images that differ .* each to its own file"):
        read_header(tmp_path / "a.tif")


def test_an_axis_of_length_one_is_none(tmp_path):
    """However the file keeps it."""
    array = numbers("YX")
    for axes, shape in (("ZYX", (1, 20, 23)), ("TYX", (1, 20, 23)), ("TZCYX", (1, 1, 1, 20, 23))):
        path = write_tiff(tmp_path / "a.ome.tif", array.reshape(shape), axes)
        assert (read_header(path).space, times_of(path)) == ((20, 23), None)
        check_windows(path, array)


def test_windows_decode_the_planes_that_they_need_once(tmp_path, monkeypatch):
    array = numbers("TZCYX", Z=9)
    write_tiff(tmp_path / "a.ome.tif", array, "TZCYX", "zlib")
    asked: list[int] = []
    whole = tifffile.TiffPage.asarray  # by which frames are decoded, too

    def spy(page, *args, **kwargs):
        asked.append(page.index)
        return whole(page, *args, **kwargs)

    monkeypatch.setattr(tifffile.TiffPage, "asarray", spy)
    window = open_window(tmp_path / "a.ome.tif#t=1")
    assert asked == []
    everywhere = (slice(0, 20), slice(0, 23))
    expected = image_of(array, "TZCYX", 1)
    for planes in (slice(3, 5), slice(4, 6)):
        np.testing.assert_array_equal(window((planes, *everywhere)), expected[planes])
    assert sorted(asked) == [18 + 2 * z + c for z in (3, 4, 5) for c in (0, 1)]


@pytest.mark.parametrize("how", ["plain", "zlib"])
def test_windows_keep_no_file_open(tmp_path, how):
    path = write_tiff(tmp_path / "a.ome.tif", numbers("ZYX"), "ZYX", how)
    window = open_window(path)
    window((slice(0, 2), slice(0, 5), slice(0, 5)))
    links = [link.resolve() for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert path.resolve() not in links


def test_missing_strips_of_another_time_point_do_no_harm(tmp_path):
    array = numbers("TZYX")
    path = write_tiff(tmp_path / "a.ome.tif", array, "TZYX", "zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        tag = file.pages[6].tags["StripByteCounts"]
        tag.overwrite([0] * tag.count)
    for time in (0, 2):
        check_windows(tmp_path / f"a.ome.tif#t={time}", array[time])
    with pytest.raises(ImageError, match=r"a\.ome\.tif is missing strip 6: copy it again"):
        read_header(tmp_path / "a.ome.tif#t=1")


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"X": 0.5, "Y": 0.25, "Z": 2.0}, Geometry((2.0, 0.25, 0.5), UM)),
        ({"X": 500.0, "XUnit": "nm", "Y": 250.0, "YUnit": "nm", "Z": 2000.0, "ZUnit": "nm"}, "nm"),
        ({"X": 0.1, "XUnit": "mm", "Y": 0.1, "YUnit": "mm", "Z": 100.0}, Geometry((0.1, 0.1, 0.1), "mm")),
        ({"X": 0.5, "Y": 0.5}, None),
        ({"X": 0.5, "XUnit": "pixel", "Y": 0.5, "YUnit": "pixel", "Z": 1.0}, None),
        ({"X": 0.5, "Y": 0.5, "Z": 1.0, "ZUnit": "reference frame"}, None),
        ({"X": 0.5, "Y": 0.0, "Z": 1.0}, None),
        ({}, None),
    ],
)
def test_physical_sizes_of_ome_xml(tmp_path, sizes, expected):
    metadata = {f"PhysicalSize{name}": value for name, value in sizes.items()}
    path = write_tiff(tmp_path / "a.ome.tif", numbers("ZYX"), "ZYX", **metadata)
    found = read_header(path).geometry
    assert found == (Geometry((2000.0, 250.0, 500.0), "nm") if expected == "nm" else expected)


def with_depths(path, depths, unit=UM, axes="ZYX", **more):
    """An OME-TIFF whose planes, 2 um apart by PhysicalSizeZ, state positions."""
    planes = [
        {"PositionX": -1.5, "PositionXUnit": "mm", "PositionY": 0.25, "PositionYUnit": UM, "PositionZ": depth}
        for depth in depths
    ]
    units = {} if unit is None else {"PositionZUnit": unit}
    sizes = {f"PhysicalSize{axis}": step for axis, step in (("X", 0.5), ("Y", 0.5), ("Z", 2.0))}
    return write_tiff(path, numbers(axes, **more), axes, Plane=[plane | units for plane in planes], **sizes)


@pytest.mark.parametrize(
    ("depths", "unit"),
    [
        ([5, 7, 9, 11], UM),
        ([11, 9, 7, 5], UM),
        ([5, 7.2, 8.9, 11.1], UM),  # a stage that does not stop exactly
        ([0.005, 0.007, 0.009, 0.011], "mm"),
        ([5, 5.01, 5.0, 5.02], UM),  # a stage that stood still
        ([5, 7, 11, 13], None),  # not a length
        ([5, 7, 11, 13], "reference frame"),
    ],
)
def test_positions_of_planes_that_may_be(tmp_path, depths, unit):
    path = with_depths(tmp_path / "a.ome.tif", depths, unit)
    assert read_header(path).geometry == Geometry((2, 0.5, 0.5), UM)


@pytest.mark.parametrize(
    ("depths", "message"),
    [
        (
            [5, 7, 11, 13],
            r"from plane 1 to 2 PositionZ changes by 4 µm, elsewhere by 2: a plane may be missing",
        ),
        ([5, 7, 9, 7], r"from plane 2 to 3 PositionZ changes by -2 µm, elsewhere by 2"),
        ([5, 8, 11, 14], r"lie 3 µm apart by PositionZ, and 2 by PhysicalSizeZ: correct the one"),
    ],
)
def test_positions_that_contradict_the_spacing(tmp_path, depths, message):
    with pytest.raises(ImageError, match=message):
        read_header(with_depths(tmp_path / "a.ome.tif", depths))
    moved = with_depths(tmp_path / "t.ome.tif", [5, 7, 9, 11, *depths], axes="TZYX", T=2)
    assert read_header(moved.with_name("t.ome.tif#t=0")).geometry is not None
    with pytest.raises(ImageError, match=message):
        read_header(moved.with_name("t.ome.tif#t=1"))


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("micron", UM), ("um", UM), ("\\u00B5m", UM), ("mm", "mm"), ("nm", "nm"), ("pixel", None), (None, None)],
)
def test_physical_sizes_of_imagej(tmp_path, unit, expected):
    metadata = {"axes": "ZYX", "spacing": 2.5} | ({"unit": unit} if unit else {})
    tifffile.imwrite(
        tmp_path / "a.tif", numbers("ZYX"), imagej=True, resolution=(4.0, 8.0), metadata=metadata
    )
    found = read_header(tmp_path / "a.tif").geometry
    assert found == (Geometry((2.5, 0.125, 0.25), expected) if expected else None)


def test_dots_per_inch_are_no_physical_size(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", numbers("YX"), resolution=(300, 300), resolutionunit="inch")
    assert read_header(tmp_path / "a.tif").geometry is None


# ---------------------------------------------------------------------------- masks out
def pixels_of(path):
    xml = ElementTree.fromstring(tifffile.tiffcomment(path))
    image, found = xml.find("{*}Image"), xml.find("{*}Image/{*}Pixels")
    assert image is not None
    assert found is not None
    return found.attrib | {"Name": image.attrib["Name"]}


@pytest.mark.parametrize("shape", [(1, 70, 90), (3, 70, 90), (1, 9, 150, 140), (3, 5, 150, 140)])
def test_masks_as_ome_tiff(tmp_path, shape):
    values, planes = mask(*shape), len(shape) == 4
    geometry = Geometry(GEOMETRY.spacing[-len(shape) + 1 :], UM)
    path = written(tmp_path / "m.ome.tif", values, geometry, "cells<1>.ome.tif#t=3")
    with tifffile.TiffFile(path) as file:
        assert (file.is_ome, file.series[0].axes) == (True, "ZYX"[-len(shape) + 1 :] + "S" * (shape[0] > 1))
        assert file.pages[0].compression == 8
        assert file.pages[0].is_tiled
        stored = file.asarray()
    check_values(np.moveaxis(stored, -1, 0) if shape[0] > 1 else stored[None], values)
    sizes = pixels_of(path)
    assert sizes["Name"] == "mask of cells<1>.ome.tif#t=3, 1 = trusted"
    for axis, step in zip("ZYX"[-len(shape) + 1 :], geometry.spacing, strict=True):
        assert (float(sizes[f"PhysicalSize{axis}"]), sizes[f"PhysicalSize{axis}Unit"]) == (step, UM)
    assert ("PhysicalSizeZ" in sizes) == planes
    assert read_header(path).geometry == geometry
    np.testing.assert_array_equal(read_image(path), (values_of(stored, shape) / 65535).astype(np.float32))


def test_a_mask_keeps_the_positions_of_its_planes(tmp_path):
    """Those of the asked time point alone."""
    depths = [5.0, 7.0, 9.0, 11.0, 18.0, 16.0, 14.0, 12.0]
    image = with_depths(tmp_path / "a.ome.tif", np.repeat(depths, 2).tolist(), axes="TZCYX", T=2)
    geometry = read_header(image.with_name("a.ome.tif#t=1")).geometry
    path = written(tmp_path / "m.ome.tif", mask(1, 4, 20, 23), geometry, "a.ome.tif#t=1")
    planes = tifffile.xml2dict(tifffile.tiffcomment(path))["OME"]["Image"]["Pixels"]["Plane"]
    assert [(plane["TheT"], plane["TheZ"], plane["PositionZ"]) for plane in planes] == [
        (0, z, depth) for z, depth in enumerate(depths[4:])
    ]
    others = [(each["PositionX"], each["PositionXUnit"], each["PositionY"]) for each in planes]
    assert others == [(-1.5, "mm", 0.25)] * 4
    assert {(each["PositionYUnit"], each["PositionZUnit"]) for each in planes} == {(UM, UM)}
    assert read_header(path).geometry == geometry


@pytest.mark.parametrize("shape", [(1, 2101, 1030), (3, 1025, 600), (1, 3, 1301, 80), (3, 2, 90, 1100)])
def test_large_masks_as_ome_tiff_have_a_pyramid(tmp_path, shape):
    values = mask(*shape)
    path = written(tmp_path / "m.tif", values)
    with tifffile.TiffFile(path) as file:
        assert len(file.series) == 1
        levels = [level.asarray() for level in file.series[0].levels]
        planes = shape[1] if len(shape) == 4 else 1
        assert len(file.pages) == planes
        assert len(file.pages[0].pages) == len(levels) - 1
        assert all(sub.subfiletype == 1 for sub in file.pages[0].pages)
    check_values(values_of(levels[0], shape), values)
    assert max(levels[-1].shape[-2:] if shape[0] == 1 else levels[-1].shape[-3:-1]) <= 512
    assert len(levels) == {2101: 4, 1025: 3, 1301: 3, 90: 3}[shape[-2]]
    for smaller, larger in zip(levels[1:], levels, strict=False):
        factors = (*(1,) * (len(shape) - 3), 2, 2, *(1,) * (shape[0] > 1))
        check_level(smaller, larger, factors)
    np.testing.assert_array_equal(read_image(path) * 65535, values_of(levels[0], shape))


def test_small_masks_have_no_pyramid_and_small_tiles(tmp_path):
    path = written(tmp_path / "m.tif", mask(1, 1024, 40))
    with tifffile.TiffFile(path) as file:
        assert (len(file.series[0].levels), file.pages[0].tile) == (1, (1024, 48))
    assert "PhysicalSizeX" not in pixels_of(path)
    assert pixels_of(path)["Name"] == "mask, 1 = trusted"


def test_a_large_mask_is_a_bigtiff(tmp_path, monkeypatch):
    for largest, big in ((10**9, False), (10**4, True)):
        monkeypatch.setattr("conformask.images.tiff.LARGEST", largest)
        with tifffile.TiffFile(written(tmp_path / f"m{big}.tif", mask(1, 60, 60))) as file:
            assert file.is_bigtiff is big


@pytest.mark.parametrize(
    "name", [asking("formats", "nucleus_czyx_v04.ome.zarr"), "nucleus_zcyx.ome.tif", "golgi_zyx.ome.tif"]
)
@pytest.mark.parametrize("suffix", [".ome.tif", asking("formats", ".ome.zarr")])
def test_a_mask_has_the_spacing_of_its_source(tmp_path, name, suffix):
    header = read_header(shared(f"ome/{name}"))
    path = written(tmp_path / f"m{suffix}", mask(1, *header.space), header.geometry)
    assert read_header(path).geometry == header.geometry
    assert header.geometry is not None


@pytest.mark.parametrize("suffix", [".ome.tif", asking("formats", ".ome.zarr")])
@pytest.mark.parametrize("space", [(20, 1100), (3, 20, 1100)])
def test_films_of_colours_have_a_pyramid_of_each_time_point(tmp_path, suffix, space):
    values, path = mask(3, 2, *space), tmp_path / f"m{suffix}"
    blocks = (
        ((slice(time, time + 1), *places), values[:, time : time + 1, *places])
        for time in range(2)
        for places in grid(space)
    )
    write_blocks(path, values.shape, blocks, SourceImage(None, None, PLAIN, is_film=True))
    if suffix == ".ome.tif":
        with tifffile.TiffFile(path) as file:
            assert file.series[0].axes == "T" + "ZYXS"[-len(space) - 1 :]
            levels = [np.moveaxis(level.asarray(), -1, 0) for level in file.series[0].levels]
    else:
        yaozarrs.validate_zarr_store(path)
        levels = [level.swapaxes(0, 1) for level in levels_of(path)[1]]
    assert len(levels) == 3
    check_values(levels[0], values)
    for smaller, larger in zip(levels[1:], levels, strict=False):
        check_level(smaller, larger, (*(1,) * len(space), *np.array(larger.shape[-2:]) // smaller.shape[-2:]))
    for time in range(2):
        np.testing.assert_array_equal(
            read_image(path.with_name(f"{path.name}#t={time}")) * 65535, levels[0][:, time]
        )


def test_means_round_down_and_keep_one():
    np.testing.assert_array_equal(means(np.array([[1, 2], [2, 2]], np.uint16), (2, 2)), [[1]])
    np.testing.assert_array_equal(means(np.full((3, 3), 65535, np.uint16), (2, 2)), np.full((2, 2), 65535))
    np.testing.assert_array_equal(means(np.array([[1, 2, 9]], np.uint16), (1, 2)), [[1, 9]])


def test_halvings_end():
    assert list(halvings((512, 512), None)) == []
    assert list(halvings((600, 10, 513), (1e-9, 1.0, 1.0)))[-1] == (1, 2, 2)


@pytest.mark.thorough
@pytest.mark.parametrize("suffix", [".ome.tif", asking("formats", ".ome.zarr")])
def test_masks_are_written_in_bounded_memory(tmp_path, suffix):
    shape = (1, 48, 1100, 1100)
    block = mask(1, 128, 128, 128)

    def blocks():
        for places in grid(shape[1:]):
            yield places, block[:, *(slice(0, at.stop - at.start) for at in places)]

    written(tmp_path / f"warm{suffix}", block)
    tracemalloc.start()
    write_blocks(tmp_path / f"m{suffix}", shape, blocks(), SourceImage(None, None, PLAIN))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.7 * 2 * np.prod(shape)  # its bytes in 16 bits
    raster = open_raster(tmp_path / f"m{suffix}")
    corner = raster.read((slice(38, 48), slice(1024, 1100), slice(1024, 1100)))
    np.testing.assert_allclose(corner, block[:, 38:48, :76, :76], atol=2 / 65535)


def test_a_full_disk_is_an_error_and_no_crash(tmp_path, monkeypatch):
    """Writing to a map of a file that the disk cannot hold would kill the process."""
    import errno
    import os

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    if not hasattr(os, "posix_fallocate"):
        pytest.skip("the system reserves no room")
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        DiskArray((SMALL, 1), np.dtype(np.uint16), tmp_path, reserve=True)
    assert list(tmp_path.iterdir()) == []
