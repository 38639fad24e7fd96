"""What depends on the other images of a batch is refused: calibration and use have other batches."""

import pytest
import torch
from torch import Tensor, nn

from conformask.arrays import Images, Score
from conformask.errors import CalibrationError
from conformask.masker.calibrate import calibrate
from conformask.promises.promise import Promise
from conformask.scores.scorer import Heuristic
from conformask.scores.simple import local_spread
from synthetic_triplets import scale_of, triplets


def by_the_batch(x: Tensor, y_hat: Tensor) -> Tensor:
    return x / x.amax()


def by_the_largest_spread(x: Tensor, y_hat: Tensor) -> Tensor:
    """The negative of an image has the same."""
    spread = local_spread(x, y_hat)
    return spread / spread.amax()


def by_the_mean_difference(x: Tensor, y_hat: Tensor) -> Tensor:
    """The same."""
    difference = (x - y_hat).abs()
    return difference / difference.mean()


def by_chance(x: Tensor, y_hat: Tensor) -> Tensor:
    return x + torch.rand(())


class Normalised(nn.Module):
    """In training mode a batch norm looks at the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor, y_hat: Tensor) -> Tensor:
        return self.norm(x).abs()


class WithFeatures(Heuristic):
    def __call__(self, x: Images, y_hat: Images) -> Score:
        return Score(x, x.mean((2, 3)) - x.mean())


@pytest.mark.parametrize(
    "scorer",
    [
        Heuristic(by_the_batch, channels=1),
        Heuristic(by_the_largest_spread, channels=1),
        Heuristic(by_the_mean_difference, channels=1),
        Heuristic(by_chance, channels=1),
        Heuristic(Normalised(), channels=1),
        WithFeatures(scale_of, channels=1),
    ],
    ids=["by the batch", "largest spread", "mean difference", "by chance", "batch norm", "features"],
)
def test_a_score_that_depends_on_its_batch(scorer: Heuristic) -> None:
    with pytest.raises(CalibrationError, match=r"score .* of an image differs by"):
        calibrate(scorer, triplets(20, 0), threshold=0.03, loss="l1")


def test_a_distance_that_depends_on_its_batch() -> None:
    def relative(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().mean((1, 2, 3)) / (a - b).abs().max().clamp(min=1e-6)

    with pytest.raises(CalibrationError, match="distance 'relative' of an image differs"):
        calibrate(
            Heuristic(scale_of, channels=1),
            triplets(20, 0),
            threshold=0.03,
            loss=relative,
            selection=triplets(10, 1),
        )


def test_a_weight_that_depends_on_its_batch() -> None:
    def share(x: Tensor, y_hat: Tensor) -> Tensor:
        return y_hat.mean((1, 2, 3)) / y_hat.mean((1, 2, 3)).sum()

    with pytest.raises(CalibrationError, match="weight= of an image differs"):
        calibrate(
            Heuristic(scale_of, channels=1),
            triplets(40, 0),
            threshold=0.03,
            loss="l1",
            promise=Promise("weighted", weight=share),
        )


def test_a_module_in_eval_mode_is_a_score() -> None:
    masker = calibrate(Heuristic(Normalised().eval(), channels=1), triplets(40, 0), threshold=0.03, loss="l1")
    batch = next(triplets(4, 1).batches(4))
    assert not masker(batch.x, batch.y_hat).isnan().any()
