"""Scores averaged over the window around each pixel, for losses of local means."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, avg_pool2d, avg_pool3d, pad

from conformask.errors import InvalidArgumentError
from conformask.losses.window import sides_of
from conformask.scorers.objects import ObjectScorer
from conformask.scorers.patches import Patches
from conformask.scorers.scorer import Scorer, WrappedScorer, called, of_scorer
from conformask.scorers.tiled import Tiled
from conformask.types import Images, Loss, Score

POOL = {3: avg_pool1d, 4: avg_pool2d, 5: avg_pool3d}
"""Pooling functions by the number of axes of a batch."""


@dataclass(frozen=True)
class Smoothed(WrappedScorer):
    """A scorer whose score is averaged over the window around each pixel, cut off at the border.

    Where a score estimates the error of each pixel, this estimates its local mean.
    """

    side: int | tuple[int, ...]
    network = of_scorer("network")
    x_channels = of_scorer("x_channels")

    @property
    def fingerprint(self) -> str:
        """The scorer's fingerprint, followed by the window."""
        return f"{self.scorer.fingerprint}-around-{self.side}"

    def __call__(self, x: Images, y_hat: Images, cues: Tensor | None = None) -> Score:
        """Compute the averaged score of each image."""
        score = called(self.scorer, x, y_hat, cues)
        return replace(score, map=averaged(score.map, sides_of(self.side, y_hat.ndim - 2)))

    def score_map(self, x: Images, y_hat: Images, cues: Tensor | None = None) -> Images:
        """Compute the averaged score map alone, in operations that an exporter can trace."""
        return averaged(self.scorer.score_map(x, y_hat, cues), sides_of(self.side, y_hat.ndim - 2))


def averaged(score: Images, sides: tuple[int, ...]) -> Images:
    """Average over the window around each pixel, (N, C, *space), in operations that an exporter can trace.

    `losses.window.around` gives the same means within 2e-6, on the processor by running sums, whose time does
    not grow with the window: a window of 51 pixels takes it about a hundredth of the time.
    """

    def means(values: Tensor) -> Tensor:
        padding = [length for side in reversed(sides) for length in (side // 2, (side - 1) // 2)]
        return POOL[values.ndim](pad(values, padding), sides, stride=1)

    return means(score) / means(torch.ones_like(score[:, :1]))


def for_loss(scorer: Scorer, loss: Loss) -> Scorer:
    """Return the scorer as this loss uses it: averaged around pixels for local means, over objects for them.

    Raises:
        InvalidArgumentError: the loss is about objects, and the scorer scores tiles, which cut them.
    """
    if loss.terms.of_objects:
        if isinstance(scorer, Tiled):
            raise InvalidArgumentError(
                "objects are scored in one pass, not by tiles: leave out --tiled (Tiled), and cut images "
                "into fields that the score network takes"
            )
        return scorer if isinstance(scorer, ObjectScorer) else ObjectScorer(scorer)
    side = loss.score_window
    if side is None:
        return scorer
    if isinstance(scorer, Tiled | Patches):
        return replace(scorer, scorer=for_loss(scorer.scorer, loss))
    return scorer if isinstance(scorer, Smoothed) and scorer.side == side else Smoothed(scorer, side)
