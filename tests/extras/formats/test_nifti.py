"""NIfTI files as nibabel reads them, and masks that lie where their image lies."""

import gzip
import hashlib
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from conformask.errors import ImageError, InvalidArgumentError, MissingFileError, OutputError
from conformask.extensions import pip_install
from conformask.images.formats import SourceImage
from conformask.images.read import (
    decode,
    decode_with_header,
    grid,
    mask_suffix,
    name_and_suffix,
    open_raster,
    open_window,
    read_header,
    read_image,
    times_of as times_of_file,
    write_blocks,
)
from conformask.records.reading import PLAIN, Geometry, Reading

nibabel = pytest.importorskip("nibabel", reason="needs the extra nifti")

REAL = Path(__file__).parents[4] / "shared" / "data" / "nifti"
VOLUMES = (
    "bigendian_float_moved.nii",
    "bigendian_int16.nii",
    "ct_tilted.nii.gz",
    "ct_vessels.nii.gz",
    "fmri_tilted.nii.gz",
    "ixi012_psr_orientation.nii.gz",
    "mr_gd_oblique.nii.gz",
    "mra.nii.gz",
)
SERIES = {"nifti2_4d.nii.gz": 2, "oblique_4d.nii.gz": 2, "pcasl_4d.nii.gz": 10, "scaled_4d.nii": 20}
SIZE = (7, 6, 5)
"""(X, Y, Z)."""
LARGE = (30, 30, 30)
"""More bytes than nibabel reads to find the type of a file."""
OBLIQUE = np.array(
    [[-1.9, 0.3, 0.1, 90], [0.2, 1.4, -0.8, -50.125], [0.1, 0.5, 3.1, 1 / 3], [0, 0, 0, 1]], np.float64
)
MICRONS = 3


def real(name):
    if not (REAL / name).is_file():
        pytest.skip(f"no {name} in ../shared/data/nifti")
    return REAL / name


def field(shape=SIZE, dtype=np.uint8):
    generator = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return generator.random(shape).astype(dtype)
    most = np.iinfo(dtype)
    return generator.integers(most.min, most.max, shape, dtype, endpoint=True)


def save(
    path,
    array,
    affine=OBLIQUE,
    scaling=(1, 0),
    version=1,
    endian="<",
):
    """As nibabel writes stored numbers."""
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    image = kind(array, affine, kind.header_class(endianness=endian), dtype=array.dtype)
    image.header.set_slope_inter(*scaling)
    nibabel.save(image, path)
    return path


def ours(array):
    """(X, Y, ...) as (..., Y, X)."""
    return array.transpose(range(array.ndim - 1, -1, -1))


def steps_of(image):
    """The length of each step of nibabel's affine to six digits, the last axis first."""
    return tuple(float(f"{step:.6g}") for step in nibabel.affines.voxel_sizes(image.affine)[::-1])


def mask_over(path, header, to, reading=PLAIN, channels=1):
    """Write the mask of an image, and return its values (C, *space)."""
    values = np.random.default_rng(1).random((channels, *header.space), np.float32)
    values[:, 0], values[:, -1] = 0, 1
    blocks = ((places, values[:, *places]) for places in grid(header.space))
    write_blocks(to, values.shape, blocks, SourceImage(path, header.geometry, reading))
    return values


# pixels


@pytest.mark.parametrize("name", VOLUMES)
def test_real_volumes_have_the_values_and_the_place_that_nibabel_reads(name):
    image = nibabel.load(real(name))
    array, header = decode_with_header(REAL / name)
    np.testing.assert_array_equal(array, ours(image.get_fdata()).astype(np.float32))
    assert header.space == image.shape[::-1]
    assert header.geometry == Geometry(steps_of(image), "mm", tuple(map(tuple, image.affine.tolist())))
    stored = image.dataobj.dtype
    assert header.bits == (8 if stored == np.uint8 and image.dataobj.slope == 1 else 16)


