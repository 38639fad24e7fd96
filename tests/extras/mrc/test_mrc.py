"""MRC files as mrcfile reads them, and masks with the header of their image."""

import re
import sys

import numpy as np
import pytest

from conformask import Triplets, errors
from conformask.errors import ConformaskWarning, ImageError, MissingFileError
from conformask.extensions import pip_install
from conformask.extras.make.predictors import CustomPredictor
from conformask.extras.make.triplets import add_outputs
from conformask.images.formats import SourceImage
from conformask.images.read import (
    decode,
    decode_with_header,
    grid,
    mask_suffix,
    open_window,
    read_header,
    read_image,
    times_of,
    write_blocks,
)
from conformask.records.reading import PLAIN, Geometry, Reading

mrcfile = pytest.importorskip("mrcfile", reason="needs the extra mrc")

TYPES = {0: np.int8, 1: np.int16, 2: np.float32, 6: np.uint16, 12: np.float16}
SHAPE = (4, 5, 6)
STEP = 13.68
"""Ångström."""


def field(shape, dtype=np.float32):
    generator = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return generator.random(shape).astype(dtype)
    most = np.iinfo(dtype)
    return generator.integers(most.min, most.max, shape, dtype, endpoint=True)


def save(path, array, kind="volume", **header):
    """As mrcfile writes an array; `header` are entries that are changed afterwards."""
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(array)
        if array.ndim == 3:
            file.set_volume() if kind == "volume" else file.set_image_stack()
        file.voxel_size = STEP
        file.header.origin = (100, -200, 300.5)
        for name, value in header.items():
            file.header[name] = value
    return path


def header_of(path):
    with mrcfile.open(path, header_only=True) as file:
        return file.header.copy()


def mask_over(path, to, reading=PLAIN, **source):
    """Write the mask of an image, and return its values (*space)."""
    header = read_header(path, reading)
    values = np.random.default_rng(1).random(header.shape, np.float32)
    blocks = ((places, values[:, *places]) for places in grid(header.space))
    write_blocks(to, values.shape, blocks, SourceImage(path, header.geometry, reading, **source))
    return values[0]


# pixels


@pytest.mark.parametrize("mode", TYPES)
@pytest.mark.parametrize("order", "<>")
def test_a_volume_has_the_values_and_the_spacing_that_mrcfile_reads(mode, order, tmp_path):
    path, expected = tmp_path / "a.mrc", field(SHAPE, TYPES[mode])
    save(path, expected.astype(expected.dtype.newbyteorder(order)))
    array, header = decode_with_header(path)
    np.testing.assert_array_equal(array, expected)
    window = (slice(1, 3), slice(0, 4), slice(2, 6))
    np.testing.assert_array_equal(open_window(path)(window), expected[window])
    assert header.shape == (1, *SHAPE)
    assert header.geometry == Geometry((1.368,) * 3, "nm")
    assert header.data_range == {2: (0, 1), 6: (0, 65535), 12: (0, 1)}.get(mode)
    assert times_of(path) is None


def test_a_single_section_is_an_image(tmp_path):
    path = save(tmp_path / "a.mrc", field(SHAPE[1:]))
    assert read_header(path).space == SHAPE[1:]
    assert read_header(path).geometry == Geometry((1.368, 1.368), "nm")
    with pytest.raises(ImageError, match="has no time axis: leave out #t=0"):
        decode(tmp_path / "a.mrc#t=0")


def test_voxels_of_an_impossible_size_have_no_spacing(tmp_path, monkeypatch):
    monkeypatch.setattr(errors, "_SAID", set())
    path = save(tmp_path / "a.mrc", field(SHAPE), cella=(1e38, 70, 60))
    with pytest.warns(ConformaskWarning, match=r"a.mrc states voxels of 1.667e\+36 nm: its spacing"):
        assert read_header(path).geometry is None


def test_a_stack_is_images_and_a_volume_one_image(tmp_path):
    array = field(SHAPE)
    for name, kind in (("stack.mrc", "stack"), ("volume.mrc", "volume")):
        save(tmp_path / name, array, kind)
    assert (times_of(tmp_path / "stack.mrc"), times_of(tmp_path / "volume.mrc")) == (4, None)
    np.testing.assert_array_equal(decode(tmp_path / "stack.mrc#t=2"), array[2])
    with pytest.raises(ImageError, match=r"stack.mrc has 4 time points: choose one, such as stack.mrc#t=0"):
        decode(tmp_path / "stack.mrc")


