"""A level for each image: what it is, what it hides, and that every promise is kept with it."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import conformask as cm
from conformask.cli.output import show_calibration
from conformask.errors import InvalidArgumentError
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.masker.load import load
from conformask.masks.families import family
from conformask.scores.level import FEWEST, features_by_blocks, fit_level, floors_of, level_features
from conformask.scores.scoring import scored, selection_record
from promised import simulated

SIDE, THRESHOLD, SPREAD = 32, 0.02, 0.8
L1, PROMISE = loss("l1"), cm.Promise()
BELOW = {"name": "binary", "bounds": "largest", "kappa": 0.0}
"""Masks that show what is below lambda."""


def score(x, y_hat):
    """It orders the pixels of an image, and knows nothing about how hard the image is."""
    return x


SCORER = cm.Heuristic(score, channels=1)


def arrays(count, seed, knows=1.0):
    """Errors are those of pixels times the level of the image, which its contrast tells, if `knows`."""
    generator = np.random.default_rng(seed)
    scale = generator.uniform(0.01, 0.1, (count, SIDE, SIDE, 1))
    level, other = (generator.normal(0, SPREAD, (count, 1, 1, 1)) for _ in range(2))
    shown = knows * level + math.sqrt(1 - knows**2) * other
    y_hat = 0.5 + 0.1 * np.exp(shown) * generator.uniform(-0.4, 0.4, scale.shape)
    y = y_hat + np.exp(level) * scale * generator.normal(size=scale.shape)
    return [image.clip(0, 1).astype(np.float32) for image in (scale, y_hat, y)]


def images(count, seed, knows=1.0, **more):
    return Triplets.from_arrays(*arrays(count, seed, knows), **more)


def tensors(count, seed):
    return [torch.from_numpy(each).permute(0, 3, 1, 2) for each in arrays(count, seed)]


SELECTION = images(40, 1)


BINARY = family("binary")
KNOWING = replace(SCORER, selection=selection_record(SCORER, SELECTION, L1, [BINARY]))
"""With what the selection images say for the default family, measured once."""


def calibrated(n=100, seed=2, **more):
    scorer = SCORER if {"selection", "family", "loss"} & more.keys() else KNOWING
    more = {"selection": SELECTION} | more if scorer is SCORER else more
    return cm.calibrate(scorer, images(n, seed), **{"threshold": THRESHOLD, "loss": "l1"} | more)


@pytest.fixture(scope="module")
def masker():
    return calibrated()


def measured(masker, count, seed, **facts):
    """The mean errors of images under their masks, and what is hidden of them."""
    x, y_hat, y = tensors(count, seed)
    mask = masker(x, y_hat, **facts)
    losses = (mask * (y - y_hat).abs()).mean(dim=(1, 2, 3)).numpy()
    return losses, 1 - mask.mean(dim=(1, 2, 3)).numpy()


@pytest.mark.quick(1)
@pytest.mark.parametrize("of", [{}, {"family": BELOW}])
def test_it_hides_less_at_the_same_coverage(of):
    own, one = calibrated(**of), calibrated(**of, level="one")
    assert (own.card.level, one.card.level) == ("image", "one")
    (losses, hidden), (by_one, hidden_by_one) = (measured(each, 400, 3) for each in (own, one))
    assert hidden.mean() < 0.8 * hidden_by_one.mean()
    assert abs((losses <= THRESHOLD).mean() - (by_one <= THRESHOLD).mean()) < 0.08


def test_the_mask_is_what_is_below_lambda_times_the_level(tmp_path):
    """By the arrays of the run and the formula of the documentation alone."""
    masker = calibrated(family=BELOW)
    masker.save(tmp_path)
    (stored,) = (arrays for arrays in map(np.load, tmp_path.glob("**/*.npz")) if "level/centre" in arrays)
    names = ("centre", "scale", "points", "weights", "width")
    centre, scale, points, weights, width = (stored[f"level/{name}"] for name in names)
    x, y_hat, _ = tensors(6, 4)
    standardised = (level_features(x, y_hat, x).numpy() - centre) / scale
    distances = ((standardised[:, None] - points) ** 2).mean(axis=2)
    levels = np.exp(np.round(2**16 * np.exp(-width / 2 * distances) @ weights) / 2**16)
    assert levels.max() > 2 * levels.min()
    expected = x.numpy() < masker.card.rule.lam * levels[:, None, None, None]
    assert (expected != (masker(x, y_hat).numpy() > 0)).mean() < 1e-3


def test_what_a_calibration_prints_says_whose_lambda_it_is(masker, capsys):
    for each, said in ((masker, True), (calibrated(level="one"), False)):
        show_calibration(Path("run"), each, as_json=False)
        assert ("at level 1, and each image has its own level" in capsys.readouterr().out) == said


def test_one_lambda_is_kept_where_nothing_tells_the_level():
    selection = images(40, 5, knows=0.0)
    assert calibrated(selection=selection).card.level == "one"
    with pytest.raises(
        InvalidArgumentError, match="of 40 selection images, the features of an image predict"
    ):
        calibrated(selection=selection, level="image")


def test_one_lambda_is_kept_for_masks_that_a_factor_on_the_score_leaves_as_they_are():
    assert calibrated(loss=cm.MissRate("l1", 0.05), threshold=0.1).card.level == "one"


def test_images_whose_score_is_0_do_not_decide_the_level(masker):
    x, y_hat, y = arrays(40, 1)
    x[:4] = 0
    with_zeros = calibrated(selection=Triplets.from_arrays(x, y_hat, y))
    hidden, usual = (measured(each, 200, 3)[1].mean() for each in (with_zeros, masker))
    assert hidden < usual + 0.04


def test_it_takes_twenty_groups_of_selection_images():
    assert calibrated(selection=images(FEWEST - 1, 6)).card.level == "one"
    groups = [f"patient {k % (FEWEST - 1)}" for k in range(40)]
    assert calibrated(selection=images(40, 6, groups=groups)).card.level == "one"
    assert calibrated(selection=images(FEWEST, 6)).card.level == "image"


def test_calibration_images_change_lambda_alone(masker):
    other = calibrated(seed=7)
    assert other.scorer.fingerprint == masker.scorer.fingerprint
    assert other.card.rule.lam != masker.card.rule.lam


def test_a_run_gives_the_same_masks(masker, tmp_path):
    masker.save(tmp_path)
    again, (x, y_hat, _) = load(tmp_path, scorer=SCORER), tensors(5, 8)
    assert again.card.level == "image"
    torch.testing.assert_close(again(x, y_hat), masker(x, y_hat), rtol=0, atol=0)
    assert again.fingerprint == masker.fingerprint
    other = again.recalibrate(threshold=1.5 * THRESHOLD)
    assert other.card.level == "image"
    assert other(x, y_hat).mean() > again(x, y_hat).mean()


def test_a_level_is_never_fitted_on_top_of_another(masker):
    again = cm.calibrate(masker.scorer, images(100, 2), threshold=THRESHOLD, loss="l1")
    assert again.scorer.fingerprint == masker.scorer.fingerprint
    assert cm.threshold_choices(masker.scorer, loss="l1") == cm.threshold_choices(KNOWING, loss="l1")


def test_a_mask_does_not_depend_on_the_images_beside_it(masker):
    x, y_hat, _ = tensors(8, 9)
    alone = torch.cat([masker(x[k : k + 1], y_hat[k : k + 1]) for k in range(8)])
    torch.testing.assert_close(masker(x, y_hat), alone, rtol=0, atol=0)


def test_scores_are_those_of_the_scorer_over_the_level(masker):
    test = images(4, 15)
    (levelled,), (plain,) = scored(masker.scorer, test, ""), scored(SCORER, test, "")
    ratios = (plain.score.map / levelled.score.map).flatten(1)
    assert float((ratios.amax(dim=1) / ratios.amin(dim=1)).max()) < 1 + 1e-5


@pytest.mark.parametrize("shape", [(2, 3, 40, 70), (1, 1, 6, 40, 45), (3, 1, 50)])
def test_features_by_blocks_are_those_of_the_whole(shape, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x, y_hat, scores = (torch.rand(shape, generator=generator) for _ in range(3))
    whole = level_features(x, y_hat, scores)
    monkeypatch.setattr("conformask.scores.level.BLOCK", 24)
    for row in range(len(x)):

        def read(around, row=row):
            return [each[(slice(row, row + 1), slice(None), *around)] for each in (x, y_hat, scores)]

        by_blocks = features_by_blocks(tuple(shape[2:]), read, floors_of(scores)[row : row + 1])
        torch.testing.assert_close(by_blocks[0], whole[row], rtol=1e-6, atol=1e-6)


GUARANTEES = [
    "marginal",
    "adaptive",
    "pac",
    "ltt",
    "expected",
    "rcps",
    "groups",
    "categories",
    "simultaneous",
]


@pytest.mark.quick(2)
@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_every_guarantee_takes_it(guarantee):
    columns = {
        "groups": {"groups": [f"patient {k // 2}" for k in range(240)]},
        "categories": {"categories": [f"stain {k % 2}" for k in range(240)]},
    }.get(guarantee, {})
    made = cm.calibrate(
        KNOWING, images(240, 11, **columns), threshold=THRESHOLD, loss="l1", promise=guarantee
    )
    assert made.card.level == "image"
    losses, hidden = measured(made, 200, 12, category=["stain 0"] * 200 if columns else None)
    if made.card.promise.axes.statement.bounds_a_mean:
        assert losses.mean() < 1.1 * THRESHOLD
    else:
        assert (losses <= THRESHOLD + 1e-6).mean() > 0.8
    assert 0 < hidden.mean() < 0.9


POPULATION = 2000


@pytest.fixture(scope="module")
def criticals():
    """The critical lambdas of a population, by the scores of one masker and code of these tests."""
    masker, population = calibrated(9, family=BELOW), images(POPULATION, 14)
    scores = [item.score.map.numpy()[:, 0] for item in scored(masker.scorer, population, "")]
    return critical_lambdas(np.concatenate(scores), np.stack([np.abs(t.y - t.y_hat)[0] for t in population]))


def critical_lambdas(scores, errors):
    """The largest lambda at which errors of the pixels below it, over all pixels, are at most THRESHOLD."""
    scores, errors = (each.reshape(len(each), -1) for each in (scores, errors))
    order = np.argsort(scores, axis=1)
    means = np.take_along_axis(errors, order, 1).cumsum(axis=1) / errors.shape[1]
    first = np.take_along_axis(scores, order, 1)[np.arange(len(scores)), (means > THRESHOLD).argmax(axis=1)]
    return np.where(means[:, -1] > THRESHOLD, first, np.inf)


def lambda_of(criticals):
    """Split conformal prediction for a confidence of 0.9."""
    return float(np.sort(criticals)[math.floor(0.1 * (len(criticals) + 1)) - 1])


@pytest.mark.quick(1)
@pytest.mark.parametrize("n", [9, 19, 60])
def test_the_promise_is_kept_over_calibration_sets(criticals, n):
    generator, population = np.random.default_rng(13), images(POPULATION, 14)
    masker = cm.calibrate(
        SCORER, population.select(range(n)), threshold=THRESHOLD, loss="l1", family=BELOW, selection=SELECTION
    )
    assert masker.card.rule.lam == pytest.approx(lambda_of(criticals[:n]), rel=1e-5)
    coverages = [
        (criticals >= lambda_of(criticals[generator.integers(POPULATION, size=n)])).mean()
        for _ in simulated(4000)
    ]
    assert np.mean(coverages) >= 0.9 - 4 * np.std(coverages) / math.sqrt(4000)


@pytest.mark.thorough
def test_a_level_fitted_on_the_calibration_images_would_break_the_promise():
    """Why selection images are needed: 20 images that fit it are easier to themselves than others are."""
    coverages, below = [], family(BELOW)
    for seed in range(100, 112):
        record = selection_record(SCORER, images(20, seed, 0.8), L1, [below])
        model = fit_level(record, below, L1, PROMISE, THRESHOLD)
        if model is None:
            continue
        own, new = (
            critical_lambdas(
                (of_x[:, 0] / model(level_features(of_x, of_y_hat, of_x))[:, None, None]).numpy(),
                (of_y - of_y_hat).abs()[:, 0].numpy(),
            )
            for of_x, of_y_hat, of_y in (
                [torch.from_numpy(each).permute(0, 3, 1, 2) for each in arrays(20, seed, 0.8)],
                [torch.from_numpy(each).permute(0, 3, 1, 2) for each in arrays(400, 16, 0.8)],
            )
        )
        coverages.append((new >= np.sort(own)[1]).mean())
    assert len(coverages) > 5
    assert np.mean(coverages) < 0.87


def test_levels_on_selection_images_are_those_of_fits_without_them():
    record = KNOWING.selection
    model = fit_level(record, BINARY, L1, PROMISE, THRESHOLD)
    assert model is not None
    own = model(torch.from_numpy(record.level_features)).log().numpy()
    assert np.abs(own - model.held_out).max() > 1e-3
    assert np.corrcoef(own, model.held_out)[0, 1] > 0.8
