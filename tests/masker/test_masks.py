"""A folder of masks: resumed never of two promises, whole at the end, by any number of processes."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

import conformask as cm
from conformask.cli import main
from conformask.errors import MismatchError, MissingFileError, OutputError
from conformask.images.read import read_image, write_image
from conformask.images.triplets import Triplets
from conformask.masker import mask_files, write as masks_module
from conformask.masker.calibrate import calibrate
from conformask.masker.folder import COLUMNS, MaskFolder, MaskRow
from conformask.masker.write import write_masks
from conformask.records.record import read_json, read_sealed, write_csv, write_json
from conformask.records.words import common_bound_text, measurement_text
from conformask.scores.scorer import Heuristic, Tiled
from synthetic_triplets import arrays, scale_of, triplets

SCORER = Heuristic(scale_of, channels=1)
N = 20


@pytest.fixture(scope="module")
def masker():
    """Of grey masks, whose values show how they are rounded."""
    return calibrate(
        SCORER, triplets(40, 0), selection=triplets(30, 1), threshold=0.03, loss="l1", family="grey"
    )


@pytest.fixture
def data(tmp_path):
    for role, images in zip(("x", "y_hat", "y"), arrays(N, 5), strict=True):
        for index, image in enumerate(images):
            write_image(tmp_path / "data" / role / f"{index:02d}.npy", image[..., 0][None])
    return tmp_path / "data"


def snapshot(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix}


def rows(folder):
    with (folder / "sizes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Killed(BaseException):
    pass


@pytest.fixture
def killed_after(monkeypatch):
    """Masks are written until so many are there."""

    def kill(count):
        original, seen = mask_files.write_blocks, iter(range(count))

        def write(*given, **how):
            if next(seen, None) is None:
                raise Killed
            return original(*given, **how)

        monkeypatch.setattr(mask_files, "write_blocks", write)

    yield kill
    monkeypatch.undo()


def test_what_lies_there_in_the_end(masker, data, tmp_path):
    written = write_masks(masker, Triplets.from_folder(data), tmp_path / "out")
    found = rows(tmp_path / "out")
    assert set(COLUMNS) - set(found[0]) == {"released", "p_value", "outlier"}, "which are empty for all"
    assert list(found[0]) == [name for name in COLUMNS if name in found[0]]
    assert [row["name"] for row in found] == [f"{index:02d}" for index in range(N)]
    claim = read_json(tmp_path / "out" / "masks.json")
    assert (claim["fingerprint"], claim["sentence"]) == (masker.fingerprint, masker.sentence)
    test = Triplets.from_folder(data)
    for row, triplet in zip(found, test, strict=True):
        mask = masker(triplet.x[0], triplet.y_hat[0])
        distance = np.mean(mask.astype(float) * np.abs(triplet.truth()[0].astype(float) - triplet.y_hat[0]))
        assert float(row["loss"]) == pytest.approx(distance, rel=1e-5)
        assert row["within"] == str(bool(distance <= 0.03 * (1 + 1e-6)))
        assert float(row["mask_size"]) == pytest.approx(1 - mask.mean(), abs=1e-6)
    assert written.measurement is not None
    assert written.measurement.n == N
    assert written.measurement.coverage == np.mean([row["within"] == "True" for row in found])


def test_masks_are_rounded_down(masker, data, tmp_path):
    """A mask that opens a little more than it was calibrated to would break the promise."""
    write_masks(masker, Triplets.from_folder(data), tmp_path / "out")
    below = []
    for triplet in Triplets.from_folder(data):
        expected = masker(triplet.x[0], triplet.y_hat[0]).astype(float)
        found = read_image(tmp_path / "out" / "masks" / f"{triplet.name}.png")[0].astype(float)
        below.append(expected - found)
        assert (found <= expected + 1e-7).all()
    assert np.concatenate(below).max() > 0.6 / 65535, "rounding to the nearest would not be seen"


@pytest.mark.quick(2)
@pytest.mark.parametrize("after", [0, 1, 7, N - 1])
def test_a_killed_run_goes_on(masker, data, tmp_path, killed_after, monkeypatch, after):
    killed_after(after)
    with pytest.raises(Killed):
        write_masks(masker, Triplets.from_folder(data), tmp_path / "out")
    monkeypatch.undo()
    made = []
    original = mask_files.write_blocks
    monkeypatch.setattr(
        mask_files, "write_blocks", lambda path, *a, **k: (made.append(path), original(path, *a, **k))
    )
    write_masks(masker, Triplets.from_folder(data), tmp_path / "out")
    assert len(made) == N - after
    write_masks(masker, Triplets.from_folder(data), tmp_path / "whole")
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")


def companions(folder, value):
    """An OME-TIFF of two planes, the second of which lies in another file."""
    names = ("a.ome.tif", ".second.ome.tif")
    uuids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{place}" for place in range(2)]
    planes = "".join(
        f'<TiffData IFD="0" FirstC="{c}" PlaneCount="1"><UUID FileName="{name}">{uuid}</UUID></TiffData>'
        for c, (name, uuid) in enumerate(zip(names, uuids, strict=True))
    )
    sides = 'DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="8" SizeZ="1" SizeC="2" SizeT="1"'
    space = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    for place, (name, uuid) in enumerate(zip(names, uuids, strict=True)):
        image = f'<Image ID="Image:0"><Pixels ID="Pixels:0" {sides}>{planes}</Pixels></Image>'
        xml = f'<?xml version="1.0"?><OME xmlns="{space}" UUID="{uuid}">{image}</OME>'
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8), value if place else 50, np.uint8)
        tifffile.imwrite(folder / name, pixels, description=xml, metadata=None, ome=False)


def test_an_image_of_several_files_is_another_where_one_of_them_changed(tmp_path):
    sources = []
    for value in (100, 200, 100):
        for role in ("x", "y_hat"):
            companions(tmp_path / role, value)
        triplets = Triplets.from_folder(tmp_path)
        assert triplets[0].x[1, 0, 0] == pytest.approx(value / 255)
        sources.append(triplets.source(0))
    assert sources[0] == sources[2] != sources[1]


def test_an_image_that_changed_is_masked_anew(masker, data, tmp_path):
    write_masks(masker, Triplets.from_folder(data), tmp_path / "out")
    x, y_hat, _ = arrays(1, 77)
    for role, image in (("x", x), ("y_hat", y_hat)):
        (data / role / "03.npy").unlink()
        write_image(data / role / "03.npy", image[0, ..., 0][None])
    before = snapshot(tmp_path / "out")
    write_masks(masker, Triplets.from_folder(data), tmp_path / "out")
    after = snapshot(tmp_path / "out")
    assert {name for name in after if after[name] != before[name]} == {
        "masks/03.png",
        "overlays/03.jpg",
        "sizes.csv",
    }


def test_sizes_that_the_promise_does_not_cover_are_recorded(masker, data, tmp_path):
    x, y_hat, y = arrays(1, 78)
    for role, image in (("x", x), ("y_hat", y_hat), ("y", y)):
        write_image(data / role / "small.npy", image[0, :-1, :, 0][None])
    with pytest.warns(UserWarning, match="the promise covers only"):
        written = write_masks(masker, Triplets.from_folder(data), tmp_path / "out")
    assert "small: images of" in written.notes[0]
    assert json.loads((tmp_path / "out" / "masks.json").read_text())["notes"] == list(written.notes)


def test_a_mask_or_overlay_that_is_gone_is_made_again(masker, data, tmp_path):
    write_masks(masker, Triplets.from_folder(data), tmp_path / "out")
    before = snapshot(tmp_path / "out")
    (tmp_path / "out" / "masks" / "03.png").unlink()
    (tmp_path / "out" / "overlays" / "04.jpg").unlink()
    write_masks(masker, Triplets.from_folder(data), tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


def test_masks_of_another_promise_are_never_mixed_in(masker, data, tmp_path, killed_after, monkeypatch):
    out = tmp_path / "out"
    write_masks(masker, Triplets.from_folder(data), out)
    before = snapshot(out)
    other = masker.recalibrate(threshold=0.02)
    with pytest.raises(MismatchError, match="of another promise: choose another folder, or use --overwrite"):
        write_masks(other, Triplets.from_folder(data), out)
    assert snapshot(out) == before
    killed_after(7)
    with pytest.raises(Killed):
        write_masks(other, Triplets.from_folder(data), out, overwrite=True)
    monkeypatch.undo()
    assert len(list((out / "masks").iterdir())) == 7
    assert read_json(out / "masks.json")["sentence"] == other.sentence
    write_masks(other, Triplets.from_folder(data), out)
    write_masks(other, Triplets.from_folder(data), tmp_path / "whole")
    assert snapshot(out) == snapshot(tmp_path / "whole")


def test_a_sentence_changed_by_hand_is_noticed_and_written_again(masker, data, tmp_path):
    write_masks(masker, Triplets.from_folder(data), tmp_path / "out")
    path = tmp_path / "out" / "masks.json"
    written = read_sealed(path)
    path.write_text(path.read_text().replace(" new images, ", " images of anything, "))
    with pytest.raises(MismatchError, match=r"masks.json is damaged, or is not the file that was written"):
        read_sealed(path)
    write_masks(masker, Triplets.from_folder(data), tmp_path / "out")
    assert read_sealed(path) == written
    assert written["sentence"] == masker.sentence


def test_masks_of_images_that_are_gone(masker, data, tmp_path):
    out = tmp_path / "out"
    write_masks(masker, Triplets.from_folder(data), out)
    some = Triplets.from_folder(data).select(range(5))
    with pytest.raises(MismatchError, match=r"contains masks of 15 other images, such as 05\.png"):
        write_masks(masker, some, out)
    write_masks(masker, some, out, overwrite=True)
    assert len(list((out / "masks").iterdir())) == len(list((out / "overlays").iterdir())) == 5
    write_masks(masker, Triplets.from_folder(data), out)
    assert len(rows(out)) == N, "more images are welcome"


@pytest.mark.parametrize("overwrite", [False, True])
def test_masks_that_no_record_claims_stay(masker, data, tmp_path, overwrite):
    out = tmp_path / "out"
    write_masks(masker, Triplets.from_folder(data), out)
    (out / "masks.json").unlink()
    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    with pytest.raises(OutputError, match=r"sizes\.csv is in the way"):
        write_masks(masker, Triplets.from_folder(data), out, overwrite=overwrite)
    assert {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()} == before


def test_without_truth_nothing_is_measured(masker, data, tmp_path):
    shutil.rmtree(data / "y")
    written = write_masks(masker, Triplets.from_folder(data), tmp_path / "out")
    assert written.measurement is None
    assert not {"loss", "within"} & set(rows(tmp_path / "out")[0])


def test_truth_that_comes_later_is_measured(masker, data, tmp_path):
    (data / "y").rename(tmp_path / "y")
    write_masks(masker, Triplets.from_folder(data), tmp_path / "out")
    (tmp_path / "y").rename(data / "y")
    assert write_masks(masker, Triplets.from_folder(data), tmp_path / "out").measurement is not None


@pytest.mark.quick(1)
@pytest.mark.leaf("watch")
@pytest.mark.parametrize("whole", [False, True])
def test_images_that_made_the_promise_are_no_test(whole, tmp_path, monkeypatch):
    """They are recognised by their pixels or their group, in one pass and by tiles."""
    from conformask.extras.watch.monitor import monitor

    if whole:
        monkeypatch.setattr(Tiled, "holds", lambda *_: False)
    groups = [f"g{index}" for index in range(20)]
    x, y_hat, y = arrays(40, 0)
    of_calibration = Triplets.from_arrays(x[:20], y_hat[:20], y[:20], groups=groups)
    masker = calibrate(SCORER, of_calibration, threshold=0.03, loss="l1", family="grey")
    names = [f"n{index}" for index in range(30)]
    new = Triplets.from_arrays(x[10:], y_hat[10:], y[10:], names=names, groups=[*names[:29], "g0"])
    written = write_masks(masker, new, tmp_path / "out")
    used = [row["used"] == "True" for row in rows(tmp_path / "out")]
    assert used == [True] * 10 + [False] * 19 + [True]
    assert (written.n_used, written.measurement.n) == (11, 19)
    losses = [float(row["loss"]) for row in rows(tmp_path / "out")]
    assert written.measurement.mean_loss == pytest.approx(np.mean(losses[10:29]))
    again = write_masks(masker, new, tmp_path / "out")
    assert again.measurement == written.measurement, "resumed"
    nothing_new = write_masks(masker, of_calibration, tmp_path / "old")
    assert (nothing_new.n_used, nothing_new.measurement) == (20, None)
    assert measurement_text(masker.card, None, n_used=20) == (
        "20 images with truth not measured: training, selection or calibration has seen them."
    )
    monitored = monitor(masker, new)
    assert (monitored.n_used, monitored.measurement.n) == (11, 19)
    without_y = Triplets.from_arrays(x[10:], y_hat[10:], names=names)
    written = write_masks(masker, without_y, tmp_path / "without")
    assert [row["used"] == "True" for row in rows(tmp_path / "without")] == [True] * 10 + [False] * 20
    assert (written.n_used, written.measurement, monitor(masker, without_y).n_used) == (10, None, 10)
    assert measurement_text(masker.card, None, n_used=1, has_truth=False) == (
        "1 image is not new: training, selection or calibration has seen it."
    )


def test_a_distance_without_its_weights_is_not_measured(masker, data, tmp_path, monkeypatch):
    def missing(*_):
        raise MissingFileError("no weights here")

    monkeypatch.setattr(type(masker.loss), "on", missing)
    with pytest.warns(UserWarning, match="not measured: no weights here"):
        assert write_masks(masker, Triplets.from_folder(data), tmp_path / "out").measurement is None


def test_names_that_a_spreadsheet_would_run_stand_behind_an_apostrophe(tmp_path):
    names = ["=1+1", "+a", "-5C", "@b", "'=c", "plain"]
    folder = MaskFolder(tmp_path)
    write_json(tmp_path / "masks.json", {"files": ["sizes.csv"]})
    lines = [MaskRow(name, 0.25, "00", 0.5, False, False) for name in names]
    folder.write(lines)
    assert [row["name"] for row in rows(tmp_path)] == ["'=1+1", "'+a", "'-5C", "'@b", "''=c", "plain"]
    assert list(folder.lines().values()) == lines
    image = np.zeros((1, 4, 4), np.float32)
    for name in names:
        write_image(tmp_path / "data" / "x" / f"{name}.npy", image)
    table = [{"name": name, "x": f"x/{name}.npy", "y_hat": f"x/{name}.npy", "group": name} for name in names]
    write_csv(tmp_path / "data" / "manifest.csv", table, list(table[0]))
    triplets = Triplets.from_folder(tmp_path / "data")
    assert triplets.names == triplets.groups == tuple(names)


def test_columns_that_are_empty_for_all_are_left_out_of_the_whole_file_alone(tmp_path):
    lines = [MaskRow("a", 0.25, "00", bound=0.5), MaskRow("b", 0.5, "11")]
    folder = MaskFolder(tmp_path)
    folder.claim({"fingerprint": ""}, [], overwrite=False)
    folder.write(lines)
    assert rows(tmp_path)[1] == {"name": "b", "mask_size": "0.500000", "source": "11", "bound": ""}
    assert list(folder.lines().values()) == lines
    folder.claim({"fingerprint": ""}, [], overwrite=False)
    assert tuple(rows(tmp_path)[0]) == COLUMNS, "lines to come may have all"
    folder.add(MaskRow("c", 0.5, "22", 0.125, True, False, outlier="x: darker"))
    assert list(folder.lines().values())[2].outlier == "x: darker"


def test_a_bound_that_all_images_have_is_explained(tmp_path):
    bounds = []
    for n in (20, 60):
        known, selection = triplets(40, 0), triplets(n, 1)
        masker = calibrate(SCORER, known, selection=selection, threshold=0.03, loss="l1")
        written = write_masks(masker, triplets(5, 2), tmp_path / f"{n}")
        bounds.append(written.bound)
        assert len({row["bound"] for row in rows(tmp_path / f"{n}")}) == (5 if n == 60 else 1)
    assert bounds == [pytest.approx(float(rows(tmp_path / "20")[0]["bound"])), None]
    text = common_bound_text(0.5, 1.0)
    assert text.endswith(" is 0.5 for every image: too few selection images to fit one to each.")
    assert common_bound_text(1.0, 1.0).endswith(
        "the largest value that the loss can have, so it says nothing."
    )


LINES = [MaskRow("a", 0.25, "00", 0.125, True), MaskRow("b, c", 0.5, "11")]


@pytest.mark.parametrize("torn", ["c,0.5", 'c,0.5,"', "c,0.5,22,0.1,Tr", "c"])
def test_a_torn_line_does_not_count(tmp_path, torn):
    write_json(tmp_path / "masks.json", {"files": ["sizes.csv"]})
    folder = MaskFolder(tmp_path)
    for line in LINES:
        folder.add(line)
    with (tmp_path / "sizes.csv").open("a") as file:
        file.write(torn)
    assert list(folder.lines().values()) == LINES
    folder.add(MaskRow("d", 0.5, "33"))
    assert set(folder.lines()) >= {"a", "b, c"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(masks_module, "BATCH_SIZE", 4)


COMMAND = Path(sys.executable).with_name("conformask")
SHARED = 53


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of the packaged network, and images of two sizes, so that batches differ."""
    folder = tmp_path_factory.mktemp("processes")
    generator = np.random.default_rng(0)
    y_hat = generator.random((30, 40, 40), dtype=np.float32)
    known = cm.Triplets.from_arrays(y_hat, y_hat, y_hat**2)
    cm.calibrate(cm.packaged_scorer(), known, threshold=0.05, loss="l1").save(folder / "run")
    for index in range(SHARED):
        side = 40 if index % 5 else 33
        for role in ("x", "y_hat"):
            image = generator.random((1, side, side), dtype=np.float32)
            write_image(folder / "data" / role / f"{index:02d}.png", image)
    main(["mask", str(folder / "run"), str(folder / "data"), str(folder / "alone")])
    return folder


def started(folder, out, *options):
    words: Sequence[str | Path] = ("mask", folder / "run", folder / "data", folder / out, *options)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([COMMAND, *map(str, words)], env=environment)


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("[!.]*") if p.is_file()}


def names(sizes):
    with sizes.open(newline="") as file:
        return [row["name"] for row in csv.DictReader(file)]


@pytest.mark.slow
def test_two_processes_write_the_same_masks_as_one(folder):
    assert started(folder, "two", "--devices", "2").wait() == 0
    assert len(files(folder / "alone")) == 2 * SHARED + 2
    assert files(folder / "two") == files(folder / "alone")


@pytest.mark.slow
def test_a_run_that_is_killed_ends_as_if_it_had_not_been(folder):
    sizes = folder / "killed" / "sizes.csv"
    process = started(folder, "killed")
    while process.poll() is None and (not sizes.exists() or len(names(sizes)) < 20):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert started(folder, "killed").wait() == 0
    assert names(sizes) == [f"{index:02d}" for index in range(SHARED)]
    assert files(folder / "killed") == files(folder / "alone")
