"""Every guarantee through calibrate, masks and files; their promises are simulated in tests/promises."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from conformask.errors import CalibrationError, InvalidArgumentError
from conformask.losses import loss
from conformask.losses.distances import CustomDistance
from conformask.masker.calibrate import calibrate
from conformask.masker.evaluate import evaluate
from conformask.masker.load import load
from conformask.masks.critical import loss_under
from conformask.masks.families import family as family_by_name
from conformask.promises.promise import GUARANTEES
from conformask.records.record import to_jsonable
from conformask.scores.scorer import Heuristic
from conformask.scores.scoring import selection_record
from made_maskers import calibrated
from synthetic_triplets import arrays, scale_of, signed, triplets

COUNT = 120
GROUPS = [f"slide {k % 30}" for k in range(COUNT)]
CATEGORIES = ["stain A" if k % 3 else "stain B" for k in range(COUNT)]
WEIGHTS = [0.5 + (k % 5) / 4 for k in range(COUNT)]
SELECTION = triplets(60, 1)
SCORER = Heuristic(scale_of, channels=1)
KNOWING = replace(
    SCORER, selection=selection_record(SCORER, SELECTION, loss("l1"), [family_by_name("binary")])
)
COLUMNS = {
    "groups": {"groups": GROUPS},
    "categories": {"categories": CATEGORIES},
    "weighted": {"weights": WEIGHTS},
}
TEST = triplets(40, 2, categories=["stain A"] * 40, weights=[1.0] * 40)


def calibration_for(guarantee):
    return triplets(COUNT, 0, **COLUMNS.get(guarantee, {}))


def made(guarantee, calibration=None, **more):
    given = {"threshold": 0.04, "distance": "l1", **more}
    images = calibration_for(guarantee) if calibration is None else calibration
    return calibrated(KNOWING, images, guarantee=guarantee, **given)


def masked(masker, batch):
    return masker(
        batch.x, batch.y_hat, weight=batch.facts.get("weight"), category=batch.facts.get("category")
    )


@pytest.fixture(scope="module", params=sorted(GUARANTEES))
def masker(request):
    return made(request.param)


def test_what_is_said(masker):
    card = masker.card
    assert masker.formula.startswith(card.claim)
    assert f"({card.promise.guarantee})" in masker.formula
    assert (
        card.claim
        == {
            "marginal": "P(l1 <= 0.04) >= 0.90",
            "adaptive": "P(l1 <= 0.04) >= 0.90",
            "groups": "P(l1 <= 0.04 in a new group) >= 0.90",
            "categories": "P(l1 <= 0.04 | category) >= 0.90",
            "weighted": "P(l1 <= 0.04 as weighted) >= 0.90",
            "pac": "with probability 0.95 over calibration sets, P(l1 <= 0.04) >= 0.90",
            "ltt": "with probability 0.95 over calibration sets, P(l1 <= 0.04) >= 0.90",
            "expected": "E l1 <= 0.04",
            "conditional_mean": "P(E[l1 | x] <= 0.04) >= 0.90",
            "rcps": "with probability 0.95 over calibration sets, E l1 <= 0.04",
            "rcps_hb": "with probability 0.95 over calibration sets, E l1 <= 0.04",
            "simultaneous": "with probability 0.95 over calibration sets, "
            "for 64 thresholds and every confidence at once, P(l1 <= 0.04) >= 0.90",
        }[card.promise.guarantee]
    )
    assert card.n_groups == (30 if card.promise.guarantee == "groups" else None)
    assert ("in 30 groups" in masker.formula) == (card.promise.guarantee == "groups")
    weights = np.array(WEIGHTS)
    effective = weights.sum() ** 2 / (weights**2).sum()
    assert card.n_effective == (pytest.approx(effective) if card.promise.guarantee == "weighted" else None)


def test_masks_open_and_keep_the_threshold_mostly(masker):
    (batch,) = TEST.batches(40)
    mask = masked(masker, batch)
    assert 0.02 < float(mask.mean()) < 1
    kept = loss_under(masker.loss, mask, batch) <= 0.04
    assert float(kept.float().mean()) >= (0.6 if masker.card.promise.confidence is None else 0.75)


def test_saved_and_loaded_masks_alike(masker, tmp_path):
    masker.save(tmp_path)
    again = load(tmp_path, scorer=KNOWING)
    assert again.sentence == masker.sentence
    assert to_jsonable(vars(again.card)) == to_jsonable(vars(masker.card))
    (batch,) = TEST.batches(40)
    torch.testing.assert_close(masked(again, batch), masked(masker, batch))


@pytest.mark.thorough
def test_evaluated(masker):
    found = evaluate(masker, TEST)
    assert found.card.promise.confidence == masker.card.promise.confidence
    assert found.card.promise.guarantee == masker.card.promise.guarantee
    assert len(found.size_by_threshold) > 10
    sizes = [size for _, size in found.size_by_threshold]
    assert sizes[-1] <= sizes[0]


@pytest.mark.quick(3)
def test_the_order_does_not_matter(masker):
    order = np.random.default_rng(3).permutation(COUNT)
    shuffled = made(
        masker.card.promise.guarantee, calibration_for(masker.card.promise.guarantee).select(order.tolist())
    )
    (batch,) = TEST.batches(40)
    torch.testing.assert_close(masked(shuffled, batch), masked(masker, batch))


def test_recalibrating_is_calibrating_on_the_grid(masker):
    name = masker.card.promise.guarantee
    again = masker.recalibrate(threshold=0.04 * (1 - 1e-9))
    (batch,) = TEST.batches(40)
    before, after = masked(masker, batch), masked(again, batch)
    if name == "adaptive":  # a regression on lower critical lambdas may be higher somewhere
        assert float(after.mean()) <= 1.001 * float(before.mean())
    else:
        assert (after <= before * 1.001 + 1e-6).all()
    assert float(after.mean()) > 0.75 * float(before.mean()), "at most a grid step smaller"
    assert again.card.exploratory == (name != "simultaneous")
    wider = masker.recalibrate(threshold=0.06)
    assert float(masked(wider, batch).mean()) > float(after.mean())


@pytest.mark.thorough
def test_conservative_as_they_should_be():
    size = {name: float(1 - masked(made(name), next(TEST.batches(40))).mean()) for name in GUARANTEES}
    assert size["marginal"] < size["pac"] < size["simultaneous"]
    assert size["expected"] < size["marginal"], "a mean is less than a quantile"
    assert size["expected"] < size["rcps"] < size["rcps_hb"]
    assert size["conditional_mean"] > size["expected"]


def test_from_one_promise_to_another():
    masker = made("marginal")
    assert (
        masker.recalibrate(promise=masker.card.promise.changed(guarantee="pac", delta=0.2)).card.promise.delta
        == 0.2
    )
    assert masker.recalibrate(promise="expected").card.promise.confidence is None
    back = masker.recalibrate(promise="expected").recalibrate(promise="marginal", confidence=0.8)
    assert back.card.promise.confidence == 0.8
    assert back.card.promise.delta is None
    assert masker.recalibrate(promise="pac").card.promise.delta == 0.05
    with pytest.raises(InvalidArgumentError, match="takes no delta"):
        masker.recalibrate(promise=masker.card.promise.changed(delta=0.1))
    with pytest.raises(InvalidArgumentError, match="takes no confidence"):
        masker.recalibrate(promise="rcps", confidence=0.8)
    with pytest.raises(InvalidArgumentError, match="declared before a calibration"):
        masker.recalibrate(promise="simultaneous")
    with pytest.raises(InvalidArgumentError, match="add a column category"):
        masker.recalibrate(promise="categories")


def test_a_simultaneous_promise_stays_one():
    masker = made("simultaneous")
    declared = masker.card.thresholds
    assert declared is not None
    assert len(declared) == 64
    assert 0.04 in declared
    moved = masker.recalibrate(threshold=0.0512, confidence=0.8)
    assert not moved.card.exploratory
    assert moved.card.threshold == max(a for a in declared if a <= 0.0512)
    with pytest.raises(InvalidArgumentError, match="below the smallest declared"):
        masker.recalibrate(threshold=declared[0] / 2)
    assert moved.recalibrate(promise=moved.card.promise.changed(delta=0.01)).card.exploratory, (
        "another delta was chosen after looking"
    )


def test_what_a_simultaneous_promise_leaves_open_is_no_choice_after_looking(tmp_path):
    masker = made("simultaneous")
    masker.save(tmp_path)
    assert not masker.recalibrate(threshold=0.0512, confidence=0.8).save(tmp_path).card.exploratory
    assert masker.recalibrate(promise=masker.card.promise.changed(delta=0.01)).save(tmp_path).card.exploratory


@pytest.mark.quick(1)
@pytest.mark.parametrize("detour", [{"delta": 0.5}, {"delta": 0.04}, {"guarantee": "pac"}])
def test_what_was_chosen_after_looking_stays_exploratory(detour):
    before = made("simultaneous")
    masker = before.recalibrate(promise=before.card.promise.changed(**detour))
    for again in (
        masker,
        masker.recalibrate(),
        masker.recalibrate(confidence=0.8),
        masker.recalibrate(promise=masker.card.promise.changed(guarantee="simultaneous", delta=0.05)),
    ):
        assert again.card.exploratory
        assert "exploratory" in again.formula
        assert again.sentence.startswith("If this had been fixed beforehand: ")


def test_unchanged_settings_change_nothing(masker):
    card = masker.card
    same = masker.recalibrate(
        threshold=card.threshold,
        promise=masker.card.promise.changed(
            guarantee=card.promise.guarantee, delta=card.promise.delta, confidence=card.promise.confidence
        ),
    )
    assert same is masker
    assert masker.recalibrate() is masker
    assert not same.card.exploratory


# what they need


def refused(error, message, guarantee, **more):
    with pytest.raises(error, match=message):
        made(guarantee, **more)


@pytest.mark.parametrize("guarantee", sorted(set(GUARANTEES) - {"groups"}))
def test_dependent_images_are_refused(guarantee):
    dependent = triplets(COUNT, 0, groups=GROUPS, categories=CATEGORIES, weights=WEIGHTS)
    refused(CalibrationError, "120 images in 30 groups are dependent", guarantee, calibration=dependent)


@pytest.mark.parametrize(("guarantee", "column"), [("categories", "category"), ("weighted", "weight")])
def test_missing_columns(guarantee, column):
    refused(InvalidArgumentError, f"add a column {column}", guarantee, calibration=triplets(COUNT, 0))


@pytest.mark.parametrize("guarantee", ["expected", "conditional_mean", "rcps", "rcps_hb"])
def test_means_of_unbounded_distances_are_refused(guarantee):
    message = "needs a loss with an upper bound, but 'signed' declares none: choose a guarantee about a share"
    refused(InvalidArgumentError, message, guarantee, distance=signed, selection=SELECTION)


def test_too_few_of_what_counts():
    few = triplets(COUNT, 0, groups=[f"slide {k % 8}" for k in range(COUNT)])
    refused(CalibrationError, "8 groups are too few.*9 calibration groups", "groups", calibration=few)
    rare = triplets(COUNT, 0, categories=["rare" if k < 5 else "common" for k in range(COUNT)])
    refused(CalibrationError, "5 images of category rare are too few", "categories", calibration=rare)
    heavy = triplets(COUNT, 0, weights=[100.0 if k < 4 else 0.01 for k in range(COUNT)])
    refused(CalibrationError, "4 effective images are too few", "weighted", calibration=heavy)
    refused(CalibrationError, "28 images are too few.*at least 29", "pac", calibration=triplets(28, 0))
    refused(CalibrationError, "at least 150", "rcps_hb", threshold=0.0199)


def test_conditional_mean_says_how_many_it_needs():
    ssim = {
        "distance": "ssim",
        "selection": triplets(60, 1, (16, 16)),
        "calibration": triplets(40, 0, (16, 16)),
    }
    refused(
        CalibrationError,
        r"40 images are too few.*\(conditional_mean\)",
        "conditional_mean",
        threshold=0.3,
        **ssim,
    )


def test_levels_that_are_not_taken():
    refused(InvalidArgumentError, "the expected guarantee takes no confidence", "expected", confidence=0.9)
    refused(InvalidArgumentError, "the marginal guarantee takes no delta", "marginal", delta=0.1)
    refused(InvalidArgumentError, r"delta = 1: must be between 0 and 1", "pac", delta=1.0)


def test_no_selection_images_for_a_choice():
    for guarantee in ("expected", "conditional_mean", "adaptive", "ltt", "simultaneous", "rcps"):
        with pytest.raises(InvalidArgumentError, match="needs selection images"):
            calibrate(SCORER, calibration_for(guarantee), threshold=0.04, loss="l1", promise=guarantee)
    for guarantee in ("marginal", "pac", "groups", "categories", "weighted"):
        images = calibration_for(guarantee)
        calibrate(SCORER, images, threshold=0.04, loss="l1", promise=guarantee)


# facts


def shifted(a, b):
    return 0.25 + (a - b).abs().mean((1, 2, 3))


@pytest.mark.quick(3)
def test_a_distance_that_closed_masks_do_not_keep_is_refused(masker):
    with pytest.raises(CalibrationError, match=r"'shifted' is 0\.25 for fully masked images"):
        made(
            masker.card.promise.guarantee,
            threshold=0.2,
            distance=CustomDistance(shifted, upper_bound=1.25),
            selection=SELECTION,
        )


def test_recalibration_refuses_it_too():
    masker = made("marginal", threshold=0.29, distance=shifted, selection=SELECTION)
    with pytest.raises(CalibrationError, match="fully masked"):
        masker.recalibrate(threshold=0.24)


def test_a_mask_needs_its_category_and_weight():
    (batch,) = triplets(3, 2).batches(3)
    with pytest.raises(InvalidArgumentError, match="category of each image: pass category="):
        made("categories")(batch.x, batch.y_hat)
    with pytest.raises(InvalidArgumentError, match="weight of each image: pass weight="):
        made("weighted")(batch.x, batch.y_hat)
    with pytest.raises(InvalidArgumentError, match="'stain C' was not calibrated"):
        made("categories")(batch.x, batch.y_hat, category=["stain A", "stain C", "stain A"])
    x, y_hat, _ = arrays(1, 2)
    for category in ("stain A", [], ["stain A"] * 2):
        with pytest.raises(InvalidArgumentError, match="a sequence with one category for each of 1 images"):
            made("categories")(x[0], y_hat[0], category=category)
    one = made("categories")(x[0], y_hat[0], category=["stain A"])
    assert isinstance(one, np.ndarray)
    assert one.shape == (8, 8)


@pytest.mark.quick(1)
@pytest.mark.parametrize("bad", [math.nan, -1.0, 0.0, math.inf])
def test_a_weight_that_is_none_opens_nothing(bad):
    batch = next(TEST.batches(40))
    by_column = made("weighted")
    by_callable = made("weighted", triplets(COUNT, 0), weight=lambda x, y_hat: y_hat.mean((1, 2, 3)))
    broken = replace(by_callable, weigh=lambda x, y_hat: torch.full((len(x),), bad))
    with pytest.raises(InvalidArgumentError, match="weight= must give a finite number above 0"):
        by_column(batch.x, batch.y_hat, weight=[1.0] * 39 + [bad])
    with pytest.raises(InvalidArgumentError, match="weight= must give a finite number above 0"):
        broken(batch.x, batch.y_hat)


def test_weights_by_a_callable():
    def brightness(x, y_hat):
        return y_hat.mean((1, 2, 3))

    masker = made("weighted", triplets(COUNT, 0), weight=brightness)
    column = [float(triplet.y_hat.mean()) for triplet in triplets(COUNT, 0)]
    by_column = made("weighted", triplets(COUNT, 0, weights=column))
    (batch,) = TEST.batches(40)
    told = by_column(batch.x, batch.y_hat, weight=batch.y_hat.mean((1, 2, 3)).tolist())
    torch.testing.assert_close(masker(batch.x, batch.y_hat), told)
    with pytest.raises(InvalidArgumentError, match="finite number above 0 for each of"):
        made("weighted", triplets(COUNT, 0), weight=lambda x, y_hat: -brightness(x, y_hat))


def test_weights_that_leave_few_effective_images_are_refused():
    """Known only when all images are scored: one of them outweighs the others."""
    first = triplets(COUNT, 0)[0]
    heaviest = float(first.y_hat.mean())

    def one(x, y_hat):
        return torch.where((y_hat.mean((1, 2, 3)) - heaviest).abs() < 1e-6, 1e9, 1.0)

    with pytest.raises(CalibrationError, match="effective"):
        made("weighted", triplets(COUNT, 0), weight=one)


def test_heavier_images_get_smaller_lambdas():
    masker = made("weighted")
    (batch,) = TEST.batches(40)
    sizes = [float(masker(batch.x, batch.y_hat, weight=[w] * 40).mean()) for w in (0.01, 1.0, 10.0, 1e6)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[2]
    assert sizes[3] == 0, "a new image that outweighs the calibration set is masked"


def test_an_adaptive_lambda_of_a_gridded_distance_is_on_the_grid():
    masker = made("adaptive", distance=signed, selection=SELECTION, threshold=0.004)
    assert masker.card.rule.grid[-1] == math.inf
    assert not masker.card.exact


def test_ranges_of_coverage():
    low, high = made("marginal").coverage_range
    assert low < 0.9 < high
    low, high = made("pac").coverage_range
    assert low == pytest.approx(0.9, abs=0.01)
    assert made("expected").coverage_range is None
