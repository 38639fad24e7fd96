"""Where pixels count and not places, a volume is measured as an image of the same pixels."""

import numpy as np
import pytest
import torch

from conformask.arrays import Batch, Score
from conformask.losses import loss
from conformask.masks.critical import (
    critical_lambdas,
    features_of,
    loss_under,
    mask_size,
    measures,
    paper_oracle,
)
from conformask.masks.families import FAMILIES
from conformask.masks.families import family as family_by_name
from conformask.scores.network_scorer import mask_loss, pinball

VOLUME, FLAT = (3, 2, 4, 6, 8), (3, 2, 24, 8)
GRID = np.array([0.0, 1e-3, 0.02, 0.1, 1.0, np.inf])


@pytest.fixture(scope="module")
def scored() -> tuple[Batch, Batch]:
    generator = torch.Generator().manual_seed(0)
    y, y_hat, score = (torch.rand(VOLUME, generator=generator) for _ in range(3))
    names = ("a", "b", "c")
    volume = Batch(names, y_hat, y_hat, y).with_score(Score(score * score))
    images = [images.reshape(FLAT) for images in (y_hat, y_hat, y, score * score)]
    return volume, Batch(names, *images[:3]).with_score(Score(images[3]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("distance", ["l1", "l2", "l1.5"])
def test_what_calibration_measures(scored: tuple[Batch, Batch], family: str, distance: str) -> None:
    used = loss(distance)
    masks = family_by_name(family, used.exponent)
    volume, flat = (measures(item, masks, used, GRID, 0.05, bounded=True) for item in scored)
    for name in volume:
        np.testing.assert_array_equal(volume[name], flat[name])
    lambdas = torch.from_numpy(critical_lambdas(scored[0], masks, used, GRID, 0.05))
    opened = [masks.apply(item.score.map, masks.level(item.score.map, lambdas)) for item in scored]
    assert opened[0].shape == VOLUME
    assert torch.equal(opened[0].reshape(FLAT), opened[1])
    assert torch.equal(mask_size(opened[0]), mask_size(opened[1]))
    distances = loss_under(used, opened[0], scored[0])
    # a binary mask ends with a whole pixel
    np.testing.assert_allclose(distances, 0.05, rtol=0.05 if family == "binary" else 1e-5)
    assert (distances <= 0.05 * (1 + 1e-6)).all()
    np.testing.assert_array_equal(*(features_of(item.score) for item in scored))


@pytest.mark.parametrize("distance", ["l1", "l2", "l1.5"])
def test_the_best_masks(scored: tuple[Batch, Batch], distance: str) -> None:
    used, found = loss(distance), []
    for item in scored:
        y, y_hat = item.truth(), item.y_hat
        exact = used.of_batch(item, y_hat.shape[1]).oracle(0.05)
        opt, reached = paper_oracle(used.error_map, y, y_hat, 0.05, per_channel=True)
        assert reached.all()
        found.append((exact.reshape(FLAT), opt.reshape(FLAT)))
    for volume, flat in zip(*found, strict=True):
        torch.testing.assert_close(volume, flat, rtol=0, atol=1e-6)


def test_losses(scored: tuple[Batch, Batch]) -> None:
    used = loss("l1")
    losses = []
    for item in scored:
        y, y_hat = item.truth(), item.y_hat
        losses.append(torch.stack([mask_loss(item.score.map, y, y_hat, used), pinball(y_hat, y, 0.95)]))
    torch.testing.assert_close(*losses)
