"""Tests that a mean is at most a level: how often they err where the mean is just above it."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from conformask.promises.procedures import Certifies, hoeffding_bentkus, waudby_smith_ramdas
from promised import too_often
from simulation import simulated

DELTA = 0.1
Losses = Callable[[np.random.Generator, int, float], np.ndarray]
LOSSES: dict[str, Losses] = {
    "rare": lambda generator, n, mean: (generator.random(n) < mean).astype(float),
    "two points": lambda generator, n, mean: np.where(generator.random(n) < mean / 0.999, 0.999, 0.0),
    "halves": lambda generator, n, mean: np.where(generator.random(n) < 2 * mean, 0.5, 0.0),
    "beta": lambda generator, n, mean: generator.beta(0.1, 0.1 * (1 - mean) / mean, n),
    "all alike": lambda generator, n, mean: np.full(n, mean * (1 + 1e-6)),
}


def certified(certifies: Certifies, losses: Losses, n: int, mean: float, draws: int = 1000) -> np.ndarray:
    """Whether a mean of exactly the level, or a hair above it, is certified."""
    generator = np.random.default_rng([n, round(1000 * mean)])
    return np.array([certifies(losses(generator, n, mean), mean, DELTA) for _ in simulated(draws)])


@pytest.mark.parametrize("certifies", [waudby_smith_ramdas, hoeffding_bentkus])
@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize(("n", "mean"), [(1, 0.45), (5, 0.1), (20, 0.3), (100, 0.02), (500, 0.05)])
def test_errors_are_as_rare_as_promised(certifies: Certifies, losses: str, n: int, mean: float) -> None:
    assert not too_often(certified(certifies, LOSSES[losses], n, mean), DELTA)


def wealth_of(stake_sees_its_loss: bool) -> Certifies:
    """Waudby-Smith and Ramdas again, with each stake from losses up to its own, as it should not be."""

    def certifies(losses: np.ndarray, level: float, delta: float) -> bool:
        n = len(losses)
        mean = (0.5 + losses.cumsum()) / (np.arange(n) + 2)
        variance = (0.25 + ((losses - mean) ** 2).cumsum()) / (np.arange(n) + 2)
        known = variance if stake_sees_its_loss else np.array([0.25, *variance[:-1]])
        stake = np.minimum(1, np.sqrt(2 * math.log(1 / delta) / (n * known)))
        return bool((1 - stake * (losses - level)).cumprod().max() >= 1 / delta)

    return certifies


def test_waudby_smith_ramdas_is_the_textbook_product() -> None:
    generator, textbook = np.random.default_rng(0), wealth_of(stake_sees_its_loss=False)
    answers = []
    for _ in range(500):
        losses, level = generator.beta(0.5, 4, 60), float(generator.uniform(0.05, 0.3))
        answers.append(waudby_smith_ramdas(losses, level, DELTA))
        assert answers[-1] == textbook(losses, level, DELTA)
    assert 50 < sum(answers) < 450


def naive(losses: np.ndarray, level: float, delta: float) -> bool:
    return bool(losses.mean() <= level)


def central_limit(losses: np.ndarray, level: float, delta: float) -> bool:
    return bool(losses.mean() + stats.norm.isf(delta) * losses.std() / math.sqrt(len(losses)) <= level)


def without_logarithm(losses: np.ndarray, level: float, delta: float) -> bool:
    return hoeffding_bentkus(losses, level, min(1 - 1e-9, delta * math.e**2))


def floored(losses: np.ndarray, level: float, delta: float) -> bool:
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
def test_the_judge_notices_broken_bounds(broken: Certifies, losses: str, n: int, mean: float) -> None:
    assert too_often(certified(broken, LOSSES[losses], n, mean, draws=4000), DELTA)
    for right in (waudby_smith_ramdas, hoeffding_bentkus):
        assert not too_often(certified(right, LOSSES[losses], n, mean, draws=2000), DELTA)


@pytest.mark.parametrize("n", [1, 2, 5, 40, 300])
@pytest.mark.parametrize("level", [0.03, 0.3, 0.5, 0.8, 0.97])
def test_hoeffding_bentkus_errs_exactly_as_rarely_as_promised(n: int, level: float) -> None:
    """No simulation: all sums of n losses that are 0 or v, with mean level."""
    for value in (1.0, 0.999, max(0.5, level)):
        hits = [hoeffding_bentkus(np.repeat([value, 0.0], [k, n - k]), level, DELTA) for k in range(n + 1)]
        chance = stats.binom.pmf(np.arange(n + 1), n, level / value)
        assert chance[hits].sum() <= DELTA * (1 + 1e-9)
        assert hits == sorted(hits, reverse=True), "more losses, no longer certified"


def test_the_ends() -> None:
    for certifies in (waudby_smith_ramdas, hoeffding_bentkus):
        assert not certifies(np.ones(50), 0.5, DELTA)
        assert certifies(np.ones(1), 1.0, DELTA), "no mean of losses in [0, 1] is above 1"
        assert certifies(np.zeros(50), 0.1, DELTA)
        assert not certifies(np.zeros(5), 0.1, DELTA)
        assert not certifies(np.full(30, 0.3), 0.3, DELTA)
    n = math.ceil(math.log(DELTA) / math.log(0.9))
    assert hoeffding_bentkus(np.zeros(n), 0.1, DELTA), "0.9^n <= delta: Hoeffding's is exact without losses"
    assert not hoeffding_bentkus(np.zeros(n - 1), 0.1, DELTA)


def test_hoeffding_bentkus_does_not_depend_on_the_order_and_waudby_smith_ramdas_does() -> None:
    losses = np.repeat([0.0, 1.0], [60, 4])
    generator = np.random.default_rng(0)
    shuffled = [generator.permutation(losses) for _ in range(200)]
    assert len({hoeffding_bentkus(some, 0.15, DELTA) for some in shuffled}) == 1
    assert len({waudby_smith_ramdas(some, 0.15, DELTA) for some in shuffled}) == 2


def test_waudby_smith_ramdas_is_the_sharper_where_losses_are_alike() -> None:
    generator = np.random.default_rng(1)
    sets = [generator.uniform(0.05, 0.11, 200) for _ in range(20)]
    assert all(waudby_smith_ramdas(losses, 0.13, DELTA) for losses in sets)
    assert not any(hoeffding_bentkus(losses, 0.1, DELTA) for losses in sets)


def test_hoeffding_bentkus_is_the_published_p_value() -> None:
    """Of 3 losses in 100 at level .1: Hoeffding's exp(-100 kl) is .0258, Bentkus' e P(Bin <= 3) is .0213."""
    losses = np.repeat([1.0, 0.0], [3, 97])
    bentkus = math.e * sum(math.comb(100, k) * 0.1**k * 0.9 ** (100 - k) for k in range(4))
    assert bentkus == pytest.approx(0.0213, abs=1e-4)
    assert hoeffding_bentkus(losses, 0.1, 1.001 * bentkus)
    assert not hoeffding_bentkus(losses, 0.1, 0.999 * bentkus)
