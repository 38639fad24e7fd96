"""Promises about objects, checked on deployed masks by code that knows only their sentences."""

import math
import warnings
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow
from scipy.ndimage import label

import conformask as cm
from conformask.arrays import Batch
from conformask.errors import CalibrationError, ImageError, InvalidArgumentError, MismatchError
from conformask.extras.objects.labels import read_labels
from conformask.extras.objects.loss import LabelledObjects
from conformask.extras.objects.scorer import ObjectScorer
from conformask.losses import stored_loss
from conformask.masks.critical import batch_curves, lambda_grid, measured_curves, measures
from conformask.masks.families import family
from conformask.promises.order import first_crossing
from conformask.records.loss import read_loss
from conformask.records.names import Level
from conformask.records.reading import PLAIN
from conformask.scores.scoring import scored_batches, selection_record
from object_worlds import SCORER, objects, triplets
from simulation import simulated
from untyped import UNTYPED

ANY, MISSED, WRONG = (cm.Objects(over) for over in ("any", "missed", "wrong"))
THRESHOLDS = {ANY: 0.5, MISSED: 0.3, WRONG: 0.25}
LOSSES = pytest.mark.parametrize("loss", [ANY, MISSED, WRONG], ids=["any", "missed", "wrong"])
SELECTION = triplets(60, 999)


def sets(labels: np.ndarray) -> list[set[tuple[int, ...]]]:
    """The pixels of each object."""
    return [set(zip(*np.nonzero(labels == each), strict=True)) for each in np.unique(labels) if each]


def loss_of(loss: cm.Objects, mask: np.ndarray, labels: np.ndarray, y_labels: np.ndarray) -> float:
    """The loss by its sentence, from sets of pixels and fractions."""
    assert set(np.unique(mask)) <= {0.0, 1.0}
    shown, wrong = [], []
    for pixels in sets(labels):
        values = {float(mask[pixel]) for pixel in pixels}
        assert len(values) == 1  # whole
        overlaps = [Fraction(len(pixels & true), len(pixels | true)) for true in sets(y_labels)]
        shown.append(values == {1.0})
        wrong.append(not any(overlap >= Fraction(loss.iou) for overlap in overlaps))
    both = sum(a and b for a, b in zip(shown, wrong, strict=True))
    whole = {"any": 1, "missed": sum(wrong), "wrong": sum(shown)}[loss.over]
    return min(both, 1) if loss is ANY else both / whole if whole else 0.0


def calibrated(
    loss: cm.Objects, images: cm.Triplets, promise: object = "marginal", level: Level | None = None
) -> cm.Masker:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of masks that hide nearly everything, and of copies
        return cm.calibrate(
            with_selection(loss), images, threshold=THRESHOLDS[loss], loss=loss, promise=promise, level=level
        )


@cache
def with_selection(loss: cm.Objects) -> cm.Heuristic:
    """The scorer with what the selection images say, measured once for all calibrations."""
    record = selection_record(ObjectScorer(SCORER), SELECTION, loss, [family(loss.family)])
    return replace(SCORER, selection=record)


def coverage(
    loss: cm.Objects, draws: int, n: int, *world, cheat: float = 1.0, confidence: float = 0.9
) -> tuple[float, float]:
    """How often the sentence is true, over calibration sets of n and 20 new images each; and sigma."""
    tested, met = 20, []
    for draw in simulated(draws):
        masker = calibrated(loss, triplets(n, 5000 + draw, *world), cm.Promise(confidence=confidence))
        masker = replace(masker, rule=replace(masker.rule, lam=cheat * masker.rule.lam))
        new = objects(tested, 9000 + draw, *world)
        x, y_hat, labels = (torch.from_numpy(new[role][:, None]) for role in ("x", "y_hat", "labels"))
        masks = masker.masks(x, y_hat, labels=labels)[:, 0].numpy()
        images = zip(masks, new["labels"], new["y_labels"], strict=True)
        losses = np.array([loss_of(loss, *image) for image in images])
        met.append(np.mean(losses <= THRESHOLDS[loss] * (1 + 1e-6)))
    return float(np.mean(met)), float(np.std(met) / math.sqrt(draws))


