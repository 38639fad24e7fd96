"""GeoTIFFs as rasterio reads them, and masks that lie where their scene lies."""

import re
import sys

import numpy as np
import pytest
import torch

import conformask as cm
from conformask import errors
from conformask.errors import ConformaskWarning, ImageError
from conformask.extensions import pip_install
from conformask.extras import geotiff
from conformask.extras.make.predictors import CustomPredictor
from conformask.extras.make.triplets import add_outputs
from conformask.images.formats import SourceImage
from conformask.images.layers import read_region
from conformask.images.read import (
    decode,
    decode_with_header,
    format_of,
    grid,
    list_images,
    open_window,
    read_header,
    read_image,
    write_blocks,
    write_image,
)
from conformask.images.tiff import TIFF
from conformask.records.reading import PLAIN, Geometry, Reading

rasterio = pytest.importorskip("rasterio", reason="needs the extra geotiff")

UTM = "EPSG:32633"
SIDES = (70, 90)
OUTSIDE = Reading(nan="outside")
NORTH_UP = rasterio.Affine(10, 0, 500_000, 0, -10, 5_400_000)
TURNED = NORTH_UP * rasterio.Affine.rotation(30)


def field(bands=1, dtype=np.uint16, sides=SIDES):
    return (np.random.default_rng(0).random((bands, *sides)) * 250 + 1).astype(dtype)


def save(path, array, overviews=(), **profile):
    """As rasterio writes an array (C, H, W)."""
    count, height, width = array.shape
    plain = {"driver": "GTiff", "crs": UTM, "transform": NORTH_UP, "dtype": array.dtype}
    sides = {"count": count, "height": height, "width": width}
    with rasterio.open(path, "w", **plain | sides | profile) as file:
        file.write(array)
        if overviews:
            file.build_overviews(overviews)
    return path


def tiled(path, array, **profile):
    return save(path, array, tiled=True, blockxsize=32, blockysize=16, compress="deflate", **profile)


def mask_over(path, to, **source):
    """Write the mask of a scene, and return its values (C, H, W)."""
    header = read_header(path, OUTSIDE)
    values = np.random.default_rng(1).random(header.shape, np.float32)
    if source.get("is_labels"):
        values = (values * 300).astype(np.uint16)
    blocks = ((places, values[:, *places]) for places in grid(header.space, 32))
    write_blocks(to, values.shape, blocks, SourceImage(path, header.geometry, PLAIN, **source))
    return values


# reading


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.uint32, np.float32, np.float64])
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_bands_are_channels(bands, dtype, tmp_path):
    expected = field(bands, dtype)
    path = tiled(tmp_path / "a.tif", expected)
    array, header = decode_with_header(path)
    np.testing.assert_array_equal(array.reshape(*SIDES, bands), np.moveaxis(expected, 0, -1))
    assert header.shape == expected.shape
    assert header.geometry == Geometry((10.0, 10.0), "m")
    assert header.data_range == {"u1": (0, 255), "u2": (0, 65535), "f4": (0, 1), "f8": (0, 1)}.get(
        np.dtype(dtype).str[1:]
    )
    window = open_window(path)((slice(3, 40), slice(50, 90)))
    np.testing.assert_array_equal(window.reshape(37, 40, bands), np.moveaxis(expected, 0, -1)[3:40, 50:])


def test_reflectances_have_the_range_that_is_given(tmp_path):
    path = save(tmp_path / "a.tif", np.full((2, 4, 4), 2500, np.uint16))
    assert (read_image(path, Reading(data_range=(0, 10_000))) == 0.25).all()


@pytest.mark.parametrize(
    ("crs", "transform", "spacing"),
    [
        (UTM, TURNED, (10.0, 10.0)),
        ("EPSG:2263", rasterio.Affine(3, 0, 9e5, 0, -6, 2e5), (6 * 1200 / 3937, 3 * 1200 / 3937)),
        ("EPSG:4326", rasterio.Affine(0.1, 0, 10, 0, -0.1, 50), None),
        ("EPSG:3857", NORTH_UP, None),
    ],
)
def test_pixels_have_a_size_in_metres_where_metres_are_metres(crs, transform, spacing, tmp_path):
    geometry = read_header(save(tmp_path / "a.tif", field(), crs=crs, transform=transform)).geometry
    if spacing is None:
        assert geometry is None
    else:
        assert geometry is not None
        assert geometry.unit == "m"
        assert geometry.spacing == pytest.approx(spacing)


