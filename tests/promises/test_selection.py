"""Conformal selection by hand, and its theorem where lambda comes from the same calibration images."""

import numpy as np
import pytest

from conformask.promises.order import smallest
from conformask.promises.selection import benjamini_hochberg, p_values
from promised import simulated

DRAWS, NEW = 4000, 20


def test_p_values_by_hand():
    failed = np.array([True, False, True, True])
    risks = np.array([1.0, 0.0, 2.0, 3.0])
    found = p_values(failed, risks, np.array([0.5, 1.0, 2.5, 9.0]))
    np.testing.assert_allclose(found, [1 / 5, 2 / 5, 3 / 5, 4 / 5])


def test_benjamini_and_hochberg_by_hand():
    p = np.array([0.04, 0.011, 0.2, 0.03, 0.9])
    # sorted .011 .03 .04 .2 .9 beside .02 .04 .06 .08 .1
    assert benjamini_hochberg(p, 0.1).tolist() == [True, True, False, True, False]
    assert not benjamini_hochberg(p, 0.01).any()
    assert not benjamini_hochberg(np.array([]), 0.1).any()


def test_equal_p_values_are_released_together():
    """All of them have 1 / (n + 1), so that n = 1 / share - 1 is enough, whatever the batch."""
    assert benjamini_hochberg(np.full(30, 1 / 50), 0.02).all()
    assert not benjamini_hochberg(np.full(30, 1 / 49), 0.02).any()


def images(generator, count, levels):
    """Critical lambdas and risks that know something of them; with levels both tie."""
    hardness = generator.normal(size=count)
    critical = np.exp(-hardness - generator.normal(size=count))
    risks = hardness + 0.3 * generator.normal(size=count)
    critical[critical > 4] = np.inf
    if levels is None:
        return critical, risks
    return np.round(critical * levels) / levels, np.round(risks * levels) / levels


@pytest.mark.quick(6)
@pytest.mark.parametrize("levels", [None, 1])
@pytest.mark.parametrize("n", [30, 100])
@pytest.mark.parametrize("failing", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.1])
def test_of_the_released_at_most_the_share_fails(share, failing, n, levels):
    """Lambda is the rank-th smallest critical lambda of the same images that p-values are counted on."""
    rank, generator = int(failing * (n + 1)), np.random.default_rng(1)
    shares, alone, one_of = [], [], 0
    for _ in simulated(DRAWS):
        critical, risks = images(generator, n, levels)
        new_critical, new_risks = images(generator, NEW, levels)
        lam = smallest(critical, rank)
        p, fails = p_values(critical < lam, risks, new_risks), new_critical < lam
        released = benjamini_hochberg(p, share)
        one_of += int(released.any())
        shares.append((released & fails).sum() / max(released.sum(), 1))
        alone.append(((p <= share) & fails).mean())
    for measured in (shares, alone):
        assert np.mean(measured) <= share + 4 * np.std(measured) / DRAWS**0.5
    if n + 1 < 1 / share - 1e-9:
        assert one_of == 0
    elif levels is None and share < failing and n * share > 2:
        assert np.mean(shares) > 0.6 * share, "not merely safe"
