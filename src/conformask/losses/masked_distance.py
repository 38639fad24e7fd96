"""The paper's form: a distance between the masked images."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from conformask.distances import distance as distance_by_name
from conformask.errors import InvalidArgumentError
from conformask.losses.maps import map_instead
from conformask.records.loss import LossTerms
from conformask.types import Distance, Images, Loss, PerImage


@dataclass(frozen=True, init=False)
class MaskedDistance(Loss):
    """The loss d(m*y, m*y_hat), for a distance that is not a sum over pixels.

    Args:
        distance: a name ("ssim", "lpips", "dists", ...), an object, or a callable (a, b) -> (N,).

    Examples:
        >>> import conformask as cm
        >>> cm.MaskedDistance("ssim").terms.name
        'ssim'
    """

    distance: Distance

    def __init__(self, distance: str | Distance | Callable[[Tensor, Tensor], Tensor]) -> None:
        object.__setattr__(self, "distance", distance_by_name(distance))

    family = None

    @property
    def part(self) -> Distance:
        """The distance."""
        return self.distance

    def in_regions(self, regions: bool) -> "MaskedDistance":
        """Return the loss itself, over whole images.

        Raises:
            InvalidArgumentError: regions are asked for.
        """
        if regions:
            raise InvalidArgumentError(
                f"distance {self.distance.name!r} compares whole images and cannot use a region: "
                f"{map_instead(self.distance.name)}, or leave out region/"
            )
        return self

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

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> "MaskedDistanceOfImages":
        """Return the loss on these images; regions are ignored."""
        return MaskedDistanceOfImages(self.distance, y, y_hat)


@dataclass(frozen=True)
class MaskedDistanceOfImages:
    """The loss d(m*y, m*y_hat) on given images."""

    distance: Distance
    y: Images
    y_hat: Images

    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask."""
        return self.distance(mask * self.y, mask * self.y_hat)

    def take(self, places: Tensor) -> "MaskedDistanceOfImages":
        """Return the loss on the images at these places."""
        return replace(self, y=self.y[places], y_hat=self.y_hat[places])