@pytest.mark.parametrize("name", SERIES)
def test_real_series_by_time_point(name):
    values, reading = nibabel.load(real(name)).get_fdata(), Reading(axes="XYZT")
    assert times_of_file(REAL / name, reading) == SERIES[name] == values.shape[3]
    assert times_of_file(REAL / name) is None
    for time in (0, 1, SERIES[name] - 1):
        path = REAL / f"{name}#t={time}"
        expected = ours(values[..., time]).astype(np.float32)
        np.testing.assert_array_equal(decode(path, reading), expected)
        window = (slice(1, 3), slice(2, 9), slice(0, 5))
        np.testing.assert_array_equal(open_window(path, reading)(window), expected[window])
        assert times_of_file(path, reading) is None
    with pytest.raises(ImageError, match=rf"{SERIES[name]} time points: choose one, such as {name}#t=0"):
        decode(REAL / name, reading)
    with pytest.raises(ImageError, match=rf"has {SERIES[name]} time points, counted from 0: there is no 20"):
        decode(REAL / f"{name}#t=20", reading)


@pytest.mark.parametrize("name", SERIES)
def test_real_series_as_channels(name):
    values, reading = nibabel.load(real(name)).get_fdata(), Reading(axes="XYZC")
    array, header = decode_with_header(REAL / name, reading)
    np.testing.assert_array_equal(array, values.transpose(2, 1, 0, 3).astype(np.float32))
    assert header.channels == SERIES[name]
    assert times_of_file(REAL / name, reading) is None
    with pytest.raises(
        ImageError, match="has no time axis: leave out #t=0, or name its axes, such as --axes XYZT"
    ):
        decode(REAL / f"{name}#t=0", reading)


@pytest.mark.parametrize("name", [*VOLUMES, *SERIES])
def test_windows_equal_the_whole(name):
    reading = Reading(axes="XYZC" if name in SERIES else None)
    whole, read = decode(real(name), reading), open_window(REAL / name, reading)
    for window in ((slice(1, 3), slice(2, 9), slice(0, 5)), (slice(0, 1), slice(5, 6), slice(3, 17))):
        np.testing.assert_array_equal(read(window), whole[window])
    np.testing.assert_array_equal(read(read_header(REAL / name, reading).everywhere), whole)


def test_a_series_has_to_say_its_axes(tmp_path):
    save(tmp_path / "a.nii", field((7, 6, 5, 4)))
    with pytest.raises(ImageError, match=r"a\.nii has shape \(7, 6, 5, 4\): .* --axes XYZT or XYZC; XYZ is"):
        read_header(tmp_path / "a.nii")
    save(tmp_path / "b.nii", field((7, 6, 5, 4, 3)))
    with pytest.raises(ImageError, match=r"\(7, 6, 5, 4, 3\): name its axes, --axes XYZTC;"):
        read_header(tmp_path / "b.nii")


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((7, 6), None, "yx"),
        ((7, 6, 1), None, "yx"),
        ((7, 6, 1), "XYZ", "yx"),
        ((7, 6), "XYZT", "yx"),
        ((7, 6, 5), "XYZ", "zyx"),
        ((7, 6, 5, 1), None, "zyx"),
        ((7, 6, 5, 1), "XYZT", "zyx"),
        ((7, 6, 5), "XYZC", "zyx"),
        ((7, 6, 5, 1, 3), None, "zyxc"),
        ((7, 6, 5, 1, 3), "XYZC", "zyxc"),
        ((7, 6, 5, 1, 3), "XYZTC", "zyxc"),
        ((7, 6, 1, 1, 3), None, "yxc"),
        ((7, 6, 1, 1, 3), "XYC", "yxc"),
        ((7, 6, 1, 3), "XYC", "yxc"),
        ((7, 6, 1, 3), "XYZC", "yxc"),
        ((7, 6, 3), "XYC", "yxc"),
        ((1, 6, 5), None, "zyx"),
        ((7, 1, 1), None, "yx"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_axes_of_length_1_are_dropped(tmp_path, shape, axes, expected, suffix):
    array = field(shape)
    path = save(tmp_path / f"a{suffix}", array)
    x, y, z, c = (shape[0], shape[1], shape[2] if "z" in expected else 1, shape[-1])
    sides = {"x": x, "y": y, "z": z, "c": c if "c" in expected else 1}
    plain = array.reshape([sides[axis] for axis in "xyzc"], order="F").transpose(2, 1, 0, 3)
    pixels, header = decode_with_header(path, Reading(axes=axes))
    np.testing.assert_array_equal(pixels, plain.reshape([sides[axis] for axis in expected]))
    assert header.shape == (sides["c"], *(sides[axis] for axis in expected if axis != "c"))
    assert header.geometry is not None
    assert len(header.geometry.spacing) == len(header.space)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((7, 6, 5), "XY"),
        ((7, 6, 5, 4), "XYZ"),
        ((7, 6, 1, 4), "XYZ"),
        ((7, 6, 5, 4), "XYT"),
        ((7, 6, 5, 1, 3), "XYZT"),
        ((7, 6, 5, 4, 3), "XYZC"),
        ((7, 6, 5, 1, 1, 3), "XYZC"),
    ],
)
def test_axes_that_do_not_fit(tmp_path, shape, axes):
    path = save(tmp_path / "a.nii", field(shape))
    with pytest.raises(
        ImageError, match=r"a\.nii has shape .* does not match the given axes .*; XYZ is a volume"
    ):
        read_header(path, Reading(axes=axes))