@pytest.mark.thorough
@LOSSES
@pytest.mark.parametrize(("n", "levels"), [(9, 6), (29, 2)], ids=["few", "ties"])
def test_the_sentence_is_true_as_often_as_promised(loss: cm.Objects, n: int, levels: int) -> None:
    mean, sigma = coverage(loss, 40, n, levels)
    assert mean >= 0.9 - 4 * sigma


@pytest.mark.thorough
def test_every_wrong_object_counts_for_missed() -> None:
    # most sensitive: nine objects in each image, scores without ties, and a confidence of one half
    mean, sigma = coverage(MISSED, 30, 39, 1000, (9,), confidence=0.5)
    assert abs(mean - 0.5) <= 1 / 40 + 4 * sigma


@LOSSES
def test_the_next_level_of_the_score_would_break_it(loss: cm.Objects) -> None:
    mean, sigma = coverage(loss, 15, 29, cheat=2.5)
    assert mean < 0.9 - 4 * sigma


# the loss and the score


def scored(count: int, seed: int, *world) -> Batch:
    (item,) = scored_batches(ObjectScorer(SCORER), triplets(count, seed, *world), count)
    return item


@LOSSES
def test_a_loss_is_what_its_sentence_says_at_every_level(loss: cm.Objects) -> None:
    item, images = scored(16, 3), objects(16, 3)
    grid = np.array([0.0, 0.01, *(level / 12 + 0.01 for level in range(1, 7)), np.inf])
    losses, sizes = batch_curves(item, family(loss.family), loss, grid)
    slow, slow_sizes = measured_curves(item, family(loss.family), loss, grid)
    assert np.allclose(losses, slow, atol=1e-7)
    assert np.allclose(sizes, slow_sizes)
    for place, lam in enumerate(grid):
        masks = (item.score.map[:, 0].numpy() < lam).astype(float)
        expected = [
            loss_of(loss, *image) for image in zip(masks, images["labels"], images["y_labels"], strict=True)
        ]
        assert losses[:, place] == pytest.approx(expected, abs=1e-6)
        assert (losses[:, place] <= np.array(expected) * (1 + 1e-6)).all()


@pytest.mark.parametrize("loss", [ANY, MISSED], ids=["any", "missed"])
def test_critical_lambdas_are_exact_by_sorting_wrong_objects(loss: cm.Objects) -> None:
    images, threshold = objects(40, 4), 0.5
    columns = measures(scored(40, 4), family(loss.family), loss, np.array([0, 1.0, np.inf]), threshold)
    found = columns["critical_lambda"]
    for place in range(40):
        x, labels, y_labels = (images[role][place] for role in ("x", "labels", "y_labels"))
        wrong = sorted(
            float(x[min(pixels)])
            for pixels in sets(labels)
            if not any(2 * len(pixels & true) >= len(pixels | true) for true in sets(y_labels))
        )
        allowed = 0 if loss is ANY else math.floor(threshold * len(wrong))
        at_it = (x < found[place]).astype(float)
        assert loss_of(loss, at_it, labels, y_labels) <= threshold
        masks = family(loss.family)
        level = masks.level(torch.from_numpy(x)[None, None], torch.from_numpy(found[place : place + 1]))
        assert np.array_equal(masks.apply(torch.from_numpy(x)[None, None], level)[0, 0].numpy(), at_it)
        assert found[place] == pytest.approx(wrong[allowed] if allowed < len(wrong) else math.inf, rel=1e-6)
    assert np.isinf(found).any()
    assert np.isfinite(found).any()


def test_the_critical_lambda_of_wrong_lies_before_the_first_failure() -> None:
    world, threshold = (40, 4, 12, (9,)), 0.25
    images, item = objects(*world), scored(*world)
    grid = np.array([0.0, *(level / 24 + 0.01 for level in range(13)), np.inf])
    found = first_crossing(grid, measures(item, family(WRONG.family), WRONG, grid)["distance"], threshold)
    later = 0
    for place, image in enumerate(zip(images["x"], images["labels"], images["y_labels"], strict=True)):
        x, *labels = image
        meets = [loss_of(WRONG, (x < lam).astype(float), *labels) <= threshold for lam in grid]
        first = meets.index(False) if False in meets else len(grid)
        assert found[place] == grid[first - 1]
        later += any(meets[first:])
    assert later >= 3