def test_sheared_pixels_have_no_spacing(tmp_path, monkeypatch):
    monkeypatch.setattr(errors, "_SAID", set())
    path = save(tmp_path / "a.tif", field(), transform=rasterio.Affine(10, 10, 5e5, 0, -10, 5e6))
    with pytest.warns(ConformaskWarning, match=r"a.tif has sheared pixels, .*: no spacing is read"):
        assert read_header(path).geometry is None
    mask_over(path, tmp_path / "mask.tif")
    with rasterio.open(path) as scene, rasterio.open(tmp_path / "mask.tif") as mask:
        assert mask.transform == scene.transform


def test_windows_and_patches_in_metres(tmp_path):
    geometry = read_header(save(tmp_path / "a.tif", field())).geometry
    assert geometry is not None
    assert geometry.window("25m").sides == (3, 3)
    assert geometry.window("25m").length == "30 m"
    assert geometry.pixels("2500m2") == 25
    assert geometry.pixels("2501 m²") == 26


def test_plain_tiffs_stay_with_the_reader_of_tiff(tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", field()[0])
    (tmp_path / "b.tif").write_bytes(b"II*\0 no TIFF")
    scene = save(tmp_path / "c.tiff", field())
    kinds = [format_of(tmp_path / name) for name in ("a.tif", "b.tif", "missing.tif", "c.tiff")]
    assert kinds == [TIFF, TIFF, TIFF, geotiff.GEOTIFF]
    assert scene in list_images(tmp_path)


def test_a_file_that_becomes_another_is_looked_at_again(tmp_path):
    import tifffile

    save(tmp_path / "a.tif", field())
    assert format_of(tmp_path / "a.tif") is geotiff.GEOTIFF
    tifffile.imwrite(tmp_path / "a.tif", field()[0])
    assert format_of(tmp_path / "a.tif") is TIFF


def test_windows_of_a_file_that_no_memory_holds(tmp_path):
    path, side = tmp_path / "a.tif", 100_000
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 4, "height": side, "width": side, "nodata": 0}
    layout = {"tiled": True, "blockxsize": 1024, "blockysize": 1024, "sparse_ok": True, "bigtiff": "yes"}
    with rasterio.open(path, "w", crs=UTM, transform=NORTH_UP, **profile, **layout) as file:
        window = rasterio.windows.Window(50_000, 70_000, 90, 70)
        file.write(field(4), window=window)
    assert read_header(path).shape == (4, side, side)
    values = open_window(path, OUTSIDE)((slice(70_000, 70_070), slice(50_000, 50_090)))
    np.testing.assert_array_equal(values, np.moveaxis(field(4), 0, -1))
    with pytest.raises(ImageError, match="bytes of memory, but only"):
        decode(path, OUTSIDE)


# nodata


@pytest.mark.parametrize(("dtype", "nodata"), [(np.uint16, 0), (np.float32, -9999.0), (np.float32, np.nan)])
def test_nodata_lies_outside_of_the_region(dtype, nodata, tmp_path):
    array = field(3, dtype)
    array[:, :20], array[1, 50, 60] = nodata, nodata
    path = save(tmp_path / "a.tif", array, nodata=nodata)
    with pytest.raises(ImageError, match=r"a.tif has pixels without data: .*--nan outside"):
        decode(path)
    values = decode(path, OUTSIDE)
    outside = np.isnan(values)
    assert outside[:20].all()
    assert outside[20:].sum() == 1
    np.testing.assert_array_equal(values[~outside], np.moveaxis(array, 0, -1)[~outside])


def test_alpha_and_internal_masks_are_nodata(tmp_path):
    array = field(4, np.uint8)
    array[3] = 255
    array[3, :, :30] = 0
    path = save(tmp_path / "a.tif", array, photometric="RGB", alpha="YES")
    assert read_header(path).channels == 3
    assert np.isnan(decode(path, OUTSIDE)).mean() == 30 / 90
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = save(tmp_path / "b.tif", field())
        with rasterio.open(path, "r+") as file:
            file.write_mask(np.arange(90)[None] > np.full((70, 1), 9))
    assert np.isnan(decode(path, OUTSIDE)).mean() == 10 / 90


def test_regions_and_labels_without_data_are_outside(tmp_path):
    array = field(1, np.uint8)
    array[:, :7] = 255
    path = save(tmp_path / "a.tif", array, nodata=255)
    region = read_region(path, SIDES)
    assert not region[:, :7].any()
    assert region[:, 7:].all()


