"""Training ends with what the score is worth, and says where it is worth nothing."""

import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import conformask as cm
from conformask.arrays import Score
from conformask.losses import loss
from conformask.masks.families import family
from conformask.records.record import write_arrays
from conformask.records.selection import ScoreComparison, Selection, threshold_of
from conformask.records.words import comparison_text, judged_text
from conformask.scores.benchmark import hidden_of, spread_over_groups
from synthetic_triplets import triplets


def textured(count, seed):
    """The left half of y_hat is rough and wrong, the right half flat and right; x tells nothing."""
    generator = np.random.default_rng(seed)
    y = np.full((count, 16, 16, 1), 0.5, np.float32)
    y_hat = y.copy()
    y_hat[:, :, :8] += generator.uniform(-0.3, 0.3, (count, 16, 8, 1)).astype(np.float32)
    return cm.Triplets.from_arrays(np.zeros_like(y), y_hat, y)


def told_by_x(count, seed):
    """y_hat is rough everywhere, and wrong where x is 1."""
    generator = np.random.default_rng(seed)
    y = generator.uniform(0.3, 0.7, (count, 16, 16, 1)).astype(np.float32)
    x = (generator.random((count, 4, 4, 1)) < 0.3).repeat(4, axis=1).repeat(4, axis=2).astype(np.float32)
    return cm.Triplets.from_arrays(x, y + x * generator.uniform(-0.3, 0.3, y.shape).astype(np.float32), y)


@pytest.mark.leaf("train")
def test_a_score_that_learnt_nothing_says_so(tmp_path):
    with pytest.warns(UserWarning, match="not useful yet.*scorer spread"):
        scorer = cm.fit_scorer(
            textured(32, 0),
            selection=textured(16, 1),
            out=tmp_path,
            training=cm.TrainingConfig(epochs=1, learning_rate=1e-9),
            network=cm.NetworkOptions(width=4),
        )
    assert scorer.name == "mask"
    comparison = scorer.selection.comparison
    assert comparison.others["spread"] < 0.7 * comparison.others["constant"]
    assert comparison.hidden >= comparison.others["spread"]
    assert comparison.ratios["spread"][1] < 1
    assert Selection.load(tmp_path).comparison == comparison


def test_the_worth_that_conformask_0_2_kept_is_read(tmp_path):
    old = {"n": 64, "threshold": 0.1, "trained": 0.4, "packaged": 0.3, "local_spread": 0.35, "constant": 0.9}
    old |= {"oracle": 0.1, "correlation": None}
    write_arrays(
        tmp_path / "selection.npz",
        {
            "of": np.array(json.dumps({"distance": "l1", "over": None, "region": False})),
            "distance": np.ones(3),
            "worth": np.array(json.dumps(old)),
        },
    )
    comparison = Selection.load(tmp_path).comparison
    others = {"packaged": 0.3, "spread": 0.35, "constant": 0.9}
    assert comparison == ScoreComparison(64, 0.1, 0.4, others, oracle=0.1, correlation=None)
    assert judged_text(comparison).endswith(" its masks hide 40 % of an image.")
    assert comparison_text(comparison) == (
        "On 64 selection images with one lambda for all, the packaged score would hide 0.75 times as "
        "much, the local spread of y_hat 0.87 times as much, a constant score 2.2 times as much, the best "
        "possible masks 0.25 times as much."
    )
    assert comparison_text(replace(comparison, others={"constant": 0.4}), best=False) == (
        "On 64 selection images with one lambda for all, a constant score would hide as much."
    )
    ratios = {"packaged": (0.7, 1.2), "spread": (0.82, 0.93), "constant": (0.9, 3.0)}
    assert comparison_text(replace(comparison, ratios=ratios), best=False) == (
        "On 64 selection images with one lambda for all, the local spread of y_hat would hide 0.87 times as "
        "much (0.82 to 0.93); the packaged score (0.7 to 1.2) and a constant score (0.9 to 3) cannot be told "
        "apart from the score by 64 images."
    )
    assert comparison_text(replace(comparison, hidden=0.0)) == (
        "On 64 selection images, this threshold needs no mask, whichever the score."
    )


@pytest.mark.thorough
@pytest.mark.leaf("train")
def test_a_score_that_learnt_is_smaller_than_those_that_learn_nothing(tmp_path):
    with warnings.catch_warnings(action="error"):
        scorer = cm.fit_scorer(
            told_by_x(128, 0),
            selection=told_by_x(64, 1),
            out=tmp_path,
            training=cm.TrainingConfig(epochs=10),
            network=cm.NetworkOptions(width=8),
        )
    comparison = scorer.selection.comparison
    assert comparison.n == 64
    assert comparison.threshold == threshold_of("q0.1", scorer.selection)
    others = {name: share for name, share in comparison.others.items() if name != "residual"}
    assert set(others) == {"packaged", "spread", "gradient", "constant"}
    assert comparison.oracle < comparison.hidden < 0.9 * min(others.values())
    low, high = comparison.interval
    assert low < comparison.hidden < high
    assert comparison.correlation > 0.5


def test_a_difference_that_is_chance_is_not_clear():
    """Scores of one worth, each right about half of the images: rarely does one hide clearly less."""
    clear = []
    for seed in range(30):
        images, generator = varied(12, seed), np.random.default_rng(seed)
        right = torch.from_numpy(generator.random((2, 12)) < 0.5)[..., None, None, None]
        one, other = (_worth_when(images, which) for which in right)
        clear.append(one.ratio_to(other)[1] < 1)
    assert sum(clear) <= 5, "one of twenty, and the same of the other"