@pytest.mark.parametrize(("iou", "is_wrong"), [(0.5, False), (0.51, True), (0.7, True), (0.05, False)])
def test_an_overlap_of_exactly_the_iou_is_right(iou: float, is_wrong: bool) -> None:
    y_hat, y = np.zeros((2, 1, 1, 4, 4), np.float32)
    y_hat[..., :2, :], y[..., :1, :] = 3, 7
    loss = cm.Objects("any", iou).on(torch.from_numpy(y), torch.from_numpy(y_hat), None, 1)
    assert bool(loss.of(torch.ones(1, 1, 4, 4))) is is_wrong


def test_an_overlap_of_seven_percent_is_right_in_floats() -> None:
    own, true = LabelledObjects.of(np.ones(100)), LabelledObjects.of(np.array([1] * 7 + [0] * 93))
    assert own.met_by(true, 0.07).tolist() == [True]
    assert own.met_by(true, 0.071).tolist() == [False]


def test_the_best_masks_where_no_wrong_object_may_be_shown_hide_them_whole() -> None:
    images = triplets(20, 7)
    for batch in images.batches(1):
        own, true = sets(batch.layers["labels"][0, 0].numpy()), sets(batch.layers["y_labels"][0, 0].numpy())
        wrong = {pixel for a in own for pixel in a if all(2 * len(a & b) < len(a | b) for b in true)}
        best = ANY.of_batch(batch, 1).oracle(0.5)
        assert set(zip(*np.nonzero(best[0, 0].numpy() == 0), strict=True)) == wrong


def test_a_score_is_the_mean_over_an_object_and_its_channels_and_0_elsewhere() -> None:
    labels = torch.tensor([[[[0.0, 5, 5, 2]]]])
    maps = torch.tensor([[[[9.0, 1, 2, 4]], [[9.0, 3, 4, 8]]]])
    scorer = ObjectScorer(cm.Heuristic(lambda x, y_hat: maps, channels=2, per_channel=True))
    score = scorer(maps, maps, labels)
    assert score.map.tolist() == [[[[0.0, 2.5, 2.5, 6.0]]]]
    assert not scorer.per_channel
    with pytest.raises(MismatchError, match="exported"):
        scorer.score_map(maps, maps, labels)


def test_an_image_without_objects_hides_nothing_and_has_no_loss() -> None:
    images = objects(60, 5)
    empty = [place for place in range(60) if not images["labels"][place].any()]
    masker = calibrated(WRONG, triplets(40, 6))
    evaluation = cm.evaluate(masker, triplets(60, 5))
    assert empty
    assert (evaluation.images.loss[empty] == 0).all()
    assert (evaluation.images.size[empty] == 0).all()


