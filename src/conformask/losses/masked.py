"""The paper's form: a distance between the masked images."""

from dataclasses import dataclass, replace

from torch import Tensor

from conformask.records.loss import LossTerms
from conformask.types import Distance, Images, PerImage


@dataclass(frozen=True)
class Masked:
    """The loss d(m*y, m*y_hat), for a distance that is not a sum over pixels."""

    distance: Distance
    relative = False
    own_bounds = False
    family = None
    errors = None
    exponent = None

    @property
    def terms(self) -> LossTerms:
        """The terms of this loss, as records keep them."""
        return LossTerms(distance=self.distance.name)

    @property
    def monotone(self) -> bool:
        """True if the distance is monotone."""
        return self.distance.monotone

    @property
    def upper_bound(self) -> float | None:
        """The largest value of the distance, if it has one."""
        return self.distance.upper_bound

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> "MaskedImages":
        """Return the loss on these images; regions are ignored."""
        return MaskedImages(self.distance, y, y_hat)


@dataclass(frozen=True)
class MaskedImages:
    """The loss d(m*y, m*y_hat) on given images."""

    distance: Distance
    y: Images
    y_hat: Images

    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask."""
        return self.distance(mask * self.y, mask * self.y_hat)

    def take(self, places: Tensor) -> "MaskedImages":
        """Return the loss on the images at these places."""
        return replace(self, y=self.y[places], y_hat=self.y_hat[places])