@pytest.mark.parametrize("axes", ["ZYX", "YX", "TZYX", "YXC", "CXYZ", "XYCZ"])
def test_axes_in_another_order(tmp_path, axes):
    path = save(tmp_path / "a.nii", field())
    with pytest.raises(ImageError, match=rf"axes {axes} are not in the order of a NIfTI file, X, Y, Z"):
        decode(path, Reading(axes=axes))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("axes", ["XYZTC", "XYZCT"])
def test_times_of_channels(tmp_path, axes, suffix):
    array, reading = field((7, 6, 5, 4, 3)), Reading(axes=axes)
    path = save(tmp_path / f"a{suffix}", array)
    at = axes.index("T")
    assert times_of_file(path, reading) == array.shape[at]
    pixels, header = decode_with_header(path.with_name(f"{path.name}#t=2"), reading)
    np.testing.assert_array_equal(pixels, array.take(2, at).transpose(2, 1, 0, 3))
    assert header.shape == (array.shape[7 - at], 5, 6, 7)


def test_a_file_of_one_time_point_may_be_asked_for_it(tmp_path):
    array, reading = field(), Reading(axes="XYZT")
    save(tmp_path / "a.nii", array)
    assert times_of_file(tmp_path / "a.nii", reading) == 1
    np.testing.assert_array_equal(decode(tmp_path / "a.nii#t=0", reading), ours(array))
    with pytest.raises(ImageError, match="has 1 time points, counted from 0: there is no 1"):
        decode(tmp_path / "a.nii#t=1", reading)


TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("endian", "<>")
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_as_it_is(tmp_path, dtype, endian, version):
    array = field(dtype=dtype)
    path = save(tmp_path / "a.nii.gz", array, version=version, endian=endian)
    pixels, header = decode_with_header(path)
    np.testing.assert_array_equal(pixels, ours(array))
    assert pixels.dtype == np.dtype(dtype).newbyteorder(endian)
    ranges = {"u1": (0, 255), "u2": (0, 65535), "f4": (0, 1), "f8": (0, 1)}
    assert (header.bits, header.data_range) == (8 if dtype == "u1" else 16, ranges.get(dtype))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("scaling", [(1, -1024), (0.1, 0), (-3.7, 12.5)])
@pytest.mark.parametrize("dtype", TYPES)
def test_scaled_numbers(tmp_path, dtype, scaling, suffix):
    path = save(tmp_path / f"a{suffix}", field(dtype=dtype), scaling=scaling)
    expected = ours(nibabel.load(path).get_fdata())
    assert np.ptp(expected) > 0
    pixels, header = decode_with_header(path)
    assert pixels.dtype == (np.float64 if dtype in ("u4", "i4", "f8") else np.float32)
    np.testing.assert_array_equal(pixels, expected.astype(pixels.dtype))
    window = (slice(1, 3), slice(2, 6), slice(0, 5))
    np.testing.assert_array_equal(open_window(path)(window), pixels[window])
    assert (header.bits, header.data_range) == (16, None)


