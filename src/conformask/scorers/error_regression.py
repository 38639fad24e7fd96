"""Regression of the pixelwise error by the Gamma deviance: the score is its conditional mean."""

import math
from dataclasses import dataclass
from typing import ClassVar

from conformask.calibration import like_score
from conformask.training.losses import error_floor, gamma_deviance
from conformask.types import Distance, Images, PerImage

TYPICAL_ERROR = 0.03
LARGEST_LOG = 3.0


@dataclass(frozen=True)
class ErrorRegression:
    """output = log(d_hat - delta); the error is |y - y_hat|^p, or the distance's own spatial map."""

    distance: Distance
    name: ClassVar[str] = "error"
    family: ClassVar[str] = "water_filling"

    @property
    def exponent(self) -> float:
        """p; 1 where the distance has none."""
        return self.distance.exponent or 1.0

    @property
    def start(self) -> float:
        """log of an error that is typical of networks worth masking."""
        return self.exponent * math.log(TYPICAL_ERROR)

    def outputs(self, channels: int, per_channel: bool) -> int:
        """As many as the score has channels."""
        return channels if per_channel else 1

    def loss(self, output: Images, y: Images, y_hat: Images) -> PerImage:
        """Gamma deviance; errors are averaged over channels for a one-channel output."""
        error = like_score(self.distance.error_map(y, y_hat), output)
        return gamma_deviance(output.clamp(max=LARGEST_LOG), error, error_floor(self.exponent))

    def score(self, output: Images) -> Images:
        """E[error], > 0."""
        return output.clamp(max=LARGEST_LOG).exp()
