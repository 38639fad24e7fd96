"""Promises about means: rcps, expected, and learn then test."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from conformask.errors import InvalidArgumentError
from conformask.promises.order import CalibrationData, Curves, binomial_rank, meets_threshold
from conformask.promises.procedures import RCPS, hashed_order, hoeffding_bentkus, waudby_smith_ramdas
from conformask.promises.promise import Promise
from conformask.promises.rules import BoundedRisk, ConstantLambda
from promised import breaks_mean, breaks_pac, breaks_rcps, goes_beyond, risk, sigma, simulated, too_often
from worlds import GRID, RANDOM, THRESHOLD, constant_risk, evidence_of, staircase, swinging

DELTA = 0.1
Losses = Callable[[np.random.Generator, int, float], np.ndarray]
LOSSES: dict[str, Losses] = {
    "rare": lambda generator, n, mean: (generator.random(n) < mean).astype(float),
    "two points": lambda generator, n, mean: np.where(generator.random(n) < mean / 0.999, 0.999, 0.0),
    "halves": lambda generator, n, mean: np.where(generator.random(n) < 2 * mean, 0.5, 0.0),
    "beta": lambda generator, n, mean: generator.beta(0.1, 0.1 * (1 - mean) / mean, n),
    "all alike": lambda generator, n, mean: np.full(n, mean * (1 + 1e-6)),
}


def certified(certifies, losses, n, mean, draws=1000):
    """Whether a mean of exactly the level, or a hair above it, is certified."""
    generator = np.random.default_rng([n, round(1000 * mean)])
    return np.array([certifies(losses(generator, n, mean), mean, DELTA) for _ in simulated(draws)])


@pytest.mark.parametrize("certifies", [waudby_smith_ramdas, hoeffding_bentkus])
@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize(("n", "mean"), [(1, 0.45), (5, 0.1), (20, 0.3), (100, 0.02), (500, 0.05)])
def test_errors_are_as_rare_as_promised(certifies, losses, n, mean):
    assert not too_often(certified(certifies, LOSSES[losses], n, mean), DELTA)


def wealth_of(stake_sees_its_loss):
    """Waudby-Smith and Ramdas again, with each stake from losses up to its own, as it should not be."""

    def certifies(losses, level, delta):
        n = len(losses)
        mean = (0.5 + losses.cumsum()) / (np.arange(n) + 2)
        variance = (0.25 + ((losses - mean) ** 2).cumsum()) / (np.arange(n) + 2)
        known = variance if stake_sees_its_loss else np.array([0.25, *variance[:-1]])
        stake = np.minimum(1, np.sqrt(2 * math.log(1 / delta) / (n * known)))
        return bool((1 - stake * (losses - level)).cumprod().max() >= 1 / delta)

    return certifies


def test_waudby_smith_ramdas_is_the_textbook_product():
    generator, textbook = np.random.default_rng(0), wealth_of(stake_sees_its_loss=False)
    answers = []
    for _ in range(500):
        losses, level = generator.beta(0.5, 4, 60), float(generator.uniform(0.05, 0.3))
        answers.append(waudby_smith_ramdas(losses, level, DELTA))
        assert answers[-1] == textbook(losses, level, DELTA)
    assert 50 < sum(answers) < 450


def naive(losses, level, delta):
    return bool(losses.mean() <= level)


def central_limit(losses, level, delta):
    return bool(losses.mean() + stats.norm.isf(delta) * losses.std() / math.sqrt(len(losses)) <= level)


def without_logarithm(losses, level, delta):
    return hoeffding_bentkus(losses, level, min(1 - 1e-9, delta * math.e**2))


def floored(losses, level, delta):
    """Bentkus with the floor of the sum of losses (lightning-uq-box 0.2.0, im2im-uq)."""
    return math.e * float(stats.binom.cdf(math.floor(losses.sum()), len(losses), level)) <= delta


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("broken", "losses", "n", "mean"),
    [
        (wealth_of(stake_sees_its_loss=True), "rare", 200, 0.1),
        (naive, "beta", 20, 0.3),
        (central_limit, "rare", 100, 0.02),
        (without_logarithm, "rare", 100, 0.02),
        (floored, "two points", 5, 0.5),
    ],
    ids=["stake sees its loss", "naive", "central limit", "delta too large", "floor for ceil"],
)
def test_the_judge_notices_broken_bounds(broken, losses, n, mean):
    assert too_often(certified(broken, LOSSES[losses], n, mean, draws=4000), DELTA)
    for right in (waudby_smith_ramdas, hoeffding_bentkus):
        assert not too_often(certified(right, LOSSES[losses], n, mean, draws=2000), DELTA)


@pytest.mark.parametrize("n", [1, 2, 5, 40, 300])
@pytest.mark.parametrize("level", [0.03, 0.3, 0.5, 0.8, 0.97])
def test_hoeffding_bentkus_errs_exactly_as_rarely_as_promised(n, level):
    """No simulation: all sums of n losses that are 0 or v, with mean level."""
    for value in (1.0, 0.999, max(0.5, level)):
        hits = [hoeffding_bentkus(np.repeat([value, 0.0], [k, n - k]), level, DELTA) for k in range(n + 1)]
        chance = stats.binom.pmf(np.arange(n + 1), n, level / value)
        assert chance[hits].sum() <= DELTA * (1 + 1e-9)
        assert hits == sorted(hits, reverse=True), "more losses, no longer certified"


def test_the_ends():
    for certifies in (waudby_smith_ramdas, hoeffding_bentkus):
        assert not certifies(np.ones(50), 0.5, DELTA)
        assert certifies(np.ones(1), 1.0, DELTA), "no mean of losses in [0, 1] is above 1"
        assert certifies(np.zeros(50), 0.1, DELTA)
        assert not certifies(np.zeros(5), 0.1, DELTA)
        assert not certifies(np.full(30, 0.3), 0.3, DELTA)
    n = math.ceil(math.log(DELTA) / math.log(0.9))
    assert hoeffding_bentkus(np.zeros(n), 0.1, DELTA), "0.9^n <= delta: Hoeffding's is exact without losses"
    assert not hoeffding_bentkus(np.zeros(n - 1), 0.1, DELTA)


def test_hoeffding_bentkus_does_not_depend_on_the_order_and_waudby_smith_ramdas_does():
    losses = np.repeat([0.0, 1.0], [60, 4])
    generator = np.random.default_rng(0)
    shuffled = [generator.permutation(losses) for _ in range(200)]
    assert len({hoeffding_bentkus(some, 0.15, DELTA) for some in shuffled}) == 1
    assert len({waudby_smith_ramdas(some, 0.15, DELTA) for some in shuffled}) == 2


def test_waudby_smith_ramdas_is_the_sharper_where_losses_are_alike():
    generator = np.random.default_rng(1)
    sets = [generator.uniform(0.05, 0.11, 200) for _ in range(20)]
    assert all(waudby_smith_ramdas(losses, 0.13, DELTA) for losses in sets)
    assert not any(hoeffding_bentkus(losses, 0.1, DELTA) for losses in sets)


def test_hoeffding_bentkus_is_the_published_p_value():
    """Of 3 losses in 100 at level .1: Hoeffding's exp(-100 kl) is .0258, Bentkus' e P(Bin <= 3) is .0213."""
    losses = np.repeat([1.0, 0.0], [3, 97])
    bentkus = math.e * sum(math.comb(100, k) * 0.1**k * 0.9 ** (100 - k) for k in range(4))
    assert bentkus == pytest.approx(0.0213, abs=1e-4)
    assert hoeffding_bentkus(losses, 0.1, 1.001 * bentkus)
    assert not hoeffding_bentkus(losses, 0.1, 0.999 * bentkus)


def bernstein_across_lambdas(evidence):
    """An empirical Bernstein bound whose variance is that of the curve of means (MAPIE once)."""
    mean = evidence.risk().mean(axis=0)
    log = math.log(2 / 0.1)
    slack = math.sqrt(2 * mean[1:].var() * log / evidence.n) + 7 * log / (3 * (evidence.n - 1))
    passing = mean + slack <= evidence.threshold
    return ConstantLambda(float(GRID[np.flatnonzero(passing).max(initial=0)]))


def of_raw_means(evidence):
    """The largest lambda that is certified, on raw curves."""
    raw = evidence.curves.loss
    certain = [hoeffding_bentkus(raw[:, k], evidence.threshold, 0.1) for k in range(len(GRID))]
    return ConstantLambda(float(GRID[np.flatnonzero(certain).max(initial=0)]))


@pytest.mark.quick(2)
@pytest.mark.parametrize("n", [20, 100, 500])
@pytest.mark.parametrize("rule", [RCPS(0.1).rule, Promise("rcps_hb", delta=0.1).rule], ids=["wsr", "hb"])
def test_hardest_worlds(n, rule):
    for world in (constant_risk(0.102), swinging(0.105), staircase()):
        assert not breaks_rcps(world, rule, n, 400)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("broken", "world", "n"),
    [
        (RCPS(0.1, certifies=naive).rule, staircase(), 100),
        (RCPS(0.1, certifies=naive).rule, constant_risk(0.102), 100),
        (bernstein_across_lambdas, constant_risk(0.102), 4000),
        (of_raw_means, swinging(0.105), 200),
    ],
    ids=["no bound", "no bound, barely", "variance across lambdas", "largest certified, raw"],
)
def test_the_judge_notices_broken_bounds_in_rcps(broken, world, n):
    draws = 300
    assert breaks_rcps(world, broken, n, draws)
    assert not breaks_rcps(world, RCPS(0.1).rule, n, draws)


@pytest.mark.parametrize("certifies", [waudby_smith_ramdas, hoeffding_bentkus])
def test_the_smallest_set_is_where_images_without_error_do(certifies):
    for threshold in (0.001, 0.05, 0.3, 0.9, 1.0, 2.0):
        wanted = RCPS(0.05, certifies=certifies)
        n = wanted.smallest_calibration_set(threshold, 1.0)
        assert certifies(np.zeros(n), threshold, 0.05)
        assert n == 1 or not certifies(np.zeros(n - 1), threshold, 0.05)
        assert wanted.smallest_calibration_set(2 * threshold, 2.0) == n
    assert Promise("rcps_hb", delta=0.05).smallest_calibration_set(0.1, 1.0) == 29
    assert RCPS(0.05).smallest_calibration_set(1e-5, 1.0) > 100_000, "and within a second"
    assert RCPS(0.05).smallest_calibration_set(None, None) == 1
    assert RCPS(0.05).smallest_calibration_set(1e-9, 1.0) == 2995732273, "without a search"
    with pytest.raises(InvalidArgumentError, match="give one"):
        RCPS(0.05).smallest_calibration_set(None, 1.0)


def test_it_stops_at_the_first_lambda_that_is_not_certified():
    distance = np.zeros((200, 6))
    distance[:, 3] = 1.0
    grid = np.array([0.0, 1.0, 2.0, 3.0, 4.0, np.inf])
    evidence = CalibrationData(
        THRESHOLD, np.zeros(200), Curves(np.arange(200).astype(str), grid, distance, distance), 1.0
    )
    for wanted in (RCPS(0.1), Promise("rcps_hb", delta=0.1)):
        assert wanted.rule(evidence).lam == 2
        assert wanted.rule(replace(evidence, upper_bound=1e6)).is_vacuous, "the bound of the distance counts"
        with pytest.raises(InvalidArgumentError, match="upper bound"):
            wanted.rule(replace(evidence, upper_bound=None))


def test_scaling_distance_threshold_and_bound_changes_nothing():
    world = RANDOM["heavy_tailed"]()
    evidence = world.evidence(np.arange(300))
    curves = replace(evidence.curves, loss=7 * evidence.curves.loss)
    scaled = replace(evidence, threshold=7 * THRESHOLD, curves=curves, upper_bound=7.0)
    for wanted in (RCPS(0.1), Promise("rcps_hb", delta=0.1)):
        assert 0 < wanted.rule(evidence).lam < np.inf
        assert wanted.rule(scaled) == wanted.rule(evidence)


def test_the_order_of_the_images_in_a_folder_does_not_matter():
    world, generator = RANDOM["heavy_tailed"](), np.random.default_rng(0)
    images = np.arange(400)
    rule = RCPS(0.1).rule(world.evidence(images))
    for _ in range(5):
        assert RCPS(0.1).rule(world.evidence(generator.permutation(images))) == rule
    names = [f"image {k:03d}" for k in range(100)]
    order = hashed_order(names)
    assert sorted(order) == list(range(100))
    assert order != sorted(order)
    assert [names[k] for k in order] == [names[::-1][k] for k in hashed_order(names[::-1])]


def test_without_curves_that_err_masks_open():
    assert RCPS(0.1).rule(replace(evidence_of(np.ones(50)), upper_bound=1.0)).lam == np.inf
    assert (
        Promise("rcps", delta=0.1).claim("ssim", 0.2)
        == "with probability 0.90 over calibration sets, E ssim <= 0.2"
    )


def test_a_larger_lambda_that_is_certified_by_luck_does_not_count():
    """Running means grow, but a bound on them need not: betting may win on larger losses."""
    grid = np.array([0.0, 1.0, 2.0, 3.0, np.inf])
    risk = np.tile([0.0, 0.1, 0.2, 0.3, 0.4], (9, 1))
    evidence = CalibrationData(0.5, np.zeros(9), Curves(np.arange(9).astype(str), grid, risk, risk), 1.0)
    lucky = RCPS(0.1, certifies=lambda losses, level, delta: not 0.15 < losses[0] < 0.25)
    assert lucky.rule(evidence).lam == 1.0


EXPECTED = Promise("expected").rule


def own(deploy):
    return lambda evidence: deploy(replace(evidence, own_bound=True))


def without_bound(evidence):
    """The mean risk of the calibration images, no + B."""
    within = evidence.risk().mean(axis=0) <= evidence.threshold
    return ConstantLambda(float(GRID[np.flatnonzero(within).max()]))


def bound_of_zero(evidence):
    """n + 1 but no bound: as if the new image could not err."""
    rule = Promise("expected").rule(replace(evidence, own_bound=True))
    return ConstantLambda(float(rule.lambdas(np.zeros((1, len(GRID))))[0]))


def last_within(evidence):
    """The largest lambda whose mean raw distance is within, whatever lies below."""
    raw = evidence.curves.loss
    within = (raw.sum(axis=0) + 1.0) / (evidence.n + 1) <= evidence.threshold
    return ConstantLambda(float(GRID[np.flatnonzero(within).max(initial=0)]))


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("broken", "world", "n"),
    [
        (without_bound, RANDOM["flat"](), 5),
        (without_bound, staircase(), 10),
        (without_bound, staircase(), 30),
        (bound_of_zero, staircase(), 10),
        (last_within, swinging(0.12), 100),
    ],
)
def test_the_judge_notices_broken_rules(broken, world, n):
    assert breaks_mean(world, broken, n, 2000)
    assert not breaks_mean(world, EXPECTED, n, 2000)
    assert not breaks_mean(world, own(EXPECTED), n, 1000)


@pytest.mark.parametrize("n", [9, 10, 15, 40])
def test_it_is_exact_where_images_pass_or_fail(n):
    """Mean distance where lambda > 0 iff at most k of n fail, k = floor((n + 1) threshold - 1)."""
    rate, allowed = 0.15, math.floor((n + 1) * THRESHOLD - 1 + 1e-9)
    terms = [math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(allowed + 1)]
    values = risk(constant_risk(rate), EXPECTED, n, 3000)
    assert values.mean() == pytest.approx(rate * sum(terms), abs=4 * sigma(values) + 1e-12)


def test_own_bounds_open_wider_than_the_constant_and_keep_the_promise():
    world = RANDOM["heavy_tailed"]()
    for n in (5, 20, 100):
        constant = risk(world, EXPECTED, n, 1000)
        tighter = risk(world, own(EXPECTED), n, 1000)
        assert not goes_beyond(tighter, THRESHOLD)
        assert tighter.mean() > constant.mean()


def test_a_rule_with_own_bounds_at_the_constant_bound_is_the_constant_rule():
    world = RANDOM["heavy_tailed"]()
    for n in (10, 30, 300):
        evidence = world.evidence(np.arange(n))
        rule = Promise("expected").rule(replace(evidence, own_bound=True))
        assert isinstance(rule, BoundedRisk)
        assert rule.lambdas(np.ones((1, len(GRID))))[0] == Promise("expected").rule(evidence).lam


def brute_force(distance, bound, threshold):
    worst = np.maximum.accumulate(distance, axis=1).sum(axis=0)
    within = (worst + bound) / (len(distance) + 1) <= threshold * (1 + 1e-9)
    kept = [k for k in range(len(GRID)) if within[: k + 1].all()]
    return float(GRID[max(kept, default=0)])


def test_against_brute_force():
    generator = np.random.default_rng(0)
    for n in (1, 5, 30):
        for _ in range(30):
            distance = generator.random((n, len(GRID))) ** 8
            bound = np.maximum.accumulate(generator.random((3, len(GRID))) ** 2, axis=1)
            for threshold in (0.05, 0.3, 0.8):
                curves = Curves(np.full(n, "i"), GRID, distance, distance)
                evidence = CalibrationData(threshold, np.zeros(n), curves, 1.0, own_bound=True)
                found = Promise("expected").rule(evidence).lambdas(bound)
                wanted = [brute_force(distance, one, threshold) for one in bound]
                np.testing.assert_array_equal(found, wanted)


def test_the_smallest_set():
    """(0 + ... + 0 + B) / (n + 1) <= threshold."""
    for threshold, bound, n in ((0.1, 1.0, 9), (0.02, 1.0, 49), (0.5, 2.0, 3), (1.0, 1.0, 1), (0.3, 1.0, 3)):
        assert Promise("expected").smallest_calibration_set(threshold, bound) == n
        for images, lam in ((n, np.inf), (n - 1, 0.0)):
            if images:
                nothing = evidence_of(np.zeros(images))
                evidence = replace(nothing, threshold=threshold, upper_bound=bound)
                assert Promise("expected").rule(evidence).lam == lam
    assert Promise("expected").smallest_calibration_set(0.1, None) == 1
    for threshold in (None, 0.0, np.nan):
        with pytest.raises(InvalidArgumentError, match="give one above 0"):
            Promise("expected").smallest_calibration_set(threshold, 1.0)


def test_what_is_refused():
    with pytest.raises(InvalidArgumentError, match="upper bound"):
        Promise("expected").rule(evidence_of(np.ones(50)))
    for wanted in (Promise("expected"), Promise("conditional_mean", 0.9)):
        assert wanted.rank(100) is None


def test_a_distance_that_is_not_a_number_opens_nothing():
    evidence = replace(evidence_of(np.ones(50)), upper_bound=1.0)
    evidence.curves.loss[3, 1] = np.nan
    assert Promise("expected").rule(evidence).lam == 0


def p_values(evidence, forgiven=0):
    failures = (~meets_threshold(evidence.curves.loss, evidence.threshold)).sum(axis=0)
    return stats.binom.cdf(failures - forgiven, evidence.n, 0.1)


def best(evidence):
    """The largest lambda whose own p-value is small, not the last of a sequence that never fails."""
    return ConstantLambda(float(GRID[np.flatnonzero(p_values(evidence) <= 0.1).max(initial=0)]))


def strict(evidence):
    """P(Bin < failures) for P(Bin <= failures)."""
    small = p_values(evidence, forgiven=1) <= 0.1
    small[0] = True
    return ConstantLambda(float(GRID[(~small).argmax() - 1 if not small.all() else -1]))


def smallest_risk(evidence):
    """Any lambda whose failure rate on the calibration images is small enough."""
    rate = (~meets_threshold(evidence.curves.loss, evidence.threshold)).mean(axis=0)
    return ConstantLambda(float(GRID[np.flatnonzero(rate <= 0.1).max()]))


@pytest.mark.quick(3)
@pytest.mark.parametrize("n", [20, 22, 50, 100, 1000])
@pytest.mark.parametrize("rate", [0.101, 0.13])
def test_hardest_worlds_for_ltt(n, rate):
    assert not breaks_pac(
        constant_risk(rate, 0.5), Promise("ltt", 0.9, 0.1).rule, n, 2000 if n < 1000 else 500
    )


@pytest.mark.parametrize(
    ("broken", "world", "n"),
    [
        (best, RANDOM["flickering"](), 100),
        (smallest_risk, RANDOM["flickering"](), 100),
        (strict, constant_risk(0.101, 0.5), 22),
        (smallest_risk, constant_risk(0.101, 0.5), 50),
    ],
)
def test_the_judge_notices_broken_tests(broken, world, n):
    assert not breaks_pac(world, Promise("ltt", 0.9, 0.1).rule, n, 1000)
    assert breaks_pac(world, broken, n, 1000)


def test_it_is_tight_where_all_lambdas_are_alike():
    n, world = 60, constant_risk(0.101, 0.5)
    rule, generator, draws = Promise("ltt", 0.9, 0.1).rule, np.random.default_rng(0), 4000
    missed = np.mean([rule(world.evidence(world.draw(generator, n))).lam > 0 for _ in simulated(draws)])
    law = stats.binom.cdf(binomial_rank(n, 0.9, 0.1) - 1, n, 0.101)
    assert missed == pytest.approx(law, abs=4 * np.sqrt(law * (1 - law) / draws))


def curves_failing(counts, n=100):
    distance = np.where(np.arange(n)[:, None] < np.array(counts), 0.5, 0.0)
    grid = np.array([0.0, *range(1, len(counts) - 1), np.inf])
    curves = Curves(np.full(n, "image"), grid, distance, distance)
    return CalibrationData(THRESHOLD, np.zeros(n), curves, monotone=False)


def test_it_stops_before_the_first_failure():
    rule = Promise("ltt", 0.9, 0.05).rule
    allowed = binomial_rank(100, 0.9, 0.05) - 1
    assert rule(curves_failing([0, 0, allowed, allowed + 1, 0, 0])).lam == 2
    assert rule(curves_failing([0, allowed + 1, 0, 0, 0, 0])).is_vacuous
    assert rule(curves_failing([100, 1, 0, 2, 0, allowed])).lam == np.inf, "lambda 0 is valid by definition"
    assert rule(curves_failing([0, 0, 0, 0, 0, allowed + 1])).lam == 4


def test_on_monotone_curves_it_is_pac_on_the_grid():
    generator = np.random.default_rng(1)
    distance = np.maximum.accumulate(generator.random((100, len(GRID))) ** 30, axis=1)
    curves = Curves(np.full(100, "image"), GRID, distance, distance)
    for threshold in (0.3, 0.6, 0.9):
        failing = ~meets_threshold(distance, threshold)
        failing[:, 0] = False
        first = np.where(failing.any(axis=1), failing.argmax(axis=1), len(GRID)) - 1
        evidence = CalibrationData(threshold, GRID[np.maximum(first, 0)], curves)
        assert Promise("ltt", 0.9, 0.1).rule(evidence) == Promise("pac", 0.9, 0.1).rule(evidence)


def test_an_image_may_fail_below_and_pass_at_the_deployed_lambda():
    """Where failures never pile up at one lambda, ltt goes on and pac stops."""
    n = 100
    distance = np.zeros((n, 20))
    distance[np.arange(40), 1 + np.arange(40) % 18] = 0.5
    evidence = CalibrationData(
        THRESHOLD, np.where(np.arange(n) < 40, 0.0, np.inf), Curves(np.full(n, "i"), GRID, distance, distance)
    )
    assert Promise("ltt", 0.9, 0.1).rule(evidence).lam == np.inf
    assert Promise("pac", 0.9, 0.1).rule(evidence).is_vacuous


def test_too_few():
    assert Promise("ltt", 0.9, 0.05).smallest_calibration_set(None, None) == 29
    assert Promise("ltt", 0.9, 0.05).rule(curves_failing([0] * 5, 28)).is_vacuous
    assert Promise("ltt", 0.9, 0.05).rule(curves_failing([0] * 5, 29)).lam == np.inf
    assert Promise("ltt", 0.9, 0.05).rule(evidence_of(np.ones(29))).lam == np.inf