def test_a_promise_is_about_pixels_with_data(tmp_path):
    generator = np.random.default_rng(0)
    for index in range(30):
        y = generator.integers(1, 10_000, (3, 32, 32)).astype(np.uint16)
        y[:, : index % 8] = 0
        y_hat = np.where(y == 0, 0, np.clip(y + generator.integers(-500, 500, y.shape), 1, 10_000))
        for role, array in (("x", y_hat), ("y_hat", y_hat), ("y", y)):
            (tmp_path / role).mkdir(exist_ok=True)
            save(tmp_path / role / f"{index}.tif", array.astype(np.uint16), nodata=0)
    triplets = cm.Triplets.from_folder(tmp_path, reading=cm.Reading((0, 10_000), nan="outside"))
    assert triplets[3].layers["region"].mean() == 29 / 32
    masker = cm.calibrate(
        cm.Heuristic(cm.residual, channels=3), triplets, threshold=0.02, loss=cm.Local("l1", "50m")
    )
    assert "50 m" in masker.sentence
    written = cm.write_masks(masker, triplets.select([3]), tmp_path / "masks")
    assert list(written.sizes) == ["11"]
    with rasterio.open(tmp_path / "masks" / "masks" / "11.tif") as mask:
        assert mask.crs == UTM
        assert mask.transform == NORTH_UP


# damaged files


def test_truncated_files_are_refused(tmp_path):
    path = tiled(tmp_path / "a.tif", field())
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(
        ImageError, match=r"its last block ends at byte [0-9]+: it is truncated; copy it again"
    ):
        read_header(path)


