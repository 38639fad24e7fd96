"""The paper's baseline: pixelwise intervals of y by quantile regression; the score is their width."""

from dataclasses import dataclass
from typing import ClassVar

from conformask.training.losses import pinball
from conformask.types import Images, PerImage

LOW, HIGH = 0.05, 0.95
"""The quantiles of the paper's baseline."""


@dataclass(frozen=True)
class Quantile:
    """Intervals [l, u] = [y_hat - output_1, y_hat + output_2] for each channel of y_hat; fitted for no loss.

    The network has 2 * C outputs, first those of l, whatever the channels of the score: the paper's intervals
    are of y itself, and a one-channel score is the mean width over channels. Both outputs may be negative, so
    that the interval of a biased y_hat need not contain it; bounds that cross have width 0.
    """

    name: ClassVar[str] = "quantile"
    family: ClassVar[str] = "reciprocal"
    fitted_for: ClassVar[None] = None
    start: ClassVar[float] = 0.07
    """The initial output, -log(0.1) * 0.03: quantiles of a Laplace error of mean 0.03, a typical value."""

    def outputs(self, channels: int, per_channel: bool) -> int:
        """Return two outputs for each channel of y_hat."""
        return 2 * channels

    def loss(self, output: Images, y: Images, y_hat: Images) -> PerImage:
        """Compute the pinball loss at 0.05 of l and at 0.95 of u."""
        below, above = output.chunk(2, dim=1)
        return pinball(y_hat - below, y, LOW) + pinball(y_hat + above, y, HIGH)

    def score(self, output: Images) -> Images:
        """Return u - l, clipped to [0, 1], for each channel."""
        below, above = output.chunk(2, dim=1)
        return (below + above).clamp(0, 1)
