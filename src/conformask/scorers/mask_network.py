"""The paper's mask network (equation 6): the score is 1 - m.

For l1 it is equivalent to least squares: (m - 1)^2 + 2 m e = (1 - m - e)^2 + 2 e - e^2, so the score
estimates the mean error E[e], as water-filling expects.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from conformask.training.losses import mask_loss, straight_through_clip
from conformask.types import Images, Loss, PerImage

TINY = torch.finfo(torch.float32).tiny
FLOOR = 1e-4
"""Scores below this are no longer estimates; only their order counts."""


@dataclass(frozen=True)
class MaskNetwork:
    """The mask m = clip(1 - output, 0, 1), with straight-through clipping, starting at m = 1."""

    fitted_for: Loss
    name: ClassVar[str] = "mask"
    start: ClassVar[float] = 0.0

    @property
    def family(self) -> str:
        """The family: water_filling for lp, power for distances whose error is not a sum over pixels."""
        return "power" if self.fitted_for.exponent is None else "water_filling"

    def outputs(self, channels: int, per_channel: bool) -> int:
        """Return the number of channels of the score."""
        return channels if per_channel else 1

    def loss(self, output: Images, y: Images, y_hat: Images) -> PerImage:
        """Compute equation (6) with mu = 2."""
        return mask_loss(straight_through_clip(1 - output), y, y_hat, self.fitted_for)

    def score(self, output: Images) -> Images:
        """Return 1 - m, in (0, 1]; values that the clip would set to 0 approach 0 in their order instead.

        Water-filling never masks a pixel of score 0, so an image with errors there could not meet the
        threshold.
        """
        below = FLOOR**2 / (2 * FLOOR - output.clamp(max=FLOOR))
        return torch.where(output > FLOOR, output.clamp(max=1), below)


def to_power(score: Images, power: float) -> Images:
    """Convert a score of l1 into one of lp, still above 0."""
    return score.pow(power).clamp(min=TINY)
