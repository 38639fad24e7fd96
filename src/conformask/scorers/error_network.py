"""A score that estimates the error of each pixel; for missed the probability that the pixel is wrong.

It minimises least squares, which is what equation (6) does for l1. For lp the score of l1 is raised to the
power p; docs/results/smaller-masks.md compares this with equation (6) for the distance itself, and
docs/results/losses.md reports which estimate is best for which loss.
"""

from dataclasses import dataclass
from typing import ClassVar

from conformask.arithmetic import image_means
from conformask.distances.lp import Lp
from conformask.errors import InvalidArgumentError
from conformask.losses.maps import errors_for, wrong_pixels
from conformask.losses.sums import Sums
from conformask.scorers.mask_network import MaskNetwork, to_power
from conformask.training.losses import straight_through_clip
from conformask.types import Images, PerImage


@dataclass(frozen=True)
class ErrorNetwork(MaskNetwork):
    """A network that estimates the loss's error map; for missed the probability that a pixel is wrong.

    Raises:
        InvalidArgumentError: the loss is not made of an error map.
    """

    name: ClassVar[str] = "error"
    family: ClassVar[str] = "water_filling"

    def __post_init__(self) -> None:
        if self.fitted_for.errors is None:
            raise InvalidArgumentError(
                "scorer 'error' learns an error map, such as l1 or ssim_map, but "
                f"{self.fitted_for.terms.name!r} has none: use scorer 'mask'"
            )

    @property
    def _power(self) -> float:
        """The exponent that the score is raised to: p for lp where its error is estimated, else 1."""
        errors = self.fitted_for.errors
        return errors.p if isinstance(errors, Lp) and not self._of_wrong_pixels else 1.0

    @property
    def _of_wrong_pixels(self) -> bool:
        return self.fitted_for.terms.over == "missed"

    def loss(self, output: Images, y: Images, y_hat: Images) -> PerImage:
        """Compute mean (m - 1)^2 + 2 m e, which is (1 - m - e)^2 up to a constant."""
        mask = straight_through_clip(1 - output)
        expected = Sums(self._target(y, y_hat, output.shape[1])).of(mask).float()
        return image_means((mask - 1).square()) + 2 * expected

    def score(self, output: Images) -> Images:
        """Return (1 - m)^p, in (0, 1]."""
        return to_power(super().score(output), self._power)

    def _target(self, y: Images, y_hat: Images, channels: int) -> Images:
        errors = self.fitted_for.errors
        assert errors is not None
        if self._of_wrong_pixels:
            return wrong_pixels(errors, y, y_hat, channels, self.fitted_for.terms.tolerance or 0.0)
        return errors_for(Lp(1.0) if self._power > 1 else errors, y, y_hat, channels)
