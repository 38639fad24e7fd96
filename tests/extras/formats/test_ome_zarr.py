"""OME-Zarr with z, c and t, in and out, against what zarr, ngff-zarr and yaozarrs read."""

import numpy as np
import pytest

from conformask.errors import ImageError
from conformask.images.read import decode, open_window, read_header, read_image, times_of
from conformask.records.reading import Geometry, Reading
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
    shared,
    written,
)

zarr = pytest.importorskip("zarr", reason="the extra zarr is not installed")
yaozarrs = pytest.importorskip("yaozarrs", reason="the extra zarr is not installed")
ngff_zarr = pytest.importorskip("ngff_zarr", reason="ngff-zarr, a second reader, is not installed")
NGFF = {"t": "time", "c": "channel"}


@pytest.mark.parametrize("version", ["04", "05"])
def test_the_same_nucleus_as_ome_zarr(version):
    path, other = (shared(f"ome/nucleus_czyx_v{version}.ome.zarr"), shared("ome/nucleus_zcyx.ome.tif"))
    header = read_header(path)
    assert (header.shape, header.geometry) == (read_header(other).shape, read_header(other).geometry)
    check_windows(path, decode(other))
    check_windows(path, np.moveaxis(zarr.open_array(path / "s0", mode="r")[:], 0, -1))


def test_an_ome_zarr_of_one_plane_by_others():
    path = shared("ome/cardiomyocytes_czyx_v04.ome.zarr")
    header = read_header(path)
    assert (header.channels, header.geometry) == (3, Geometry((1.3, 1.3), UM))
    check_windows(path, np.moveaxis(zarr.open_array(path / "2", mode="r")[:, 0], 0, -1))


def write_zarr(path, array, axes, version="0.5", units=None, scale=None, outer=None, names=None, **more):
    """By zarr alone."""
    named = [
        {
            "name": (names or {}).get(axis, axis),
            "type": NGFF.get(axis, "space"),
            **({"unit": units[axis]} if units and axis in units else {}),
        }
        for axis in axes
    ]
    data = {"path": "0"}
    image: dict = {"axes": named, "datasets": [data]}
    for holder, values in ((data, scale), (image, outer)):
        if values is not None:
            holder["coordinateTransformations"] = [{"type": "scale", "scale": values}]
    new = version == "0.5"
    attributes = {"ome": {"version": version, "multiscales": [image]}} if new else {"multiscales": [image]}
    group = zarr.create_group(path, zarr_format=3 if new else 2, attributes=attributes)
    return group.create_array("0", data=array, chunks=more.pop("chunks", (2,) * array.ndim), **more)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["tczyx", "tzyx", "tcyx", "czyx", "zyx", "cyx", "tyx", "yx"])
def test_ome_zarrs_of_all_axes(tmp_path, axes, version):
    array = numbers(axes.upper())
    chunks = tuple({"y": 8, "x": 7}.get(axis, 2) for axis in axes)
    write_zarr(tmp_path / "a.ome.zarr", array, axes, version, chunks=chunks)
    assert times_of(tmp_path / "a.ome.zarr") == (3 if "t" in axes else None)
    for time in range(3 if "t" in axes else 1):
        name = f"a.ome.zarr#t={time}" if "t" in axes else "a.ome.zarr"
        check_windows(tmp_path / name, image_of(array, axes.upper(), time))
    if "t" in axes:
        with pytest.raises(ImageError, match=r"has 3 time points: choose one, such as a\.ome\.zarr#t=0"):
            read_header(tmp_path / "a.ome.zarr")


def test_axes_go_by_their_types(tmp_path):
    array = numbers("TCZYX")
    write_zarr(tmp_path / "a.zarr", array, "tczyx", names={"t": "frame", "c": "dye", "z": "Z"})
    check_windows(tmp_path / "a.zarr#t=1", image_of(array, "TCZYX", 1))