def test_a_damaged_block_is_named(tmp_path):
    path = tiled(tmp_path / "a.tif", field())
    content = bytearray(path.read_bytes())
    content[-400:-200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(
        ImageError, match=r"a block of the rows and columns 0 to 70 and 0 to 90 cannot be dec"
    ):
        decode(path)


def test_absent_blocks_are_nodata_or_refused(tmp_path):
    for name, nodata in (("a.tif", None), ("b.tif", 0)):
        array = field()
        array[:, :16] = 0
        tiled(tmp_path / name, array, sparse_ok=True, nodata=nodata)
    with pytest.raises(ImageError, match=r"a.tif lacks 3 of 15 blocks, and states no value for nodata"):
        read_header(tmp_path / "a.tif")
    assert np.isnan(decode(tmp_path / "b.tif", OUTSIDE))[:16].all()


def test_blocks_that_do_not_fit_into_memory_are_refused(tmp_path, monkeypatch):
    path = tiled(tmp_path / "a.tif", field())
    monkeypatch.setenv("CONFORMASK_MAX_IMAGE_BYTES", "1000")
    with pytest.raises(ImageError, match=r"a block of .*a.tif, 16 x 32 pixels, takes 1024 bytes"):
        read_header(path)


def test_complex_numbers_are_refused(tmp_path):
    with pytest.raises(ImageError, match="contains complex64"):
        read_header(save(tmp_path / "a.tif", field().astype(np.complex64)))


def test_several_images_are_refused(tmp_path):
    path = save(tmp_path / "a.tif", field())
    with rasterio.open(path, "r", driver="GTiff") as first:
        profile = first.profile
    profile |= {"APPEND_SUBDATASET": "YES"}
    with rasterio.open(path, "w", **profile) as file:
        file.write(field())
    with pytest.raises(ImageError, match="holds 2 images"):
        read_header(path)


# without rasterio


def test_without_rasterio_a_scene_is_a_plain_tiff_and_that_is_said_once(tmp_path, monkeypatch, recwarn):
    paths = [save(tmp_path / f"{name}.tif", field()) for name in "ab"]
    monkeypatch.setitem(sys.modules, "rasterio", None)
    monkeypatch.setattr(errors, "_SAID", set())
    for path in paths:
        np.testing.assert_array_equal(decode(path), field()[0])
    (said,) = [str(warning.message) for warning in recwarn if warning.category is ConformaskWarning]
    assert re.search(
        r"a.tif is a GeoTIFF, and read as a plain TIFF: coordinates and nodata are ignored", said
    )
    assert pip_install("geotiff") in said


# masks


@pytest.mark.parametrize("transform", [NORTH_UP, TURNED])
def test_a_mask_lies_where_its_scene_lies(transform, tmp_path):
    path = tiled(tmp_path / "a.tif", field(3), transform=transform, nodata=0, overviews=(2, 4))
    values = mask_over(path, tmp_path / "mask.tif")
    read = read_image(tmp_path / "mask.tif")
    assert (read <= values).all()
    assert abs(read - values).max() < 1 / 65535
    with rasterio.open(path) as scene, rasterio.open(tmp_path / "mask.tif") as mask:
        for name in ("crs", "transform", "block_shapes", "shape", "count", "bounds"):
            assert getattr(mask, name) == getattr(scene, name), name
        assert mask.overviews(1) == scene.overviews(1) == [2, 4]
        assert mask.nodata is None
        assert mask.dtypes[0] == "uint16"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tif", "mask.tif"]


def test_a_mask_has_strips_where_its_scene_has(tmp_path):
    path = save(tmp_path / "a.tif", field(), blockysize=7)
    mask_over(path, tmp_path / "mask.tif")
    with rasterio.open(tmp_path / "mask.tif") as mask:
        assert mask.block_shapes == [(7, 90)]
        assert mask.overviews(1) == []


def test_the_mask_of_a_cog_is_one(tmp_path):
    path = save(tmp_path / "a.tif", field(3, np.uint8, (300, 400)), driver="COG", blocksize=128)
    values = mask_over(path, tmp_path / "mask.tif")
    assert abs(read_image(tmp_path / "mask.tif") - values).max() < 1 / 65535
    with rasterio.open(path) as scene, rasterio.open(tmp_path / "mask.tif") as mask:
        assert mask.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        for name in ("crs", "transform", "block_shapes"):
            assert getattr(mask, name) == getattr(scene, name), name
        assert mask.overviews(1) == scene.overviews(1) != []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tif", "mask.tif"]


def test_ground_control_points_are_kept(tmp_path):
    point = rasterio.control.GroundControlPoint
    points = [point(0, 0, 10, 50), point(0, 90, 11, 50), point(70, 0, 10, 49)]
    path = save(tmp_path / "a.tif", field(), transform=None, gcps=points, crs="EPSG:4326")
    assert read_header(path).geometry is None
    mask_over(path, tmp_path / "mask.tif")
    with rasterio.open(tmp_path / "mask.tif") as mask:
        assert [(p.row, p.col, p.x, p.y) for p in mask.gcps[0]] == [(p.row, p.col, p.x, p.y) for p in points]


def test_labels_keep_their_values(tmp_path):
    path = tiled(tmp_path / "a.tif", field(), overviews=(2,))
    labels = mask_over(path, tmp_path / "labels.tif", is_labels=True)
    np.testing.assert_array_equal(decode(tmp_path / "labels.tif"), labels[0])
    with rasterio.open(tmp_path / "labels.tif") as file:
        assert set(np.unique(file.read(1, out_shape=(35, 45)))) <= set(np.unique(labels))


def test_an_output_with_smaller_pixels_covers_the_same_ground(tmp_path):
    path = tiled(tmp_path / "a.tif", field())
    image = np.random.default_rng(0).random((2, 280, 360)).astype(np.float32)
    geotiff.write_geotiff(tmp_path / "sr.tif", image, SourceImage(path, None, PLAIN))
    np.testing.assert_array_equal(np.moveaxis(decode(tmp_path / "sr.tif"), -1, 0), image)
    with rasterio.open(path) as scene, rasterio.open(tmp_path / "sr.tif") as file:
        assert file.bounds == scene.bounds
        assert file.res == (2.5, 2.5)


SMALLER, LARGER = (NORTH_UP * rasterio.Affine.scale(factor) for factor in (0.25, 2))
"""Pixels of a quarter and of twice the side, which begin at the same corner."""
BESIDE = NORTH_UP * rasterio.Affine.translation(1, 0)
NEXT_ZONE = "EPSG:32632"


def scene(folder, role, sides, transform=NORTH_UP, **profile):
    (folder / role).mkdir(exist_ok=True)
    return save(folder / role / "a.tif", field(sides=sides), transform=transform, **profile)


@pytest.mark.parametrize(
    ("sides", "changed", "message"),
    [
        ((16, 16), {}, None),
        ((64, 64), {"transform": SMALLER}, None),
        (
            (16, 16),
            {"transform": NORTH_UP * rasterio.Affine.translation(1, 0)},
            "up to 1 pixels of y_hat apart",
        ),
        ((64, 64), {"transform": NORTH_UP}, "up to 48 pixels of y_hat apart"),
        ((64, 64), {"transform": SMALLER * rasterio.Affine.rotation(1)}, "pixels of y_hat apart"),
        ((16, 16), {"crs": NEXT_ZONE}, "the coordinate systems EPSG:32633 and EPSG:32632"),
        (
            (16, 16),
            {"transform": NORTH_UP * rasterio.Affine.scale(2)},
            "different spacings, 10 x 10 m and 20",
        ),
    ],
)
def test_x_covers_the_ground_of_y_hat(sides, changed, message, tmp_path):
    scene(tmp_path, "x", (16, 16))
    scene(tmp_path, "y_hat", sides, **changed)
    images = cm.Triplets.from_folder(tmp_path)
    for read in (images.__getitem__, images.opened):
        if message is None or ("spacings" in message and read == images.opened):
            continue
        with pytest.raises(ImageError, match=re.escape(message)):
            read(0)
    if message is None:
        assert images[0].y_hat.shape[1:] == images.opened(0).y_hat.size == sides


@pytest.mark.parametrize("without", ["x", "y_hat", "y"])
def test_an_image_without_a_coordinate_system_cannot_be_compared(without, tmp_path, monkeypatch):
    for role in ("x", "y_hat", "y"):
        scene(tmp_path, role, (16, 16), crs=None if role == without else UTM)
    images, other = cm.Triplets.from_folder(tmp_path), "x" if without == "y_hat" else without
    for read in (images.__getitem__, images.opened):
        monkeypatch.setattr(errors, "_SAID", set())
        with pytest.warns(ConformaskWarning, match=f"of {other} and y_hat only one states the EPSG code"):
            read(0)


def test_without_any_coordinate_system_the_corners_are_compared(tmp_path, recwarn):
    for role in ("x", "y_hat", "y"):
        scene(tmp_path, role, (16, 16), crs=None, transform=BESIDE if role == "y" else NORTH_UP)
    with pytest.raises(ImageError, match="up to 1 pixels of y_hat apart"):
        cm.Triplets.from_folder(tmp_path)[0]
    assert not [each for each in recwarn if each.category is ConformaskWarning]


@pytest.mark.filterwarnings("error::PendingDeprecationWarning", "error::DeprecationWarning")
def test_nothing_is_called_that_affine_will_drop(tmp_path):
    path = scene(tmp_path, "x", (16, 16))
    assert read_header(path).ground.corners[1:] == ((500_160, 5_400_000), (500_000, 5_399_840))
    image = np.zeros((1, 32, 64), np.float32)
    geotiff.write_geotiff(tmp_path / "sr.tif", image, SourceImage(path, None, PLAIN))
    with rasterio.open(tmp_path / "sr.tif") as file:
        assert tuple(file.transform)[:6] == (2.5, 0, 500_000, 0, -5, 5_400_000)


def test_a_file_without_coordinates_may_lie_anywhere(tmp_path):
    scene(tmp_path, "x", (16, 16))
    (tmp_path / "y_hat").mkdir()
    write_image(tmp_path / "y_hat" / "a.png", np.zeros((1, 16, 16)))
    assert cm.Triplets.from_folder(tmp_path)[0].y_hat.shape == (1, 16, 16)


def test_pixels_of_another_size_are_said_to_be_others(tmp_path):
    y = np.random.default_rng(0).random((30, 1, 16, 16), dtype=np.float32)
    for folder, step in (("old", 1), ("new", 3)):
        for role in ("x", "y_hat", "y"):
            (tmp_path / folder / role).mkdir(parents=True)
            for index, image in enumerate(y ** {"x": 2, "y_hat": 1.5, "y": 1}[role]):
                to = tmp_path / folder / role / f"{index}.tif"
                save(to, image, transform=NORTH_UP * rasterio.Affine.scale(step))
    old, new = (cm.Triplets.from_folder(tmp_path / folder) for folder in ("old", "new"))
    masker = cm.calibrate(cm.Heuristic(cm.residual, channels=1), old, threshold=0.1, loss="l1")
    assert masker.admit(old).spacings == {}
    assert (
        masker.admit(new).spacings["0"].startswith("a spacing of 30 x 30 m: the promise was calibrated on 10")
    )


@pytest.mark.parametrize("factor", [1, 4])
def test_outputs_lie_where_their_scene_lies(factor, tmp_path):
    path = scene(tmp_path, "x", (16, 16))
    enlarge = CustomPredictor(torch.nn.Upsample(scale_factor=factor), "enlarge", "1")
    assert add_outputs(tmp_path, enlarge, (0, 300)) == 1
    with rasterio.open(path) as x, rasterio.open(tmp_path / "y_hat" / "a.tif") as y_hat:
        assert (y_hat.crs, y_hat.bounds, y_hat.width) == (x.crs, x.bounds, 16 * factor)
        assert y_hat.dtypes == ("float32",)
        np.testing.assert_allclose(y_hat.read(1)[::factor, ::factor], x.read(1), atol=1e-3)
    images = cm.Triplets.from_folder(tmp_path, (0, 300))
    np.testing.assert_allclose(images[0].y_hat[:, ::factor, ::factor], images[0].x, atol=1e-6)
