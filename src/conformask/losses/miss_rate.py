"""The share of the wrong pixels that a mask shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conformask.arithmetic import image_means, per_image
from conformask.losses.map_loss import WrongPixelLoss, within
from conformask.losses.maps import wrong_pixels
from conformask.losses.sums import Sums
from conformask.storage.as_json import Json
from conformask.types import Images


@dataclass(frozen=True, init=False)
class MissRate(WrongPixelLoss):
    """The loss sum(r m w) / sum(r w), w = [e > tolerance]; 0 where nothing is wrong.

    Args:
        errors: an error map, as for `Mean`.
        tolerance: the error above which a pixel is wrong, at least 0.

    Raises:
        InvalidArgumentError: the tolerance is negative, or the error map is not known.

    Example:
        >>> import conformask as cm
        >>> cm.MissRate("l1", 0.1).terms.loss_name
        'missed(l1 > 0.1)'
    """

    over = "missed"
    monotone = True
    family: ClassVar[Mapping[str, Json]] = {"name": "water_filling", "kappa": 1.0}
    exponent = 1.0

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> Sums:
        """Return the loss on these images, for masks with this many channels."""
        wrong = wrong_pixels(self.errors, y, y_hat, channels, self.tolerance)
        wrong = within(region, wrong) * wrong
        share = per_image(image_means(wrong, torch.float64), wrong)
        return Sums(_rounded_down(wrong / share.where(share > 0, 1.0)))


def _rounded_down(weights: Tensor) -> Images:
    """Round to float32 and down by one digit: j of k wrong pixels must not exceed j / k by rounding."""
    rounded = weights.float()
    return rounded.nextafter(torch.zeros_like(rounded))