def test_int16_with_a_slope_needs_a_range(tmp_path):
    path = save(tmp_path / "a.nii.gz", field(dtype=np.int16), scaling=(0.5, 100))
    with pytest.raises(ImageError, match=r"give it as data_range=\(low, high\) or --data-range LOW HIGH"):
        read_image(path)
    values = nibabel.load(path).get_fdata()
    low, high = -20000.0, 20000.0
    unit = read_image(path, Reading(data_range=(low, high)))
    np.testing.assert_array_equal(unit[0], ours(((values - low) / (high - low)).astype(np.float32)))


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_a_slope_that_means_none(tmp_path, slope):
    array = field()
    path = save(tmp_path / "a.nii", array)
    with path.open("r+b") as file:
        file.seek(112)
        file.write(np.array([slope, 7], "<f4").tobytes())
    pixels, header = decode_with_header(path)
    np.testing.assert_array_equal(pixels, ours(array))
    assert header.data_range == (0, 255)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("colours", ["RGB", "RGBA"])
def test_colours(tmp_path, colours, suffix):
    planes = field((*SIZE, len(colours)))
    array = np.empty(SIZE, [(colour, "u1") for colour in colours])
    for at, colour in enumerate(colours):
        array[colour] = planes[..., at]
    path = save(tmp_path / f"a{suffix}", array)
    pixels, header = decode_with_header(path)
    np.testing.assert_array_equal(pixels, planes[..., :3].transpose(2, 1, 0, 3))
    assert (header.channels, header.bits, header.data_range) == (3, 8, (0, 255))
    window = (slice(1, 3), slice(2, 6), slice(0, 5))
    np.testing.assert_array_equal(open_window(path)(window), pixels[window])
    np.testing.assert_array_equal(read_image(path), np.moveaxis(pixels / 255, -1, 0).astype(np.float32))


def test_complex_numbers_are_refused(tmp_path):
    path = save(tmp_path / "a.nii", field(dtype=np.float32).astype(np.complex64), scaling=(2, 0))
    with pytest.raises(
        ImageError, match=r"a\.nii contains complex64; an image must contain integers or floats"
    ):
        read_header(path)


def test_nan_outside_the_body(tmp_path):
    array = field(dtype=np.float32)
    array[:2] = np.nan
    path = save(tmp_path / "a.nii.gz", array)
    unit = read_image(path, Reading(nan="outside"))
    np.testing.assert_array_equal(unit[0], ours(array))
    assert np.isnan(unit).sum() == 2 * 6 * 5
    with pytest.raises(ImageError, match=r"a\.nii\.gz contains NaN"):
        read_image(path)


def test_names_in_capital_letters(tmp_path):
    for suffix in (".nii", ".nii.gz"):
        path = save(tmp_path / f"a{suffix}", field()).rename(tmp_path / f"A{suffix.upper()}")
        np.testing.assert_array_equal(decode(path), ours(field()))


def test_a_raster_of_a_volume(tmp_path):
    array = field()
    for suffix in (".nii", ".nii.gz"):
        raster = open_raster(save(tmp_path / f"a{suffix}", array))
        window = raster.read((slice(1, 3), slice(2, 6), slice(0, 5)))
        np.testing.assert_array_equal(window[0], ours(array / 255).astype(np.float32)[1:3, 2:6, :5])


# damaged files


@pytest.mark.parametrize("missing", [1, 100])
def test_a_truncated_file_is_noticed_when_it_is_opened(tmp_path, missing):
    path = save(tmp_path / "a.nii", field())
    size = path.stat().st_size
    os.truncate(path, size - missing)
    text = rf"a\.nii has only {size - missing} of {size} bytes: it is truncated; copy it again"
    for read in (read_header, decode, open_window):
        with pytest.raises(ImageError, match=text):
            read(path)


