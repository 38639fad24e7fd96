"""The bound of each image: kept by simulation, also with ties, groups, no error, and hardly any images."""

import numpy as np
import pytest

from conformask.promises.axes import LogLinear
from conformask.promises.data import Curves
from conformask.promises.rules import calibrated_bound, fit_loss_quantile

CONFIDENCE, DRAWS = 0.9, 600


def curves_of(losses: np.ndarray, features: np.ndarray | None, group: np.ndarray | None = None) -> Curves:
    n = len(losses)
    along = np.column_stack([np.zeros(n), losses])
    return Curves(np.arange(n).astype(str), np.array([0.0, np.inf]), along, along, features, group=group)


def images(n: int, generator: np.random.Generator, world: str) -> tuple[np.ndarray, np.ndarray]:
    """(losses, features): the log of the loss follows the first feature."""
    features = generator.normal(size=(n, 3))
    losses = np.exp(features[:, 0] - 3 + 0.5 * generator.normal(size=n))
    if world == "tied":
        losses = np.ceil(losses * 20) / 20
    if world == "without error":
        losses = np.where(generator.random(n) < 0.6, 0.0, losses)
    return losses, features


def kept(world: str, n: int, *, forget: bool = False) -> tuple[float, float]:
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
def test_it_is_kept(world: str, n: int) -> None:
    mean, sigma = kept(world, n)
    assert mean >= CONFIDENCE - 4 * sigma
    if world == "plain":
        assert mean <= CONFIDENCE + 1 / (n + 1) + 4 * sigma


def test_the_simulation_shows_a_plain_quantile() -> None:
    mean, sigma = kept("plain", 10, forget=True)
    assert mean < CONFIDENCE - 4 * sigma


def test_of_groups_for_an_image_of_a_new_one() -> None:
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


def test_it_follows_what_the_score_looks_like() -> None:
    generator = np.random.default_rng(2)
    losses, features = images(400, generator, "plain")
    h = fit_loss_quantile(features, losses, CONFIDENCE)
    assert h.coefficients[0] == pytest.approx(1, abs=0.15)
    bound = calibrated_bound(curves_of(*images(400, generator, "plain")), h, CONFIDENCE)
    easy, hard = bound(np.array([[-1.0, 0, 0], [1.0, 0, 0]]))
    assert hard > 4 * easy


def test_where_none_is_known() -> None:
    losses, features = images(8, np.random.default_rng(3), "plain")
    assert calibrated_bound(curves_of(losses, features), None, CONFIDENCE) is None, "8 are too few for .9"
    assert calibrated_bound(curves_of(losses, None), None, 0.5) is None
    few = fit_loss_quantile(features, losses, CONFIDENCE)
    assert few == LogLinear(0.0, (0.0, 0.0, 0.0)), "too few to learn more from"
