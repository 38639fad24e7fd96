"""The share of the shown pixels that is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from conformask.losses.map_loss import WrongPixelLoss, within
from conformask.losses.maps import wrong_pixels
from conformask.losses.sums import Sums
from conformask.storage.as_json import Json
from conformask.types import Images


@dataclass(frozen=True, init=False)
class FalseOmissionRate(WrongPixelLoss):
    """The loss sum(r m w) / sum(r m), w = [e > tolerance]; 0 where nothing is shown. Not monotone.

    Args:
        errors: an error map, as for `Mean`.
        tolerance: the error above which a pixel is wrong, at least 0.

    Raises:
        InvalidArgumentError: the tolerance is negative, or the error map is not known.

    Example:
        >>> import conformask as cm
        >>> cm.FalseOmissionRate("l1", 0.1).terms.loss_name
        'wrong(l1 > 0.1)'
    """

    over = "wrong"
    relative = True
    family: ClassVar[Mapping[str, Json]] = {"name": "trusted_mean"}

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> Sums:
        """Return the loss on these images, for masks with this many channels."""
        wrong = wrong_pixels(self.errors, y, y_hat, channels, self.tolerance)
        inside = within(region, wrong)
        return Sums(inside * wrong, shown=inside)
