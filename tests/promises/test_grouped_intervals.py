"""Intervals of a proportion that is measured on images in groups, such as tiles of slides."""

import numpy as np
import pytest

from conformask.promises.intervals import clopper_pearson, grouped_proportion

RUNS = 400


def met_of_groups(
    generator: np.random.Generator, k: int, alike: float, share: float
) -> tuple[np.ndarray, ...]:
    """k groups of 5 to 40 images; `alike` is the correlation of two images of a group."""
    counts = generator.integers(5, 40, k)
    strength = (1 - alike) / alike
    own = generator.beta(share * strength, (1 - share) * strength, k)
    groups = np.repeat(np.arange(k), counts)
    return generator.random(len(groups)) < own[groups], groups


@pytest.mark.quick(3)
@pytest.mark.parametrize("each_group_alike", [False, True])
@pytest.mark.parametrize(("k", "alike"), [(12, 0.05), (30, 0.05), (30, 0.3), (60, 0.6)])
def test_they_hold_the_true_share_as_often_as_they_say(k: int, alike: float, each_group_alike: bool) -> None:
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


def test_single_images_have_the_exact_interval() -> None:
    met = np.arange(20) < 17
    assert grouped_proportion(met, np.arange(20)) == (17 / 20, clopper_pearson(17, 20))


def test_groups_that_are_all_alike_count_once() -> None:
    met, groups = np.repeat(np.arange(20) < 17, 30), np.repeat(np.arange(20), 30)
    share, (low, high) = grouped_proportion(met, groups)
    expected = clopper_pearson(17, 20)
    assert share == 17 / 20
    assert (low, high) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("met", [True, False])
def test_where_all_images_agree_groups_are_counted(met: bool) -> None:
    share, interval = grouped_proportion(np.full(600, met), np.repeat(np.arange(20), 30))
    assert share == float(met)
    assert interval == clopper_pearson(20 * met, 20)


def test_one_group_says_nearly_nothing() -> None:
    _, (low, high) = grouped_proportion(np.arange(50) < 45, np.zeros(50))
    assert high - low > 0.9


def test_groups_count_by_their_images_or_alike() -> None:
    met, groups = np.array([True] * 9 + [False]), np.array(["a"] * 9 + ["b"])
    assert grouped_proportion(met, groups)[0] == pytest.approx(0.9)
    assert grouped_proportion(met, groups, each_group_alike=True)[0] == pytest.approx(0.5)