@pytest.mark.parametrize("missing", [1, 8, 100])
def test_a_truncated_compressed_file_is_noticed_when_it_is_decoded(tmp_path, missing):
    path = save(tmp_path / "a.nii.gz", field(LARGE))
    os.truncate(path, path.stat().st_size - missing)
    assert read_header(path).space == LARGE
    for read in (decode, open_window):
        with pytest.raises(ImageError, match=r"a\.nii\.gz cannot be read .*: it may be truncated"):
            read(path)


def test_compressed_pixels_that_end_too_early(tmp_path):
    whole = save(tmp_path / "whole.nii", field(LARGE)).read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(whole[:-10]))
    with pytest.raises(ImageError, match=r"a\.nii\.gz cannot be read .*26990 bytes of 27000.*truncated"):
        decode(tmp_path / "a.nii.gz")


def test_damage_that_still_decompresses(tmp_path):
    content = bytearray(gzip.compress(save(tmp_path / "whole.nii", field(LARGE)).read_bytes(), 0))
    content[-50] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.nii\.gz cannot be read .*CRC"):
        decode(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("content", [b"", b"not a volume" * 100])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_what_is_not_nifti(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=rf"{name} cannot be read as an image"):
        read_header(tmp_path / name)


def test_what_is_not_an_image(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros(5, np.uint8), None), tmp_path / "a.nii")
    with pytest.raises(ImageError, match=r"a\.nii has shape \(5,\); an image has X and Y"):
        read_header(tmp_path / "a.nii")
    axes = (
        nibabel.cifti2.ScalarAxis(["thickness"]),
        nibabel.cifti2.BrainModelAxis.from_surface(np.arange(5), 10, "CortexLeft"),
    )
    nibabel.save(nibabel.Cifti2Image(np.zeros((1, 5), np.float32), axes), tmp_path / "a.dscalar.nii")
    with pytest.raises(ImageError, match=r"a\.dscalar\.nii is not an image but Cifti2Image"):
        read_header(tmp_path / "a.dscalar.nii")


def test_a_header_that_states_too_much(tmp_path):
    path = save(tmp_path / "whole.nii", field())
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
    for read in (decode, open_window):
        with pytest.raises(ImageError, match=r"takes \d+ bytes of memory"):
            read(tmp_path / "a.nii.gz")


def test_the_memory_of_a_compressed_file_that_is_read_in_windows(tmp_path, monkeypatch):
    array = field((7, 6, 5, 4))
    reading, name = Reading(axes="XYZT"), "a.nii.gz#t=3"
    save(tmp_path / "a.nii.gz", array)
    monkeypatch.setenv("CONFORMASK_MAX_IMAGE_BYTES", "210")
    window = open_window(tmp_path / name, reading)((slice(1, 3), slice(2, 6), slice(0, 5)))
    np.testing.assert_array_equal(window, ours(array[..., 3])[1:3, 2:6, :5])
    monkeypatch.setenv("CONFORMASK_MAX_IMAGE_BYTES", "209")
    with pytest.raises(ImageError, match=r"a\.nii\.gz, \(7, 6, 5, 1\) of uint8, takes 210 bytes"):
        open_window(tmp_path / name, reading)


def test_without_nibabel(tmp_path, monkeypatch):
    path = save(tmp_path / "a.nii", field())
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingFileError, match=rf"a.nii needs nibabel.*: {re.escape(pip_install('nifti'))}"):
        read_header(path)


# places


def test_a_file_without_codes_has_spacing_only(tmp_path):
    image = nibabel.Nifti1Image(field(), None)
    image.header["pixdim"][1:4] = (0.5, 0.75, 3)
    nibabel.save(image, tmp_path / "a.nii")
    assert read_header(tmp_path / "a.nii").geometry == Geometry((3.0, 0.75, 0.5), "mm")


@pytest.mark.parametrize(("code", "unit", "scale"), [(1, "m", 1000), (2, "mm", 1), (MICRONS, "µm", 1e-3)])
def test_units(tmp_path, code, unit, scale):
    image = nibabel.Nifti1Image(field(), OBLIQUE)
    image.header["xyzt_units"] = code | 8
    nibabel.save(image, tmp_path / "a.nii")
    geometry = read_header(tmp_path / "a.nii").geometry
    assert geometry is not None
    assert geometry.unit == unit
    assert geometry.spacing == steps_of(nibabel.load(tmp_path / "a.nii"))
    np.testing.assert_allclose(geometry.affine, np.diag([scale] * 3 + [1]) @ OBLIQUE, rtol=1e-6)