def test_a_difference_that_is_none_of_chance_is_clear():
    images = varied(12, 0)
    always, seldom = torch.ones(12, 1, 1, 1, dtype=torch.bool), torch.zeros(12, 1, 1, 1, dtype=torch.bool)
    seldom[0] = True
    assert _worth_when(images, always).ratio_to(_worth_when(images, seldom))[1] < 1
    assert _worth_when(images, seldom).ratio_to(_worth_when(images, always))[0] > 1


def _worth_when(images, right):
    """What a score hides that knows the errors of these images, and of the others nothing."""
    batch = next(images.batches(len(images)))
    error = (batch.y - batch.y_hat).abs()
    score = torch.where(right, error, error.mean((1, 2, 3), keepdim=True).expand_as(error))
    counts = np.random.default_rng(0).multinomial(len(images), np.full(len(images), 1 / len(images)), 400)
    return hidden_of([batch.with_score(Score(score))], loss("l1"), family("water_filling"), 0.02, counts)


def test_the_interval_is_that_of_sets_like_this_one():
    """It has the hidden share of nine of ten other selection sets, give or take."""

    def hidden(seed):
        batch = next(varied(30, seed).batches(30))
        item = batch.with_score(Score(cm.local_spread(batch.x, batch.y_hat)))
        counts = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), 400)
        counts[0] = 1  # the set itself
        return hidden_of([item], loss("l1"), family("water_filling"), 0.02, counts)

    assert hidden(0).drawn[0] == pytest.approx(hidden(0).share)
    low, high = np.quantile(hidden(0).drawn, (0.05, 0.95))
    shares = np.array([hidden(seed).share for seed in range(1, 31)])
    assert 0.6 <= np.mean((shares >= low) & (shares <= high)) <= 1
    assert np.ptp(shares) / 4 < high - low < 3 * np.ptp(shares)


def varied(count, seed):
    """Some images err ten times as much as others."""
    generator = np.random.default_rng(seed)
    y = np.full((count, 16, 16, 1), 0.5, np.float32)
    errors = generator.lognormal(-3, 0.8, (count, 1, 1, 1)) * generator.uniform(-1, 1, y.shape)
    return cm.Triplets.from_arrays(np.zeros_like(y), (y + errors).clip(0, 1).astype(np.float32), y)


def test_images_come_from_as_many_groups_as_there_are():
    images = np.zeros((60, 4, 4), np.float32)
    groups = [f"patient {at % 12}" for at in range(60)]
    triplets = cm.Triplets.from_arrays(images, images, images, groups=groups)
    assert sorted(spread_over_groups(triplets, 24).groups) == sorted(groups[:24])
    assert len(spread_over_groups(triplets, 100)) == 60


@pytest.mark.leaf("train")
def test_its_size_is_that_of_calibration(tmp_path):
    """The masks of the local spread at that promise, made by the ordinary way on the same images."""
    selection = textured(40, 1)
    scorer = cm.fit_scorer(
        textured(32, 0),
        selection=selection,
        out=tmp_path,
        training=cm.TrainingConfig(epochs=1),
        network=cm.NetworkOptions(width=4),
    )
    comparison = scorer.selection.comparison
    heuristic = cm.Heuristic(cm.local_spread, 1)
    masker = cm.calibrate(
        heuristic, selection, threshold=comparison.threshold, loss="l1", family=scorer.family
    )
    batch = next(selection.batches(40))
    masks = masker.masks(batch.x, batch.y_hat)
    assert float((1 - masks).mean()) == pytest.approx(comparison.others["spread"], abs=0.01)


@pytest.mark.leaf("train")
def test_time_that_was_up_too_early_is_told(tmp_path):
    with (
        pytest.warns(UserWarning, match="not useful yet"),
        pytest.warns(UserWarning, match="time ran out after epoch 1 while the loss was still falling"),
    ):
        cm.fit_scorer(
            triplets(64, 0),
            selection=triplets(16, 1),
            out=tmp_path,
            scorer="mask",
            training=cm.TrainingConfig(max_minutes=1e-4, batch_size=8),
            network=cm.NetworkOptions(width=4),
        )


@pytest.mark.leaf("train")
@pytest.mark.parametrize(
    ("losses", "settled"),
    [
        ([1.0], False),
        ([1.0, 0.5], False),
        ([4.0, 2.0, 1.1, 1.0], False),
        ([4.0, 1.1, 1.0, 1.0], True),
        ([1.0, 1.0], True),
    ],
)
def test_settled(tmp_path, losses, settled):
    from conformask.extras.train.training import Budget, Record

    record = Record(tmp_path, Budget(epochs=None, max_minutes=1.0, learning_rate=1.0))
    record.rows = [{"selection_loss": loss} for loss in losses]
    assert record.settled() is settled


@pytest.mark.leaf("train")
def test_while_it_trains_it_says_how_it_stands(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("conformask.extras.train.training.SECONDS", 0.0)
    monkeypatch.setattr("conformask.background.SECONDS", 0.0)
    with warnings.catch_warnings(action="ignore"):
        scorer = cm.fit_scorer(
            told_by_x(32, 0),
            selection=told_by_x(16, 1),
            out=tmp_path,
            scorer="mask",
            training=cm.TrainingConfig(epochs=3, learning_rate=1e-9),
            network=cm.NetworkOptions(width=4),
        )
    shares = re.findall(r"hides ([\d.]+).%, best ([\d.]+).%", capsys.readouterr().err)
    trained, best = map(float, shares[-1])
    comparison = scorer.selection.comparison
    assert trained == pytest.approx(100 * comparison.hidden, abs=1)
    assert best == pytest.approx(100 * comparison.oracle, abs=1)
