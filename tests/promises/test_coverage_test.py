"""What is measured: intervals of proportions, and what is called worse than chance, by simulation."""

import numpy as np
import pytest
from scipy import stats

from conformask.promises import coverage_test as law
from conformask.promises.axes import Image, ImageOfNewGroup, first_of_each, group_means
from conformask.promises.coverage_test import PValues, coverage_p_values, resampled_p_values
from conformask.promises.intervals import bootstrap, clopper_pearson, grouped_proportion
from conformask.promises.promise import Promise
from promised import simulated, too_often
from worlds import RANDOM, THRESHOLD

LEVEL = 0.05
NEW = 150


def losses_on(world, wanted, places, lambdas):
    if wanted.axes.statement.bounds_a_mean:
        return world.risk(places, lambdas)
    return (~world.passing(places, lambdas)).astype(float)


@pytest.mark.quick(1)
@pytest.mark.parametrize("world", ["heavy_tailed", "flat", "non_monotone"])
@pytest.mark.parametrize(("name", "delta"), [("marginal", None), ("pac", 0.1)])
def test_a_rank_is_rarely_called_worse_than_chance(world, name, delta):
    """Where critical lambdas are distinct as often as the level says; where they tie, more rarely."""
    images, generator = RANDOM[world](), np.random.default_rng(0)
    worse = np.zeros(400, bool)
    for draw in simulated(len(worse)):
        wanted = Promise(name, 0.9, delta)
        if wanted.needs_selection:
            wanted = wanted.fit_on_selection(images.evidence(np.arange(200)), 60)
        rule = wanted.rule(images.evidence(images.draw(generator, 60)))
        new = images.draw(generator, NEW)
        losses = losses_on(images, wanted, new, rule(images.facts(new)))
        worse[draw] = coverage_p_values(60, wanted.rank(60), losses == 0).worse < LEVEL
    assert not too_often(worse, LEVEL)
    if world == "heavy_tailed" and name == "marginal":
        assert worse.mean() > LEVEL / 2, "the law is that of the masks"


@pytest.mark.thorough
def test_a_binomial_law_would_cry_wolf():
    """As it was before: the calibration set taken for the population."""
    images, generator = RANDOM["heavy_tailed"](), np.random.default_rng(0)
    alarms = []
    for _ in simulated(400):
        lam = Promise("marginal", 0.9).rule(images.evidence(images.draw(generator, 60))).lam
        new = images.draw(generator, 1000)
        met = images.passing(new, np.full(1000, lam))
        alarms.append(
            (met.mean() < 0.9 - 1.645 * np.sqrt(0.09 / 1000), coverage_p_values(60, 6, met).worse < LEVEL)
        )
    naive, by_law = np.mean(alarms, axis=0)
    assert naive > 0.25
    assert by_law < LEVEL + 4 * np.sqrt(LEVEL / 400)


@pytest.mark.thorough
@pytest.mark.parametrize("world", ["heavy_tailed", "non_monotone"])
@pytest.mark.parametrize(
    ("name", "delta"), [("ltt", 0.1), ("expected", None), ("rcps", 0.1), ("adaptive", None)]
)
def test_what_has_no_rank_is_rarely_called_worse(world, name, delta, monkeypatch):
    monkeypatch.setattr(law, "DRAWS", 39)
    images, generator, wanted = RANDOM[world](), np.random.default_rng(1), Promise(name, None, delta)
    worse = np.zeros(60, bool)
    for draw in simulated(len(worse)):
        calibration = images.evidence(images.draw(generator, 80))
        rule, new = wanted.rule(calibration), images.draw(generator, NEW)
        losses = losses_on(images, wanted, new, rule(images.facts(new)))
        worse[draw] = resampled_p_values(wanted, calibration, losses).worse < LEVEL
    assert worse.mean() < 2 * LEVEL + 4 * np.sqrt(LEVEL / len(worse)), "the bootstrap is an approximation"


