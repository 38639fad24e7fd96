"""Verbs of the heart on real photographs and volumes, from data to masks."""

import csv
import json
import platform
import subprocess
import sys

import numpy as np
import pytest
import zarr
from scipy.ndimage import gaussian_filter, label

import conformask as cm
from conformask.images.read import read_image, write_image
from conformask.images.triplets import Triplets
from conformask.scores.untrained import Untrained
from real_images import packaged_photographs

TERMS = ("--threshold", "0.02", "--confidence", "0.8")


@pytest.mark.thorough
@pytest.mark.parametrize("scorer", ["packaged", "spread"])
def test_a_promise_without_training(conformask, own, scorer):
    data, run = own / "data", own / f"with-{scorer}"
    answer = conformask("calibrate", "--scorer", scorer, data, *TERMS, "--out", run)
    assert answer.status == 0
    assert answer.out.startswith("In at least 80 % of new tiles of these files, what stays visible is off by")
    assert answer.out.splitlines()[-1].startswith("P(l1 <= 0.02) >= 0.80 for ")
    assert not (run / "metrics.csv").exists()
    record = conformask("evaluate", run, data, "--json").record
    assert record["scorer"] == scorer
    assert conformask("mask", run, data, own / f"masks-{scorer}").status == 0
    stricter = conformask("recalibrate", run, "--threshold", "0.01", "--json").record
    assert stricter["formula"].startswith("P(l1 <= 0.01)")


