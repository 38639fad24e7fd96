"""What is promised of outputs that a network draws, on deployed masks: one, their mean, all, a random one."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import conformask as cm
from conformask.masks.critical import loss_under
from conformask.promises.axes import members

K, N, NEW, SETS, CONFIDENCE, THRESHOLD, SIGMAS = 3, 29, 24, 24, 0.8, 0.02, 4
pytestmark = pytest.mark.filterwarnings("ignore:.*far outside of the calibration images")


@dataclass(frozen=True)
class Inputs:
    """Inputs with scales of error of their own, K draws of an output, each with a shift, and the truth."""

    x: np.ndarray
    draws: np.ndarray
    y: np.ndarray

    @classmethod
    def drawn(cls, count: int, seed: int) -> "Inputs":
        generator = np.random.default_rng(seed)
        scale = generator.uniform(0.005, 0.05, (count, 1, 8, 8))
        x = generator.uniform(0.3, 0.7, (count, 1, 8, 8))
        shift = 0.04 * generator.standard_normal((count, K, 1, 1))
        draws = x + shift + scale * generator.standard_normal((count, K, 8, 8))
        y = x + scale * generator.standard_t(3, x.shape)
        return cls(*(each.clip(0, 1).astype(np.float32) for each in (x, draws, y)))

    def triplets(self, show: str) -> cm.Triplets:
        """As `conformask triplets --cues samples,K --show` writes them."""
        spread = self.draws.std(axis=1)
        if show == "all":
            x, y, spread = (np.repeat(each, K, axis=0) for each in (self.x[:, 0], self.y[:, 0], spread))
            groups = np.repeat(np.arange(len(self.x)), K).tolist()
            return cm.Triplets.from_arrays(x, self.draws.reshape(-1, 8, 8), y, cues=spread, groups=groups)
        y_hat = self.draws[:, 0] if show == "one" else self.draws.mean(axis=1)
        return cm.Triplets.from_arrays(self.x[:, 0], y_hat, self.y[:, 0], cues=spread)


def met(masker: cm.Masker, triplets: cm.Triplets) -> np.ndarray:
    """Whether each image is within the threshold under its mask."""
    found = []
    for batch in triplets.batches():
        mask = masker(batch.x, batch.y_hat, cues=batch.layers["cues"])
        assert isinstance(mask, torch.Tensor)
        found.append(loss_under(masker.loss, mask, batch).numpy() <= THRESHOLD)
    return np.concatenate(found)


def coverage(made: str, unit: str, looked_at: str) -> np.ndarray:
    """Share of new inputs that keep the promise in each of many draws of calibration set and new inputs."""
    shares = []
    for draw in range(SETS):
        promise = cm.Promise(confidence=CONFIDENCE, unit=unit)
        calibration = Inputs.drawn(N, draw).triplets(made)
        masker = cm.calibrate(
            cm.Given(), calibration, threshold=THRESHOLD, loss="l1", promise=promise, family="binary"
        )
        new = Inputs.drawn(NEW, 10_000 + draw).triplets("all" if looked_at in ("every", "any") else looked_at)
        fine, groups = met(masker, new), np.array(new.groups)
        judge = np.all if looked_at == "every" else np.mean
        shares.append(np.mean([judge(fine[places]) for places in members(groups)]))
    return np.array(shares)


def chance(shares: np.ndarray) -> float:
    return float(SIGMAS * np.std(shares) / np.sqrt(SETS))


def falls_short(shares: np.ndarray) -> bool:
    """Whether the mean is below the promise, beyond chance."""
    return bool(np.mean(shares) < CONFIDENCE - chance(shares))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("made", "unit", "looked_at"),
    [
        ("one", "image", "one"),
        ("mean", "image", "mean"),
        ("all", "group", "every"),
        ("all", "image_of_new_group", "any"),
    ],
)
def test_each_promise_is_kept_on_deployed_masks(made: str, unit: str, looked_at: str) -> None:
    shares = coverage(made, unit, looked_at)
    assert not falls_short(shares)
    assert np.mean(shares) <= CONFIDENCE + 1 / (N + 1) + chance(shares)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("made", "unit", "looked_at"),
    [("mean", "image", "one"), ("one", "image", "every"), ("all", "image_of_new_group", "every")],
)
def test_a_promise_about_something_else_shown_is_seen_to_fail(made: str, unit: str, looked_at: str) -> None:
    assert falls_short(coverage(made, unit, looked_at))


def test_one_map_gives_all_samples_one_mask() -> None:
    inputs = Inputs.drawn(60, 1)
    masker = cm.calibrate(
        cm.Given(), inputs.triplets("all"), threshold=0.05, loss="l1", promise=cm.Promise(unit="group")
    )
    new = Inputs.drawn(5, 2).triplets("all")
    masks = np.array([masker(triplet) for triplet in new]).reshape(5, K, 8, 8)
    assert 0 < masks.mean() < 1
    assert (masks == masks[:, :1]).all()