def of_groups(world, generator, k):
    """Places and groups of k groups of 1 to 8 images, all of a group about as hard."""
    order = np.argsort(world.hardness)
    centres, counts = generator.integers(len(order), size=k), generator.integers(1, 9, k)
    groups = np.repeat(np.arange(k), counts)
    spread = generator.integers(-500, 500, len(groups))
    return order[(centres[groups] + spread).clip(0, len(order) - 1)], groups


@pytest.mark.quick(1)
@pytest.mark.parametrize("shift", [False, True])
def test_groups_count_together(shift, monkeypatch):
    monkeypatch.setattr(law, "DRAWS", 39)
    images, generator = RANDOM["heavy_tailed"](), np.random.default_rng(2)
    worse = np.zeros(60, bool)
    for draw in simulated(len(worse)):
        places, labels = of_groups(images, generator, 40)
        calibration = images.evidence(places, group=labels)
        rule = Promise("groups", 0.8).rule(calibration)
        new, of_new = of_groups(images, generator, 30)
        losses = (~images.passing(new, np.full(len(new), (10 if shift else 1) * rule.lam))).astype(float)
        worse[draw] = (
            resampled_p_values(Promise("groups", 0.8), calibration, group_means(losses, of_new)).worse < LEVEL
        )
    if shift:
        assert worse.mean() > 0.5, "ten times the lambda"
    else:
        assert worse.mean() < 2 * LEVEL + 4 * np.sqrt(LEVEL / len(worse))


def test_the_expected_range_holds_95_of_100_tests():
    """From its lower end to its upper one, by drawn calibration sets and tests."""
    generator = np.random.default_rng(0)
    failing = generator.binomial(NEW, generator.beta(6, 55, size=20_000)) / NEW
    low, high = coverage_p_values(60, 6, np.ones(NEW, bool)).expected or (1, 0)
    assert low < failing.mean() < high
    assert (failing < low).mean() < 0.025
    assert 0.95 <= ((failing >= low) & (failing <= high)).mean() < 0.97
    assert (failing > high).mean() < 0.03


def test_p_values_by_hand():
    """Under one critical lambda, each number of three new images passes with probability 1 / 4."""
    found = coverage_p_values(1, 1, np.array([True, True, False]))
    assert (found.worse, found.better) == pytest.approx((3 / 4, 1 / 2)), "at most, and at least, two"


def test_it_sees_a_lambda_that_is_too_large():
    images, generator = RANDOM["heavy_tailed"](), np.random.default_rng(3)
    lam = Promise("marginal", 0.9).rule(images.evidence(images.draw(generator, 200))).lam
    new = images.draw(generator, 400)
    tails = coverage_p_values(200, 20, images.passing(new, np.full(400, 3 * lam)))
    assert tails.worse < 1e-4
    assert tails.better > 0.999


def test_losses_are_what_the_promise_is_about():
    distances = np.array([0.5, 1.0, 1.5, 0.1]) * THRESHOLD
    assert Promise("marginal", 0.9).axes.statement.bounded(distances, THRESHOLD).tolist() == [0, 0, 1, 0]
    assert Promise("expected").axes.statement.bounded(distances, THRESHOLD).tolist() == distances.tolist()
    groups = np.array(["a", "a", "a", "b"])
    assert ImageOfNewGroup().losses(distances, groups) == pytest.approx([distances[:3].mean(), distances[3]])
    assert Image().losses(distances, groups).tolist() == distances[[0, 3]].tolist()
    assert first_of_each(np.array(["b", "a", "b", "c", "a"])).tolist() == [0, 1, 3]
    assert PValues(0.02, 0.99).correct(3) == PValues(0.06, 0.99)
    assert PValues(0.5, 0.6).correct(3) == PValues(1.0, 0.6)


@pytest.mark.parametrize("level", [0.95, 0.8])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (18, 20), (1, 300), (271, 300)])
def test_clopper_pearson_against_scipy(k, n, level):
    expected = stats.binomtest(k, n).proportion_ci(level, method="exact")
    assert clopper_pearson(k, n, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_bootstrap_is_near_the_normal_interval_and_repeatable():
    values = np.random.default_rng(0).exponential(size=400)
    half = 1.96 * values.std() / 20
    low, high = bootstrap(values)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)
    assert bootstrap(values) == (low, high)
    assert bootstrap(values, seed=1) != (low, high)
    wide = bootstrap(values, level=0.99)
    assert wide[0] < low < high < wide[1]