@pytest.mark.parametrize(
    ("units", "scale", "outer", "expected"),
    [
        (["micrometer"] * 3, [9, 2.0, 0.5, 0.25], None, Geometry((2.0, 0.5, 0.25), UM)),
        (["nanometer"] * 3, [9, 2.0, 0.5, 0.25], [1, 10, 20, 30], Geometry((20.0, 10.0, 7.5), "nm")),
        (["millimeter"] * 3, None, [1, 1.5, 2, 3], Geometry((1.5, 2.0, 3.0), "mm")),
        (
            ["micrometer", "nanometer", "nanometer"],
            [1, 2.0, 500, 250],
            None,
            Geometry((2000.0, 500, 250), "nm"),
        ),
        ([], [1, 2.0, 0.5, 0.25], None, None),
        (["micrometer"] * 2, [1, 2.0, 0.5, 0.25], None, None),
        (["parsec"] * 3, [1, 2.0, 0.5, 0.25], None, None),
        (["micrometer"] * 3, None, None, None),
    ],
)
def test_physical_sizes_of_ome_zarr(tmp_path, units, scale, outer, expected):
    named = dict(zip("zyx", units, strict=False))
    write_zarr(tmp_path / "a.zarr", numbers("CZYX"), "czyx", units=named, scale=scale, outer=outer)
    found = read_header(tmp_path / "a.zarr").geometry
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert found.unit == expected.unit
        np.testing.assert_allclose(found.spacing, expected.spacing, rtol=1e-15)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_windows_read_their_own_chunks_alone(tmp_path, version):
    array = numbers("TCZYX") + 1
    made = write_zarr(tmp_path / "a.zarr", array, "tczyx", version, chunks=(1, 1, 2, 8, 8))
    point = tmp_path / "a.zarr#t=1"
    window = open_window(point)
    for key in ((1, 0, 0, 0, 0), (1, 1, 1, 2, 0), (0, 1, 1, 1, 1), (1, 1, 1, 1, 2)):
        (tmp_path / "a.zarr" / "0" / made.metadata.encode_chunk_key(key)).write_bytes(b"broken")
    expected = image_of(array, "TCZYX", 1)
    places = (slice(2, 4), slice(9, 16), slice(3, 16))
    np.testing.assert_array_equal(window(places), expected[places])
    with pytest.raises(ImageError, match=r"planes 1 to 3 cannot be read"):
        window((slice(1, 3), slice(0, 8), slice(0, 8)))


def test_only_the_chunks_of_the_asked_time_point_have_to_be_there(tmp_path):
    array = numbers("TZYX") + 1
    made = write_zarr(tmp_path / "a.zarr", array, "tzyx", chunks=(1, 2, 8, 8))
    key = made.metadata.encode_chunk_key((1, 1, 2, 0))
    (tmp_path / "a.zarr" / "0" / key).unlink()
    for time in (0, 2):
        check_windows(tmp_path / f"a.zarr#t={time}", array[time])
    with pytest.raises(ImageError, match=rf"missing chunks {key} of array '0'.*--empty-chunks"):
        read_header(tmp_path / "a.zarr#t=1")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("codec", ["zstd", "blosc"])
def test_empty_chunks_are_read_where_that_is_said(tmp_path, version, codec):
    import numcodecs

    array = numbers("ZYX") + 1
    array[2:, 8:16] = 7
    blosc = numcodecs.Blosc() if version == "0.4" else zarr.codecs.BloscCodec()
    how = {"compressors": blosc} if codec == "blosc" else {}
    path, allowed = tmp_path / "a.zarr", Reading(empty_chunks=True)
    made = write_zarr(path, array, "zyx", version, chunks=(2, 8, 8), fill_value=7, **how)
    keys = [made.metadata.encode_chunk_key((1, 1, x)) for x in range(3)]
    assert not any((path / "0" / key).exists() for key in keys)  # zarr leaves them out
    with pytest.raises(ImageError, match=rf"{keys[0]}, {keys[1]}, {keys[2]} of array .*empty_chunks=True"):
        read_header(path)
    check_windows(path, array, allowed)
    (path / "0" / made.metadata.encode_chunk_key((0, 0, 1))).write_bytes(b"")
    with pytest.raises(ImageError, match="is missing chunks"):  # it was not left out, but cut
        read_header(path, allowed)


