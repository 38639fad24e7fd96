"""DICOM in and out, on real files and on small series whose positions and values are set here."""

import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

pydicom = pytest.importorskip("pydicom", reason="the extra dicom is not installed")
hd = pytest.importorskip("highdicom", reason="the extra dicom is not installed")

from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid  # noqa: E402

from conformask.cli import main  # noqa: E402
from conformask.errors import ImageError, MissingFileError  # noqa: E402
from conformask.extensions import pip_install  # noqa: E402
from conformask.extras.formats.dicom import write_segmentation  # noqa: E402
from conformask.images.formats import SourceImage  # noqa: E402
from conformask.images.read import (  # noqa: E402
    decode,
    decode_with_header,
    grid,
    is_image,
    list_images,
    mask_suffix,
    name_and_suffix,
    open_window,
    read_header,
    read_image,
    times_of,
    write_blocks,
)
from conformask.images.triplets import Triplets  # noqa: E402
from conformask.masker.calibrate import calibrate  # noqa: E402
from conformask.records.reading import PLAIN, Reading  # noqa: E402
from conformask.scores.scorer import Heuristic  # noqa: E402

PROMISE = "P(l1 <= 0.1) >= 0.90 for new images like the 40 calibration images (marginal)"
SHARED = Path(__file__).parents[4] / "shared" / "data" / "dicom"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="no files in ../shared/data/dicom")
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR, SECONDARY = "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.7"
STUDY, SERIES, FRAME_OF_REFERENCE = generate_uid(), generate_uid(), generate_uid()
TURN = np.deg2rad(30)
ROW, COLUMN = np.array([np.cos(TURN), np.sin(TURN), 0]), np.array([0, 0, -1.0])
"""Directions of an oblique slice, in LPS; both have at most 16 characters as DICOM writes them."""
ROW = np.round(ROW, 10)
STEP = 2.5 * np.round(np.cross(ROW, COLUMN), 10)
ORIGIN = np.array([10.0, -20.0, 30.5])
TZYX = Reading(axes="TZYX")


@pytest.fixture(autouse=True)
def _no_warnings():
    """Nothing on users' screens."""
    with warnings.catch_warnings(action="error"):
        yield


