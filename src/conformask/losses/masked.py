"""The paper's form: a distance between the masked images."""

from dataclasses import dataclass, replace

from torch import Tensor

from conformask.records.loss import LossTerms
from conformask.types import Distance, Images, PerImage


@dataclass(frozen=True)
class Masked:
    """d(m*y, m*y_hat), of a distance that is not a sum over pixels."""

    distance: Distance
    relative = False
    own_bounds = False
    family = None
    errors = None
    exponent = None

    @property
    def terms(self) -> LossTerms:
        """Its words."""
        return LossTerms(distance=self.distance.name)

    @property
    def monotone(self) -> bool:
        """That of the distance."""
        return self.distance.monotone

    @property
    def upper_bound(self) -> float | None:
        """That of the distance."""
        return self.distance.upper_bound

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> "MaskedImages":
        """The loss of these images; it knows no region."""
        return MaskedImages(self.distance, y, y_hat)


@dataclass(frozen=True)
class MaskedImages:
    """d(m*y, m*y_hat) of given images."""

    distance: Distance
    y: Images
    y_hat: Images

    def of(self, mask: Images) -> PerImage:
        """The loss of each image under its mask."""
        return self.distance(mask * self.y, mask * self.y_hat)

    def take(self, places: Tensor) -> "MaskedImages":
        """Those of the images at these places."""
        return replace(self, y=self.y[places], y_hat=self.y_hat[places])