@LOSSES
def test_an_evaluation_counts_objects(loss: cm.Objects) -> None:
    masker, images = calibrated(loss, triplets(40, 6), level="one"), objects(60, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        counts = cm.evaluate(masker, triplets(60, 7)).objects
    expected = np.zeros(6, int)
    for x, labels, y_labels in zip(images["x"], images["labels"], images["y_labels"], strict=True):
        own, true = sets(labels), sets(y_labels)
        right = [any(2 * len(a & b) >= len(a | b) for b in true) for a in own]
        lacking = [not any(2 * len(a & b) >= len(a | b) for a in own) for b in true]
        shown = [float(np.float32(x[min(pixels)])) < masker.rule.lam for pixels in own]
        both = [a and b for a, b in zip(shown, right, strict=True)]
        expected += [len(own), sum(right), sum(shown), sum(both), len(true), sum(lacking)]
    assert counts is not None
    assert list(vars(counts).values()) == expected.tolist()
    assert f"of {expected[2]:,} objects shown {expected[3]:,} (" in counts.shown_text
    assert 0 < expected[2] < expected[0]
    assert 0 < expected[5] < expected[4]


# the promise


@pytest.mark.parametrize("loss", [ANY, MISSED, cm.Objects("wrong", 0.75)], ids=str)
def test_terms_name_the_loss(loss: cm.Objects) -> None:
    assert stored_loss(read_loss(loss.to_json(), Path())) == loss
    assert loss.name == f"{loss.over}(objects, IoU < {loss.iou:g})"


@pytest.mark.parametrize(
    ("loss", "promise", "sentence"),
    [
        (ANY, "marginal", "In at least 9 of 10 new images, no wrong object is shown (IoU below 0.5)."),
        (ANY, "expected", "the chance that a wrong object is shown (IoU below 0.5) is at most 50 %."),
        (MISSED, "pac", "at most 30 % of the wrong objects are shown (IoU below 0.5)."),
        (WRONG, "ltt", "at most 25 % of the objects shown are wrong (IoU below 0.5)."),
        (WRONG, "rcps", "the share of the objects shown that are wrong (IoU below 0.5) is at most 25 %."),
        (MISSED, "adaptive", "at most 30 % of the wrong objects are shown (IoU below 0.5)."),
    ],
)
def test_guarantees_apply_to_objects(loss: cm.Objects, promise: str, sentence: str) -> None:
    masker = calibrated(loss, triplets(60, 8), promise)
    assert masker.sentence.endswith(sentence)
    assert "no object of the reference meets it with an IoU of 0.5 or more" in masker.card.loss.label
    assert "lacks" in (masker.card.loss.caveat or "")


def test_groups_and_categories_are_promised_objects() -> None:
    groups, categories = [f"slide {place // 2}" for place in range(60)], ["a", "b"] * 30
    by_slide = cm.Promise(unit="group", group_name="slide")
    masker = calibrated(MISSED, triplets(60, 8, groups=groups), by_slide)
    assert masker.sentence.startswith("For at least 9 of 10 new slides, in every image, ")
    of_each = cm.Promise(per_category=True)
    masker = calibrated(MISSED, triplets(60, 8, categories=categories), of_each)
    assert masker.rule.kind == "categories"


def test_a_masker_is_saved_and_read(tmp_path) -> None:
    masker = calibrated(WRONG, triplets(40, 6)).save(tmp_path / "run")
    loaded, new = cm.load(tmp_path / "run", scorer=SCORER), objects(4, 11)
    assert loaded.loss == WRONG
    for x, y_hat, labels in zip(new["x"], new["y_hat"], new["labels"], strict=True):
        assert np.array_equal(loaded(x, y_hat, labels=labels), masker(x, y_hat, labels=labels))


@pytest.mark.leaf("train")
def test_training_ignores_objects(tmp_path) -> None:
    images = triplets(40, 12)
    scorer = cm.fit_scorer(images, out=tmp_path / "run", scorer="residual", loss="l1")
    masker = cm.calibrate(scorer, triplets(40, 13), threshold=0.5, loss=ANY)
    assert masker.scorer.name == "residual"
    with pytest.raises(InvalidArgumentError, match="calibrate"):
        cm.fit_scorer(images, out=tmp_path / "other", loss=ANY)


def test_components_are_objects() -> None:
    images = objects(40, 6)
    arrays = {role: images[role] for role in ("x", "y_hat", "y")}
    by_threshold = cm.Triplets.from_arrays(**arrays, reading=cm.Reading(objects="components:0.5"))
    masker = cm.calibrate(SCORER, by_threshold, threshold=0.5, loss=ANY)
    assert masker.critical_lambdas == pytest.approx(
        cm.calibrate(SCORER, triplets(40, 6), threshold=0.5, loss=ANY).critical_lambdas
    )
    assert all(map(by_threshold.has, cm.Objects().layers))
    assert "with objects" in repr(by_threshold)


def test_a_function_labels_both_images() -> None:
    arrays = {role: images for role, images in objects(3, 6).items() if role in ("x", "y_hat", "y")}
    made = cm.Triplets.from_arrays(**arrays, labels=lambda image: label(image > 0.5)[0])
    given = cm.Triplets.from_arrays(**arrays, reading=cm.Reading(objects="components:0.5"))
    for one, other in zip(made, given, strict=True):
        np.testing.assert_array_equal(one.layers["labels"], other.layers["labels"])
        np.testing.assert_array_equal(one.layers["y_labels"], other.layers["y_labels"])


# what is refused


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((6, 6), 0.5), "labels of y_hat of triplet '00000' holds labels that are not whole numbers"),
        (np.full((6, 6), 70000), "from 0 to 65535"),
        (np.full((6, 6), -1), "from 0 to 65535"),
        (np.full((6, 6), np.nan), "not whole numbers"),
        (np.ones((5, 6), int), "has shape \\(5, 6\\)"),
    ],
    ids=["half", "large", "negative", "nan", "shape"],
)
def test_bad_labels_are_refused(labels: np.ndarray, message: str) -> None:
    image = np.full((1, 6, 6), 0.5, np.float32)
    images = cm.Triplets.from_arrays(image, image, image, labels=[labels], y_labels=[labels])
    with pytest.raises(ImageError, match=message):
        images[0]


