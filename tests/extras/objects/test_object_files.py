"""Labels, tables and outlines of the objects that masks show, read back by other code."""

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.measure import points_in_poly

import conformask as cm
from conformask.cli import main
from conformask.errors import MissingFileError, OutputError
from conformask.extras.objects.files import ObjectFiles
from conformask.images.formats import SourceImage
from conformask.images.read import read_image
from conformask.records.geometry import Geometry
from conformask.records.reading import PLAIN
from conformask.records.sentence import rounded_share
from object_worlds import SCORER, objects

UNDER = SourceImage(None, Geometry((0.5, 0.25), "µm"), PLAIN)


def write_folder(folder: Path, count: int, seed: int, suffix: str = ".tif") -> dict[str, np.ndarray]:
    images = objects(count, seed)
    folders = {
        "x": "x", "y_hat": "y_hat", "y": "y", "labels": "cells/y_hat", "y_labels": "cells/y",
    }  # fmt: skip
    for role, name in folders.items():
        (folder / name).mkdir(parents=True)
        for place, image in enumerate(images[role]):
            stored = image.astype(np.uint16) if "labels" in role else image
            tifffile.imwrite(folder / name / f"f{place:02d}{suffix}", stored)
    return images


def calibrated(folder: Path, loss: cm.Objects) -> cm.Masker:
    images = cm.Triplets.from_folder(folder, reading=cm.Reading(objects="cells"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return cm.calibrate(SCORER, images, threshold=0.5, loss=loss)


def covered(feature: dict, shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie in the polygons of a feature, holes left out."""
    centres = np.indices(shape).reshape(2, -1).T + 0.5
    inside = np.zeros(len(centres), bool)
    for outline, *holes in feature["geometry"]["coordinates"]:
        part = points_in_poly(centres[:, ::-1], outline)
        for hole in holes:
            part &= ~points_in_poly(centres[:, ::-1], hole)
        inside |= part
    return inside.reshape(shape)


@pytest.mark.parametrize(("density", "count"), [(0.3, 3), (0.9, 3), (0.8, 1)])
def test_outlines_hold_exactly_the_pixels_of_their_objects(
    density: float, count: int, tmp_path: Path
) -> None:
    generator = np.random.default_rng(int(100 * density))
    # speckle has single pixels, parts that touch by corners, and, where it is one object, holes
    labels = generator.integers(1, count + 1, (12, 17)) * (generator.random((12, 17)) < density)
    score = labels / 10
    files = ObjectFiles.of(tmp_path, "a", Path("a.png"), 2)
    (tmp_path / "objects").mkdir()
    (tmp_path / "labels").mkdir()
    files.write("a", "slide", labels, score, (score < 0.25).astype(float), UNDER)
    assert files.outlines is not None
    collection = json.loads(files.outlines.read_text())
    assert collection["type"] == "FeatureCollection"
    assert [feature["properties"]["name"] for feature in collection["features"]] == ["1", "2", "3"][:count]
    for number, feature in enumerate(collection["features"], start=1):
        assert np.array_equal(covered(feature, labels.shape), labels == number)
        kind = "trusted" if number < 3 else "hidden"
        assert feature["properties"]["classification"]["name"] == kind
        assert feature["properties"]["objectType"] == "detection"
        pixels = int((labels == number).sum())
        assert feature["properties"]["measurements"] == {
            "score": number / 10, "pixels": pixels, "area µm²": pixels / 8,
        }  # fmt: skip


def test_masks_come_with_labels_tables_and_outlines(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "data", 40, 1)
    masker = calibrated(tmp_path / "data", cm.Objects("missed"))
    triplets = cm.Triplets.from_folder(tmp_path / "data", reading=masker.card.reading)
    cm.write_masks(masker, triplets, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "objects.csv").open()))
    trusted = 0
    for place in range(40):
        labels, name = images["labels"][place], f"f{place:02d}"
        own = {int(row["id"]): row for row in rows if row["image"] == name}
        assert sorted(own) == sorted(set(labels.astype(int).ravel()) - {0})
        shown = np.zeros(labels.shape, np.uint16)
        for number, row in own.items():
            pixels = np.argwhere(labels == number)
            score = float(images["x"][place][tuple(pixels[0])])
            assert float(row["score"]) == pytest.approx(score, rel=1e-6)
            assert [float(row[axis]) for axis in "yx"] == pytest.approx(pixels.mean(axis=0), abs=1e-3)
            assert [int(row[f"{axis}_min"]) for axis in "yx"] == pixels.min(axis=0).tolist()
            assert [int(row[f"{axis}_max"]) for axis in "yx"] == (pixels.max(axis=0) + 1).tolist()
            assert (int(row["pixels"]), row["area"], row["unit"]) == (len(pixels), "", "")
            is_trusted = np.float32(score) < np.float32(masker.rule.lam)
            assert row["trusted"] == str(is_trusted)
            shown[labels == number] = number * is_trusted
            trusted += is_trusted
        stored = tifffile.imread(tmp_path / "out" / "labels" / f"{name}.tif")
        assert stored.dtype == np.uint16
        assert np.array_equal(stored, shown)
    assert 0 < trusted < len(rows)


@pytest.mark.thorough
@pytest.mark.leaf("view")
def test_objects_are_spoken_of_in_the_numbers_and_words_of_their_user(tmp_path: Path) -> None:
    """Of objects with a confidence, which is 1 in the background; nothing is said of pixels."""
    known, new = tmp_path / "known", tmp_path / "new"
    for folder, seed in ((known, 1), (new, 2)):
        images = write_folder(folder, 40, seed)
        (folder / "confidence").mkdir()
        for place, x in enumerate(images["x"]):
            tifffile.imwrite(folder / "confidence" / f"f{place:02d}.tif", 1 - x)
    reading = cm.Reading(objects="cells", cues="confidence")
    calibration, test = (cm.Triplets.from_folder(folder, reading=reading) for folder in (known, new))
    with warnings.catch_warnings(record=True) as caught:
        masker = cm.calibrate(
            cm.Given("trusted"), calibration, threshold="30%", loss=cm.Objects("missed"),
            promise=cm.Promise(object_name="nucleus"),
        )  # fmt: skip
    assert not [each for each in caught if "pixels" in str(each.message)]
    cut = masker.scorer.shown_text(masker.card.rule.lam)
    assert cut.startswith("Shown are the objects whose mean map is above 0.")
    cm.write_masks(masker, test, tmp_path / "out")
    for row in csv.DictReader((tmp_path / "out" / "objects.csv").open()):
        labels = images["labels"][int(row["image"][1:])]
        confidence = float(1 - images["x"][int(row["image"][1:])][labels == int(row["id"])].mean())
        assert float(row["score"]) == pytest.approx(confidence, abs=1e-6)
        assert row["trusted"] == str(confidence > float(cut.rstrip(".").split()[-1]) + 1e-4)
    evaluation = cm.evaluate(masker, test)
    page = cm.write_report(evaluation, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "at most 30 % of the wrong nuclei are shown (IoU below 0.5)." in page
    assert evaluation.hidden_text.startswith(
        f"{rounded_share(evaluation.mask_size)} of the nuclei of an image"
    )
    for of_pixels in ("better pixels", "onnected parts", "mean |y"):
        assert of_pixels not in page.split("</style>")[1].split("<h3>The numbers")[0]


def test_a_second_run_makes_what_is_missing_and_leaves_what_is_not_ours(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", 20, 1)
    masker, out = calibrated(tmp_path / "data", cm.Objects("any")), tmp_path / "out"
    triplets = cm.Triplets.from_folder(tmp_path / "data", reading=masker.card.reading)
    cm.write_masks(masker, triplets, out)
    labels = out / "labels" / "f03.tif"
    before, pixels = (
        {path: path.stat().st_mtime_ns for path in out.rglob("*.geojson")},
        tifffile.imread(labels),
    )
    table = (out / "objects.csv").read_text()
    labels.unlink()
    cm.write_masks(masker, triplets, out)
    changed = {path.stem for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"f03"}
    assert np.array_equal(tifffile.imread(labels), pixels)
    assert (out / "objects.csv").read_text() == table
    (tmp_path / "other" / "labels").mkdir(parents=True)
    (tmp_path / "other" / "labels" / "mine.tif").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"mine\.tif"):
        cm.write_masks(masker, triplets, tmp_path / "other")


@pytest.mark.leaf("formats")
def test_labels_of_a_volume_keep_their_values_in_nifti(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 300, (3, 4, 5)).astype(np.uint16)
    source = tmp_path / "y_hat.nii.gz"
    image = nibabel.Nifti1Image(generator.random((5, 4, 3), np.float32), np.diag([2, 3, 4, 1.0]))
    nibabel.save(image, source)
    files = ObjectFiles.of(tmp_path, "a", Path("a.nii.gz"), 3)
    assert files.outlines is None
    for folder in ("labels", "objects"):
        (tmp_path / folder).mkdir()
    geometry = Geometry((4.0, 3.0, 2.0), "mm")
    under, ones = SourceImage(source, geometry, PLAIN), np.ones(labels.shape)
    files.write("a", "p", labels, 0 * ones, ones, under)
    stored = nibabel.load(files.labels)
    assert np.array_equal(np.asarray(stored.dataobj).T, labels)
    assert np.array_equal(stored.affine, np.diag([2, 3, 4, 1.0]))
    row = next(csv.DictReader(files.table.open()))
    assert (row["volume"], row["unit"]) == (str(24.0 * int(row["pixels"])), "mm³")
    assert np.allclose(read_image(files.labels, cm.Reading((0, 1000)))[0] * 1000, labels)


@pytest.mark.leaf("view")
def test_the_command_line_promises_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path / "data", 40, 1)
    write_folder(tmp_path / "new", 20, 2)
    data, new, run = (tmp_path / name for name in ("data", "new", "run"))
    options = ["--scorer", "residual", "--objects", "cells", "--over", "any", "--iou", "0.6"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert main(["calibrate", str(data), *options, "--threshold", "0.5", "--out", str(run)]) in (0, None)
        assert "P(any(objects, IoU < 0.6) <= 0.5) >= 0.90" in capsys.readouterr().out
        assert main(["mask", str(run), str(new), str(tmp_path / "out")]) in (0, None)
        assert "of 20 images kept it" in capsys.readouterr().out
        report = tmp_path / "report.html"
        assert main(["evaluate", str(run), str(new), "--report", str(report)]) in (0, None)
    out = capsys.readouterr().out
    assert "objects of the reference the network lacks" in out
    assert "objects of the reference the network lacks" in report.read_text()
    with pytest.raises(SystemExit):
        main(["calibrate", str(data), *options, "--tolerance", "2"])
    assert "--tolerance is about pixels" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["calibrate", str(data), "--scorer", "residual", "--iou", "0.6"])
    assert "--iou goes with --objects" in capsys.readouterr().err


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", 20, 1)
    with pytest.raises(MissingFileError, match="components"):
        cm.Triplets.from_folder(tmp_path / "data", reading=cm.Reading(objects="nuclei"))
    (tmp_path / "data" / "cells" / "y" / "f07.tif").unlink()
    with pytest.raises(MissingFileError, match="f07"):
        cm.Triplets.from_folder(tmp_path / "data", reading=cm.Reading(objects="cells"))


def test_new_images_need_labels_of_the_output_alone(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", 20, 1)
    masker = calibrated(tmp_path / "data", cm.Objects("any"))
    for path in (tmp_path / "data" / "cells" / "y").iterdir():
        path.unlink()
    (tmp_path / "data" / "cells" / "y").rmdir()
    new = cm.Triplets.from_folder(tmp_path / "data", reading=masker.card.reading)
    written = cm.write_masks(masker, new, tmp_path / "out")
    assert written.measurement is None
    assert not new.has("y_labels")
    assert (tmp_path / "out" / "objects.csv").exists()
