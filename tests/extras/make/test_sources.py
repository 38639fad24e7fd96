"""Triplets of a task by a killed run, several processes and an interrupted one: what one alone writes."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from conformask.cli import main
from conformask.errors import ImageError, InvalidArgumentError, MissingFileError
from conformask.extras.make.look import COLOUR, packaged_photographs
from conformask.extras.make.tasks import SuperResolution
from conformask.extras.make.triplets import Source, TrueImages, write_triplets
from conformask.images.read import read_image, write_image
from conformask.images.rows import PARTS, part_of

SHARED = Path(__file__).parents[4] / "shared" / "data"


def field(height=40, width=50, channels=1, dtype=np.uint8, seed=0):
    top = np.iinfo(dtype).max
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, top, shape, endpoint=True).astype(dtype)


def names(images):
    return [source.name for source in images.sources]


def test_tiles_are_cut_without_resizing():
    array = field()
    images = TrueImages.from_arrays({"f": array}, 16, 16)
    assert names(images) == [f"f_r{row:02d}_c{column:02d}" for row in range(2) for column in range(3)]
    source, tile = images[4]
    assert source == Source("f_r01_c01", "f", "f", part_of("f"), (16, 16))
    assert tile.dtype == np.float32
    np.testing.assert_array_equal(tile[0], (array[16:32, 16:32] / 255).astype(np.float32))


def test_overlapping_tiles():
    images = TrueImages.from_arrays({"f": field()}, 16, 8)
    assert len(images) == 4 * 5
    np.testing.assert_array_equal(images[0][1][:, :, 8:], images[1][1][:, :, :8])
    assert {source.group for source in images.sources} == {"f"}
    TrueImages.from_arrays({"f": field()}, 16, 8, split="within")


def test_the_tile_is_its_own_group_where_tiles_are_dealt():
    arrays = {f"f{index}": field(64, 64) for index in range(30)}
    for split in ("within", "tile"):
        images = TrueImages.from_arrays(arrays, 8, 8, split=split)
        assert all(source.group == source.name for source in images.sources)
    images = TrueImages.from_arrays(arrays, 8, 8)
    assert {source.part == part_of(source.file) for source in images.sources} == {True}


def test_parts_do_not_depend_on_the_other_files_and_cover_all():
    arrays = {f"f{index}": field(32, 32) for index in range(60)}
    few = dict(list(arrays.items())[:20])
    for split in ("file", "within", "tile"):
        many = {source.name: source for source in TrueImages.from_arrays(arrays, 16, 16, split=split).sources}
        for source in TrueImages.from_arrays(few, 16, 16, split=split).sources:
            assert many[source.name] == source
    images = TrueImages.from_arrays(arrays, 16, 16)
    parts = [images.part(name) for name in PARTS]
    assert sorted(name for part in parts for name in names(part)) == sorted(names(images))
    assert images.select([3, 1]).sources == (images.sources[3], images.sources[1])


def test_without_a_stride_the_short_side_is_resized_and_the_centre_cut():
    ramp = np.tile(np.linspace(0, 255, 120).astype(np.uint8), (60, 1))
    source, image = TrueImages.from_arrays({"ramp": ramp}, 30)[0]
    assert source.name == source.file == source.group == "ramp"
    assert source.box is None
    assert image.shape == (1, 30, 30)
    assert image[0, 0, 0] == pytest.approx(0.25, abs=0.02)
    assert image[0, 0, -1] == pytest.approx(0.75, abs=0.02)


def test_the_size_of_the_file_is_only_cut():
    array = field(32, 40)
    np.testing.assert_array_equal(
        TrueImages.from_arrays({"a": array}, 32)[0][1][0], (array[:, 4:36] / 255).astype(np.float32)
    )


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 16)])
def test_images_are_rounded_to_the_bits_of_their_file(tmp_path, dtype, bits):
    images = TrueImages.from_arrays({"a": field(64, 64, 3, dtype)}, 24)
    assert images.bits == bits
    levels = images[0][1].astype(np.float64) * (2**bits - 1)
    assert np.abs(levels - np.rint(levels)).max() < 0.01
    if bits == 16:
        assert np.abs(levels / 257 - np.rint(levels / 257)).max() > 0.1


def test_a_given_range_keeps_16_bits():
    images = TrueImages.from_arrays({"a": np.full((8, 8), 100, np.uint8)}, 8, data_range=(0, 200))
    assert images.bits == 16
    assert images[0][1].max() == pytest.approx(0.5, abs=1e-4)


def test_a_folder_is_read_with_the_folders_in_it(tmp_path):
    write_image(tmp_path / "b.png", np.zeros((1, 20, 20)))
    write_image(tmp_path / "deep" / "er" / "a.tif", np.ones((1, 20, 20)), bits=16)
    images = TrueImages.from_folder(tmp_path, 16)
    assert names(images) == ["b", "deep__er__a"]
    assert images.bits == 16
    assert [image.mean() for _, image in images] == [0, 1]
    write_image(tmp_path / "b.tif", np.zeros((1, 20, 20)))
    with pytest.raises(ImageError, match="would both be called 'b'"):
        TrueImages.from_folder(tmp_path, 16)
    with pytest.raises(MissingFileError):
        TrueImages.from_folder(tmp_path / "none", 16)


def test_a_file_is_decoded_once_for_its_tiles(tmp_path, monkeypatch):
    for name in "ab":
        write_image(tmp_path / f"{name}.png", np.zeros((1, 20, 20)))
    images = TrueImages.from_folder(tmp_path, 5, 5)
    read = []
    monkeypatch.setattr(
        "conformask.extras.make.triplets.image_and_header",
        lambda path, *_: (read.append(path.stem) or np.zeros((1, 20, 20), np.float32), None),
    )
    assert len(list(images)) == 32
    assert read == ["a", "b"]


def test_images_that_are_too_small(tmp_path):
    write_image(tmp_path / "tiny.png", np.zeros((1, 20, 12)))
    for stride in (None, 4):
        with pytest.raises(ImageError, match=r"tiny\.png is 20 x 12 pixels, smaller than 16 x 16"):
            TrueImages.from_folder(tmp_path, 16, stride)


def test_mixed_channels():
    arrays = {"grey": field(20, 20), "colour": field(20, 20, 3)}
    with pytest.raises(ImageError, match="mixed channels: 'colour' has 3, but 'grey' has 1"):
        TrueImages.from_arrays(arrays, 16)
    images = TrueImages.from_arrays(arrays, 16, colour=True)
    assert images.channels == 3
    grey = images[0][1]
    assert grey.shape == (3, 16, 16)
    assert (grey[0] == grey[2]).all()
    assert TrueImages.from_arrays({"grey": field(20, 20)}, 16, colour=True).channels == 1
    with pytest.raises(ImageError, match="mixed channels"):
        TrueImages.from_arrays({**arrays, "two": field(20, 20, 2)}, 16, colour=True)


def of(images, *cut, part=None, **more):
    made = TrueImages.from_arrays(images, *cut, **more)
    return [made.part(name) for name in part or ()]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: of({"a": field()}, 0), "size 0"),
        (lambda: of({"a": field()}, 4, 0), "stride 0"),
        (lambda: of({"a": field()}, 4, split="slide"), "'slide' is unknown"),
        (lambda: of({"f": field()}, 16, 8, split="tile"), "stride 8 below size 16 makes tiles overlap"),
        (lambda: of({"f": field()}, 16, part=PARTS), "part is empty: 1 groups"),
        (lambda: of({"f": field()}, 16, part=["all"]), "'all' is unknown"),
        (lambda: of({}, 4), "empty"),
        (lambda: of({"a/b": field()}, 4), "a/b"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(InvalidArgumentError, match=message):
        call()


def test_packaged_photographs_are_real_and_in_colour():
    photographs = packaged_photographs()
    assert len(photographs) == 12
    assert all(photo.dtype == np.uint8 and photo.shape[2] == 3 for photo in photographs.values())
    assert all(min(photo.shape[:2]) >= 300 and photo.std() > 10 for photo in photographs.values())
    for name in COLOUR:
        photo = photographs[Path(name).stem].astype(int)
        assert np.abs(photo[..., 0] - photo[..., 2]).mean() > 3
    tiles = TrueImages.from_arrays(photographs, 64, 64, split="tile")
    assert len(tiles) > 600
    assert min(len(tiles.part(name)) for name in PARTS) > 40


@pytest.mark.parametrize(
    ("folder", "count", "channels", "stride"), [("photos", 1366, 3, None), ("cells", 38 * 7 * 8, 1, 128)]
)
def test_real_folders(folder, count, channels, stride):
    if not (SHARED / folder).is_dir():
        pytest.skip(f"{SHARED / folder} is not here")
    images = TrueImages.from_folder(SHARED / folder, 128, stride, colour=channels == 3)
    assert len(images) == count
    assert images.channels == channels
    assert images.bits == 8
    assert images[5][1].shape == (channels, 128, 128)


def test_making_images_smaller_leaves_no_aliases():
    checkerboard = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    image = TrueImages.from_arrays({"a": checkerboard}, 20)[0][1]
    np.testing.assert_allclose(image[:, 3:-3, 3:-3], 0.5, atol=0.03)


# Triplets of a task by a killed run, several processes and an interrupted one: what one alone writes


COMMAND = Path(sys.executable).with_name("conformask")
NETWORK = """
import os
import signal
from pathlib import Path

