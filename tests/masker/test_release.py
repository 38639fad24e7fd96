"""Releases of deployed masks: the promise by simulation, units, reasons, and what is refused."""

import csv
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

import conformask as cm
from conformask.conformal.selection import benjamini_hochberg
from conformask.conformal.units import members
from conformask.data.triplets import Triplets
from conformask.errors import CalibrationError, InvalidArgumentError, MismatchError
from conformask.losses import loss
from conformask.masker.masker import Masker
from conformask.masker.release import RECORD, Release, release, remember
from conformask.masks import family as family_by_name
from conformask.records.evaluation import Evaluation
from conformask.report.page import render
from conformask.scorers.scorer import Heuristic
from conformask.scorers.scoring import selection_record
from conformask.storage.as_json import read_json
from conformask.types import Images
from conformask.wording.numbers import share as percentage
from simulation import simulated
from synthetic_triplets import scale_of

SCORER = Heuristic(scale_of, channels=1)


def world(generator: np.random.Generator, count: int, levels: int | None = None, group: int = 1) -> Triplets:
    """Images whose score says how hard they are, but for an unknown factor, which may be that of a group.

    With levels, hard images and factors come in few kinds, so that risks and critical lambdas tie.
    """
    hardness, factor = generator.normal(size=count), np.repeat(generator.normal(size=count // group), group)
    if levels is not None:
        hardness, factor = (np.round(each * levels) / levels for each in (hardness, factor))
    scale = 0.02 * np.exp(0.5 * hardness)[:, None, None, None] * np.ones((1, 4, 4, 1))
    signs = generator.choice([-1.0, 1.0], (count, 4, 4, 1))
    error = np.exp(0.5 * factor)[:, None, None, None] * scale * signs
    y = generator.uniform(0.4, 0.6, (count, 4, 4, 1))
    x, y_hat, y = (each.clip(0, 1).astype(np.float32) for each in (scale, y + error, y))
    patients = [f"patient {number}" for number in generator.random(count // group).repeat(group)]
    return Triplets.from_arrays(x, y_hat, y, groups=None if group == 1 else patients)


def knowing(scorer: Heuristic = SCORER) -> Heuristic:
    """The scorer with selection images, which risks are fitted on."""
    selection = world(np.random.default_rng(8), 60)
    record = selection_record(scorer, selection, loss("l1"), [family_by_name("binary")])
    return replace(scorer, selection=record)


def uneven(x: Images, y_hat: Images) -> Images:
    """The scale, and some of the content: its features differ in more than their mean."""
    return x + (y_hat - 0.5).abs() / 5


def calibrated(images: Triplets, confidence: float = 0.9, scorer: Heuristic = SCORER, **promise) -> Masker:
    return cm.calibrate(
        scorer, images, threshold=0.03, loss="l1", promise=cm.Promise(confidence=confidence, **promise)
    )


BATCH, BATCHES = 20, 8


def units_of(released: Release, images: Triplets) -> tuple[np.ndarray, np.ndarray]:
    """The p-value of each unit, and whether an image of it misses the threshold, in the order of units."""
    by_name = {image.name: image for image in released.images}
    places = sorted(members(np.array(images.groups)), key=lambda of_unit: int(of_unit[0]))
    of_units = [[by_name[images.names[place]] for place in of_unit] for of_unit in places]
    for images_of_unit in of_units:
        assert len({image.p_value for image in images_of_unit}) == 1
    fails = [any(not image.within for image in images_of_unit) for images_of_unit in of_units]
    return np.array([each[0].p_value for each in of_units]), np.array(fails)


@pytest.mark.parametrize("sets", [40, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("n", "confidence", "share", "levels", "group", "scorer"),
    [
        (60, 0.9, 0.05, None, 1, SCORER),
        (40, 0.7, 0.1, 1, 1, SCORER),
        (40, 0.7, 0.1, None, 1, knowing()),
        (40, 0.7, 0.15, None, 2, SCORER),
    ],
    ids=["tenth-fails", "ties", "risk-of-selection-images", "groups"],
)
def test_of_what_is_released_at_most_the_share_misses_the_threshold(
    n: int, confidence: float, share: float, levels: int | None, group: int, scorer: Heuristic, sets: int
) -> None:
    """Deployed masks on new images, in batches; lambda comes from the images that p-values are counted on."""
    generator, shares, alone, good = np.random.default_rng(3), [], [], []
    promise = {} if group == 1 else {"unit": "group"}
    for _ in simulated(sets):
        masker = calibrated(world(generator, n * group, levels, group), confidence, scorer, **promise)
        new = world(generator, BATCH * BATCHES * group, levels, group)
        p, fails = units_of(release(masker, new, share, each=True), new)
        released = np.concatenate([benjamini_hochberg(batch, share) for batch in np.split(p, BATCHES)])
        failing = (released & fails).reshape(BATCHES, BATCH).sum(axis=1)
        shares.append((failing / released.reshape(BATCHES, BATCH).sum(axis=1).clip(1)).mean())
        alone.append(((p <= share) & fails).mean())
        good.append(released[~fails].mean())
    for measured in (shares, alone):
        assert np.mean(measured) <= share + 3 * np.std(measured) / sets**0.5
    assert np.mean(good) > 0.15, "not by holding everything back"


def test_a_batch_is_released_by_benjamini_and_hochberg_and_the_worst_come_first() -> None:
    generator = np.random.default_rng(4)
    masker, new = calibrated(world(generator, 80), 0.7), world(generator, 30)
    found = release(masker, new, 0.1)
    p, fails = units_of(found, new)
    expected = benjamini_hochberg(p, 0.1)
    names = np.array(new.names)
    assert {image.name for image in found.images if image.released} == set(names[expected].tolist())
    assert 0 < found.n_released < 30
    risks = [image.risk for image in found.images]
    assert risks == sorted(risks, reverse=True)
    for image in found.images:
        assert bool(image.reasons) != image.released
    (tenth,) = [power for power in found.power if power.share == 0.1]
    assert (tenth.released, tenth.failing) == (expected.sum(), (expected & fails).sum())
    assert tenth.of_good == pytest.approx(expected[~fails].mean())
    assert "riskier than" in " ".join(found.images[0].reasons)


def test_without_truth_nothing_is_measured_and_the_same_is_released() -> None:
    generator = np.random.default_rng(5)
    masker, new = calibrated(world(generator, 80), 0.7), world(generator, 30)
    blind = Triplets.from_arrays([t.x[0] for t in new], [t.y_hat[0] for t in new])
    found, measured = release(masker, blind, 0.1), release(masker, new, 0.1)
    assert found.power == ()
    assert {image.within for image in found.images} == {None}
    assert [replace(image, within=None) for image in measured.images] == list(found.images)


def test_an_image_unlike_all_others_is_held_back_with_its_reason() -> None:
    generator = np.random.default_rng(6)
    masker, new = calibrated(world(generator, 80), 0.7), world(generator, 12)
    images = [new[place] for place in range(12)]
    images[3] = replace(images[3], x=images[3].x * 0, y_hat=images[3].y_hat * 0.01)
    changed = Triplets.from_arrays(*([getattr(t, role)[0] for t in images] for role in ("x", "y_hat")))
    found = {image.name: image for image in release(masker, changed, 0.3).images}
    assert not found["00003"].released
    assert found["00003"].reasons[0].startswith("not like the calibration images: ")
    assert sum(image.released for image in found.values()) > 6


def test_no_reason_is_that_as_much_is_hidden_of_others() -> None:
    generator = np.random.default_rng(15)
    masker, new = calibrated(world(generator, 80), 0.7), world(generator, 12)
    held_back = [image for image in release(masker, new, 0.1).images if not image.released]
    assert any(image.hidden == 0 for image in held_back), "as in most calibration images"
    for image in held_back:
        assert image.hidden > 0 or not any("hidden, more than" in reason for reason in image.reasons)


def test_calibration_images_have_no_say_in_the_order() -> None:
    generator, mean = np.random.default_rng(12), Heuristic(uneven, channels=1)
    scorer, new = knowing(mean), world(generator, 40)

    def order(used: Heuristic) -> list[str]:
        masker = calibrated(world(generator, 60), 0.9, used)
        return [image.name for image in release(masker, new, 0.1).images]

    assert order(scorer) == order(scorer)
    assert order(mean) != order(scorer), "the selection images have one"


@pytest.mark.parametrize(
    ("promise", "text"),
    [
        ({}, "Of the images released under their masks, at most 10 % miss the threshold"),
        (
            {"unit": "group"},
            "Of the patients released under their masks, at most 10 % miss the threshold on some",
        ),
        (
            {"unit": "group", "share": 0.5},
            "at most 10 % do not keep the threshold on at least 50 % of the images",
        ),
    ],
)
def test_the_sentence_says_what_is_counted(promise: dict, text: str) -> None:
    generator, group = np.random.default_rng(7), 2 if promise else 1
    name = {"group_name": "patient"} if promise else {}
    masker = calibrated(world(generator, 80, None, group), 0.7, **name, **promise)
    found = release(masker, world(generator, 8, None, group), 0.1)
    assert text in found.sentence.replace("\N{NO-BREAK SPACE}", " ")
    assert "in expectation over calibration" in found.sentence
    assert found.formula.endswith("<= 0.1")
    assert found.n_units == 8 // group
    assert found.n_calibration == 80 // group
    again = release(masker.recalibrate(confidence=0.6), world(generator, 8, None, group), 0.1)
    assert again.sentence.startswith("If this had been fixed beforehand: of the ")
    alone = release(masker, world(generator, 8, None, group), 0.1, each=True)
    assert alone.sentence.startswith("Of all new ")
    assert alone.formula.startswith("P(released, ")


def test_what_no_theorem_covers_is_refused() -> None:
    generator = np.random.default_rng(9)
    images, new = world(generator, 60), world(generator, 5)
    masker = calibrated(images)
    for share in (0, 1, -0.1):
        with pytest.raises(InvalidArgumentError, match="share"):
            release(masker, new, share)
    with pytest.raises(CalibrationError, match=r"60 calibration images are too few .* at least 99"):
        release(masker, new, 0.01)
    with pytest.raises(CalibrationError, match="60 of 60 new images were used"):
        release(masker, images, 0.1)
    with pytest.raises(InvalidArgumentError, match="6 new images in 3 groups depend on each other"):
        release(masker, world(generator, 6, None, 2), 0.1)
    assert len(release(masker, world(generator, 6, None, 2), 0.1, each=True).images) == 6
    for promise in ("expected", "ltt", cm.Promise("simultaneous", confidence=0.6)):
        other = cm.calibrate(knowing(), images, threshold=0.05, loss="l1", promise=promise)
        with pytest.raises(InvalidArgumentError, match="no theorem"):
            release(other, new, 0.1)


def test_a_batch_that_was_looked_at_is_not_judged_otherwise(tmp_path: Path) -> None:
    generator = np.random.default_rng(10)
    masker, new = calibrated(world(generator, 60)), world(generator, 10)
    remember(tmp_path, release(masker, new, 0.1))
    remember(tmp_path, release(masker, new, 0.1))
    remember(tmp_path, release(masker, world(generator, 10), 0.05))
    record = (tmp_path / RECORD).read_text(encoding="utf-8")
    for batch, share, each in ((new, 0.2, False), (new.select(range(5)), 0.1, False), (new, 0.1, True)):
        with pytest.raises(MismatchError, match="were judged before"):
            remember(tmp_path, release(masker, batch, share, each=each))
    with pytest.raises(MismatchError, match="were judged before"):
        remember(tmp_path, release(masker.recalibrate(threshold=0.05), new, 0.1))
    assert (tmp_path / RECORD).read_text(encoding="utf-8") == record
    stream = world(generator, 10)
    remember(tmp_path, release(masker, stream, 0.1, each=True))
    remember(tmp_path, release(masker, stream.select(range(3)), 0.1, each=True))


def test_masks_are_written_with_what_is_released(tmp_path: Path) -> None:
    generator = np.random.default_rng(11)
    masker, new = calibrated(world(generator, 80), 0.7), world(generator, 30)
    found = release(masker, new, 0.1)
    cm.write_masks(masker, new, tmp_path, released=found)
    with (tmp_path / "sizes.csv").open(encoding="utf-8") as file:
        rows = {row["name"]: (row["released"], float(row["p_value"])) for row in csv.DictReader(file)}
    assert rows == {image.name: (str(image.released), image.p_value) for image in found.images}
    assert read_json(tmp_path / "masks.json")["release"] == found.sentence
    cm.write_masks(masker, new, tmp_path)
    assert read_json(tmp_path / "masks.json")["release"] is None
    assert ",,\n" in (tmp_path / "sizes.csv").read_text(encoding="utf-8")
    with pytest.raises(MismatchError, match="about other images"):
        cm.write_masks(masker, new.select(range(5)), tmp_path / "fewer", released=found)


def test_an_evaluation_and_its_report_say_what_would_be_released(tmp_path: Path) -> None:
    generator = np.random.default_rng(13)
    masker, new = calibrated(world(generator, 400), 0.7), world(generator, 30)
    found = release(masker, new)
    cm.evaluate(masker, new, out=tmp_path)
    evaluation = Evaluation.load(tmp_path)
    assert evaluation.power == found.power
    assert evaluation.release_share == found.share
    verdicts = {image.name: image.verdict for image in found.images}
    assert {each.release for each in evaluation.examples} > {"released"}, "released ones and others"
    text = unescape(render(evaluation))
    for each in evaluation.examples:
        assert each.release == verdicts[each.name]
        assert f"would be {each.release}<" in text
    for words in ("<h2>Which images</h2>", found.sentence, found.formula, "released of 30 test images"):
        assert words in text
    (row,) = [power for power in found.power if power.share == 0.1]
    cells = "10\N{NO-BREAK SPACE}%", f"{row.released}", f"{row.failing}", percentage(row.of_good)
    assert "".join(f"<td>{cell}</td>" for cell in cells) in text


def test_the_share_of_an_evaluation_is_one_that_the_calibration_set_allows() -> None:
    generator = np.random.default_rng(14)
    few, new = calibrated(world(generator, 19), 0.7), world(generator, 12)
    assert cm.evaluate(few, new).release_share == 0.05
    mean = cm.calibrate(knowing(), world(generator, 60), threshold=0.05, loss="l1", promise="expected")
    tiny, patients = calibrated(world(generator, 8), 0.7), world(generator, 12, group=2)
    for masker, images in ((mean, new), (tiny, new), (few, patients)):
        evaluation = cm.evaluate(masker, images)
        assert evaluation.release_share is None
        assert evaluation.power == ()
        assert {each.release for each in evaluation.examples} == {""}
        assert "<h2>Which images</h2>" not in render(evaluation)
