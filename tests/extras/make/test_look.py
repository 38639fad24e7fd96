"""conformask look: three folders, nothing else."""

import csv
import io
import json
import re
import shutil
from html import escape
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

import conformask as cm
from conformask.errors import ImageError, InvalidArgumentError, OutputError
from conformask.extras.make import verbs as verb
from conformask.extras.make.probe import Probe
from conformask.extras.view.sliders import promise_status
from conformask.images.read import read_image, write_image
from conformask.images.rows import Provenance
from conformask.records.reading import Network
from conformask.records.words import comparison_text
from screens import stopped

ROLES = ("x", "y_hat", "y")


def write(folder, count, name="{:03d}"):
    """Noisy images, smoothed, in folders that are called as people call them."""
    generator = np.random.default_rng(0)
    folders = [folder / each for each in ("noisy", "denoised", "clean")]
    for index in range(count):
        y = np.cumsum(generator.random((1, 24, 24), np.float32), axis=2) / 24
        x = (y + generator.uniform(0.02, 0.2) * generator.standard_normal(y.shape)).clip(0, 1)
        y_hat = (x + np.roll(x, 1, axis=2) + np.roll(x, -1, axis=2)) / 3
        for place, image in zip(folders, (x, y_hat, y), strict=True):
            write_image(place / f"{name.format(index)}.png", image.astype(np.float32))
    return folders


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write(tmp_path_factory.mktemp("three"), 60)


def hidden_by_alternative(out):
    """What the promise about each place would hide, and this one, by masks of a calibration by hand."""
    data, masker = cm.Triplets.from_folder(out / "data"), cm.load(out / "run")
    local = cm.calibrate(
        cm.packaged_scorer(), data.part("calibration"), threshold=masker.card.threshold,
        loss=cm.Local("l1", 9), selection=data.part("selection"),
    )  # fmt: skip
    masks = [[np.asarray(each(triplet)) for triplet in data.part("calibration")] for each in (local, masker)]
    return [100 - 100 * np.mean(of_masker) for of_masker in masks]


