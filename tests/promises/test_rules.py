"""Rules are JSON, and the same afterwards; infinities included."""

import json
import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from conformask.errors import MismatchError
from conformask.promises.axes import LogLinear, fit_loss_quantile
from conformask.promises.order import Curves
from conformask.promises.promise import GUARANTEES, Promise
from conformask.promises.rules import (
    AdaptiveLambda,
    BoundedRisk,
    CategoryLambda,
    ConditionalLambda,
    ConstantLambda,
    ImageCovariates,
    Rule,
    WeightedLambda,
    calibrated_bound,
    rule_from_json,
)
from conformask.records.record import to_jsonable
from worlds import GRID, RANDOM

H = LogLinear(0.1, (1 / 3, -0.7))
FEATURES = 3 * np.random.default_rng(2).normal(size=(60, 2))
LOGS = np.append(np.random.default_rng(3).normal(size=58), [-4.0, 4.0])
MANY: list[Rule] = [
    *(ConstantLambda(lam) for lam in (0.0, 0.1 + 0.2, 1e-300, math.inf)),
    CategoryLambda({"a": 0.25, "b": math.inf, "é": 0.0}),
    WeightedLambda.of(np.array([0.0, 1 / 3, math.inf, math.inf]), np.array([0.1, 0.2, 0.3, 9.0]), 0.1),
    WeightedLambda.of(np.random.default_rng(0).random(50), np.random.default_rng(1).random(50), 0.8),
    *(ConditionalLambda(FEATURES, LOGS, (-4.0, 4.0), 0.9, grid) for grid in (None, GRID)),
    ConditionalLambda(FEATURES[:8], LOGS[:8], (-4.0, 4.0), 0.9),
    *(AdaptiveLambda(H, shift) for shift in (-math.inf, -0.1, math.inf)),
    *(AdaptiveLambda(H, shift, GRID) for shift in (-math.inf, -0.1, math.inf)),
    BoundedRisk(GRID, np.linspace(0, 10, 20), 30, 0.1, 0.0, 1.0),
    BoundedRisk(GRID, np.append(np.linspace(3, 4, 19), math.inf), 30, 0.1, 0.01, 10.0),
]
FACTS = ImageCovariates(
    3,
    weight=np.array([0.0, 0.7, 1e9]),
    category=("b", "a", "é"),
    features=np.array([[0.0, 1.0], [-2.0, 0.3], [5.0, -5.0]]),
    bound_curve=np.linspace(0, 1, 20) * np.array([[0.0], [0.5], [1.0]]),
)


def through_json(rule):
    return json.loads(json.dumps(to_jsonable(rule), allow_nan=False))


@pytest.mark.parametrize("rule", MANY, ids=lambda rule: type(rule).__name__)
def test_the_lambdas_are_the_same_after_json(rule):
    again = rule_from_json(through_json(rule))
    assert type(again) is type(rule)
    lam = rule(FACTS)
    assert lam.dtype == np.float64
    assert lam.shape == (3,)
    assert (lam >= 0).all()
    np.testing.assert_array_equal(again(FACTS), lam)
    assert again.is_vacuous == rule.is_vacuous
    assert through_json(again) == through_json(rule)
    assert isinstance(rule, Rule)


@pytest.mark.parametrize(
    ("rule", "facts"),
    [
        (AdaptiveLambda(H, 0.1), {"features": np.array([[np.nan, 1.0], [0.0, 1.0]])}),
        (AdaptiveLambda(H, 0.1, GRID), {"features": np.array([[np.inf, np.inf], [0.0, 1.0]])}),
        (
            ConditionalLambda(FEATURES, LOGS, (-4.0, 4.0), 0.9),
            {"features": np.array([[np.nan, 1.0], [0.0, 1.0]])},
        ),
        (WeightedLambda.of(np.arange(1.0, 20), np.ones(19), 0.8), {"weight": np.array([np.nan, 1.0])}),
        (
            BoundedRisk(GRID, np.linspace(0, 10, 20), 99, 0.1, 0.0, 1.0),
            {"bound_curve": np.full((2, 20), np.nan)},
        ),
    ],
    ids=["adaptive", "adaptive on a grid", "conditional", "weighted", "bounded risk"],
)
def test_an_image_whose_facts_are_none_is_masked(rule, facts):
    lambdas = rule(ImageCovariates(2, **facts))
    assert lambdas[0] == 0
    assert not np.isnan(lambdas).any()