def test_only_a_qform(tmp_path):
    image = nibabel.Nifti1Image(field(), None)
    image.header.set_qform(np.diag([-2.0, 2, 3, 1]), code=1)
    nibabel.save(image, tmp_path / "a.nii")
    geometry = read_header(tmp_path / "a.nii").geometry
    assert geometry is not None
    np.testing.assert_array_equal(geometry.affine, nibabel.load(tmp_path / "a.nii").affine)


@pytest.mark.parametrize("step", [np.nan, np.inf])
def test_a_spacing_that_is_none(tmp_path, step):
    image = nibabel.Nifti1Image(field(), None)
    image.header["pixdim"][2] = step
    nibabel.save(image, tmp_path / "a.nii")
    assert read_header(tmp_path / "a.nii").geometry is None


def with_forms(path, sform, qform, codes, array=None):
    image = nibabel.Nifti1Image(field() if array is None else array, None)
    image.set_sform(sform, code=codes[0])
    image.set_qform(qform, code=codes[1])
    nibabel.save(image, path)
    return path


def test_lengths_are_those_of_the_affine_that_says_the_place(tmp_path):
    one, two = np.diag([1.0, 1, 1, 1]), np.diag([2.0, 1, 1, 1])
    by_sform = read_header(with_forms(tmp_path / "a.nii", one, two, (1, 1))).geometry
    assert (by_sform.spacing, by_sform.window("5mm").sides) == ((1, 1, 1), (5, 5, 5))
    by_qform = read_header(with_forms(tmp_path / "b.nii", one, two, (0, 1))).geometry
    assert (by_qform.spacing, by_qform.window("5mm").sides) == ((1, 1, 2), (5, 5, 3))