def test_noise_in_the_place_of_labels_is_refused() -> None:
    masker, images = calibrated(ANY, triplets(20, 1)), objects(1, 2)
    noise = np.random.default_rng(0).random(images["labels"][0].shape, np.float32)
    with pytest.raises(ImageError, match="holds labels that are not whole numbers"):
        masker(images["x"][0], images["y_hat"][0], labels=noise)


def test_labels_of_two_values_are_not_inverted(tmp_path: Path) -> None:
    values = np.zeros((6, 7), bool)
    values[2:4, 3:] = True
    tifffile.imwrite(tmp_path / "bool.tif", values)
    tifffile.imwrite(tmp_path / "white.tif", 3 * values.astype(np.uint8), photometric="miniswhite")
    for path, value in (("bool.tif", 1), ("white.tif", 3)):
        read = read_labels(tmp_path / path, values.shape, PLAIN, "labels")
        np.testing.assert_array_equal(read[0], value * values)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_labels_that_jpeg_has_changed_are_refused(tmp_path, name: str) -> None:
    labels = np.zeros((32, 32), np.uint8)
    labels[3:9, 3:9], labels[15:25, 10:20] = 40, 90
    kind = "TIFF" if name == "a.tif" else "JPEG"  # whatever the suffix
    Pillow.fromarray(labels).save(
        tmp_path / name, kind, **({"compression": "jpeg"} if kind == "TIFF" else {})
    )
    with pytest.raises(ImageError, match=rf"{name} is compressed as JPEG.* save them as PNG or TIFF"):
        read_labels(tmp_path / name, (32, 32), PLAIN, "labels")


def test_what_cannot_be_promised_of_objects_is_refused() -> None:
    images = objects(20, 1)
    plain = cm.Triplets.from_arrays(images["x"], images["y_hat"], images["y"])
    with pytest.raises(InvalidArgumentError, match="--objects"):
        cm.calibrate(SCORER, plain, threshold=0.5, loss=ANY)
    with pytest.raises(InvalidArgumentError, match="not by tiles"):
        cm.calibrate(cm.Tiled(SCORER), triplets(20, 1), threshold=0.5, loss=ANY)
    with pytest.raises(InvalidArgumentError, match="label 0"):
        cm.calibrate(SCORER, triplets(20, 1, regions=np.ones((20, 15, 15))), threshold=0.5, loss=ANY)
    with pytest.raises(CalibrationError, match="at least 9"):
        cm.calibrate(SCORER, triplets(5, 1), threshold=0.5, loss=ANY)
    with pytest.raises(InvalidArgumentError, match="no object"):
        lambda_grid(
            family(WRONG.family),
            WRONG,
            [scored(2, 1).with_score(cm.Score(torch.zeros(2, 1, 15, 15)))],
        )
    with pytest.raises(InvalidArgumentError, match="above 0 and at most 1"):
        cm.Objects("any", 1.5)
    with pytest.raises(InvalidArgumentError, match=r"components:0\.5"):
        cm.Reading(objects="components:x")
    masker = calibrated(ANY, triplets(20, 1))
    with pytest.raises(MismatchError, match="--objects"):
        masker(images["x"][0], images["y_hat"][0])


@UNTYPED
def test_an_unknown_loss_of_objects_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="choose from"):
        cm.Objects("local")
