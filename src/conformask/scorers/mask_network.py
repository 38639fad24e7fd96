"""The paper's mask network (equation 6): the score is 1 - m."""

from dataclasses import dataclass
from typing import ClassVar

from conformask.training.losses import mask_loss, straight_through_clip
from conformask.types import Distance, Images, PerImage


@dataclass(frozen=True)
class MaskNetwork:
    """m = clip(1 - output, 0, 1), clipped straight through, starting at m = 1."""

    distance: Distance
    name: ClassVar[str] = "mask"
    family: ClassVar[str] = "reciprocal"
    start: ClassVar[float] = 0.0

    def outputs(self, channels: int, per_channel: bool) -> int:
        """As many as the score has channels."""
        return channels if per_channel else 1

    def loss(self, output: Images, y: Images, y_hat: Images) -> PerImage:
        """Equation (6) with mu = 2."""
        return mask_loss(straight_through_clip(1 - output), y, y_hat, self.distance)

    def score(self, output: Images) -> Images:
        """1 - m, in [0, 1]."""
        return output.clamp(0, 1)
