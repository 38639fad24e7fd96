"""One promise for every confidence and every declared threshold at once."""

import math
from dataclasses import replace

import numpy as np
import pytest

from conformask.errors import InvalidArgumentError
from conformask.promises import axes as certainty
from conformask.promises.axes import THRESHOLDS
from conformask.promises.order import binomial_rank, coverage_range, pointwise_delta, rank_bounds
from conformask.promises.promise import Promise
from promised import too_often
from worlds import RANDOM, evidence_of

CONFIDENCES = np.linspace(0.3, 0.99, 70)
DELTA = 0.1


def any_missed(ranks: np.ndarray, n: int, draws: int = 4000) -> np.ndarray:
    """Whether coverage is below some confidence, at its rank; critical lambdas uniform, one threshold."""
    lam = np.sort(np.random.default_rng(n).random((draws, n)), axis=1)
    deployed = np.where(ranks > 0, lam[:, np.maximum(ranks, 1) - 1], 0.0)
    return (1 - deployed < CONFIDENCES).any(axis=1)


@pytest.mark.parametrize("n", [5, 20, 100, 400])
def test_every_confidence_holds_at_once_tightly(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one threshold declared; many confidences nearly exhaust delta, one at a time would miss more."""
    monkeypatch.setattr(certainty, "THRESHOLDS", 1)
    ranks = np.array([Promise("simultaneous", float(c), DELTA).rank(n) for c in CONFIDENCES])
    missed = any_missed(ranks, n)
    assert not too_often(missed, DELTA)
    lam, bounds = (
        np.sort(np.random.default_rng(1).random((4000, n))),
        rank_bounds(n, pointwise_delta(n, DELTA)),
    )
    every = (lam > bounds).any(axis=1)
    assert every.mean() == pytest.approx(DELTA, abs=4 * math.sqrt(DELTA * (1 - DELTA) / 4000))
    single = np.array([binomial_rank(n, float(c), DELTA) for c in CONFIDENCES])
    assert too_often(any_missed(single, n), DELTA), "a single pac rank holds at all confidences?"


@pytest.mark.quick(1)
@pytest.mark.parametrize("n", [100, 300])
def test_every_threshold_and_confidence_holds_at_once(n: int) -> None:
    """The lambda of a threshold under smooth heavy-tailed curves: scale * threshold / error."""
    world, generator, draws = RANDOM["heavy_tailed"](), np.random.default_rng(n), 300
    error, scale = world.distance[:, -1], 1 / (world.distance[:, 1] / world.distance[:, -1] / 0.02)
    thresholds = np.geomspace(0.005, 0.9, THRESHOLDS)
    critical = np.where(error[:, None] <= thresholds, math.inf, scale[:, None] * thresholds / error[:, None])
    ascending = np.sort(critical, axis=0)
    ranks = np.array([Promise("simultaneous", float(c), DELTA).rank(n) for c in CONFIDENCES])
    singles = np.array([binomial_rank(n, float(c), DELTA) for c in CONFIDENCES])
    missed: dict[str, list[bool]] = {"all": [], "single": []}
    for _ in range(draws):
        lam = np.sort(critical[world.draw(generator, n)], axis=0)
        for name, rank in (("all", ranks), ("single", singles)):
            some = rank > 0
            deployed = lam[rank[some] - 1]
            coverage = [
                1 - np.searchsorted(ascending[:, a], deployed[:, a]) / len(ascending) for a in range(64)
            ]
            missed[name].append(bool((np.array(coverage) < CONFIDENCES[some] - 1e-9).any()))
    assert not too_often(np.array(missed["all"]), DELTA)
    assert too_often(np.array(missed["single"]), DELTA)


def test_the_rank_of_the_mathematics() -> None:
    assert Promise("simultaneous", 0.9, 0.1).rank(1000) == 64
    assert math.floor(1000 * (0.1 - math.sqrt(math.log(64 / 0.1) / 2000))) in (43, 44), "DKW's, see test_band"
    assert binomial_rank(1000, 0.9, 0.1) == 88


def test_the_rule_is_that_order_statistic() -> None:
    critical = np.random.default_rng(0).permutation(np.arange(1.0, 1001.0))
    assert Promise("simultaneous", 0.9, 0.1).rule(evidence_of(critical)).lam == 64
    assert Promise("simultaneous", 0.9, 0.1).rule(evidence_of(critical[:50])).is_vacuous


def test_thresholds_are_declared_on_selection_images() -> None:
    world = RANDOM["heavy_tailed"]()
    selection = world.evidence(np.arange(200))
    fixed = Promise("simultaneous", 0.9, 0.1).fit_on_selection(selection, 1000).axes.certainty
    assert 2 <= len(fixed.thresholds) <= THRESHOLDS
    assert list(fixed.thresholds) == sorted(fixed.thresholds)
    assert selection.threshold in fixed.thresholds
    assert fixed.thresholds[-1] == pytest.approx(selection.curves.loss[:, -1].max())
    for threshold in (*fixed.thresholds, 0.123, 7.0):
        snapped = fixed.snapped(threshold)
        assert snapped in fixed.thresholds
        assert snapped <= threshold * (1 + 1e-9)
        assert not [a for a in fixed.thresholds if snapped < a <= threshold]
    with pytest.raises(InvalidArgumentError, match="below the smallest declared threshold"):
        fixed.snapped(fixed.thresholds[0] / 2)


def test_thresholds_where_no_selection_image_errs() -> None:
    selection = replace(evidence_of(np.full(10, np.inf)), threshold=0.3)
    assert 0.3 in Promise("simultaneous", 0.9, 0.1).fit_on_selection(selection, 100).axes.certainty.thresholds


def test_the_smallest_set() -> None:
    for confidence, delta in ((0.5, 0.1), (0.9, 0.05), (0.95, 0.1)):
        wanted = Promise("simultaneous", confidence, delta)
        n = wanted.smallest_calibration_set(None, None)
        assert wanted.rank(n) >= 1
        assert wanted.rank(n - 1) == 0
        assert coverage_range(n, wanted.rank(n))[0] > confidence


def test_more_declared_thresholds_cost_rank() -> None:
    many = Promise("simultaneous", 0.9, 0.1, thresholds=tuple(np.linspace(0.1, 1, 1000).tolist()))
    assert many.rank(1000) < Promise("simultaneous", 0.9, 0.1).rank(1000)
    few = Promise("simultaneous", 0.9, 0.1, thresholds=(0.1, 0.2))
    assert few.rank(1000) == 64, "the number in the promise is the most that could be declared"
    claim = many.claim("l1", 0.02)
    assert claim.startswith("with probability 0.90 over calibration sets, for 1000 thresholds and every")
