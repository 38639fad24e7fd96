"""Where masks begin to open, for losses relative to what is shown: few pixels decide there."""

import math
import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

import conformask as cm
from conformask.images.triplets import Triplets
from conformask.masker.guards import warn_if_another_hides_less
from conformask.masker.load import load
from conformask.masks.families import family
from conformask.promises.order import Curves
from conformask.promises.promise import Promise
from conformask.scores.scoring import selection_record
from promised import simulated
from synthetic_triplets import scale_of

SIDE, THRESHOLD, KNOWN = 24, 0.05, 0.05
SCORER = cm.Heuristic(scale_of, channels=1)


def arrays(count, seed):
    """Errors grow with x; the truth is known at a twentieth of the pixels, so that few of the first are."""
    generator = np.random.default_rng(seed)
    x = generator.random((count, SIDE, SIDE))
    error = (0.02 + 0.04 * x) * generator.exponential(size=x.shape)
    y_hat = np.full_like(x, 0.2)
    known = generator.random(x.shape) < KNOWN
    return [each.astype(np.float32) for each in (x, y_hat, y_hat + error.clip(max=0.8), known)]


def images(count, seed, **more):
    *roles, known = arrays(count, seed)
    return Triplets.from_arrays(*roles, regions=known, **more)


SELECTION, FAMILY = images(40, 1), family({"name": "binary", "bounds": "mean"})
LOSSES = {
    "trusted": (cm.MeanShown("l1", regional=True), THRESHOLD),
    "wrong": (cm.FalseOmissionRate("l1", 0.1, regional=True), 0.16),
}


@cache
def knowing(over):
    """The scorer with what the selection images say, measured once for all calibrations."""
    record = selection_record(SCORER, SELECTION, LOSSES[over][0], [FAMILY], levels=False)
    return replace(SCORER, selection=record)


def calibrated(over="trusted", n=60, seed=2, **more):
    loss, threshold = LOSSES[over]
    more = {"threshold": threshold, "level": "one"} | more
    columns = {name: more.pop(name) for name in ("groups", "categories") if name in more}
    return cm.calibrate(knowing(over), images(n, seed, **columns), loss=loss, **more)


def losses_of(masker, count, seed, **facts):
    """The mean error of the known pixels that are shown, of new images, and the hidden share."""
    x, y_hat, y, known = arrays(count, seed)
    mask = masker(*(torch.from_numpy(each)[:, None] for each in (x, y_hat)), **facts)[:, 0].numpy()
    shown = mask * known
    return (shown * (y - y_hat)).sum(axis=(1, 2)) / shown.sum(axis=(1, 2)).clip(min=1), 1 - mask.mean()


@pytest.mark.parametrize("over", LOSSES)
def test_masks_open_far_where_first_pixels_would_close_them(over, monkeypatch):
    masker = calibrated(over)
    assert masker.card.start > 0
    assert masker.grid[1] >= masker.card.start
    monkeypatch.setattr("conformask.masker.choices.start_of", lambda *_: 0.0)
    from_zero = calibrated(over)
    assert masker.card.hidden < 0.5 * from_zero.card.hidden


@pytest.mark.thorough
def test_the_promise_is_kept_on_new_images_and_more_than_once():
    """By deployed masks, over draws of the calibration set, with code that knows only the sentence."""
    x, y_hat, y, known = arrays(1000, 3)
    masker = calibrated(n=19)
    grid = masker.grid
    losses = np.empty((len(x), len(grid)))
    order = [np.argsort(each) for each in x.reshape(len(x), -1)]
    scores = np.stack([each[place] for each, place in zip(x.reshape(len(x), -1), order, strict=True)])
    counted = np.stack([k.ravel()[place] for k, place in zip(known, order, strict=True)]).cumsum(axis=1)
    errors = (known * (y - y_hat)).reshape(len(x), -1)
    means = np.stack([e[place] for e, place in zip(errors, order, strict=True)]).cumsum(axis=1)
    means = means / counted.clip(min=1)
    batch = torch.from_numpy(x[:, None])
    for at, lam in enumerate(grid):
        boundary = masker.family.level(batch, torch.full((len(x),), float(lam)))[:, 0].numpy()
        shown = np.array([np.searchsorted(row, edge) for row, edge in zip(scores, boundary, strict=True)])
        losses[:, at] = np.where(shown > 0, means[np.arange(len(x)), shown.clip(min=1) - 1], 0.0)
    met = losses <= THRESHOLD
    last = np.where(met.all(axis=1), len(grid), met.argmin(axis=1)) - 1  # before the first that fails
    generator = np.random.default_rng(4)
    for n in (9, 19, 60):
        coverages, rank = [], math.floor(0.1 * (n + 1))
        for _ in simulated(2000):
            place = np.sort(last[generator.integers(len(x), size=n)])[rank - 1]
            coverages.append(met[:, place].mean())
        assert np.mean(coverages) >= 0.9 - 4 * np.std(coverages) / math.sqrt(2000), n


@pytest.mark.quick(3)
@pytest.mark.parametrize("guarantee", ["pac", "ltt", "expected", "groups", "categories", "simultaneous"])
def test_every_promise_begins_there(guarantee):
    columns = {
        "groups": {"groups": [f"patient {k // 2}" for k in range(120)]},
        "categories": {"categories": [f"stain {k % 2}" for k in range(120)]},
    }.get(guarantee, {})
    masker = calibrated(n=120, promise=guarantee, **columns)
    assert masker.card.start > 0
    losses, hidden = losses_of(
        masker, 200, 5, category=["stain 0"] * 200 if "categories" in columns else None
    )
    assert hidden < 0.6
    assert (losses <= THRESHOLD).mean() > 0.85 or masker.card.promise.axes.statement.bounds_a_mean


def test_another_threshold_begins_elsewhere_and_a_run_begins_where_it_did(tmp_path):
    masker = calibrated()
    masker.save(tmp_path)
    again = load(tmp_path, scorer=SCORER)
    assert again.card.start == masker.card.start
    np.testing.assert_array_equal(again.grid, masker.grid)
    assert again.recalibrate(threshold=0.045).card.start == masker.card.start, "it has no selection images"
    recalibrated, fresh = masker.recalibrate(threshold=0.045), calibrated(threshold=0.045)
    assert recalibrated.card.start == fresh.card.start != masker.card.start
    assert recalibrated.card.hidden == pytest.approx(fresh.card.hidden, abs=0.05)


@pytest.mark.parametrize(
    ("n", "loss", "warns"), [(100, "ssim", True), (28, "ssim", False), (100, "l1", False)]
)
def test_a_guarantee_that_hides_far_less_is_named(n, loss, warns):
    grid = np.concatenate([[0], np.geomspace(0.01, 1, 64), [np.inf]])
    losses = np.zeros((n, len(grid)))
    losses[np.arange(n), 1 + np.arange(n) % 64] = 1  # each image fails at one lambda of its own
    sizes = np.tile(np.linspace(1, 0, len(grid)), (n, 1))
    selection = Curves(np.arange(n).astype(str), grid, losses, sizes)
    with warnings.catch_warnings(record=True, action="always") as caught:
        warn_if_another_hides_less(selection, 0.5, Promise("marginal", 0.9), cm.losses.loss(loss))
    said = [str(each.message) for each in caught]
    expected = "ltt, which promises more, would hide about 0% where marginal hides 94%, by 100 selection"
    assert [expected in each for each in said] == [True] * warns