def test_axes_say_what_a_header_leaves_open(tmp_path):
    array = field(SHAPE)
    path = save(tmp_path / "a.mrc", array, "stack", mz=len(array))
    with pytest.raises(ImageError, match=r"says neither a volume nor a stack: name its axes, --axes ZYX"):
        decode(path)
    np.testing.assert_array_equal(decode(path, Reading(axes="ZYX")), array)
    assert times_of(path, Reading(axes="TYX")) == 4
    path.rename(tmp_path / "a.mrcs")
    path = save(tmp_path / "a.rec", array, "stack", mz=len(array))
    assert (times_of(tmp_path / "a.mrcs"), times_of(path)) == (4, None)
    with pytest.raises(ImageError, match="do not match the given axes YXC"):
        decode(path, Reading(axes="YXC"))


def test_a_stack_of_volumes(tmp_path):
    array = field((2, *SHAPE))
    path = save(tmp_path / "a.mrc", array)
    assert times_of(path) == 2
    np.testing.assert_array_equal(decode(tmp_path / "a.mrc#t=1"), array[1])
    save(path, array, mz=3)
    with pytest.raises(ImageError, match=r"has 8 sections, which are not volumes of 3 \(MZ\)"):
        read_header(tmp_path / "a.mrc#t=1")


def test_bytes_of_imod_are_unsigned_unless_it_says_signed(tmp_path):
    numbers = field(SHAPE, np.int8)
    for flags, dtype in ((0, np.uint8), (1, np.int8)):
        path = save(tmp_path / f"{flags}.mrc", numbers)
        content = bytearray(path.read_bytes())
        content[152:160] = np.array([1146047817, flags], "<i4").tobytes()
        path.write_bytes(content)
        np.testing.assert_array_equal(decode(path), numbers.view(dtype))
    assert read_header(tmp_path / "0.mrc").data_range == (0, 255)


def test_an_extended_header_is_skipped(tmp_path):
    array = field(SHAPE)
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(array)
        file.set_extended_header(np.ones(300, "u1"))
    np.testing.assert_array_equal(decode(tmp_path / "a.mrc"), array)
    assert read_header(tmp_path / "a.mrc").geometry is None


# damaged files


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": 4}, "has mode 4, complex numbers: modes 0, 1, 2, 6 and 12 are read"),
        ({"mode": 7}, "has mode 7, an unknown type"),
        ({"nx": 0}, r"states \[0, 5, 4\] columns, rows and sections: it is damaged"),
        (
            {"nx": 2**30},
            "has 1504 bytes, but its header states 85899346944[0-9]*: it is truncated; copy it again",
        ),
        ({"nx": 5}, "has 1504 bytes, but its header states 1424: its header is wrong; write it again"),
        ({"nsymbt": -8}, "it is damaged"),
        ({"nsymbt": 2**30}, "it is truncated"),
        ({"mapc": 3, "maps": 1}, r"stores its axes in the order \(3, 2, 1\)"),
        ({"map": b"NO"}, "is not an MRC2014 file"),
        ({"ispg": 300}, "space group 300"),
    ],
)
def test_damaged_headers_are_refused(change, message, tmp_path):
    path = save(tmp_path / "a.mrc", field(SHAPE), **change)
    with pytest.raises(ImageError, match=message) as caught:
        read_header(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 100, 1024, 1503])
def test_truncated_files_are_refused(size, tmp_path):
    path = save(tmp_path / "a.mrc", field(SHAPE))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ImageError, match="copy it again"):
        read_header(path)


def test_without_mrcfile_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = save(tmp_path / "a.mrc", field(SHAPE))
    monkeypatch.setitem(sys.modules, "mrcfile", None)
    monkeypatch.setitem(sys.modules, "mrcfile.dtypes", None)
    with pytest.raises(MissingFileError, match=re.escape(pip_install("mrc"))):
        decode(path)


# masks


@pytest.mark.parametrize("mode", TYPES)
def test_a_mask_has_the_header_of_its_image(mode, tmp_path):
    path = save(tmp_path / "a.mrc", field(SHAPE, TYPES[mode]), nxstart=7, mx=12)
    assert mask_suffix(".mrc", volume=True) == ".mrc"
    values = mask_over(path, tmp_path / "mask.mrc")
    np.testing.assert_array_equal(read_image(tmp_path / "mask.mrc")[0], values)
    with mrcfile.open(tmp_path / "mask.mrc") as file:
        np.testing.assert_array_equal(file.data, values)
        mask, image = file.header, header_of(path)
        for name in ("nx", "ny", "nz", "nxstart", "mx", "my", "mz", "cella", "origin", "ispg"):
            assert mask[name] == image[name], name
        assert (mask.dmin, mask.dmax) == (values.min(), values.max())
        assert np.allclose((mask.dmean, mask.rms), (values.mean(), values.std()), atol=1e-6)
    assert mrcfile.validate(tmp_path / "mask.mrc")
    assert read_header(tmp_path / "mask.mrc").geometry == read_header(path).geometry