def test_all_kinds_are_tested():
    assert {type(rule) for rule in MANY} == {*get_args(Rule)}
    assert len({rule.kind for rule in get_args(Rule)}) == len(get_args(Rule))


@pytest.mark.parametrize("own_bound", [False, True])
@pytest.mark.parametrize("name", GUARANTEES)
def test_what_guarantees_make_of_a_world_survives_json(name, own_bound):
    for world in (RANDOM["heavy_tailed"](), RANDOM["non_monotone"]()):
        places = np.arange(400)
        groups = (places // 3).astype(str)
        evidence = replace(world.evidence(places, group=groups), own_bound=own_bound)
        fixed = Promise(name).fit_on_selection(
            replace(world.evidence(places + 1000), own_bound=own_bound), 400
        )
        rule = fixed.rule(evidence)
        again = rule_from_json(through_json(rule))
        facts = world.facts(places + 5000)
        assert rule.needs <= {"weight", "category", "features", "bound_curve"}
        np.testing.assert_array_equal(again(facts), rule(facts))


def test_void():
    """Whether some images are masked wholly, whatever they look like."""
    assert ConstantLambda(0.0).is_vacuous
    assert not ConstantLambda(1e-300).is_vacuous
    assert CategoryLambda({"a": 0.0, "b": 1.0}).is_vacuous
    assert not CategoryLambda({"a": 0.5, "b": math.inf}).is_vacuous
    ones = np.ones(20)
    assert not WeightedLambda.of(np.r_[np.zeros(2), np.ones(18)], ones, 0.9).is_vacuous
    assert WeightedLambda.of(np.r_[np.zeros(3), np.ones(17)], ones, 0.9).is_vacuous
    assert AdaptiveLambda(H, -math.inf).is_vacuous
    assert not AdaptiveLambda(H, math.inf).is_vacuous
    assert not BoundedRisk(GRID, np.zeros(20), 9, 0.1, 0.0, 1.0).is_vacuous
    assert BoundedRisk(GRID, np.ones(20), 9, 0.1, 0.05, 10.0).is_vacuous


def test_a_bounded_risk_is_the_more_careful_the_larger_the_bound():
    rule = BoundedRisk(GRID, np.linspace(0, 3, 20), 29, 0.1, 0.0, 1.0)
    shape = np.linspace(0, 1, 20)
    lam = rule.lambdas(np.linspace(0, 1, 30)[:, None] * shape)
    assert (np.diff(lam) <= 0).all()
    assert lam[0] == math.inf
    assert 0 < lam[-1] < lam[0]
    with_hole = np.where(np.arange(20) == 4, 5.0, 0.0)[None]
    assert rule.lambdas(with_hole)[0] == GRID[3], "a bound that is not monotone stops at its first excess"


def test_a_bounded_risk_allows_exact_equality_and_no_more():
    total = np.array([0.0, 2.0, 2.9, 3.0, 4.0])
    rule = BoundedRisk(np.array([0.0, 1, 2, 3, np.inf]), total, 29, 0.1, 0.0, 1.0)
    assert rule.lambdas(np.full((1, 5), 0.1))[0] == 2, "2.9 + .1 = 30 * .1"
    assert rule.lambdas(np.full((1, 5), 0.1001))[0] == 1
    assert rule.lambdas(np.full((1, 5), 0.0))[0] == 3


def test_nothing_that_is_not_a_number_opens_a_mask():
    total = np.array([0.0, 0.1, np.nan, 0.1, 0.1])
    rule = BoundedRisk(np.array([0.0, 1, 2, 3, np.inf]), total, 29, 0.1, 0.0, 1.0)
    assert rule.lambdas(np.zeros((1, 5)))[0] == 1
    assert rule.lambdas(np.full((1, 5), np.nan))[0] == 0


def test_unknown_rules_are_refused():
    with pytest.raises(MismatchError, match="upgrade"):
        rule_from_json({"kind": "oracle"})
    with pytest.raises(MismatchError, match=r"the rule contains .* for grid"):
        rule_from_json({**through_json(MANY[-1]), "grid": [[0.5], [1, 2]]})


CONFIDENCE, DRAWS = 0.9, 600


def curves_of(losses, features, group=None):
    n = len(losses)
    along = np.column_stack([np.zeros(n), losses])
    return Curves(np.arange(n).astype(str), np.array([0.0, np.inf]), along, along, features, group=group)


def images(n, generator, world):
    """(losses, features): the log of the loss follows the first feature."""
    features = generator.normal(size=(n, 3))
    losses = np.exp(features[:, 0] - 3 + 0.5 * generator.normal(size=n))
    if world == "tied":
        losses = np.ceil(losses * 20) / 20
    if world == "without error":
        losses = np.where(generator.random(n) < 0.6, 0.0, losses)
    return losses, features


def kept(world, n, *, forget=False):
    """P(loss <= bound), and sigma; forget takes the plain quantile, as if no image were to come."""
    generator, met = np.random.default_rng(0), []
    losses, features = images(200, generator, world)
    h = fit_loss_quantile(features, losses, CONFIDENCE)
    for _ in range(DRAWS):
        losses, features = images(n + 20, generator, world)
        confidence = CONFIDENCE * n / (n + 1) if forget else CONFIDENCE
        bound = calibrated_bound(curves_of(losses[:n], features[:n]), h, confidence)
        assert bound is not None
        met.append((losses[n:] <= bound(features[n:]) * (1 + 1e-9)).mean())
    return float(np.mean(met)), float(np.std(met) / np.sqrt(DRAWS))


@pytest.mark.parametrize("n", [9, 25, 100])
@pytest.mark.parametrize("world", ["plain", "tied", "without error"])
def test_it_is_kept(world, n):
    mean, sigma = kept(world, n)
    assert mean >= CONFIDENCE - 4 * sigma
    if world == "plain":
        assert mean <= CONFIDENCE + 1 / (n + 1) + 4 * sigma


def test_the_simulation_shows_a_plain_quantile():
    mean, sigma = kept("plain", 10, forget=True)
    assert mean < CONFIDENCE - 4 * sigma


def test_of_groups_for_an_image_of_a_new_one():
    """Images of a group share a factor: counted as independent, the bound would be too low."""
    generator, met, pooled = np.random.default_rng(1), [], []
    for _ in range(DRAWS):
        sizes = generator.integers(1, 12, 21)
        group = np.repeat(np.arange(21), sizes)
        factor = generator.normal(size=21) + 0.15 * sizes
        losses = np.exp(factor[group] + 0.2 * generator.normal(size=len(group)))
        known, features = group < 20, np.zeros((len(group), 1))
        labels = group[known].astype(str)
        for found, columns in ((met, labels), (pooled, None)):
            bound = calibrated_bound(curves_of(losses[known], features[known], columns), None, CONFIDENCE)
            assert bound is not None
            found.append((losses[~known] <= bound(features[~known])).mean())
    sigma = float(np.std(met) / np.sqrt(DRAWS))
    assert np.mean(met) >= CONFIDENCE - 4 * sigma
    assert np.mean(pooled) < np.mean(met)


def test_it_follows_what_the_score_looks_like():
    generator = np.random.default_rng(2)
    losses, features = images(400, generator, "plain")
    h = fit_loss_quantile(features, losses, CONFIDENCE)
    assert h.coefficients[0] == pytest.approx(1, abs=0.15)
    bound = calibrated_bound(curves_of(*images(400, generator, "plain")), h, CONFIDENCE)
    easy, hard = bound(np.array([[-1.0, 0, 0], [1.0, 0, 0]]))
    assert hard > 4 * easy


def test_where_none_is_known():
    losses, features = images(8, np.random.default_rng(3), "plain")
    assert calibrated_bound(curves_of(losses, features), None, CONFIDENCE) is None, "8 are too few for .9"
    assert calibrated_bound(curves_of(losses, None), None, 0.5) is None
    few = fit_loss_quantile(features, losses, CONFIDENCE)
    assert few == LogLinear(0.0, (0.0, 0.0, 0.0)), "too few to learn more from"