@pytest.mark.parametrize(
    "form",
    [
        np.diag([1.0, 1, 0, 1]),
        np.float32([[1, 2, 0, 5], [0.3, 0.6, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    ],
    ids=["a zero column", "axes in one plane"],
)
def test_an_affine_that_places_no_voxel_is_refused(tmp_path, form):
    path = with_forms(tmp_path / "a.nii", form, np.eye(4), (2, 1))
    with pytest.raises(ImageError, match=r"its sform gives its voxels no place: .*, or with sform_code 0$"):
        read_header(path)
    # an image of one plane needs no third axis
    with_forms(path, np.diag([1.0, 2, 0, 1]), np.eye(4), (2, 0), field((7, 6)))
    assert read_header(path).geometry.spacing == (2, 1)


# masks

PLACE = (
    "sform_code",
    "qform_code",
    *(f"quatern_{letter}" for letter in "bcd"),
    *(f"qoffset_{axis}" for axis in "xyz"),
    *(f"srow_{axis}" for axis in "xyz"),
    "xyzt_units",
)
"""What of a header says where its pixels lie, beside pixdim."""


def check_in_place(mask, image):
    """The mask lies where its image lies, to the last bit."""
    one, other = nibabel.load(mask), nibabel.load(image)
    np.testing.assert_array_equal(one.affine, other.affine)
    assert one.header.get_zooms()[:3] == other.header.get_zooms()[:3]
    assert one.header["pixdim"][:4].tobytes() == other.header["pixdim"][:4].tobytes()
    assert [one.header[key].tobytes() for key in PLACE] == [other.header[key].tobytes() for key in PLACE]
    assert nibabel.aff2axcodes(one.affine) == nibabel.aff2axcodes(other.affine)
    assert type(one) is type(other)
    assert one.shape[:3] == other.shape[:3]
    assert len(one.header.extensions) == 0


@pytest.mark.quick(3)
@pytest.mark.parametrize("name", [*VOLUMES, *SERIES])
def test_masks_of_real_volumes_lie_where_these_lie(tmp_path, name):
    reading = Reading(axes="XYZT" if name in SERIES else None)
    path = real(name).with_name(f"{name}#t=1") if name in SERIES else REAL / name
    to = tmp_path / f"mask{mask_suffix(name_and_suffix(path)[1], volume=True)}"
    values = mask_over(path, read_header(path, reading), to, reading)
    check_in_place(to, REAL / name)
    back = ours(nibabel.load(to).get_fdata())
    assert (back <= values[0]).all()
    np.testing.assert_array_equal(back, np.floor(values[0].astype(np.float64) * 2**15) / 2**15)
    assert (back[-1] == 1).all()
    assert (back[0] == 0).all()
    assert to.suffixes[-1] == path.name.split("#")[0][-len(to.suffixes[-1]) :]
    np.testing.assert_array_equal(read_image(to, Reading(data_range=(0, 1)))[0], back)


def test_what_a_mask_says_of_itself(tmp_path):
    image = nibabel.Nifti1Image(field(), OBLIQUE)
    header = image.header
    header["descrip"], header["aux_file"], header["intent_name"] = "Jane Doe", "jane.txt", "t"
    header["intent_code"], header["cal_max"], header["toffset"] = 3, 255, 5
    header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    nibabel.save(image, tmp_path / "a.nii")
    mask_over(tmp_path / "a.nii", read_header(tmp_path / "a.nii"), tmp_path / "m.nii")
    check_in_place(tmp_path / "m.nii", tmp_path / "a.nii")
    content = (tmp_path / "m.nii").read_bytes()
    assert b"Jane" not in content
    assert b"jane" not in content
    assert len(content) == 352 + 2 * 7 * 6 * 5
    written = nibabel.load(tmp_path / "m.nii")
    header = written.header
    assert bytes(header["descrip"]) == b"conformask mask, 1 = trusted".ljust(80, b"\0")
    assert (header["cal_min"], header["cal_max"], header["toffset"]) == (0, 1, 0)
    assert header.get_intent() == ("none", (), "")
    assert (written.dataobj.slope, written.dataobj.inter) == (2**-15, 0)
    assert header.get_data_dtype() == np.uint16


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("endian", "<>")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("shape", [SIZE, (7, 6), (7, 6, 1)])
def test_masks_of_several_channels(tmp_path, shape, suffix, endian, version):
    path = save(tmp_path / f"a{suffix}", field(shape), version=version, endian=endian)
    one, three = tmp_path / f"one{suffix}", tmp_path / f"three{suffix}"
    mask_over(path, read_header(path), one)
    check_in_place(one, path)
    assert nibabel.load(one).shape == shape
    values = mask_over(path, read_header(path), three, channels=3)
    image = nibabel.load(three)
    assert image.shape == (*(*shape, 1)[:3], 1, 3)
    np.testing.assert_array_equal(image.affine, nibabel.load(path).affine)
    assert image.header.get_intent()[0] == "vector"
    assert image.header.endianness == endian
    back = np.moveaxis(decode(three), -1, 0)
    np.testing.assert_array_equal(back, np.floor(values * 2.0**15) / 2**15)
    np.testing.assert_array_equal(back.reshape(3, -1), image.get_fdata().reshape(-1, 3, order="F").T)


def test_films_of_colours(tmp_path):
    """Their masks say their axes and range themselves."""
    save(tmp_path / "a.nii", field((7, 6, 5, 4, 3)))
    values = np.random.default_rng(0).random((3, 4, 5, 6, 7), np.float32)
    everywhere = tuple(slice(0, side) for side in values.shape[1:])
    under = SourceImage(tmp_path / "a.nii", None, Reading(axes="XYZTC"), is_film=True)
    write_blocks(tmp_path / "m.nii", values.shape, iter([(everywhere, values)]), under)
    image = nibabel.load(tmp_path / "m.nii")
    assert (image.shape, image.header.get_intent()[0]) == ((7, 6, 5, 4, 3), "vector")
    back = np.floor(values.astype(np.float64) * 2**15) / 2**15
    np.testing.assert_array_equal(image.get_fdata().T, back)
    assert times_of_file(tmp_path / "m.nii") == 4
    for time in range(4):
        np.testing.assert_array_equal(read_image(tmp_path / f"m.nii#t={time}"), back[:, time])


def test_the_smallest_steps_of_a_mask(tmp_path):
    one = np.float32(1)
    values = np.array(
        [0, 1e-9, 2**-15, np.nextafter(one * 2**-15, 0), 0.1, np.nextafter(one, 0), 1], np.float32
    )
    volume = np.broadcast_to(values, (1, 5, 6, 7))
    everywhere = (slice(0, 5), slice(0, 6), slice(0, 7))
    write_blocks(
        tmp_path / "m.nii", volume.shape, iter([(everywhere, volume)]), SourceImage(None, None, PLAIN)
    )
    back = nibabel.load(tmp_path / "m.nii").get_fdata()[:, 0, 0]
    np.testing.assert_array_equal(back, np.array([0, 0, 1, 0, 3276, 32767, 32768]) / 32768)
    assert (back.astype(np.float32) <= values).all()


def test_masks_of_arrays_and_other_files(tmp_path):
    def written(geometry, space=SIZE[::-1]):
        values = np.ones((1, *space), np.float32)
        places = tuple(slice(0, side) for side in space)
        under = SourceImage(tmp_path / "a.npy", geometry, PLAIN)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.nii.gz"
        write_blocks(path, values.shape, iter([(places, values)]), under)
        return nibabel.load(path)

    known = written(Geometry((3.0, 1.5, 2.0), "mm", tuple(map(tuple, OBLIQUE.tolist()))))
    np.testing.assert_array_equal(known.affine, OBLIQUE.astype(np.float32))
    assert (int(known.header["sform_code"]), int(known.header["qform_code"])) == (1, 0)
    assert known.header.get_zooms() == (2, 1.5, 3)
    microns = written(Geometry((2.0, 0.5, 0.25), "µm"))
    assert microns.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(microns.header.get_zooms(), (0.25e-3, 0.5e-3, 2e-3), rtol=1e-6)
    np.testing.assert_allclose(abs(np.diag(microns.affine)), (0.25e-3, 0.5e-3, 2e-3, 1), rtol=1e-6)
    assert (int(microns.header["sform_code"]), int(microns.header["qform_code"])) == (0, 0)
    flat = written(Geometry((0.5, 0.25), "mm"), (6, 7))
    assert (flat.shape, flat.header.get_zooms()) == ((7, 6, 1), (0.25, 0.5, 1))
    assert written(None).header.get_zooms() == (1, 1, 1)
    assert type(written(None, (2, 40000))) is nibabel.Nifti2Image


def test_the_same_mask_has_the_same_bytes(tmp_path, monkeypatch):
    path = save(tmp_path / "a.nii.gz", field())
    hashes = []
    for seconds, name in enumerate(("first.nii.gz", "second.nii.gz")):
        monkeypatch.setattr("time.time", lambda later=1e9 * seconds: later)
        mask_over(path, read_header(path), tmp_path / name)
        hashes.append(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert hashes[0] == hashes[1]


def test_a_mask_does_not_replace_its_image(tmp_path):
    path = save(tmp_path / "a.nii", field())
    content = path.read_bytes()
    with pytest.raises(OutputError, match=r"a\.nii is in the way"):
        mask_over(path, read_header(path), path)
    assert path.read_bytes() == content


def test_other_suffixes_that_are_not_nifti(tmp_path):
    assert name_and_suffix(tmp_path / "sub-01.T1w.nii.gz") == ("sub-01.T1w", ".nii.gz")
    assert mask_suffix(".nii.gz", volume=True) == ".nii.gz"
    assert mask_suffix(".nii") == ".nii"
    (tmp_path / "a.gz").touch()
    with pytest.raises(ImageError, match="suffix"):
        decode(tmp_path / "a.gz")
    with pytest.raises(InvalidArgumentError, match="suffix"):
        write_blocks(tmp_path / "a.gz", (1, *SIZE), iter([]), SourceImage(None, None, PLAIN))