def test_bootstrap_draws_whole_groups():
    generator = np.random.default_rng(1)
    values = np.repeat(generator.random(20), 20) + 0.01 * generator.random(400)
    groups = np.repeat([f"slide {k}" for k in range(20)], 20)
    alone, grouped = bootstrap(values), bootstrap(values, groups=groups)
    ratio = (grouped[1] - grouped[0]) / (alone[1] - alone[0])
    assert 3.5 < ratio < 5.5, "20 images a group that are all alike widen by about sqrt(20)"
    assert bootstrap(values, groups=np.arange(400)) == alone


def test_bootstrap_of_groups_counts_images_and_not_groups():
    """Large groups have large values: the mean over groups would lie far below that over images."""
    generator = np.random.default_rng(2)
    sizes = generator.integers(1, 12, 60)
    groups, values = np.repeat(np.arange(60), sizes), np.repeat(sizes / 12, sizes)
    of_each = [values[groups == group] for group in range(60)]
    assert np.mean([own.mean() for own in of_each]) < bootstrap(values, groups=groups)[0] < values.mean()
    chosen = generator.integers(60, size=(2000, 60))
    means = [np.concatenate([of_each[group] for group in draw]).mean() for draw in chosen]
    assert bootstrap(values, groups=groups) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)


RUNS = 400


def met_of_groups(generator, k, alike, share):
    """k groups of 5 to 40 images; `alike` is the correlation of two images of a group."""
    counts = generator.integers(5, 40, k)
    strength = (1 - alike) / alike
    own = generator.beta(share * strength, (1 - share) * strength, k)
    groups = np.repeat(np.arange(k), counts)
    return generator.random(len(groups)) < own[groups], groups


@pytest.mark.quick(3)
@pytest.mark.parametrize("each_group_alike", [False, True])
@pytest.mark.parametrize(("k", "alike"), [(12, 0.05), (30, 0.05), (30, 0.3), (60, 0.6)])
def test_they_hold_the_true_share_as_often_as_they_say(k, alike, each_group_alike):
    """Clopper-Pearson of the images alone holds it in half of these cases."""
    generator = np.random.default_rng(0)
    held, naive = [], []
    for _ in range(RUNS):
        met, groups = met_of_groups(generator, k, alike, 0.9)
        _, (low, high) = grouped_proportion(met, groups, each_group_alike=each_group_alike)
        held.append(low <= 0.9 <= high)
        low, high = clopper_pearson(int(met.sum()), len(met))
        naive.append(low <= 0.9 <= high)
    assert np.mean(held) >= 0.92 - 3 * np.sqrt(0.05 * 0.95 / RUNS)
    assert np.mean(naive) < 0.9


def test_single_images_have_the_exact_interval():
    met = np.arange(20) < 17
    assert grouped_proportion(met, np.arange(20)) == (17 / 20, clopper_pearson(17, 20))


def test_groups_that_are_all_alike_count_once():
    met, groups = np.repeat(np.arange(20) < 17, 30), np.repeat(np.arange(20), 30)
    share, (low, high) = grouped_proportion(met, groups)
    expected = clopper_pearson(17, 20)
    assert share == 17 / 20
    assert (low, high) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("met", [True, False])
def test_where_all_images_agree_groups_are_counted(met):
    share, interval = grouped_proportion(np.full(600, met), np.repeat(np.arange(20), 30))
    assert share == float(met)
    assert interval == clopper_pearson(20 * met, 20)


def test_one_group_says_nearly_nothing():
    _, (low, high) = grouped_proportion(np.arange(50) < 45, np.zeros(50))
    assert high - low > 0.9


def test_groups_count_by_their_images_or_alike():
    met, groups = np.array([True] * 9 + [False]), np.array(["a"] * 9 + ["b"])
    assert grouped_proportion(met, groups)[0] == pytest.approx(0.9)
    assert grouped_proportion(met, groups, each_group_alike=True)[0] == pytest.approx(0.5)