@pytest.mark.parametrize("shape", [(1, 70, 90), (3, 70, 90), (2, 9, 150, 140), (1, 9, 150, 140)])
def test_masks_as_ome_zarr(tmp_path, shape):
    values, names = mask(*shape), ["c", *"zyx"[-len(shape) + 1 :]]
    geometry = Geometry(GEOMETRY.spacing[-len(shape) + 1 :], "nm")
    path = written(tmp_path / "m.ome.zarr", values, geometry, "cells.zarr#t=3")
    image, levels = levels_of(path)
    check_values(levels[0], values)
    yaozarrs.validate_zarr_store(path)
    assert [axis.get("unit") for axis in image["axes"]] == [None, *["nanometer"] * (len(shape) - 1)]
    assert zarr.open_group(path, mode="r")["0"].metadata.dimension_names == tuple(names)
    window = zarr.open_group(path, mode="r").attrs["ome"]["omero"]["channels"][0]["window"]
    assert window == {"start": 0, "end": 65535, "min": 0, "max": 65535}
    found = ngff_zarr.from_ngff_zarr(path)
    assert (len(found.images), found.metadata.name) == (1, "mask of cells.zarr#t=3, 1 = trusted")
    assert list(found.images[0].dims) == names
    assert tuple(found.images[0].scale[name] for name in names[1:]) == geometry.spacing
    np.testing.assert_array_equal(np.asarray(found.images[0].data), levels[0])
    assert read_header(path).geometry == geometry


STEPS = [
    ((1, 1100, 700), None, [(2, 2), (2, 2)]),
    ((2, 40, 1100, 80), (2.0, 0.5, 0.5), [(1, 2, 2), (1, 2, 2)]),
    ((1, 40, 1100, 80), (1.0, 0.5, 0.5), [(1, 2, 2), (2, 2, 2)]),
    ((1, 41, 1025, 81), (0.2, 0.5, 0.5), [(2, 1, 1), (2, 2, 2), (2, 2, 2)]),
    ((1, 40, 600, 80), (0.38, 0.35, 0.35), [(2, 2, 2)]),
    ((1, 40, 600, 80), None, [(1, 2, 2)]),
    ((1, 600, 1), None, [(2, 1)]),
]


@pytest.mark.parametrize(("shape", "spacing", "steps"), STEPS)
def test_the_pyramid_of_an_ome_zarr(tmp_path, shape, spacing, steps):
    values, geometry = mask(*shape), spacing and Geometry(spacing, UM)
    path = written(tmp_path / "m.ome.zarr", values, geometry)
    _, levels = levels_of(path)
    yaozarrs.validate_zarr_store(path)
    check_values(levels[0], values)
    assert len(levels) == len(steps) + 1
    total = np.ones(len(shape) - 1)
    for number, (factors, smaller, larger) in enumerate(zip(steps, levels[1:], levels, strict=False), 1):
        check_level(smaller, larger, (1, *factors))
        total *= factors
        found = ngff_zarr.from_ngff_zarr(path).images[number]
        step = np.array(spacing or [1.0] * len(total))
        spatial = "zyx"[-len(total) :]
        np.testing.assert_array_equal([found.scale[name] for name in spatial], step * total)
        # the centre of the first pixel is that of those that it is the mean of
        np.testing.assert_allclose([found.translation[name] for name in spatial], step * (total - 1) / 2)


def test_every_chunk_of_a_mask_is_written(tmp_path):
    """Ours are read without --empty-chunks."""
    path = written(tmp_path / "m.ome.zarr", np.zeros((1, 130, 600, 20), np.float32))
    assert len(list(path.rglob("c/*/*/*/*"))) == 2 * 5 + 2 * 3
    assert read_image(path).max() == 0


def test_a_mask_over_an_ome_zarr_lies_where_it_lies(tmp_path):
    """Also where the source is cut out of something larger, and where its units are unknown."""
    for units, unit in ((dict.fromkeys("zyx", "micrometer"), "micrometer"), ({}, None)):
        source = tmp_path / f"source {unit}.ome.zarr"
        write_zarr(source, numbers("TZYX"), "tzyx", units=units, scale=[1, 2.0, 0.3, 0.7])
        attributes = dict(zarr.open_group(source, mode="r").attrs)
        transformations = attributes["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
        transformations.append({"type": "translation", "translation": [5, 10.0, 20.5, 30.25]})
        zarr.open_group(source, mode="r+").attrs.update(attributes)
        point = source.with_name(f"{source.name}#t=1")
        path = tmp_path / f"m {unit}.ome.zarr"
        written(path, mask(1, 4, 20, 23), read_header(point).geometry, point.name)
        yaozarrs.validate_zarr_store(path)
        image, _ = levels_of(path)
        scale, translation = image["datasets"][0]["coordinateTransformations"]
        assert scale["scale"] == [1.0, 2.0, 0.3, 0.7]
        assert translation["translation"] == [0.0, 10.0, 20.5, 30.25]
        assert [axis.get("unit") for axis in image["axes"]] == [None, unit, unit, unit]