def test_a_mask_of_one_image_of_a_stack_and_of_all(tmp_path):
    save(tmp_path / "a.mrc", field(SHAPE), "stack")
    plane = mask_over(tmp_path / "a.mrc#t=1", tmp_path / "plane.mrc")
    np.testing.assert_array_equal(read_image(tmp_path / "plane.mrc")[0], plane)
    film = np.random.default_rng(2).random((1, *SHAPE), np.float32)
    blocks = (((slice(t, t + 1), slice(0, 5), slice(0, 6)), film[:, t : t + 1]) for t in range(4))
    under = SourceImage(tmp_path / "a.mrc", None, PLAIN, is_film=True)
    write_blocks(tmp_path / "film.mrc", film.shape, blocks, under)
    assert times_of(tmp_path / "film.mrc") == 4
    np.testing.assert_array_equal(decode(tmp_path / "film.mrc#t=3"), film[0, 3])
    for name in ("plane.mrc", "film.mrc"):
        assert mrcfile.validate(tmp_path / name)
        assert read_header(tmp_path / name, Reading(axes="ZYX")).geometry is not None
    assert header_of(tmp_path / "film.mrc").origin == header_of(tmp_path / "a.mrc").origin


def test_a_mask_of_a_film_of_volumes(tmp_path):
    array = field((2, *SHAPE))
    path = save(tmp_path / "a.mrc", array)
    blocks = ((tuple(slice(0, side) for side in array.shape), array[None]) for _ in range(1))
    write_blocks(tmp_path / "m.mrc", (1, *array.shape), blocks, SourceImage(path, None, PLAIN, is_film=True))
    assert mrcfile.validate(tmp_path / "m.mrc")
    np.testing.assert_array_equal(decode(tmp_path / "m.mrc#t=1"), array[1])
    assert read_header(tmp_path / "m.mrc#t=1").geometry == Geometry((1.368,) * 3, "nm")


def test_labels_and_masks_over_other_types(tmp_path):
    path = save(tmp_path / "a.mrc", field(SHAPE, np.int16))
    labels = np.arange(120, dtype=np.uint16).reshape(1, *SHAPE)
    everywhere = [(tuple(slice(0, side) for side in SHAPE), labels)]
    write_blocks(
        tmp_path / "labels.mrc",
        labels.shape,
        iter(everywhere),
        SourceImage(path, None, PLAIN, is_labels=True),
    )
    np.testing.assert_array_equal(decode(tmp_path / "labels.mrc"), labels[0])
    under = SourceImage(None, Geometry((2.0, 1.0, 0.5), "nm"), PLAIN)
    write_blocks(tmp_path / "new.mrc", labels.shape, iter([(everywhere[0][0], labels / 120)]), under)
    assert read_header(tmp_path / "new.mrc").geometry == under.geometry
    with pytest.raises(ImageError, match="cannot store 3 channels: MRC has one"):
        write_blocks(tmp_path / "rgb.mrc", (3, *SHAPE), iter([]), under)
    assert not list(tmp_path.glob("*rgb*"))


# repeats


@pytest.mark.parametrize("ends", [("_even", "_odd"), ("_EVN", "_ODD"), ("_half1", "_half2"), ("_1", "_2")])
def test_halves_are_repeats_under_the_names_that_programs_give_them(ends, tmp_path):
    generator, clean = np.random.default_rng(0), np.full(SHAPE, 0.5, np.float32)
    halves = [generator.normal(clean, 0.01).astype(np.float32) for _ in ends]
    for folder, name, array in (
        ("x", "t1", clean),
        ("y_hat", "t1", clean),
        *(("repeats", f"t1{end}", half) for end, half in zip(ends, halves, strict=True)),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        save(tmp_path / folder / f"{name}.mrc", array)
    triplets = Triplets.from_folder(tmp_path)
    assert triplets.reference.repeats == 2
    np.testing.assert_allclose(triplets[0].y[0], (halves[0] + halves[1]) / 2, rtol=1e-6)
    (tmp_path / "repeats" / f"t1{ends[0]}.mrc").unlink()
    if ends[0] != "_1":
        assert Triplets.from_folder(tmp_path).reference.repeats == 1


@pytest.mark.parametrize(("shape", "kind"), [((4, 5, 6), "volume"), ((5, 6), "image")])
def test_outputs_have_the_header_of_their_input(shape, kind, tmp_path):
    (tmp_path / "x").mkdir()
    x = save(tmp_path / "x" / "a.mrc", field(shape), kind)
    assert add_outputs(tmp_path, CustomPredictor(lambda image: image / 2, "half", "1"), (0, 1)) == 1
    written = tmp_path / "y_hat" / "a.mrc"
    for entry in ("cella", "origin", "nx", "ny", "nz", "mx", "my", "mz", "ispg"):
        assert header_of(written)[entry] == header_of(x)[entry]
    images = Triplets.from_folder(tmp_path, (0, 1))
    np.testing.assert_allclose(images[0].y_hat, images[0].x / 2, atol=1e-6)