def test_without_a_threshold_it_shows_what_thresholds_would_mean(conformask, own):
    asked = ("calibrate", "--scorer", "packaged", own / "data", "--confidence", "0.5")
    shown = conformask(*asked)
    assert shown.status == 0
    assert (
        "What a threshold on l1 would mean (marginal, confidence 0.5), on the selection images" in shown.out
    )
    assert f"calibrate --scorer packaged {own / 'data'} --threshold T --out RUN" in shown.out
    sizes = [choice["mask_size"] for choice in conformask(*asked, "--json").record["choices"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


@pytest.mark.thorough
def test_a_tenth_is_set_aside_where_the_images_are_not_split(conformask, own):
    """So that bounds, other thresholds and promises on a grid work after it."""
    run, data = own / "unsplit", own / "data"
    total = len(Triplets.from_folder(data))
    lines = csv.DictReader((data / "manifest.csv").read_text(encoding="utf-8").splitlines())
    with (data / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        kept = csv.DictWriter(file, ["x", "y_hat", "y"], extrasaction="ignore")
        kept.writeheader()
        kept.writerows(lines)
    answer = conformask("calibrate", "--scorer", "residual", data, *TERMS, "--out", run)
    aside, rest = round(total / 10), total - round(total / 10)
    assert (
        f"{aside} of the {total} images were set aside for choices that the {rest} calibration" in answer.out
    )
    assert f"like the {rest} calibration images" in answer.out
    images, selection = Triplets.from_folder(data).set_aside()  # the same in Python
    terms = {"threshold": 0.02, "promise": cm.Promise(confidence=0.8), "selection": selection}
    masker = cm.calibrate(Untrained("residual"), images, **terms)
    of_run = cm.load(run)
    assert (masker.card.calibrated_on, masker.card.rule) == (of_run.card.calibrated_on, of_run.card.rule)
    for promise in ("expected", "adaptive", "simultaneous"):
        again = conformask("calibrate", run, data, "--threshold", "0.02", "--guarantee", promise)
        assert again.status == 0, again.err


@pytest.mark.parametrize(
    "tokens", [("DATA", "--threshold", "0.02"), ("RUN", "DATA", "--threshold", "0.02", "--out", "NEW")]
)
def test_it_needs_data_and_a_new_folder(conformask, own, tokens):
    places = {"DATA": own / "data", "RUN": own / "run", "NEW": own / "new"}
    answer = conformask("calibrate", "--scorer", "packaged", *(places.get(token, token) for token in tokens))
    assert answer.status == 2
    assert "with --scorer packaged give DATA and --out" in answer.err


def test_out_is_for_scorers_without_training(conformask, own):
    answer = conformask("calibrate", own / "run", own / "data", *TERMS, "--out", own / "new")
    assert answer.status == 2
    assert "--out goes with --scorer" in answer.err


@pytest.mark.thorough
def test_training_says_what_it_is_worth_there_and_in_info_and_report(conformask, own):
    run = own / "tuned"
    answer = conformask("train", own / "data", run, "--epochs", "1", "--threshold", "q0.5")
    assert answer.status == 0
    comparison = conformask("info", run, "--json").record["comparison"]
    if comparison is None:
        assert "How well the score performs is not known" in answer.out
    else:
        for shown in (answer, conformask("info", run, "--research")):
            assert "its masks hide " in shown.out
            assert "a constant score" in shown.out.split(" would hide ", 1)[1]
        assert set(comparison) >= {"hidden", "interval", "others", "ratios", "oracle", "correlation"}
    conformask("calibrate", run, own / "data", *TERMS)
    conformask("evaluate", run, own / "data", "--report", own / "report.html")
    kept = json.loads((run / "evaluation.json").read_text())["comparison"]
    assert kept == comparison
    shown = " would hide " in (own / "report.html").read_text()
    assert shown is (comparison is not None)


WINDOW = ("--over", "local", "--window", "5", "--threshold", "0.1", "--confidence", "0.8")


@pytest.mark.thorough
def test_a_promise_about_windows(conformask, own):
    run, data = own / "run", own / "data"
    record = conformask("calibrate", run, data, *WINDOW, "--json").record
    assert record["loss"].items() >= {"loss": "l1", "over": "local", "window": 5, "regional": False}.items()
    assert record["family"] == {"name": "binary", "bounds": "largest", "kappa": 0.0}
    assert record["formula"].startswith("P(local(l1, 5 px) <= 0.1) >= 0.80 for ")
    evaluated = conformask("evaluate", run, data, "--report", own / "report.html", "--json").record
    assert (evaluated["card"]["loss"]["over"], evaluated["card"]["loss"]["window"]) == ("local", 5)
    report = (own / "report.html").read_text(encoding="utf-8")
    off = "the output is off by at most 10 % of the range (25.5 of 255)"
    assert f"around every pixel shown {off}, averaged over 5 x 5 pixels" in report
    assert "max {ē_j : m_j &gt; 0}, with e = |y − ŷ|" in report
    again = conformask("recalibrate", run, "--threshold", "0.2", "--json").record
    assert again["formula"].startswith("P(local(l1, 5 px) <= 0.2)")
    conformask("mask", run, data, own / "masks")
    with (own / "masks" / "sizes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert all(0 < float(row["bound"]) <= 1 for row in rows)


@pytest.mark.thorough
def test_masks_without_specks(conformask, own):
    run, data = own / "run", own / "data"
    command = ["calibrate", run, data, "--threshold", "0.02", "--confidence", "0.8", "--patches"]
    assert (
        "(how far masks open: binary in connected parts of at least 20 pixels; exact)"
        in conformask(*command, "20").out
    )
    assert "connected parts" in conformask("evaluate", run, data, "--report", own / "report.html").out
    report = " ".join((own / "report.html").read_text(encoding="utf-8").split())
    assert "The masks consist of connected parts of at least 20 pixels, shown or hidden." in report
    assert "Connected parts of a mask, on average" in report
    conformask("mask", run, data, own / "masks")
    for path in (own / "masks" / "masks").iterdir():
        shown = read_image(path)[0] > 0
        sizes = [np.bincount(label(each)[0].ravel())[1:] for each in (shown, ~shown)]
        assert np.concatenate(sizes).min() >= 20
    for wrong in ("1", "2mm", "2mm2"):
        assert conformask(*command, wrong).status == 1


@pytest.mark.thorough
def test_a_score_for_each_loss(conformask, own):
    tokens = ["train", own / "data", own / "missed", "--over", "missed", "--tolerance", "0.05"]
    record = conformask(*tokens, "--scorer", "error", "--width", "4", "--epochs", "1", "--json").record
    loss = record["loss"]
    assert (record["scorer"], loss["over"], loss["tolerance"]) == ("error", "missed", 0.05)
    chosen = conformask("thresholds", own / "missed")
    assert "What a threshold on missed(l1 > 0.05) would mean" in chosen.out
    promise = conformask(
        "calibrate", own / "missed", own / "data", "--threshold", "0.5", "--confidence", "0.8"
    )
    assert promise.out.splitlines()[-1].startswith("P(missed(l1 > 0.05) <= 0.5) >= 0.80")


@pytest.mark.thorough
def test_a_promise_about_regions(conformask, own):
    """The manifest names one region for each triplet; two thirds of each image do not count."""
    run, data = own / "run", own / "data"
    lines = (data / "manifest.csv").read_text(encoding="utf-8").splitlines()
    region = np.zeros((1, 32, 32), np.float32)
    region[:, :, 10:20] = 1
    write_image(data / "region.png", region)
    marked = [lines[0] + ",region", *(line + ",region.png" for line in lines[1:])]
    (data / "manifest.csv").write_text("\n".join(marked), encoding="utf-8")
    assert Triplets.from_folder(data).has_regions
    assert "promises are about them alone" in conformask("check", data).out
    record = conformask("calibrate", run, data, *WINDOW, "--json").record
    assert record["loss"]["regional"] is True
    assert record["formula"].startswith("P(local(l1, 5 px) in the region <= 0.1)")
    assert conformask("monitor", run, data).status == 0
    (data / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    refused = conformask("evaluate", run, data)
    assert (refused.status, "has none: add a folder region/" in refused.err) == (1, True)
    assert conformask("mask", run, data, own / "masks").status == 0, "masks need no region"


@pytest.mark.thorough
def test_the_caveat_of_ssim_stands_beside_its_promise(conformask, own):
    run, data = own / "run", own / "data"
    tokens = ["calibrate", run, data, "--loss", "ssim", "--threshold", "0.3", "--confidence", "0.8"]
    assert conformask(*tokens).out.splitlines()[-1].startswith("P(ssim <= 0.3)")
    conformask("evaluate", run, data, "--report", own / "report.html")
    for file in (own / "report.html", run / "CARD.md"):
        assert "A promise about ssim_map requires that." in file.read_text(encoding="utf-8")


def test_release_says_what_is_released_and_remembers_it(conformask, own):
    asked = ("release", own / "run", own / "data", "--share", "0.03")
    told = conformask(*asked, "--out", own / "released.csv")
    assert told.status == 0, told.err
    assert told.out.startswith(
        "Nothing is released: with 35 calibration images and a share of 0.03, at least "
    )
    assert "\n\nOf the images released under their masks, at most 3" in told.out
    record = conformask(*asked, "--json").record
    assert not any(image["released"] for image in record["images"])
    assert [power["share"] for power in record["power"]] == [0.01, 0.02, 0.03, 0.05, 0.1]
    with (own / "released.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [image["name"] for image in record["images"]]
    assert [row["released"] for row in rows] == [str(image["released"]) for image in record["images"]]
    again = conformask(*asked[:3], "--share", "0.2")
    assert again.status == 1
    assert "were judged before" in again.err


def test_out_is_a_new_csv_file_and_replaces_none(conformask, own):
    """Not even one of conformask's own, such as the calibration or the record of releases."""
    kept = [own / "run" / "calibration.json", own / "run" / "metrics.csv", own / "mine.csv"]
    kept[-1].write_text("mine", encoding="utf-8")
    before = [path.read_bytes() for path in kept]
    for path in (*kept, own / "run" / "released.json", own / "new", own / "run"):
        told = conformask("release", own / "run", own / "data", "--share", "0.1", "--out", path)
        assert told.status == 1
        assert ("is in the way" if path.suffix == ".csv" else "give the name of a CSV file") in told.err
    assert [path.read_bytes() for path in kept] == before
    assert not (own / "run" / "released.json").exists(), "nothing was judged"


def test_masks_say_what_is_released(conformask, own):
    names = [line["name"] for line in _test_part(own / "data" / "manifest.csv", own / "new")]
    told = conformask("mask", own / "run", own / "new", own / "masks", "--release", "0.03")
    assert told.status == 0, told.err
    assert f"of {len(names)} images have to be released together" in told.out
    assert "calibrate with more. Of the images released under their masks" in told.out
    with (own / "masks" / "sizes.csv").open(encoding="utf-8") as file:
        assert {row["released"] for row in csv.DictReader(file)} <= {"True", "False"}


def _test_part(manifest, folder):
    """Write a manifest of the test part, without y."""
    with manifest.open(encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["split"] == "test"]
    folder.mkdir()
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x", "y_hat", "name"])
        for line in lines:
            writer.writerow([*(manifest.parent / line[role] for role in ("x", "y_hat")), line["name"]])
    return lines


def new_images(data, out, *, factor):
    """x and y_hat of the test part, darker by a factor."""
    for triplet in Triplets.from_folder(data).part("test"):
        for role in ("x", "y_hat"):
            image = (factor * getattr(triplet, role)).astype(np.float32)
            write_image(out / role / f"{triplet.name}.png", image)
    return out


def test_masks_of_other_images_say_that_they_are_other_images(conformask, own):
    alike = new_images(own / "data", own / "alike", factor=1)
    record = conformask("mask", own / "run", alike, own / "masks", "--json").record
    assert record["shift"] is None
    dark = new_images(own / "data", own / "dark", factor=0.1)
    answer = conformask("mask", own / "run", dark, own / "masks-of-dark")
    assert answer.status == 0
    assert "SHIFTED: these images do not look like the calibration images (p = " in answer.out
    assert f"conformask monitor {own / 'run'} {dark} describes the change." in answer.out


AXES = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
LARGE = (1100, 96)


def write_zarr(path, image):
    described = {"axes": AXES, "datasets": [{"path": "0"}]}
    group = zarr.create_group(path, attributes={"ome": {"version": "0.5", "multiscales": [described]}})
    group.create_array("0", data=image, chunks=(1, 256, 256))


def halved(image, times):
    channels, height, width = image.shape
    return image.reshape(channels, height // times, times, width // times, times).mean(axis=(2, 4))


@pytest.fixture
def whole(own):
    """whole/ holds photographs of mixed sizes, new/ a large OME-Zarr; x is four times smaller."""
    for index, (name, pixels) in enumerate(packaged_photographs().items()):
        for turn in range(2):
            y = np.moveaxis(np.rot90(pixels, turn)[100 : 164 + 8 * (index % 4), 100:180] / 255, -1, 0)
            x = halved(y, 4)
            y_hat = x.repeat(4, axis=1).repeat(4, axis=2)
            for role, image in (("x", x), ("y_hat", y_hat), ("y", y)):
                write_image(own / "whole" / role / f"{name}{turn}.png", image)
    y_hat = np.random.default_rng(0).integers(0, 256, (3, *LARGE), dtype=np.uint8)
    write_zarr(own / "new" / "x" / "slide.ome.zarr", np.rint(halved(y_hat, 4)).astype(np.uint8))
    write_zarr(own / "new" / "y_hat" / "slide.ome.zarr", y_hat)
    return own


def test_calibrated_whole_it_masks_whole(conformask, whole):
    how = ("--threshold", "0.03", "--confidence", "0.8", "--tiled", "--json")
    calibrated = conformask("calibrate", whole / "run", whole / "whole", *how)
    assert calibrated.status == 0, calibrated.err
    assert "for whole images, like the" in calibrated.record["formula"]
    assert calibrated.record["tiles"] == [1024, 64]
    masked = conformask("mask", whole / "run", whole / "new", whole / "out", "--json")
    assert masked.status == 0
    assert "covers only whole images of 64 x 80 to 88 x 80 pixels, with sides up to 2 times" in masked.err
    written = zarr.open_group(whole / "out" / "masks" / "slide.ome.zarr", mode="r")["0"][:]
    assert written.shape == (1, *LARGE)
    assert masked.record["mask_size"] == pytest.approx(1 - written.mean() / 65535, abs=1e-4)
    recalibrated = conformask("recalibrate", whole / "run", "--threshold", "0.05", "--json")
    assert recalibrated.record["tiles"] == [1024, 64]
    assert conformask("evaluate", whole / "run", whole / "data").status == 0


def test_calibrated_on_tiles_it_warns(conformask, whole):
    masked = conformask("mask", whole / "run", whole / "new", whole / "out")
    assert masked.status == 0
    assert "covers only images of 32 x 32 pixels, not whole images scored by tiles" in masked.err
    assert (whole / "out" / "masks" / "slide.ome.zarr").is_dir()


def test_tiles_without_images_are_bad_usage(conformask, whole):
    answer = conformask("calibrate", whole / "run", "--threshold", "0.1", "--tiled")
    assert answer.status == 2
    assert (
        f"no DATA is given: for what needs no images, use conformask recalibrate {whole / 'run'}"
        in answer.err
    )


def test_a_missing_chunk_stops_it_at_once(conformask, whole):
    (whole / "new" / "y_hat" / "slide.ome.zarr" / "0" / "c" / "1" / "2" / "0").unlink()
    answer = conformask("mask", whole / "run", whole / "new", whole / "out", "--json")
    assert answer.status == 1
    assert answer.record.keys() == {"error"}
    assert "slide.ome.zarr is missing chunks c/1/2/0 of array '0'" in answer.err
    assert "Traceback" not in answer.err
    assert not (whole / "out").exists()


FAULTS = """
import resource, torch
from conformask.cli import keep_memory

def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
keep_memory()
faults()
print(before, faults())
"""


@pytest.mark.thorough
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to keep memory")
def test_layers_of_the_last_batch_are_kept_for_the_next():
    """A fresh page is a fault: without it, all of a layer of 16 MiB are, every time."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after < before / 100


AFFINE = np.array([[0.0, 0.0, 2.5, -20.0], [-1.0, 0.1, 0.0, 11.5], [0.1, 1.0, 0.0, 7.25], [0, 0, 0, 1]])
"""Oblique, with axes of its own order."""
LENGTHS = "7.5 x 5.025 x 5.025 mm"
"""True lengths of a window of 5 mm along the axes of AFFINE: odd numbers of pixels."""
SIZES = ((20, 22, 12), (21, 24, 12), (20, 26, 13), (23, 22, 11))


def volume(generator, size):
    smooth = gaussian_filter(generator.random(size), 2)
    return ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)


def write(path, values, dtype=np.float32):
    nibabel = pytest.importorskip("nibabel")
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(values.astype(dtype), AFFINE).to_filename(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two volumes of each of thirty subjects; outside a box they are NaN."""
    folder, generator = tmp_path_factory.mktemp("volumes"), np.random.default_rng(0)
    for subject in range(30):
        for session in range(2):
            y = volume(generator, SIZES[subject % len(SIZES)])
            x = y + 0.1 * generator.standard_normal(y.shape)
            y_hat = gaussian_filter(x, 0.7).clip(0, 1)
            y[:2], y_hat[:2] = np.nan, np.nan
            name = f"sub-{subject:02d}_ses-{session}.nii.gz"
            for role, values in {"x": x, "y_hat": y_hat, "y": y}.items():
                write(folder / role / name, values)
    return folder


READ = ("--clip", "x", "--nan", "outside", "--group-from", r"sub-(\d+)")


@pytest.fixture(scope="module")
def parts(data, tmp_path_factory):
    """The subjects in three folders."""
    made = {}
    for part, subjects in {"train": range(10), "calibration": range(10, 22), "test": range(22, 30)}.items():
        folder = made[part] = tmp_path_factory.mktemp(part)
        for role in ("x", "y_hat", "y"):
            (folder / role).mkdir()
            for path in (data / role).iterdir():
                if int(path.name[4:6]) in subjects:
                    (folder / role / path.name).symlink_to(path)
    return made


@pytest.mark.thorough
@pytest.mark.leaf("formats", "train", "view")
def test_a_promise_for_every_volume_of_a_new_subject(conformask, parts, tmp_path):
    import nibabel

    checked = conformask("check", parts["train"], *READ, "--json").record
    assert (checked["n"], checked["groups"], checked["has_regions"]) == (20, 10, True)
    assert checked["spacings"] == {"2.5 x 1.005 x 1.005 mm": 20}
    assert checked["orientations"] == {"PSR": 20}
    run, about = tmp_path / "run", ("--over", "local", "--window", "5mm")
    conformask("train", parts["train"], run, *READ, *about, "--width", "4", "--epochs", "1")
    record = conformask(
        "calibrate", run, parts["calibration"], *READ, "--threshold", "q0.3", "--unit", "group", "--json"
    ).record
    assert (record["loss"]["window"], record["loss"]["length"]) == ([3, 5, 5], LENGTHS)
    assert record["formula"].startswith(f"P(local(l1, {LENGTHS}) in the region <= ")
    assert record["n_groups"] == 12
    evaluated = conformask("evaluate", run, parts["test"], *READ, "--report", tmp_path / "r.html", "--json")
    assert evaluated.record["n_test"] == 16
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert f"{LENGTHS} (3 x 5 x 5 pixels)" in text
    assert ", largest error" in text
    masked = conformask("mask", run, parts["test"], tmp_path / "masks", *READ)
    assert masked.status == 0, masked.err
    for path in sorted((tmp_path / "masks" / "masks").iterdir()):
        image, under = nibabel.load(path), nibabel.load(parts["test"] / "y_hat" / path.name)
        np.testing.assert_array_equal(image.affine, under.affine)
        assert image.shape == under.shape
        values = image.get_fdata()
        assert 0 <= values.min() <= values.max() <= 1
    assert sum(1 for _ in (tmp_path / "masks" / "overlays").iterdir()) == 16


@pytest.mark.thorough
@pytest.mark.leaf("formats", "train")
def test_in_three_dimensions(conformask, parts, tmp_path):
    run = tmp_path / "run"
    tokens = ("train", parts["train"], run, *READ, "--volume-mode", "volume", "--width", "4", "--epochs", "1")
    assert conformask(*tokens).status == 0
    promised = conformask(
        "calibrate", run, parts["calibration"], *READ, "--threshold", "q0.3", "--unit", "group"
    )
    assert "over the region (hidden pixels count as no error)." in promised.out
    assert conformask("mask", run, parts["test"], tmp_path / "masks", *READ).status == 0


def test_a_network_is_told_of_planes_only_what_they_have(conformask, made, tmp_path):
    answer = conformask("train", made / "data", tmp_path / "run", "--volume-mode", "slices", "--epochs", "1")
    assert answer.status == 1
    assert "volume_mode 'slices' is for volumes, but these images are planes" in answer.err


def test_windows_as_lengths_need_a_spacing(conformask, made, tmp_path):
    for window, said in (
        ("5mm", "states no spacing; give the window in pixels"),
        ("5 furlongs", "or a length"),
    ):
        answer = conformask("train", made / "data", tmp_path / "r", "--over", "local", "--window", window)
        assert said in answer.err


@pytest.mark.leaf("formats", "make")
def test_outputs_of_a_network_lie_where_x_does(conformask, tmp_path, monkeypatch):
    (tmp_path / "smooth.py").write_text(
        "from scipy.ndimage import gaussian_filter\n"
        "def denoise(x):\n    return gaussian_filter(x, (0.5, 0.5, 0.5, 0))\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(1)
    for name in ("a", "b"):
        write(tmp_path / "d" / "x" / f"{name}.nii.gz", 100 * volume(generator, SIZES[0]))
    answer = conformask("triplets", tmp_path / "d", "--predictor", "smooth:denoise", "--data-range", 0, 100)
    assert answer.status == 0, answer.err
    import nibabel

    made = nibabel.load(tmp_path / "d" / "y_hat" / "a.nii.gz")
    given = nibabel.load(tmp_path / "d" / "x" / "a.nii.gz")
    np.testing.assert_array_equal(made.affine, given.affine)
    x = np.asarray(given.dataobj)
    np.testing.assert_allclose(made.get_fdata(), gaussian_filter(x, 0.5), atol=1e-3)
    checked = conformask("check", tmp_path / "d", "--data-range", 0, 100)
    assert checked.status == 0, checked.err
