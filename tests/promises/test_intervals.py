import numpy as np
import pytest
from scipy import stats

from conformask.promises.intervals import bootstrap, clopper_pearson


@pytest.mark.parametrize("level", [0.95, 0.8])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (18, 20), (1, 300), (271, 300)])
def test_clopper_pearson_against_scipy(k: int, n: int, level: float) -> None:
    expected = stats.binomtest(k, n).proportion_ci(level, method="exact")
    assert clopper_pearson(k, n, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_bootstrap_is_near_the_normal_interval_and_repeatable() -> None:
    values = np.random.default_rng(0).exponential(size=400)
    half = 1.96 * values.std() / 20
    low, high = bootstrap(values)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)
    assert bootstrap(values) == (low, high)
    assert bootstrap(values, seed=1) != (low, high)
    wide = bootstrap(values, level=0.99)
    assert wide[0] < low < high < wide[1]


def test_bootstrap_draws_whole_groups() -> None:
    generator = np.random.default_rng(1)
    values = np.repeat(generator.random(20), 20) + 0.01 * generator.random(400)
    groups = np.repeat([f"slide {k}" for k in range(20)], 20)
    alone, grouped = bootstrap(values), bootstrap(values, groups=groups)
    ratio = (grouped[1] - grouped[0]) / (alone[1] - alone[0])
    assert 3.5 < ratio < 5.5, "20 images a group that are all alike widen by about sqrt(20)"
    assert bootstrap(values, groups=np.arange(400)) == alone


def test_bootstrap_of_groups_counts_images_and_not_groups() -> None:
    """Large groups have large values: the mean over groups would lie far below that over images."""
    generator = np.random.default_rng(2)
    sizes = generator.integers(1, 12, 60)
    groups, values = np.repeat(np.arange(60), sizes), np.repeat(sizes / 12, sizes)
    of_each = [values[groups == group] for group in range(60)]
    assert np.mean([own.mean() for own in of_each]) < bootstrap(values, groups=groups)[0] < values.mean()
    chosen = generator.integers(60, size=(2000, 60))
    means = [np.concatenate([of_each[group] for group in draw]).mean() for draw in chosen]
    assert bootstrap(values, groups=groups) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)