@pytest.mark.thorough
def test_from_three_folders_to_a_tested_promise(conformask, folders, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(verb, "is_attended", lambda: True)
    monkeypatch.setattr(verb, "open_viewer", lambda masker, shown, **how: opened.append((masker, shown, how)))
    out = tmp_path / "first"
    answer = conformask("look", *folders, "--out", out)
    assert answer.status == 0, answer.err
    masker = cm.load(out / "run")
    assert (out / "report.html").is_file()
    (viewed,) = opened
    assert viewed[0].sentence == masker.sentence
    assert viewed[2]["with_promise"] is False, "which is printed already"
    test = cm.Triplets.from_folder(out / "data").part("test")
    assert viewed[1].names == test.names
    sizes = {triplet.name: 1 - float(np.mean(np.asarray(masker(triplet)))) for triplet in test}
    assert sizes[viewed[2]["image"]] == max(sizes.values())
    measured = cm.evaluate(masker, test)
    kept = round(21 * measured.coverage)
    *before, alternative, next_step, mask, train, split, learn, again, report = answer.out.splitlines()
    said = re.fullmatch(
        r"The same threshold around every pixel that is shown \(--over local --window 9\) would hide "
        r"([\d.]+) % of the calibration images, of which this promise hides ([\d.]+) %",
        alternative,
    )
    assert [float(share) for share in said.groups()] == pytest.approx(hidden_by_alternative(out), abs=1)
    assert before == [
        f"{'●' * kept}{'○' * (21 - kept)}  {kept} of 21 test images {measured.kept_text.split('images ')[1]}",
        masker.sentence,
        masker.card.choice_text,
        measured.hidden_text,
    ]
    assert [next_step, mask, train, split, learn, again, report] == [
        "Next, for new images in x/ and y_hat/ of a folder NEW:",
        f"conformask mask {out / 'run'} NEW masks",
        "To hide less, train a score on a part of these images, and calibrate it on others:",
        f"conformask split {out / 'data'}",
        f"conformask train {out / 'data'} {out / 'trained'} --threshold {masker.card.threshold:.4g}",
        f"conformask calibrate {out / 'trained'} {out / 'data'} --threshold {masker.card.threshold:.4g}",
        f"Report: {out / 'report.html'}",
    ]
    assert measured.comparison is not None
    assert measured.comparison.part == "test", "8 selection images are too few to compare scores on"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert escape(comparison_text(measured.comparison, best=False)) in page
    assert f"<title>{escape(masker.sentence)}" in page
    assert f"<code>{escape(masker.formula)}</code>" in page
    with (out / "data" / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {Path(row["y_hat"]).parent for row in rows} == {folders[1]}
    assert sorted(row["name"] for row in rows) == [f"{index:03d}" for index in range(60)]
    parts = {part: {row["name"] for row in rows if row["split"] == part} for part in ("calibration", "test")}
    assert not parts["calibration"] & parts["test"]
    shown = conformask("thresholds", out / "run")
    assert shown.status == 0, shown.err
    assert "on the calibration images:" in shown.out
    assert (
        "A threshold that is chosen on these images, which calibrated the masks, is exploratory" in shown.out
    )
    again = conformask("look", *folders, "--out", out, "--threshold", "0.05", "--json")
    record, masker = json.loads(again.out), cm.load(out / "run")
    assert (record["sentence"], record["formula"]) == (masker.sentence, masker.formula)
    assert record["parts"] == {"calibration": 31, "selection": 8, "test": 21}
    assert cm.load(out / "run").card.threshold == 0.05


@pytest.mark.thorough
def test_the_network_that_made_the_outputs_is_known(conformask, folders, tmp_path):
    data = tmp_path / "data"
    for role, folder in zip(ROLES, folders, strict=True):
        shutil.copytree(folder, data / role)
    Provenance(network=Network("net.pt", "abc")).save(data)
    for y_hat, network in (("y_hat", Network("net.pt", "abc")), ("others", None)):
        (data / "y_hat").rename(data / y_hat)
        answer = conformask(
            "look", data / "x", data / y_hat, data / "y", "--out", tmp_path / y_hat, "--no-browser"
        )
        assert answer.status == 0, answer.err
        assert cm.load(tmp_path / y_hat / "run").card.network == network


OPTIONS = {
    "maps": (("--score-from", "maps", "--higher", "trusted"), "maps", "at most 3 % of the range"),
    "local": (("--over", "local", "--window", "3"), "x", "around every pixel shown"),
    "labels": (("--objects", "labels"), "labels", "at most 3 % of the objects shown"),
    "components": (("--objects", "components:0.3", "--over", "any"), "x", "no wrong object is shown"),
}


@pytest.mark.thorough
@pytest.mark.parametrize("case", OPTIONS)
def test_maps_losses_and_objects_as_calibrate_takes_them(conformask, folders, tmp_path, case):
    options, beside, words = OPTIONS[case]
    data = {role: tmp_path / role for role in ROLES}
    for folder, role in zip(folders, ROLES, strict=True):
        shutil.copytree(folder, data[role])
    for index in range(60):
        y_hat = read_image(data["y_hat"] / f"{index:03d}.png")
        (tmp_path / "maps").mkdir(exist_ok=True)
        np.save(tmp_path / "maps" / f"{index:03d}.npy", -np.abs(np.gradient(y_hat[0], axis=1)))
        for role in ("y_hat", "y"):
            (tmp_path / "labels" / role).mkdir(exist_ok=True, parents=True)
            np.save(tmp_path / "labels" / role / f"{index:03d}.npy", (y_hat[0] > 0.3).astype(np.uint8))
    answer = conformask(
        "look", *data.values(), "--out", tmp_path / "out", "--no-browser", "--threshold", "3%", *options
    )
    assert answer.status == 0, answer.err
    assert words in cm.load(tmp_path / "out" / "run").sentence
    assert beside == "x" or f"for new images in x/, {beside}/ and y_hat/" in answer.out
    again = conformask("evaluate", tmp_path / "out" / "run", tmp_path / "out" / "data", "--json")
    assert (again.status, again.record["n_test"]) == (0, 21), "the list of files names all of them"


def test_a_warning_is_said_once(conformask, folders, tmp_path):
    _, y_hat, y = folders
    answer = conformask("look", y, y_hat, y, "--out", tmp_path / "swapped", "--no-browser")
    assert (answer.out + answer.err).count("are x and y_hat swapped?") == 1


def test_the_threshold_is_said_to_be_chosen_where_the_promise_is_read(conformask, folders, tmp_path):
    chosen = "Threshold chosen by conformask: half of your selection images meet it without a mask"
    assert conformask("look", *folders, "--out", tmp_path, "--no-browser").status == 0
    assert chosen in (tmp_path / "run" / "CARD.md").read_text(encoding="utf-8")
    assert chosen in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert chosen in promise_status(cm.load(tmp_path / "run").card).text
    selection = cm.Triplets.from_folder(tmp_path / "data").part("selection")
    losses = [np.abs(each.y - each.y_hat).mean() for each in selection]
    assert cm.load(tmp_path / "run").card.threshold == pytest.approx(np.median(losses))
    stated = conformask("recalibrate", tmp_path / "run", "--threshold", "0.05")
    assert "chosen by conformask" not in stated.out


def test_another_score_and_a_threshold_that_needs_no_mask(conformask, folders, tmp_path):
    terms = ("--out", tmp_path, "--no-browser", "--scorer", "spread", "--threshold", "50%")
    answer = conformask("look", *folders, *terms)
    assert answer.status == 0, answer.err
    assert cm.load(tmp_path / "run").scorer.name == "spread"
    assert (
        "Nothing needs hiding: enough calibration images are within the threshold as they are" in answer.out
    )
    assert "useful" not in answer.err + answer.out
    assert "best possible" not in answer.out
    both = conformask("look", *folders, "--out", tmp_path, "--scorer", "spread", "--score-from", "maps")
    assert both.status == 2
    assert "give --scorer or --score-from, not both" in both.err


def test_what_maps_mean_needs_maps(conformask, folders):
    answer = conformask("look", *folders, "--higher", "trusted")
    assert (answer.status, "--higher goes with --score-from" in answer.err) == (2, True)


@pytest.mark.parametrize("threshold", ["nan", "0", "q2", "much"])
def test_a_threshold_that_is_none_is_refused_first(conformask, tmp_path, threshold):
    answer = conformask("look", *[tmp_path / "nothing"] * 3, "--threshold", threshold)
    assert answer.status == 1
    assert "a distance above 0" in answer.err


@pytest.mark.thorough
def test_in_a_terminal_the_viewer_opens_until_ctrl_c(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER", "true")
    command = ["look", *map(str, folders), "--out", str(tmp_path / "out"), "--port", "0"]
    shown, status = stopped(f"from conformask.cli import main; main({command})", "press Ctrl-C to stop")
    assert re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+#/image/", "".join(shown.split()))
    assert status in (0, 130), shown  # 130 where the server has not started yet


@pytest.mark.thorough
def test_names_that_look_like_groups_are_asked_about(conformask, tmp_path, monkeypatch):
    folders = write(tmp_path, 60, "slide{0:02d}_z1")
    for place in folders:
        for index in range(60):
            (place / f"slide{index:02d}_z1.png").rename(place / f"slide{index // 2:02d}_z{index % 2}.png")
    answer = conformask("look", *folders, "--out", tmp_path / "kept", "--no-browser")
    assert "Names suggest 30 slides, stacks or patients, such as slide00" in answer.err
    masker = cm.load(tmp_path / "kept" / "run")
    assert masker.sentence.startswith("In at least 9 of 10 new images, each drawn from a new group, ")
    assert "warning: groups" not in answer.out
    split = cm.Triplets.from_folder(tmp_path / "kept" / "data")
    assert len(set(split.groups)) == 30
    terminal = io.StringIO("n\n")
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)
    answer = conformask("look", *folders, "--out", tmp_path / "apart", "--no-browser")
    assert "Keep the images of each together? [Y/n]" in answer.err
    assert len(set(cm.Triplets.from_folder(tmp_path / "apart" / "data").groups)) == 60


def test_what_is_wrong_is_said_before_any_work(conformask, folders, tmp_path):
    few = write(tmp_path / "few", 12)
    answer = conformask("look", *few, "--out", tmp_path / "out", "--no-browser")
    assert answer.status == 1
    assert "12 images are too few" in answer.err
    assert "give at least 18" in answer.err
    command = "conformask calibrate DATA --scorer packaged --threshold 5% --out RUN"
    assert f"12 are enough, with these folders as x/, y_hat/ and y/ of DATA:\n{command}\n" in answer.err
    for folder, role in zip(few, ROLES, strict=True):
        shutil.copytree(folder, tmp_path / "data" / role)
    answer = conformask("look", *[tmp_path / "data" / role for role in ROLES], "--out", tmp_path / "out")
    _, told = answer.err.strip().split("12 are enough:\nconformask ")
    assert conformask(*told.replace("RUN", str(tmp_path / "run")).split()).status == 0
    assert len(cm.load(tmp_path / "run").card.calibrated_on) >= 11
    fewer = write(tmp_path / "fewer", 9)
    assert "conformask calibrate" not in conformask("look", *fewer, "--out", tmp_path / "out").err
    (few[1] / "003.png").unlink()
    answer = conformask("look", *few, "--out", tmp_path / "out", "--no-browser")
    assert "003.png has no partner of the same name in" in answer.err
    answer = conformask("look", folders[0], folders[1], tmp_path / "nowhere", "--out", tmp_path / "out")
    assert f"{tmp_path / 'nowhere'} is not a folder" in answer.err
    assert not (tmp_path / "out").exists()
    mine = tmp_path / "mine"
    (mine / "data").mkdir(parents=True)
    (mine / "data" / "manifest.csv").write_text("my own list")
    answer = conformask("look", *folders, "--out", mine, "--no-browser")
    assert answer.status == 1
    assert "no record of conformask claims it" in answer.err
    assert (mine / "data" / "manifest.csv").read_text() == "my own list"
    assert not (mine / "run").exists()


FLAT = "flat field 0.5"
NOISE = "white noise of 0.1"
OWN, SHIFTS = "own output of a smooth texture", "shifts of a smooth texture"


def numbers(predictor, *given):
    return cm.probe(predictor, *given).to_json()["tests"]


def blurred(x):
    return torch.from_numpy(gaussian_filter(x.numpy(), (0, 0, 1.5, 1.5), mode="nearest"))


def enlarged(x):
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def with_a_square(x):
    y = x.clone()
    y[..., 50:60, 70:77] += 0.05
    return y


def blotchy(x):
    """Coarse structure that follows the input, but not linearly."""
    rough = torch.from_numpy(gaussian_filter(x.numpy(), (0, 0, 4, 4), mode="wrap")) - 0.5
    return 0.5 + 0.2 * torch.sign(rough) * (rough.abs() > 0.004)


def on_a_grid(x):
    """Means of 4 x 4 pixels: it matters where the grid lies."""
    return nn.functional.avg_pool2d(x, 4).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)


@pytest.mark.parametrize("network", [lambda x: x, enlarged])
def test_nothing_is_found_where_nothing_is_added(network):
    found = numbers(network)
    for name in (f"flat field {level}" for level in (0.25, 0.5, 0.75)):
        assert found[name] == {"deviation": 0.0, "offset": 0.0, "patch": 0.0}
    assert found[NOISE]["unexplained"] == pytest.approx(0, abs=1e-9)
    assert found[NOISE]["coarse"] == pytest.approx(found[NOISE]["coarse_of_input"], abs=1e-6)
    assert max(found[OWN].values()) == pytest.approx(0, abs=1e-6)
    assert max(found[SHIFTS].values()) == pytest.approx(0, abs=1e-6)


def test_a_filter_adds_nothing_to_noise_but_changes_its_own_output():
    found = numbers(blurred)
    assert found[NOISE]["unexplained"] < 0.02
    assert found[NOISE]["coarse"] > 0.5  # as a filter does, it takes the fine half away
    assert found[NOISE]["deviation"] < 0.3 * found[NOISE]["deviation_of_input"]
    assert found[OWN]["change"] > 0.005
    assert max(found[SHIFTS].values()) < 1e-5


def grey(x):
    return (x * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)


def swapped(x):
    return x.flip(1)


@pytest.mark.parametrize("network", [grey, lambda x: x[:, :1], swapped])
def test_a_filter_that_mixes_channels_adds_nothing_either(network):
    """Of the mean of the channels alone no filter makes one of them: two thirds were called added."""
    assert numbers(network)[NOISE]["unexplained"] == pytest.approx(0, abs=1e-9)


def test_a_square_of_its_own_is_measured():
    found = numbers(with_a_square)
    for level in ("0.25", "0.5", "0.75"):
        assert found[f"flat field {level}"]["patch"] == 70
        assert found[f"flat field {level}"]["offset"] == pytest.approx(0.05 * 70 / 96**2, rel=1e-4)
    assert found[SHIFTS]["shift_4"] > found[SHIFTS]["shift_1"] > 0


def test_what_is_invented_from_noise_is_no_filtered_noise():
    found = numbers(blotchy)
    assert found[FLAT]["deviation"] == 0
    assert found[NOISE]["unexplained"] > 0.2
    assert found[NOISE]["coarse"] > 0.5 > 0.1 > found[NOISE]["coarse_of_input"]


def test_a_grid_shows_when_the_input_is_shifted():
    found = numbers(on_a_grid)[SHIFTS]
    assert found["shift_2"] > found["shift_1"] > 0.005
    assert found["shift_4"] == pytest.approx(0, abs=1e-7)


def test_of_what_is_not_there_nothing_is_said():
    found = numbers(lambda x: 0.5 + 0 * x + 1e-7 * torch.rand_like(x))[NOISE]
    assert found.keys() == {"deviation", "deviation_of_input"}


def test_a_module_with_one_channel_and_weights():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate"), nn.Sigmoid())
    found = cm.probe(module)
    assert found.network == "Sequential"
    assert not module.training
    assert found.rows[0].pictures["input"].ndim == 2


def folder_of(folder, *sizes, channels=3):
    for place, size in enumerate(sizes):
        image = np.random.default_rng(place).random((channels, *size), dtype=np.float32)
        (folder / "x").mkdir(parents=True, exist_ok=True)
        write_image(folder / "x" / f"{place}.png", image)
    return folder


def test_images_of_a_folder_are_used(tmp_path):
    folder = folder_of(tmp_path / "data", (70, 90), (80, 100), (90, 75), (200, 200))
    found = numbers(on_a_grid, folder)
    assert [name for name in found if name.startswith("shifts")] == [f"shifts of {n}" for n in "012"]
    assert numbers(on_a_grid, folder / "x") == found


def test_images_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(InvalidArgumentError, match="at least 36 pixels, but these have 35 x 60"):
        cm.probe(blurred, folder_of(tmp_path, (35, 60)))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda x: x[..., :-1], "made 32 x 31 of 32 x 32 pixels"),
        (lambda x: x * torch.nan if x.shape[-1] > 32 else x, "flat field 0.25: the predictor returned NaN"),
        (lambda x: 255 * x, "3 channels .*divide by their range.* nor with 1"),
    ],
)
def test_outputs_that_cannot_be_compared_are_refused(network, message):
    with pytest.raises((ImageError, InvalidArgumentError), match=message):
        cm.probe(network)