def header(pixels, **more):
    """A slice of MR without a place."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = MR, generate_uid(), "MR"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = (
        STUDY,
        SERIES,
        FRAME_OF_REFERENCE,
    )
    data.PatientName, data.PatientID, data.PatientSex = "Secret", "ID-4711", "X"
    data.Rows, data.Columns = pixels.shape[-2:] if pixels.shape[-1] != 3 else pixels.shape[-3:-1]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * pixels.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes()
    for keyword, value in more.items():
        setattr(data, keyword, value)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    return data


def placed(pixels, position, **more):
    place = {
        "ImagePositionPatient": [float(f"{each:.8g}") for each in position],
        "ImageOrientationPatient": [*ROW.tolist(), *COLUMN.tolist()],
        "PixelSpacing": [0.5, 0.75],
        "SliceThickness": 2,
    }
    return header(pixels, **(place | more))


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def volume(deep=5, dtype=np.int16):
    top = min(np.iinfo(dtype).max, 4000)
    return np.random.default_rng(0).integers(0, top, (deep, 6, 4), endpoint=True).astype(dtype)


Change = Callable[[int, Dataset], None]


def series(folder, pixels, change=lambda index, data: None):
    """A folder of slices, whose names and instance numbers are not in their order."""
    order = np.random.default_rng(1).permutation(len(pixels))
    for index, plane in enumerate(pixels):
        data = placed(plane, ORIGIN + index * STEP, InstanceNumber=int(order[index]) + 1)
        change(index, data)
        write(folder / f"{order[index]:03d}.dcm", data)
    return folder


def affine():
    """From (column, row, slice) to right, anterior, superior, of `series`."""
    columns = np.column_stack([ROW * 0.75, COLUMN * 0.5, STEP, ORIGIN])
    return np.vstack([np.diag([-1, -1, 1]) @ columns, [0, 0, 0, 1]])


def written(path, mask, under, reading=PLAIN):
    blocks = ((places, mask[:, *places]) for places in grid(mask.shape[1:]))
    write_blocks(path, mask.shape, blocks, SourceImage(under, None, reading))
    return path


def random_mask(space):
    mask = np.random.default_rng(2).random((1, *space), dtype=np.float32)
    mask.flat[:3] = 1, 0, 0.3
    return mask


# ------------------------------------------------------------------ recognised, listed, named


def test_a_folder_of_slices_is_one_image(tmp_path):
    folder = series(tmp_path / "patient.1", volume())
    write(tmp_path / "single.dcm", placed(volume()[0], ORIGIN))
    assert is_image(folder)
    assert name_and_suffix(folder) == ("patient.1", "")
    assert name_and_suffix(tmp_path / "patient.1#t=2") == ("patient.1_t002", "")
    assert name_and_suffix(tmp_path / "single.dcm") == ("single", ".dcm")
    assert list_images(tmp_path) == [folder, tmp_path / "single.dcm"]
    assert list_images(tmp_path, recursive=True) == [folder, tmp_path / "single.dcm"]
    assert len(list_images(folder)) == 5
    assert mask_suffix("", volume=True) == mask_suffix(".dcm", volume=True) == mask_suffix("") == ".dcm"


def test_the_name_of_a_folder_may_end_like_a_file(tmp_path):
    folder = series(tmp_path / "a.dcm", volume())
    assert is_image(folder)
    assert name_and_suffix(folder) == ("a.dcm", "")
    assert decode(folder).shape == (5, 6, 4)


def test_names_without_suffix_and_other_files_in_between(tmp_path):
    pixels = volume()
    for index, name in enumerate(("1.2.840.5", "IM1", "b", "a", "x.IMA")):
        write(tmp_path / "s" / name, placed(pixels[index], ORIGIN + index * STEP))
    write(tmp_path / "s" / "DICOMDIR", header(pixels[0]))
    write(tmp_path / "s" / ".hidden.dcm", header(pixels[0]))
    (tmp_path / "s" / "notes.txt").write_text("notes")
    (tmp_path / "s" / "README").write_text("notes without suffix")
    (tmp_path / "s" / "thumbs.db").write_bytes(bytes(300))
    (tmp_path / "s" / "folder").mkdir()
    np.testing.assert_array_equal(decode(tmp_path / "s"), pixels)


def test_other_folders_are_no_series(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.dcm").write_text("not DICOM, whatever its name says")
    assert not is_image(tmp_path / "empty")
    assert not is_image(tmp_path / "text")
    assert not is_image(tmp_path / "missing")
    assert name_and_suffix(tmp_path / "text") == ("text", "")


def test_pydicom_is_needed_only_for_dicom(tmp_path, monkeypatch):
    folder = series(tmp_path / "s", volume())
    mask, under = random_mask((5, 6, 4)), SourceImage(folder, None, PLAIN)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingFileError, match=rf"needs highdicom.*: {re.escape(pip_install('dicom'))}"):
        write_segmentation(tmp_path / "m.dcm", mask, under, PROMISE)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert is_image(folder)
    with pytest.raises(MissingFileError, match=rf"s needs pydicom.*: {re.escape(pip_install('dicom'))}"):
        decode(folder)
    code = "import sys, conformask.images.read; assert not {'pydicom', 'highdicom'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------------ order, place


def test_slices_are_in_the_order_of_their_positions(tmp_path):
    pixels = volume()
    array, found = decode_with_header(series(tmp_path / "s", pixels))
    np.testing.assert_array_equal(array, pixels)
    assert array.dtype == np.int16
    assert (found.channels, found.space, found.bits, found.data_range) == (1, (5, 6, 4), 16, None)
    assert found.geometry is not None
    assert found.geometry.unit == "mm"
    np.testing.assert_allclose(found.geometry.spacing, (2.5, 0.5, 0.75), rtol=1e-7)
    np.testing.assert_allclose(found.geometry.affine, affine(), atol=1e-6)


def test_the_order_runs_along_the_normal_however_the_series_was_taken(tmp_path):
    pixels = volume()

    def down(index, data):
        data.ImagePositionPatient = [float(f"{each:.8g}") for each in ORIGIN - index * STEP]

    array, found = decode_with_header(series(tmp_path / "s", pixels, down))
    np.testing.assert_array_equal(array, pixels[::-1])
    expected = affine()
    expected[:3, 3] -= expected[:3, 2] * 4
    assert found.geometry is not None
    np.testing.assert_allclose(found.geometry.affine, expected, atol=1e-6)


def test_highdicom_finds_the_same_volume(tmp_path):
    pixels = volume()
    folder = series(tmp_path / "s", pixels)
    read = [pydicom.dcmread(path) for path in folder.iterdir()]
    with warnings.catch_warnings(action="ignore"):
        theirs = hd.get_volume_from_series(read)
    array, found = decode_with_header(folder)
    assert found.geometry is not None
    check_same_volume(theirs, array, np.array(found.geometry.affine))


def check_same_volume(theirs, array, ours):
    """Their affine maps (slice, row, column) to LPS, and they may count the slices from the other end."""
    to_lps = np.diag([-1, -1, 1, 1]) @ ours @ np.eye(4)[[2, 1, 0, 3]]
    values = theirs.array
    if theirs.affine[:3, 0] @ to_lps[:3, 0] < 0:
        to_lps[:3, 3] += to_lps[:3, 0] * (len(array) - 1)
        to_lps[:3, 0] *= -1
        values = values[::-1]
    np.testing.assert_allclose(theirs.affine, to_lps, atol=1e-4)
    np.testing.assert_array_equal(values, array)


def test_a_tilted_gantry_becomes_shear(tmp_path):
    shift = 0.3 * COLUMN

    def tilt(index, data):
        data.ImagePositionPatient = [float(f"{each:.8g}") for each in ORIGIN + index * (STEP + shift)]

    found = read_header(series(tmp_path / "s", volume(), tilt)).geometry
    expected = affine()
    expected[:3, 2] += np.diag([-1, -1, 1]) @ shift
    assert found is not None
    assert found.spacing[0] == pytest.approx(2.5, rel=1e-7)
    np.testing.assert_allclose(found.affine, expected, atol=1e-6)


def test_a_single_slice_is_a_plane(tmp_path):
    plane = volume()[0]
    array, found = decode_with_header(write(tmp_path / "a.dcm", placed(plane, ORIGIN)))
    np.testing.assert_array_equal(array, plane)
    assert found.geometry is not None
    assert found.geometry.spacing == (0.5, 0.75)
    expected = affine()
    expected[:3, 2] *= 2 / 2.5
    np.testing.assert_allclose(found.geometry.affine, expected, atol=1e-6)
    deep = read_header(tmp_path / "a.dcm", Reading(axes="ZYX"))
    assert deep.space == (1, 6, 4)
    assert deep.geometry is not None
    assert deep.geometry.spacing == pytest.approx((2, 0.5, 0.75), rel=1e-12)
    series(tmp_path / "s", plane[None])
    np.testing.assert_array_equal(decode(tmp_path / "s"), plane)


def test_a_single_slice_needs_no_position(tmp_path):
    with_spacing = write(tmp_path / "a.dcm", header(volume()[0], PixelSpacing=[0.5, 0.75]))
    without = write(tmp_path / "b.dcm", header(volume()[0]))
    found = read_header(with_spacing).geometry
    assert found is not None
    assert (found.spacing, found.affine) == ((0.5, 0.75), None)
    assert read_header(without).geometry is None


def test_windows_are_as_the_whole_and_read_only_their_slices(tmp_path):
    folder = series(tmp_path / "s", volume())
    whole, places = decode(folder), (slice(1, 3), slice(2, 5), slice(0, 4))
    np.testing.assert_array_equal(open_window(folder)(places), whole[places])
    window = open_window(folder)
    read = {path.name: pydicom.dcmread(path) for path in folder.iterdir()}
    for path in folder.iterdir():
        if np.abs(np.array(read[path.name].ImagePositionPatient) - ORIGIN - STEP).max() > 1e-3:
            path.unlink()
    np.testing.assert_array_equal(window((slice(1, 2), *places[1:])), whole[1:2, 2:5])
    with pytest.raises(ImageError, match="its pixels cannot be decoded"):
        window(places)
    plane = write(tmp_path / "a.dcm", placed(volume()[0], ORIGIN))
    np.testing.assert_array_equal(open_window(plane)((slice(1, 3), slice(0, 2))), volume()[0][1:3, :2])


# ------------------------------------------------------------------ values


def test_values_are_rescaled_slice_by_slice(tmp_path):
    def to_hu(index, data):
        data.SOPClassUID, data.Modality = CT, "CT"
        data.RescaleSlope, data.RescaleIntercept = "1", "-1024"

    pixels = volume(dtype=np.uint16)
    array, found = decode_with_header(series(tmp_path / "hu", pixels, to_hu))
    np.testing.assert_array_equal(array, pixels.astype(np.int64) - 1024)
    assert array.dtype == np.int32
    assert found.data_range is None
    with pytest.raises(ImageError, match="data-range"):
        read_image(tmp_path / "hu")
    unit = read_image(tmp_path / "hu", Reading(data_range=(-1024, 3071)))
    np.testing.assert_allclose(unit[0], pixels / 4095, rtol=1e-6)

    def by_index(index, data):
        data.RescaleSlope, data.RescaleIntercept = f"{0.25 * (index + 1)}", f"{index}"

    array, found = decode_with_header(series(tmp_path / "pet", pixels, by_index))
    slopes = np.arange(1, 6)[:, None, None]
    np.testing.assert_allclose(array, pixels * 0.25 * slopes + slopes - 1, rtol=1e-6)
    assert array.dtype == np.float32
    assert (found.bits, found.data_range) == (16, None)


@pytest.mark.parametrize(("bits", "dtype"), [(12, np.int16), (16, np.int32)])
def test_whole_numbers_stay_whole(tmp_path, bits, dtype):
    plane = volume(dtype=np.uint16)[0]
    data = placed(
        plane, ORIGIN, BitsStored=bits, HighBit=bits - 1, RescaleSlope="2", RescaleIntercept="-4096"
    )
    array = decode(write(tmp_path / "a.dcm", data))
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, plane.astype(int) * 2 - 4096)


def test_unsigned_numbers_say_their_range_but_not_those_of_ct(tmp_path):
    plane = volume(dtype=np.uint16)[0]
    twelve = {"BitsStored": 12, "HighBit": 11}
    assert read_header(write(tmp_path / "a.dcm", placed(plane, ORIGIN, **twelve))).data_range == (0, 4095)
    assert read_header(write(tmp_path / "b.dcm", placed(plane, ORIGIN))).data_range == (0, 65535)
    ct = placed(plane, ORIGIN, SOPClassUID=CT, Modality="CT", RescaleSlope="1", RescaleIntercept="0")
    assert read_header(write(tmp_path / "c.dcm", ct)).data_range is None
    small = read_header(write(tmp_path / "d.dcm", header(plane.astype(np.uint8))))
    assert (small.data_range, small.bits) == ((0, 255), 8)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_larger_is_brighter_of_monochrome1(tmp_path, dtype):
    plane = volume(dtype=dtype)[0] // 2
    more = {"BitsStored": 12, "HighBit": 11, "PhotometricInterpretation": "MONOCHROME1"}
    array, found = decode_with_header(write(tmp_path / "a.dcm", placed(plane, ORIGIN, **more)))
    np.testing.assert_array_equal(array, (4095 if dtype == np.uint16 else -1) - plane.astype(int))
    assert found.data_range == ((0, 4095) if dtype == np.uint16 else None)
    rescaled = placed(plane, ORIGIN, **more, RescaleSlope="2", RescaleIntercept="-1000")
    array = decode(write(tmp_path / "b.dcm", rescaled))
    sum_of_ends = 2 * (4095 if dtype == np.uint16 else -1) - 2000
    np.testing.assert_array_equal(array, sum_of_ends - (2 * plane.astype(int) - 1000))


@pytest.mark.quick(1)
@pytest.mark.parametrize("more", [{}, {"RescaleSlope": "2", "RescaleIntercept": "-1000"}])
def test_arrays_of_monochrome1_are_turned_as_their_files_are(tmp_path, more):
    """A mask of what a file holds is that of the file; floats in [0, 1] are as they are."""
    kind = {"BitsStored": 12, "HighBit": 11, "PhotometricInterpretation": "MONOCHROME1"}
    slope, intercept = (2, -1000) if more else (1, 0)
    y = np.random.default_rng(0).integers(0, 4000, (40, 6, 4)).astype(np.uint16)
    x, y_hat = y + np.random.default_rng(1).integers(0, 90, (2, *y.shape)).astype(np.uint16)
    for role, images in {"x": x, "y_hat": y_hat, "y": y}.items():
        for index, image in enumerate(images):
            one = placed(image, ORIGIN, **kind, **more, PatientID=f"{index}", SOPInstanceUID=generate_uid())
            write(tmp_path / role / f"{index:02d}.dcm", one)
    stated = Reading(data_range=(-1500, 7400)) if more else PLAIN
    files = Triplets.from_folder(tmp_path, reading=stated)
    scorer = Heuristic(lambda x, y_hat: (x - y_hat).abs() + y_hat / 9, channels=1)
    masker = calibrate(scorer, files, threshold=0.004, loss="l1")
    assert masker.card.turned == ("x", "y_hat")
    of_files = np.stack([np.squeeze(masker(files[index])) for index in range(9)])
    values = [slope * each[:9].astype(np.int32) + intercept for each in (x, y_hat)]
    values = values if more else [each.astype(np.uint16) for each in values]
    of_arrays = np.stack([masker(*pair) for pair in zip(*values, strict=True)])
    np.testing.assert_array_equal(of_arrays, of_files)
    tensors = [torch.from_numpy(each[:, None].astype(np.float32)) for each in values]
    if not more:
        low, high = 0, 4095
        tensors = [(high - each) / (high - low) for each in tensors]
    np.testing.assert_allclose(masker(*tensors)[:, 0], of_files, atol=1e-5)


def test_colours_become_rgb(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    more = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "SOPClassUID": SECONDARY}
    data = header(rgb, **more, PhotometricInterpretation="RGB")
    array, found = decode_with_header(write(tmp_path / "a.dcm", data))
    np.testing.assert_array_equal(array, rgb)
    assert (found.channels, found.space, found.data_range) == (3, (6, 4), (0, 255))
    planar = header(rgb, **more | {"PlanarConfiguration": 1}, PhotometricInterpretation="RGB")
    planar.PixelData = np.moveaxis(rgb, -1, 0).tobytes()
    np.testing.assert_array_equal(decode(write(tmp_path / "b.dcm", planar)), rgb)
    grey = np.stack([rgb[..., 0], np.full((6, 4), 128), np.full((6, 4), 128)], -1).astype(np.uint8)
    ybr = header(grey, **more, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_array_equal(decode(write(tmp_path / "c.dcm", ybr)), np.repeat(grey[..., :1], 3, -1))


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_are_looked_up(tmp_path, bits):
    indices = np.random.default_rng(0).integers(0, 4, (6, 4), dtype=np.uint8)
    palette = np.random.default_rng(1).integers(0, 2**bits, (4, 3)).astype(f"u{bits // 8}")
    data = header(indices, PhotometricInterpretation="PALETTE COLOR", SOPClassUID=SECONDARY)
    for channel, colour in enumerate(("Red", "Green", "Blue")):
        setattr(data, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, bits])
        setattr(data, f"{colour}PaletteColorLookupTableData", palette[:, channel].tobytes())
    array, found = decode_with_header(write(tmp_path / "a.dcm", data))
    np.testing.assert_array_equal(array, palette[indices])
    assert (found.channels, found.bits, found.data_range) == (3, bits, (0, 2**bits - 1))


def test_floats_are_maps_in_0_1(tmp_path):
    plane = np.random.default_rng(0).random((6, 4), dtype=np.float32)
    data = placed(plane, ORIGIN, SOPClassUID="1.2.840.10008.5.1.4.1.1.30", FloatPixelData=plane.tobytes())
    for keyword in ("PixelData", "PixelRepresentation", "BitsStored", "HighBit"):
        delattr(data, keyword)
    array, found = decode_with_header(write(tmp_path / "a.dcm", data))
    np.testing.assert_array_equal(array, plane)
    assert found.data_range == (0, 1)


# ------------------------------------------------------------------ several times, several frames


def twice(folder, pixels, **keys):
    """Two times, (2, D, H, W), the later with the smaller instance numbers; keys tell them apart."""
    for time in (0, 1):
        for index, plane in enumerate(pixels[time]):
            number = (1 - time) * len(pixels[0]) + index
            data = placed(plane, ORIGIN + index * STEP, InstanceNumber=number + 1)
            for keyword, of in keys.items():
                setattr(data, keyword, of(time))
            write(folder / f"{number:03d}.dcm", data)
    return folder


def test_repeated_positions_are_times(tmp_path):
    pixels = volume(6).reshape(2, 3, 6, 4)
    folder = twice(tmp_path / "s", pixels, AcquisitionTime=lambda time: f"0{8 + time}0000.5")
    with pytest.raises(
        ImageError, match=r"3 positions, each 2 times: --axes TZYX reads each time as an image"
    ):
        read_header(folder)
    assert times_of(folder, TZYX) == 2
    for time in (0, 1):
        array, found = decode_with_header(tmp_path / f"s#t={time}", TZYX)
        np.testing.assert_array_equal(array, pixels[time])
        assert found.geometry is not None
        assert found.geometry.affine is not None
    with pytest.raises(ImageError, match=r"2 time points: choose one, such as s#t=0"):
        decode(folder, TZYX)
    with pytest.raises(ImageError, match="counted from 0: there is no 2"):
        decode(tmp_path / "s#t=2", TZYX)
    with pytest.raises(ImageError, match="has 3 slices, but the given axes TYX"):
        decode(tmp_path / "s#t=0", Reading(axes="TYX"))


@pytest.mark.parametrize(
    ("keyword", "of"),
    [
        ("TemporalPositionIdentifier", lambda time: 9 + time),
        ("TriggerTime", lambda time: 90 + 20 * time),
        ("AcquisitionDateTime", lambda time: f"2020010{1 + time}120000"),
        ("AcquisitionNumber", lambda time: 9 + time),
    ],
)
def test_what_tells_times_apart(tmp_path, keyword, of):
    pixels = volume(6).reshape(2, 3, 6, 4)
    folder = twice(tmp_path / "s", pixels, **{keyword: of})
    np.testing.assert_array_equal(decode(Path(f"{folder}#t=0"), TZYX), pixels[0])


def test_instance_numbers_are_the_last_resort(tmp_path):
    pixels = volume(6).reshape(2, 3, 6, 4)
    folder = twice(tmp_path / "s", pixels)
    np.testing.assert_array_equal(decode(Path(f"{folder}#t=0"), TZYX), pixels[1])
    twice(folder, pixels, InstanceNumber=lambda time: 7)
    with pytest.raises(ImageError, match=r"have the same position, and none of .* shows which is earlier"):
        decode(Path(f"{folder}#t=0"), TZYX)


def test_one_time_has_an_axis_of_time_if_told(tmp_path):
    folder = series(tmp_path / "s", volume())
    assert times_of(folder, TZYX) == 1
    assert times_of(folder) is None
    np.testing.assert_array_equal(decode(Path(f"{folder}#t=0"), TZYX), volume())
    with pytest.raises(ImageError, match="no time axis"):
        decode(Path(f"{folder}#t=0"))


def enhanced(pixels, order, times=1):
    """A multi-frame file, whose frames lie at the positions of `order`."""
    frames = pixels.reshape(-1, *pixels.shape[-2:])
    data = header(frames, SOPClassUID=ENHANCED_MR, NumberOfFrames=len(frames), InstanceNumber=1)
    shared, orientation, measures, values = Dataset(), Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [*ROW.tolist(), *COLUMN.tolist()]
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 2
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = "2", "-10", "US"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    shared.PixelValueTransformationSequence = [values]
    data.SharedFunctionalGroupsSequence = [shared]
    each = []
    for number, at in enumerate(order):
        item, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [float(f"{value:.8g}") for value in ORIGIN + at * STEP]
        content.TemporalPositionIndex = 1 + number % times
        item.PlanePositionSequence, item.FrameContentSequence = [position], [content]
        each.append(item)
    data.PerFrameFunctionalGroupsSequence = each
    return data


@pytest.mark.parametrize("compressed", [False, True])
def test_frames_are_in_the_order_of_their_positions(tmp_path, compressed):
    pixels, order = volume(), [3, 0, 4, 1, 2]
    data = enhanced(pixels, order)
    if compressed:
        data.compress(RLELossless, generate_instance_uid=False)
    array, found = decode_with_header(write(tmp_path / "a.dcm", data))
    np.testing.assert_array_equal(array, 2 * pixels[np.argsort(order)].astype(int) - 10)
    assert found.geometry is not None
    np.testing.assert_allclose(found.geometry.affine, affine(), atol=1e-6)
    places = (slice(1, 4), slice(0, 6), slice(1, 3))
    np.testing.assert_array_equal(open_window(tmp_path / "a.dcm")(places), array[places])


def test_per_frame_groups_go_before_shared_ones(tmp_path):
    pixels = volume(3)
    data = enhanced(pixels, [0, 1, 2])
    values = Dataset()
    values.RescaleSlope, values.RescaleIntercept = "1", "5"
    data.PerFrameFunctionalGroupsSequence[1].PixelValueTransformationSequence = [values]
    array = decode(write(tmp_path / "a.dcm", data))
    np.testing.assert_array_equal(array[1], pixels[1].astype(int) + 5)
    np.testing.assert_array_equal(array[2], 2 * pixels[2].astype(int) - 10)


def test_times_of_frames(tmp_path):
    pixels = volume(6)
    path = write(tmp_path / "a.dcm", enhanced(pixels, [0, 0, 1, 1, 2, 2], times=2))
    assert times_of(path, TZYX) == 2
    np.testing.assert_array_equal(decode(Path(f"{path}#t=1"), TZYX), 2 * pixels[1::2].astype(int) - 10)
    mask = random_mask((3, 6, 4))
    out = pydicom.dcmread(written(tmp_path / "m.dcm", mask, Path(f"{path}#t=1"), TZYX))
    numbers = [
        [each.ReferencedFrameNumber for each in item.DerivationImageSequence[0].SourceImageSequence]
        for item in out.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(numbers) == [[2], [4], [6]]


def test_frames_without_positions_need_axes(tmp_path):
    pixels = volume()
    path = write(tmp_path / "a.dcm", header(pixels, NumberOfFrames=5))
    with pytest.raises(ImageError, match=r"5 frames without positions: --axes ZYX .* --axes TYX as times"):
        read_header(path)
    array, found = decode_with_header(path, Reading(axes="ZYX"))
    np.testing.assert_array_equal(array, pixels)
    assert found.geometry is None
    assert times_of(path, Reading(axes="TYX")) == 5
    np.testing.assert_array_equal(decode(Path(f"{path}#t=3"), Reading(axes="TYX")), pixels[3])
    with pytest.raises(ImageError, match="no positions, which a DICOM mask requires"):
        written(tmp_path / "m.dcm", random_mask((5, 6, 4)), path, Reading(axes="ZYX"))


# ------------------------------------------------------------------ who


def test_the_patient_is_a_hash(tmp_path):
    def patient(name, **more):
        return read_header(write(tmp_path / name, header(volume()[0], **more))).patient

    first = patient("a.dcm")
    assert first is not None
    assert first.startswith("patient-")
    assert len(first) == len("patient-") + 16
    assert "4711" not in first
    assert patient("b.dcm", PatientID="ID-4711 ") == first
    assert patient("c.dcm", PatientID="ID-4712") != first
    assert patient("d.dcm", IssuerOfPatientID="another hospital") != first
    assert patient("e.dcm", PatientID="") is None


# ------------------------------------------------------------------ refused


def set_of(number, **values):
    """Change one slice."""

    def change(index, data):
        if index == number:
            for keyword, value in values.items():
                setattr(data, keyword, value)

    return change


def moved(number, offset):
    return set_of(number, ImagePositionPatient=[float(f"{x:.8g}") for x in ORIGIN + number * STEP + offset])


def without(*keywords, only=None):
    def change(index, data):
        for keyword in keywords if only in (None, index) else ():
            delattr(data, keyword)

    return change


PLACE = ("ImagePositionPatient", "ImageOrientationPatient")
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
BAD: dict[str, tuple[Change, str]] = {
    "two series": (
        set_of(2, SeriesInstanceUID=generate_uid()),
        "belong to different series: put each series in its own",
    ),
    "two patients": (set_of(2, PatientID="ID-4712"), "belong to different patients"),
    "two sizes": (set_of(2, Rows=3, Columns=8), "differ in rows or columns"),
    "two orientations": (set_of(2, ImageOrientationPatient=[1, 0, 0, 0, 1, 0]), "differ in orientation"),
    "two spacings": (set_of(2, PixelSpacing=[0.5, 0.7]), "differ in pixel spacing"),
    "bad directions": (set_of(2, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "not two perpendicular unit"),
    "one position twice": (moved(2, STEP), "have the same position, but other positions do not repeat"),
    "side by side": (moved(2, STEP + 9 * ROW), "lie side by side in one plane"),
    "a gap": (moved(4, STEP), r"the step is 5 mm, elsewhere 2.5 mm: a slice may be missing"),
    "a small step": (moved(4, -0.5 * STEP), r"the step is 1.25 mm, elsewhere 2.5 mm: a slice may not belong"),
    "a shift": (moved(4, 2 * ROW), "the slices shift sideways by 2 mm"),
    "no positions": (without(*PLACE), "4 more have no positions .* they cannot be sorted"),
    "one without position": (
        without(*PLACE, only=2),
        "has no position and orientation, but other slices do",
    ),
    "a mosaic": (set_of(0, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "Siemens mosaic.*dcm2niix"),
    "a segmentation": (set_of(0, SOPClassUID=SEG), "is not an image of grey values, but a segmentation"),
    "no rows": (without("Rows", only=0), "is not an image of grey values .MR Image Storage.: it has no Rows"),
    "odd colours": (set_of(0, PhotometricInterpretation="CMYK"), "contains CMYK"),
}


@pytest.mark.parametrize("what", list(BAD))
def test_bad_series_are_refused_by_name(tmp_path, what):
    change, message = BAD[what]
    folder = series(tmp_path / "s", volume(), change)
    with pytest.raises(ImageError, match=message) as caught:
        read_header(folder)
    assert ".dcm" in str(caught.value)
    assert not any(word in str(caught.value) for word in ("4711", "4712", "Secret"))


def test_names_say_where_the_gap_is(tmp_path):
    folder = series(tmp_path / "s", volume(7))
    by_place = {
        float(np.array(pydicom.dcmread(path).ImagePositionPatient) @ STEP): path for path in folder.iterdir()
    }
    names = [by_place[key] for key in sorted(by_place)]
    names[3].unlink()
    with pytest.raises(ImageError, match=f"between {names[2].name} and {names[4].name} the step is 5 mm"):
        read_header(folder)


@pytest.mark.parametrize(("offset", "fits"), [(0.009, True), (0.05, False)])
def test_rounded_positions_are_tolerated(tmp_path, offset, fits):
    folder = series(tmp_path / "s", volume(), moved(2, offset * STEP / 2.5))
    if fits:
        read_header(folder)
    else:
        with pytest.raises(ImageError, match="the step is"):
            read_header(folder)


def numbered(start=1, by=1, **more):
    """Slices as thick as they lie apart, with instance numbers in their order."""

    def change(index, data):
        data.InstanceNumber, data.SliceThickness = start + by * index, 2.5 / by
        for keyword, value in more.items():
            setattr(data, keyword, value)

    return change


def test_every_second_slice_is_missing(tmp_path):
    with pytest.raises(ImageError, match=r"2\.5 mm apart, are 1\.25 mm thick, .* numbers increase by 2"):
        read_header(series(tmp_path / "halved", volume(), numbered(by=2)))
    read_header(series(tmp_path / "whole", volume(), numbered()))
    gaps = numbered(by=2, SpacingBetweenSlices=2.5)
    read_header(series(tmp_path / "gaps", volume(), gaps))  # thin slices with gaps, as their header says


def test_the_ends_of_a_series_that_may_be_missing_are_said(tmp_path):
    for name, change in {"first": numbered(start=2), "last": numbered(ImagesInAcquisition=7)}.items():
        with pytest.warns(UserWarning, match=r"are numbered .* if the series has more"):
            read_header(series(tmp_path / name, volume(), change))
    read_header(series(tmp_path / "all", volume(), numbered(ImagesInAcquisition=5)))


def test_a_verb_says_once_that_series_may_lack_slices(tmp_path, capsys):
    for name in "abc":
        change = numbered(start=2, SeriesInstanceUID=generate_uid())
        for role in ("x", "y_hat", "y"):
            series(tmp_path / role / name, volume(), change)
    warnings.simplefilter("always")
    main(["check", str(tmp_path), "--data-range", "0", "40000"])
    err = " ".join(capsys.readouterr().err.split())
    assert err.count("its slices are numbered 2 to 6: if the series has more") == 1, err
    assert err.endswith("conformask: warning: 2 more series that may lack slices")


def test_missing_slices_of_tiny_steps_are_noticed(tmp_path):
    def micro(index, data):
        at = index + (index > 2)
        data.ImagePositionPatient = [float(f"{x:.10g}") for x in at * STEP / 500]
        data.PixelSpacing = [0.005, 0.005]

    with pytest.raises(ImageError, match="a slice may be missing"):
        read_header(series(tmp_path / "s", volume(), micro))


def test_the_same_image_twice(tmp_path):
    folder = series(tmp_path / "s", volume())
    (folder / "copy.dcm").write_bytes((folder / "000.dcm").read_bytes())
    with pytest.raises(ImageError, match=r"000.dcm and copy.dcm are the same image"):
        read_header(folder)


def test_other_objects_are_no_images(tmp_path):
    data = header(volume()[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3", Modality="RTSTRUCT")
    for keyword in ("Rows", "Columns", "PixelData", "BitsAllocated", "PhotometricInterpretation"):
        delattr(data, keyword)
    with pytest.raises(ImageError, match=r"is not an image of grey values .RT Structure Set Storage."):
        read_header(write(tmp_path / "a.dcm", data))
    mixed = header(volume()[0], PixelPresentation="COLOR")
    with pytest.raises(ImageError, match="supplemental palette"):
        read_header(write(tmp_path / "b.dcm", mixed))


@pytest.mark.parametrize("size", [0, 100, 131, 400, 900])
def test_truncated_slices_are_named(tmp_path, size):
    folder = series(tmp_path / "s", volume())
    path = folder / "003.dcm"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ImageError, match=r"003.dcm"):
        decode(folder)


@pytest.mark.parametrize("name", ["zz", "zz.5", "zz.dcm"])
def test_damaged_files_are_not_passed_over(tmp_path, name):
    folder = series(tmp_path / "s", volume())
    (folder / name).write_bytes(bytes(500))
    with pytest.raises(ImageError, match=f"{name} lacks the DICOM signature"):
        read_header(folder)


def test_truncated_pixels_are_named(tmp_path):
    folder = series(tmp_path / "s", volume())
    path = folder / "003.dcm"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ImageError, match=r"003.dcm: its pixels cannot be decoded"):
        decode(folder)
    alone = tmp_path / "003.dcm"
    alone.write_bytes(b"not DICOM" * 40)
    with pytest.raises(ImageError, match="lacks the DICOM signature"):
        decode(alone)


def test_a_missing_codec_is_named(tmp_path):
    data = placed(volume()[0], ORIGIN)
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
    data["PixelData"].VR = "OB"
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"
    path = write(tmp_path / "a.dcm", data)
    with pytest.raises(ImageError, match=r"compressed as High-Throughput JPEG 2000.*pip install pylibjpeg"):
        decode(path)


# ------------------------------------------------------------------ masks


def test_a_mask_lies_where_its_series_lies(tmp_path):
    folder = series(tmp_path / "s", volume())
    mask = random_mask((5, 6, 4))
    path = written(tmp_path / "masks" / "s.dcm", mask, folder)
    array, found = decode_with_header(path)
    assert array.dtype == np.float32
    assert (array <= mask[0]).all()
    assert (mask[0] - array < 2.0**-15).all()
    assert (array == 1).sum() == (mask == 1).sum() == 1
    assert found.data_range == (0, 1)
    source = read_header(folder)
    assert found.geometry == source.geometry
    assert found.patient == source.patient
    theirs = hd.pm.ParametricMap.from_dataset(pydicom.dcmread(path))
    stored = theirs.get_volume(apply_real_world_transform=True, dtype=np.float64)
    check_same_volume(stored, array, np.array(found.geometry.affine))
    np.testing.assert_array_equal(read_image(path), array[None])


def test_a_mask_refers_to_each_slice_under_it(tmp_path):
    folder = series(tmp_path / "s", volume())
    data = pydicom.dcmread(written(tmp_path / "m.dcm", random_mask((5, 6, 4)), folder))
    slices = {read.SOPInstanceUID: read for read in map(pydicom.dcmread, folder.iterdir())}
    assert {each.ReferencedSOPInstanceUID for each in data.SourceImageSequence} == set(slices)
    series_of = data.ReferencedSeriesSequence[0]
    assert series_of.SeriesInstanceUID == SERIES
    assert {each.ReferencedSOPInstanceUID for each in series_of.ReferencedInstanceSequence} == set(slices)
    for item in data.PerFrameFunctionalGroupsSequence:
        (source,) = item.DerivationImageSequence[0].SourceImageSequence
        under = slices[source.ReferencedSOPInstanceUID]
        assert item.PlanePositionSequence[0].ImagePositionPatient == under.ImagePositionPatient
    assert (data.PatientID, data.PatientName, data.PatientSex) == ("ID-4711", "Secret", "X")
    assert (data.StudyInstanceUID, data.FrameOfReferenceUID) == (STUDY, FRAME_OF_REFERENCE)
    assert data.SeriesInstanceUID != SERIES
    assert data.SeriesDescription == "conformask mask (1 = trusted)"
    assert data.Manufacturer == "conformask"
    (mapping,) = data.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (2.0**-15, 0)
    assert (mapping.LUTLabel, mapping.MeasurementUnitsCodeSequence[0].CodeValue) == ("trust", "1")
    again = pydicom.dcmread(written(tmp_path / "n.dcm", random_mask((5, 6, 4)), folder))
    assert again.SOPInstanceUID != data.SOPInstanceUID


def test_a_segmentation_of_what_is_not_wholly_shown(tmp_path):
    folder = series(tmp_path / "s", volume())
    mask = random_mask((5, 6, 4))
    mask[0, 1], mask[mask > 0.5] = 1, 1
    write_segmentation(tmp_path / "seg.dcm", mask[0], SourceImage(folder, None, PLAIN), PROMISE)
    read = hd.seg.segread(tmp_path / "seg.dcm")
    (segment,) = read.SegmentSequence
    assert (segment.SegmentLabel, segment.SegmentAlgorithmType) == ("not trusted", "AUTOMATIC")
    assert segment.SegmentDescription == f"Outside this segment: {PROMISE}"
    stored = read.get_volume(combine_segments=True)
    found = read_header(folder).geometry
    assert found is not None
    check_same_volume(stored, (mask[0] < 1).astype(int), np.array(found.affine))
    assert len(read.SourceImageSequence) == read.NumberOfFrames == 5
    with pytest.raises(ImageError, match="but a segmentation"):
        decode(tmp_path / "seg.dcm")


def test_masks_over_frames(tmp_path):
    order = [3, 0, 4, 1, 2]
    source = enhanced(volume(), order)
    shared = source.SharedFunctionalGroupsSequence[0]
    for item in source.PerFrameFunctionalGroupsSequence:
        item.PlaneOrientationSequence = shared.PlaneOrientationSequence
        item.PixelMeasuresSequence = shared.PixelMeasuresSequence
    del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence
    path = write(tmp_path / "a.dcm", source)
    mask = random_mask((5, 6, 4))
    array, found = decode_with_header(written(tmp_path / "m.dcm", mask, path))
    assert (mask[0] - array < 2.0**-15).all()
    assert (array <= mask[0]).all()
    assert found.geometry == read_header(path).geometry
    write_segmentation(tmp_path / "seg.dcm", mask, SourceImage(path, None, PLAIN), PROMISE)


@pytest.mark.parametrize("place", [True, False])
@pytest.mark.parametrize("reference", [True, False])
def test_masks_over_single_slices(tmp_path, place, reference):
    plane = volume()[0]
    data = placed(plane, ORIGIN) if place else header(plane, SOPClassUID=SECONDARY)
    if not reference:
        del data.FrameOfReferenceUID
    path, mask = write(tmp_path / "a.dcm", data), random_mask((6, 4))
    array, found = decode_with_header(written(tmp_path / "m.dcm", mask, path))
    assert (mask[0] - array < 2.0**-15).all()
    assert found.geometry == read_header(path).geometry
    out = hd.imread(tmp_path / "m.dcm")
    assert ("PlanePositionSequence" in out.PerFrameFunctionalGroupsSequence[0]) == place
    assert ("FrameOfReferenceUID" in out) == (place or reference)
    write_segmentation(tmp_path / "seg.dcm", mask, SourceImage(path, None, PLAIN), PROMISE)
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(seg.pixel_array.reshape(6, 4), mask[0] < 1)


def test_a_tilted_mask(tmp_path):
    def tilt(index, data):
        data.ImagePositionPatient = [float(f"{x:.8g}") for x in ORIGIN + index * (STEP + 0.3 * COLUMN)]

    folder = series(tmp_path / "s", volume(), tilt)
    found = read_header(written(tmp_path / "m.dcm", random_mask((5, 6, 4)), folder)).geometry
    assert found == read_header(folder).geometry


def test_colours_have_a_grey_mask(tmp_path):
    rgb = np.zeros((6, 4, 3), np.uint8)
    more = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "SOPClassUID": SECONDARY}
    path = write(tmp_path / "a.dcm", header(rgb, **more, PhotometricInterpretation="RGB"))
    mask = random_mask((6, 4))
    assert (mask[0] - decode(written(tmp_path / "m.dcm", mask, path)) < 2.0**-15).all()
    with pytest.raises(ImageError, match="has 1 channel, but this mask has 3"):
        written(tmp_path / "n.dcm", np.repeat(mask, 3, 0), path)


def test_masks_that_cannot_be(tmp_path):
    folder, mask = series(tmp_path / "s", volume()), random_mask((5, 6, 4))
    with pytest.raises(ImageError, match=r"must have shape \(1, 5, 6, 4\).*but this one has \(1, 4, 6, 4\)"):
        written(tmp_path / "m.dcm", mask[:, 1:], folder)
    with pytest.raises(ImageError, match="must refer to a DICOM image, but the image under it is an array"):
        write_segmentation(tmp_path / "m.dcm", mask, SourceImage(None, None, PLAIN), PROMISE)
    with pytest.raises(ImageError, match=r"under it is .*a\.npy: choose another suffix"):
        write_segmentation(tmp_path / "m.dcm", mask, SourceImage(tmp_path / "a.npy", None, PLAIN), PROMISE)
    nameless = series(tmp_path / "t", volume(), without("StudyInstanceUID"))
    with pytest.raises(ImageError, match="has no StudyInstanceUID: a DICOM mask cannot refer to it"):
        written(tmp_path / "m.dcm", mask, nameless)
    assert not list(tmp_path.glob("*.dcm"))


# ------------------------------------------------------------------ real files


@real
@pytest.mark.parametrize(
    ("name", "spacing", "lowest", "highest"),
    [
        ("mr_hippocampus_crop", (1, 1, 1), 2, 154),
        ("mr_phase_rescale", (3.6, 3, 3), -4096, 4092),
        ("mr_t1_oblique", (6.5, 0.6875, 0.6875), 0, 2040),
    ],
)
def test_real_series(tmp_path, name, spacing, lowest, highest):
    array, found = decode_with_header(SHARED / name)
    assert found.geometry is not None
    np.testing.assert_allclose(found.geometry.spacing, spacing, rtol=1e-4)
    assert (array.min(), array.max()) == (lowest, highest)
    with warnings.catch_warnings(action="ignore"):
        read = [pydicom.dcmread(path) for path in (SHARED / name).iterdir()]
        theirs = hd.get_volume_from_series(read, apply_modality_transform=None)
    check_same_volume(theirs, array, np.array(found.geometry.affine))
    mask = random_mask(found.space)
    back, lies = decode_with_header(written(tmp_path / "m.dcm", mask, SHARED / name))
    assert lies.geometry == found.geometry
    assert (back <= mask[0]).all()
    assert (mask[0] - back < 2.0**-15).all()
    write_segmentation(tmp_path / "seg.dcm", mask, SourceImage(SHARED / name, found.geometry, PLAIN), PROMISE)
    stored = hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True)
    check_same_volume(stored, (mask[0] < 1).astype(int), np.array(found.geometry.affine))


@real
def test_the_oblique_series_by_hand():
    """Its files are shuffled on purpose; the normal points up, so z grows from slice to slice."""
    read = [pydicom.dcmread(path) for path in (SHARED / "mr_t1_oblique").iterdir()]
    read.sort(key=lambda data: float(data.ImagePositionPatient[2]))
    array = decode(SHARED / "mr_t1_oblique")
    np.testing.assert_array_equal(array, np.stack([data.pixel_array for data in read]))


@real
def test_the_irregular_series_is_refused_with_names():
    message = r"between 00\d.dcm and 00\d.dcm the step is [\d.]+ mm, elsewhere 4.002 mm"
    with pytest.raises(ImageError, match=message):
        read_header(SHARED / "ct_gantry_tilt")


@real
def test_the_series_of_three_times(tmp_path):
    folder = SHARED / "mr_4d_ge"
    with pytest.raises(ImageError, match="15 positions, each 3 times"):
        read_header(folder)
    assert times_of(folder, TZYX) == 3
    numbers = sorted(folder.iterdir(), key=lambda path: int(pydicom.dcmread(path).InstanceNumber))
    pixels = np.stack([pydicom.dcmread(path).pixel_array for path in numbers]).reshape(3, 15, 64, 64)
    for time in range(3):
        np.testing.assert_array_equal(decode(SHARED / f"mr_4d_ge#t={time}", TZYX), pixels[time])
    mask = random_mask((15, 64, 64))
    out = pydicom.dcmread(written(tmp_path / "m.dcm", mask, SHARED / "mr_4d_ge#t=2", TZYX))
    under = {pydicom.dcmread(path).SOPInstanceUID for path in numbers[30:]}
    assert {each.ReferencedSOPInstanceUID for each in out.SourceImageSequence} == under


@real
def test_the_mosaic_is_refused():
    with pytest.raises(ImageError, match=r"00\d.dcm is a Siemens mosaic"):
        read_header(SHARED / "mr_mosaic_siemens")


@real
@pytest.mark.parametrize("kind", ["RLE", "big_endian", "jpeg_2k_lossless", "jpeg_ls_lossless"])
def test_compressed_frames(kind):
    reading = Reading(axes="ZYX")
    plain = decode(SHARED / "single" / "emri_small.dcm", reading)
    assert (plain.shape, int(plain.max())) == ((10, 64, 64), 467)
    packed = decode(SHARED / "single" / f"emri_small_{kind}.dcm", reading)
    np.testing.assert_array_equal(packed, plain)
    assert packed.dtype.isnative


@real
def test_lossless_jpeg_needs_no_plugin():
    imagecodecs = pytest.importorskip("imagecodecs")
    path = SHARED / "single" / "JPEG-LL.dcm"
    array = decode(path)
    read = pydicom.dcmread(path)
    frame = pydicom.encaps.get_frame(read.PixelData, 0, number_of_frames=1)
    np.testing.assert_array_equal(array, imagecodecs.jpeg8_decode(frame))
    assert (array.shape, int(array.max())) == ((1024, 256), 278)


@real
def test_a_modality_table_is_looked_up():
    path = SHARED / "single" / "mlut_18.dcm"
    array, found = decode_with_header(path)
    data = pydicom.dcmread(path)
    item = data.ModalityLUTSequence[0]
    _, first, _ = item.LUTDescriptor
    expected = np.array(item.LUTData)[data.pixel_array.astype(int) - first]
    np.testing.assert_array_equal(array, expected)
    assert found.data_range is None


@real
def test_a_series_with_a_real_supplemental_palette():
    with pytest.raises(ImageError, match="supplemental palette"):
        read_header(SHARED / "single" / "eCT_Supplemental.dcm")


@real
@pytest.mark.parametrize("name", ["parametric_map_float", "parametric_map_double_float"])
def test_real_parametric_maps(name):
    path = SHARED / "single" / f"{name}.dcm"
    array, found = decode_with_header(path)
    np.testing.assert_array_equal(array, pydicom.dcmread(path).pixel_array)
    assert found.data_range == (0, 1)


@real
@pytest.mark.parametrize("name", ["693_J2KR", "JPEG-LL", "MR2_J2KR", "SC_rgb", "explicit_VR-UN", "vlut_04"])
def test_masks_over_real_single_files(tmp_path, name):
    path = SHARED / "single" / f"{name}.dcm"
    found = read_header(path)
    mask = random_mask(found.space)
    back, lies = decode_with_header(written(tmp_path / "m.dcm", mask, path))
    assert lies.geometry == found.geometry
    assert (mask[0] - back < 2.0**-15).all()
    out, source = pydicom.dcmread(tmp_path / "m.dcm"), pydicom.dcmread(path)
    assert (out.PatientName, out.PatientID) == (source.PatientName, source.PatientID)


@real
def test_every_other_real_file_is_refused_by_name():
    single, read = SHARED / "single", []
    for path in sorted(single.iterdir()):
        if path.name.startswith(("emri", "eCT", "liver")):
            with pytest.raises(ImageError, match=path.name):
                decode(path)
        else:
            read.append(decode(path).shape)
    assert len(read) == 10