import numpy as np


def enlarge(x):
    if Path("deadly").exists() and len(list(Path("killed/y").glob("[!.]*"))) > 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.kron(x, np.ones((4, 4, 1), np.float32))
"""
TILES = 40
"""Three batches."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    image = np.random.default_rng(0).random((3, 128, 80), dtype=np.float32)
    write_image(tmp_path / "images" / "0.png", image)
    (tmp_path / "network_of_processes.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(out):
    cut = ["--size", "16", "--stride", "16", "--split", "tile"]
    return [
        *("triplets", "images", out, "--task", "super_resolution"),
        *("--predictor", "network_of_processes:enlarge", *cut),
    ]


def status(*words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([COMMAND, *words], env=environment, check=False).returncode


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("[!.]*") if p.is_file()}


@pytest.mark.slow
def test_two_processes_resume_a_killed_run(folder):
    main(words("alone"))
    (folder / "deadly").touch()
    assert status(*words("killed")) == -signal.SIGKILL
    (folder / "deadly").unlink()
    assert not (folder / "killed" / "manifest.csv").exists()
    times = {path: path.stat().st_mtime_ns for path in (folder / "killed" / "y").glob("[!.]*")}
    assert status(*words("killed"), "--devices", "2") == 0
    assert len(files(folder / "alone")) == 3 * TILES + 2
    assert files(folder / "killed") == files(folder / "alone")
    assert {path: path.stat().st_mtime_ns for path in times} == times, "what is there is not written again"


class Enlarging:
    """Stopped by hand at one of its batches."""

    name, fingerprint, trained_on = "enlarging", None, ()

    def __init__(self, stopped_at=None):
        self.batches, self.stopped_at = 0, stopped_at

    def __call__(self, x):
        self.batches += 1
        if self.batches == self.stopped_at:
            raise KeyboardInterrupt
        return torch.nn.functional.interpolate(x, scale_factor=4)


def test_only_what_would_be_the_same_is_kept(folder):
    def write(out, size, network):
        images = TrueImages.from_folder("images", size, 16, "tile")
        return write_triplets(images, out, task=SuperResolution(), predictor=network)

    with pytest.raises(KeyboardInterrupt):
        write("stopped", 16, Enlarging(stopped_at=3))
    shutil.copytree("stopped", "smaller")
    same, smaller = Enlarging(), Enlarging()
    assert write("stopped", 16, same) == TILES
    assert 1 <= same.batches <= 2, "what is there is not predicted again"
    assert write("smaller", 8, smaller) == TILES
    assert smaller.batches == 3
    assert {read_image(path).shape for path in Path("smaller/y").iterdir()} == {(3, 8, 8)}