def test_the_page_and_the_sheet_are_signed_and_replace_only_their_own(tmp_path):
    found = cm.probe(with_a_square)
    assert isinstance(found, Probe)
    page = found.save(tmp_path / "probe.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 3 * 3 + 3 + 4 + 3
    assert "nothing is promised for any image" in page
    assert "largest visible patch, pixels: 70" in page
    found.save(tmp_path / "probe.html")
    found.save(tmp_path / "probe.png")
    assert Image.open(tmp_path / "probe.png").width > 600
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(OutputError):
        found.save(tmp_path / "mine.html")


@pytest.mark.thorough
def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    from conformask.cli import main

    monkeypatch.chdir(tmp_path)
    code = "def twice(x):\n    return x.repeat(2, 0).repeat(2, 1)\n"
    (tmp_path / "own_network_of_the_blank_test.py").write_text(code)
    command = ["probe", "--predictor", "own_network_of_the_blank_test:twice"]
    main(command)
    text = capsys.readouterr().out
    assert "Blank test of own_network_of_the_blank_test:twice" in text
    assert "Written: probe.html" in text
    main([*command, "--json", "--images", str(folder_of(tmp_path / "data", (64, 64), channels=1))])
    record = json.loads(capsys.readouterr().out)
    assert record["tests"][FLAT] == {"deviation": 0.0, "offset": 0.0, "patch": 0.0}
    assert record["fingerprint"]
    (tmp_path / "probe.html").write_text("mine")
    with pytest.raises(SystemExit):
        main(command)
    assert (tmp_path / "probe.html").read_text() == "mine"
