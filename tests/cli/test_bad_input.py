"""Bad input: each with its own error on standard error, exit status 1, and nothing half-written."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import conformask as cm
from conformask.images.read import pixel_hash, write_image
from conformask.images.triplets import Triplets
from conformask.masker.folder import MaskFolder
from conformask.records.record import LOCK, UNSEALED, hash_of, path_hash, write_json


def noise(seed, shape=(3, 32, 32)):
    return (np.random.default_rng(seed).integers(0, 256, shape) / 255).astype(np.float32)


def write_data(folder, count=12, shape=(3, 32, 32), suffix=".npy"):
    """Unsplit triplets of noise."""
    for index in range(count):
        for place, role in enumerate(("x", "y_hat", "y")):
            write_image(folder / role / f"{index:02d}{suffix}", noise(10 * index + place, shape))
    return folder


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "own_data")


@pytest.fixture
def refused(conformask):
    """Asserts that a command is refused in one line that holds all the words."""

    def check(tokens, *words):
        answer = conformask(*tokens)
        assert answer.status == 1, answer
        assert answer.out == ""
        assert "Traceback" not in answer.err
        assert answer.err.startswith("conformask: ")
        for word in words:
            assert str(word) in answer.err, answer.err

    return check


def snapshot(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {str(path): path.read_bytes() for path in files}


def calibrating(run, data, threshold="0.05", *more):
    return ["calibrate", run, data, "--threshold", threshold, *more]


INTO_A_FILE = (
    "check {data} --noise-plot {out}",
    "evaluate {run} {data} --report {out}.html",
    "export {run} {out}.onnx",
    "monitor {run} {data} --state {out}",
    "probe --predictor never_runs:f --out {out}.html",
    "release {run} {data} --out {out}.csv",
    "share {run} {data} --out {out}.html",
)
INTO_A_FOLDER = (
    "calibrate {data} --scorer residual --threshold 0.05 --out {out}",
    "export {run} {out} --format huggingface",
    "look {data}/x {data}/y_hat {data}/y --out {out}",
    "mask {run} {data} {out}",
    "predictor {data}/y {out} --task super_resolution --size 16",
    "split-counts {data}/x {out} --gain 1",
    "train {data} {out}",
    "triplets {data}/y {out} --task super_resolution --predictor bicubic --size 16",
)


@pytest.mark.parametrize(
    ("words", "way"),
    [
        *((words, "folder") for words in INTO_A_FILE),
        *((words, "in a file") for words in (*INTO_A_FILE, *INTO_A_FOLDER)),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(words, way, refused, made, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("it works first")

    for work in (
        "images.rows.TripletRow.read",
        "extras.make.triplets.TrueImages.__getitem__",
        "extras.noise.repeats._write",
        "extras.export.onnx.translate",
    ):
        monkeypatch.setattr(f"conformask.{work}", never)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "never_runs.py").write_text("def f(image):\n    raise SystemExit('it works first')\n")
    (tmp_path / "file").write_text("mine")
    out = tmp_path / ("file/out" if way == "in a file" else "out")
    if way == "folder":
        for suffix in ("", ".onnx", ".html", ".csv"):
            (tmp_path / f"out{suffix}").mkdir()
    tokens = words.format(data=made / "data", run=made / "run", out=out).split()
    refused(tokens, "is a folder" if way == "folder" else tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_missing_partner(refused, data):
    (data / "y_hat" / "03.npy").unlink()
    refused(["check", data], "x: 03.npy", "y_hat;", "add the missing files")


@pytest.mark.leaf("train")
def test_different_shapes(refused, data, tmp_path):
    np.save(data / "y" / "04.npy", noise(0, (32, 30, 3)))
    for verb in (["check", data], ["train", data, tmp_path / "run", "--epochs", "1"]):
        refused(verb, "'04'", "(3, 32, 30)", "(3, 32, 32)", "must be the same")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("value", "said"), [(np.nan, "contains NaN"), (np.inf, "contains infinite values")])
def test_nan_and_infinity(refused, data, value, said):
    spoilt = np.full((32, 32, 3), 0.5, np.float32)
    spoilt[3, 4, 1] = value
    np.save(data / "y_hat" / "05.npy", spoilt)
    refused(["check", data], "y_hat/05.npy", said, "replace")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_a_truncated_image(refused, tmp_path, suffix):
    data = write_data(tmp_path / "short", 3, suffix=suffix)
    path = data / "y" / f"01{suffix}"
    path.write_bytes(path.read_bytes()[:300])
    refused(["check", data], path, "truncated")


def test_an_unreadable_true_image(refused, made, tmp_path):
    shutil.copytree(made / "images", tmp_path / "images")
    (tmp_path / "images" / "broken.jpg").write_text("not a photograph")
    tokens = ["triplets", tmp_path / "images", tmp_path / "data", "--task", "super_resolution"]
    refused([*tokens, "--predictor", "bicubic", "--size", "32"], "broken.jpg", "cannot be read")
    assert not (tmp_path / "data").exists()


@pytest.mark.leaf("train")
def test_mixed_channels(refused, data, tmp_path):
    for role in ("x", "y_hat", "y"):
        np.save(data / role / "06.npy", noise(1, (32, 32)))
    for verb in (["check", data], ["train", data, tmp_path / "run", "--epochs", "1"]):
        refused(verb, "mixed channels", "06")


def test_values_outside_the_range(refused, data):
    np.save(data / "x" / "07.npy", np.full((32, 32, 3), 4.5, np.float32))
    refused(["check", data], "x/07.npy", "4.5", "(0, 1)", "--data-range")


@pytest.mark.leaf("make")
def test_empty_folders(refused, tmp_path):
    (tmp_path / "none").mkdir()
    refused(["check", tmp_path / "none"], tmp_path / "none", "x/", "manifest.csv")
    refused(["check", tmp_path / "nowhere"], "nowhere", "not a folder")
    tokens = ["triplets", tmp_path / "none", tmp_path / "data", "--task", "completion", "--size", "32"]
    refused([*tokens, "--predictor", "biharmonic"], "contains no images", ".png")


def test_a_calibration_set_too_small(refused, own, data):
    before = snapshot(own / "run")
    refused(calibrating(own / "run", data, "0.05", "--confidence", "0.99"), "12 images", "at least 99")
    assert snapshot(own / "run") == before


def test_images_that_were_trained_on(refused, own):
    manifest = own / "data" / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",train", ",test"))
    refused(["evaluate", own / "run", own / "data"], "used for training", "no step")
    manifest.write_text(manifest.read_text().replace(",test", ",calibration"))
    refused(calibrating(own / "run", own / "data"), "scorer or the predictor", "neither has seen")


def test_images_that_the_predictor_was_trained_on(refused, own):
    provenance = own / "data" / "triplets.json"
    record = json.loads(provenance.read_text())
    calibration = Triplets.from_folder(own / "data").part("calibration")
    provenance.write_text(json.dumps({**record, "trained_on": [pixel_hash(t.truth()) for t in calibration]}))
    refused(calibrating(own / "run", own / "data"), "predictor", "neither has seen")


@pytest.mark.thorough
def test_another_size_or_number_of_channels(refused, made, tmp_path):
    small = write_data(tmp_path / "small", shape=(3, 24, 24))
    grey = write_data(tmp_path / "grey", shape=(1, 32, 32))
    refused(calibrating(made / "run", small), "24 x 24", "32 x 32", "cm.Tiled(scorer)")
    refused(["evaluate", made / "run", small], "24 x 24", "32 x 32")
    refused(calibrating(made / "run", grey), "3 channels", "1")
    refused(["mask", made / "run", grey, tmp_path / "out"], "3 channels", "1")
    assert not (tmp_path / "out").exists()


def reseal(run, change):
    """Write a changed calibration.json and seal it anew, as only a newer or a broken conformask would."""
    path = run / "calibration.json"
    record = {key: v for key, v in json.loads(path.read_text()).items() if key not in UNSEALED}
    record["files"] = {name: path_hash(run / name) for name in record["files"]}
    write_json(path, {**change(record), "seal": hash_of(change(record))})


def test_losses_that_are_none(refused, conformask, made):
    calibrate = ["calibrate", made / "run", made / "data", "--threshold=0.1"]
    refused([*calibrate, "--loss=ssim", "--over=local", "--window=5"], "ssim_map")
    refused([*calibrate, "--over=local"], "needs a window")
    refused([*calibrate, "--over=missed", "--tolerance=-1"], "tolerance", "at least 0")
    for verb in ("recalibrate", "thresholds"):
        answer = conformask(verb, made / "run", "--over=local", "--window=5")
        assert (answer.status, "Unknown option: --over" in answer.err) == (2, True)


@pytest.mark.quick(3)
@pytest.mark.parametrize("threshold", ["0", "-1", "nan", "inf", "abc", "q0", "q2", "q"])
def test_bad_thresholds(refused, made, threshold):
    refused(["calibrate", made / "run", made / "data", f"--threshold={threshold}"], "threshold", "above 0")
    refused(["recalibrate", made / "run", f"--threshold={threshold}"], "threshold", "above 0")


@pytest.mark.quick(2)
@pytest.mark.parametrize("confidence", ["0", "1", "1.5", "-0.1", "nan"])
def test_bad_confidences(refused, made, confidence):
    for tokens in (
        calibrating(made / "run", made / "data"),
        ["thresholds", made / "run"],
        ["recalibrate", made / "run"],
    ):
        refused([*tokens, f"--confidence={confidence}"], "confidence", "between 0 and 1")
    refused(["check", made / "data", f"--confidence={confidence}"], "confidence", "between 0 and 1")


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), PermissionError(errno.EACCES, "denied")]
)
def test_a_write_that_fails_leaves_nothing(refused, own, monkeypatch, error):
    def full(*_, **__):
        raise error

    before = snapshot(own / "run")
    monkeypatch.setattr(Path, "replace", full)
    out = own / "out"
    refused(["mask", own / "run", own / "data", out], "cannot write", out, error.strerror, "another folder")
    refused(["recalibrate", own / "run", "--threshold", "0.1"], "cannot write", own / "run")
    refused(["train", own / "data", own / "new", "--width", "4", "--epochs", "1"], own / "new")
    refused(["evaluate", own / "run", own / "data"], "cannot write", own / "run")
    assert snapshot(own / "run") == before
    assert not snapshot(out)
    assert not snapshot(own / "new")


def test_an_output_below_a_file(refused, own):
    below = own / "file" / "sub"
    below.parent.write_text("I am a file")
    refused(["mask", own / "run", own / "data", below], "cannot write", below)
    refused(["train", own / "data", below, "--width", "4", "--epochs", "1"], "cannot write", below)
    report = ["--report", below / "report.html"]
    refused(["evaluate", own / "run", own / "data", *report], "cannot write", below)


@pytest.mark.parametrize("file", ["scorer.json", "calibration.json"])
def test_a_newer_schema(refused, own, file):
    path = own / "run" / file
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    refused(["info", own / "run"], path, "99", "upgrade")
    told = ["99", "upgrade"] if file == "calibration.json" else ["not the file that was written"]
    refused(["mask", own / "run", own / "data", own / "out"], path, *told)


@pytest.mark.parametrize("content", ["{garbage", "[]", "{}", '"text"', '{"schema": "new"}'])
@pytest.mark.parametrize("file", ["scorer.json", "calibration.json"])
def test_a_damaged_record(refused, own, file, content):
    (own / "run" / file).write_text(content)
    refused(["mask", own / "run", own / "data", own / "out"], own / "run" / file)


@pytest.mark.parametrize("file", ["scorer.safetensors", "curves-*.npz", "critical-*.npz", "selection.npz"])
def test_damaged_arrays(refused, own, file):
    (path,) = (own / "run").glob(file)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(["mask", own / "run", own / "data", own / "out"], path, "damaged")
    path.write_bytes(b"")
    refused(["mask", own / "run", own / "data", own / "out"], path, "damaged")
    assert not (own / "out").exists()


@pytest.mark.parametrize("file", ["scorer.safetensors", "curves-*.npz", "scorer.json"])
def test_a_missing_file_of_a_run(refused, own, file):
    (path,) = (own / "run").glob(file)
    path.unlink()
    refused(["mask", own / "run", own / "data", own / "out"], path)


def test_what_is_no_run_folder(refused, made, tmp_path):
    for tokens in (
        ["info", tmp_path],
        ["thresholds", tmp_path],
        ["recalibrate", tmp_path, "--threshold", "0.1"],
        ["mask", tmp_path, made / "data", tmp_path / "out"],
        ["evaluate", tmp_path / "nowhere", made / "data"],
    ):
        refused(tokens, tokens[1])


def test_a_run_that_is_not_calibrated(refused, own):
    (own / "run" / "calibration.json").unlink()
    for tokens in (["mask", own / "run", own / "data", own / "out"], ["evaluate", own / "run", own / "data"]):
        refused(tokens, own / "run", "calibrate it first")
    for change in (["--guarantee", "pac"], ["--threshold", "0.1"]):
        refused(["recalibrate", own / "run", *change], own / "run", "no calibration", "conformask calibrate")
    assert not (own / "out").exists()


@pytest.mark.leaf("train")
def test_train_needs_the_truth(refused, data, tmp_path):
    shutil.rmtree(data / "y")
    refused(["train", data, tmp_path / "run", "--epochs", "1"], "no y")


def test_nothing_is_overwritten(refused, made):
    tiles = ["--task", "super_resolution", "--predictor", "bicubic", "--size", "32"]
    refused(["triplets", made / "images", made / "data", *tiles], "already contains triplets")
    refused(
        ["train", made / "data", made / "run", "--width", "4", "--epochs", "1"], "already contains a training"
    )


def test_a_saved_masker_is_not_trained_over(refused, made, tmp_path):
    cm.load(made / "run").save(tmp_path / "masker")
    before = snapshot(tmp_path / "masker")
    refused(["train", made / "data", tmp_path / "masker", "--epochs", "1"], "masker contains scorer.json")
    assert snapshot(tmp_path / "masker") == before


@pytest.mark.thorough
def test_two_processes_do_not_share_a_folder(refused, own):
    """One that trains, calibrates, evaluates or writes masks there is waited for."""
    (own / "out").mkdir()
    commands = {
        "new": ["train", own / "data", own / "new", "--epochs", "1", "--width", "4"],
        "run": calibrating(own / "run", own / "data"),
        "out": ["mask", own / "run", own / "data", own / "out"],
    }
    commands["run/"] = ["evaluate", own / "run", own / "data"]
    hold = "import sys; from pathlib import Path; from conformask.records.record import exclusive_folder\n"
    hold += "with exclusive_folder(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    for folder, command in commands.items():
        holder = subprocess.Popen(
            [sys.executable, "-c", hold, own / folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        before = snapshot(own / folder)
        refused(command, "is being written by process", holder.pid, "wait, or choose another")
        assert snapshot(own / folder) == before
        holder.communicate()


@pytest.mark.leaf("train")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seed", "-1"], "seed = -1"),
        (["--width", "0"], "width = 0"),
        (["--devices", "x"], "devices = x: give auto, or a number up to"),
        (["--devices", "4099"], "devices = 4099: give auto, or a number"),
        (["--nodes", "0"], "nodes = 0"),
        (["--max-minutes", "nan"], "max_minutes = nan"),
        (["--learning-rate", "inf"], "learning_rate = inf"),
        (["--batch-size", "0"], "batch_size = 0"),
        (["--epochs", "0"], "epochs = 0"),
        (["--patience", "-3"], "patience = -3"),
    ],
)
def test_bad_plans_are_refused_before_any_work(refused, data, tmp_path, options, words):
    refused(["train", data, tmp_path / "run", *options], words)
    assert not (tmp_path / "run").exists()


def test_bad_devices_of_a_calibration(refused, own):
    refused(calibrating(own / "run", own / "data", "0.05", "--devices", "4099"), "devices = 4099")


@pytest.mark.parametrize("size", [("0", "8"), ("-8", "8"), ("32", "0"), ("32", "-8")])
def test_tiles_without_pixels(refused, made, tmp_path, size):
    tiles = [f"--size={size[0]}", f"--stride={size[1]}", "--task", "super_resolution"]
    refused(
        ["triplets", made / "images", tmp_path / "data", "--predictor", "bicubic", *tiles], "at least 1 pixel"
    )
    refused(["predictor", made / "images", tmp_path / "net", *tiles], "at least 1 pixel")


@pytest.mark.leaf("train")
@pytest.mark.parametrize("count", ["1.5", "1e3", "0x1", "two", ""])
def test_what_is_no_whole_number_is_bad_usage(conformask, data, tmp_path, count):
    for option in ("--epochs", "--patience", "--batch-size", "--seed", "--width", "--nodes"):
        answer = conformask("train", data, tmp_path / "run", option, count)
        assert answer.status == 2, option
        assert f"{count!r} is not a whole number" in " ".join(f"{answer.out} {answer.err}".split())
    answer = conformask("plan", "--n", count)
    assert answer.status == 2
    assert f"{count!r} is not a whole number" in " ".join(answer.out.split()) + " ".join(answer.err.split())


def test_a_report_that_is_a_folder_is_bad_usage(conformask, own):
    before = snapshot(own / "run")
    answer = conformask("evaluate", own / "run", own / "data", "--report", own)
    assert answer.status == 2
    assert "name must end with .html" in answer.err
    assert snapshot(own / "run") == before, "said before any work"


@pytest.mark.thorough
@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_a_terminal_that_is_not_utf_8(made, encoding):
    """The table of thresholds has bars, which neither encoding holds."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "OMP_NUM_THREADS": "1"}
    command = [Path(sys.executable).with_name("conformask"), "thresholds", made / "run"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"\\u2588" in done.stdout


@pytest.mark.thorough
def test_a_damaged_checkpoint(refused, own):
    checkpoint = own / "run" / "checkpoints" / "last.ckpt"
    settings = ["--scorer", "mask", "--width", "4", "--epochs", "1", "--resume"]
    train = ["train", own / "data", own / "run", *settings]
    content = checkpoint.read_bytes()
    for damaged in (b"", b"nothing", content[:-100], content[:500] + b"x" + content[501:]):
        checkpoint.write_bytes(damaged)
        refused(train, checkpoint, "is damaged")


def test_another_predictor_or_task(refused, made, tmp_path):
    tokens = ["triplets", made / "images", tmp_path / "data", "--size", "32", "--task", "colorization"]
    refused([*tokens, "--predictor", "biharmonic"], "completion")
    refused([*tokens, "--predictor", tmp_path / "nowhere"], "nowhere")
    refused([*tokens, "--predictor", "bicubics"], "bicubics")


def test_check_warns_of_what_spoils_a_promise(conformask, data):
    for role in ("x", "y_hat", "y"):
        shutil.copy(data / role / "00.npy", data / role / "11.npy")
    lines = ["x,y_hat,y,group,split"]
    for index in range(12):
        split = "calibration" if index > 8 else "train"
        lines.append(",".join([f"{role}/{index:02d}.npy" for role in ("x", "y_hat", "y")] + ["g1", split]))
    (data / "manifest.csv").write_text("\n".join(lines))
    record = conformask("check", data, "--json").record
    told = "\n".join(record["warnings"])
    assert record["duplicates"] == [["00", "11"]]
    assert "identical images lies in different parts, for example 00 and 11" in told
    assert "1 group is in more than one part, for example 'g1'" in told
    assert "one image per group" in told
    assert "3 calibration images: this confidence needs at least 9" in told
    (data / "manifest.csv").unlink()
    unsplit = conformask("check", data, "--json").record
    assert unsplit["parts"] == {}
    assert len(unsplit["warnings"]) == 1
    assert "1 pair of identical images, for example 00 and 11" in unsplit["warnings"][0]


def test_weights_of_another_network(refused, own):
    card = own / "run" / "scorer.json"
    card.write_text(card.read_text().replace('"width": 4', '"width": 8'))
    reseal(own / "run", lambda record: record)
    path = own / "run" / "scorer.safetensors"
    refused(["mask", own / "run", own / "data", own / "out"], path, "another network")


def test_info_tells_no_promise_of_a_masker_that_was_tampered_with(conformask, own):
    card = own / "run" / "calibration.json"
    assert conformask("info", own / "run", "--json").record["formula"].startswith("P(l1 <= ")
    record = json.loads(card.read_text())
    card.write_text(json.dumps({**record, "rule": {"kind": "constant", "lam": 0.5}}))
    answer = conformask("info", own / "run", "--json")
    assert answer.status == 1
    told = json.loads(answer.out)
    assert told["sentence"] is None
    assert f"{card} is damaged, or is not the file that was written with the others" in told["void"]
    assert "written with the others: do not rely on it" in conformask("info", own / "run").out


@pytest.mark.parametrize("rule", [{}, {"lam": "wide"}, {"lam": []}])
def test_a_damaged_rule(refused, own, rule):
    reseal(own / "run", lambda record: {**record, "rule": {"kind": "constant", **rule}})
    refused(["mask", own / "run", own / "data", own / "out"], "lam: it is damaged", "again")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("how", "gone"),
    [
        ("removed", "out/masks"),
        ("renamed", "run"),
        ("removed", "data/x"),
        *(
            pytest.param(how, gone, marks=pytest.mark.slow)
            for how, gone in (
                ("removed", "out"), ("renamed", "out"), ("renamed", "out/masks"),
                ("removed", "out/sizes.csv"), ("renamed", "out/sizes.csv"), ("renamed", "data/x"),
                ("removed", "run"),
            )
        ),
    ],
)  # fmt: skip
def test_what_goes_while_masks_are_written(conformask, own, monkeypatch, gone, how):
    """Half of the images are masked when somebody takes something away; the next run ends well."""
    path, written = own / gone, []

    def add(folder, line):
        written.append(line)
        if len(written) == 20:
            path.rename(own / "elsewhere") if how == "renamed" else (
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            )
        return added(folder, line)

    added = MaskFolder.add
    monkeypatch.setattr(MaskFolder, "add", add)
    for role in ("x", "y_hat"):
        for image in list((own / "data" / role).iterdir()):
            for copy in range(2):
                shutil.copy(image, image.with_name(f"{image.stem}_{copy}.png"))
    shutil.rmtree(own / "data" / "y")
    (own / "data" / "manifest.csv").unlink()
    answer = conformask("mask", own / "run", own / "data", own / "out")
    assert "Traceback" not in answer.err
    assert answer.status in (0, 1), answer.err
    monkeypatch.undo()
    if gone.startswith("out"):
        again = conformask("mask", own / "run", own / "data", own / "out")
        assert again.status == 0, again.err
        names = {line.split(",")[0] for line in (own / "out" / "sizes.csv").read_text().splitlines()[1:]}
        assert names == {image.stem for image in (own / "data" / "x").iterdir()}
        assert names == {mask.stem for mask in (own / "out" / "masks").iterdir()}
