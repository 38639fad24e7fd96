"""The share of the wrong pixels that a mask shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conformask.arithmetic import image_means, per_image
from conformask.losses.image import within
from conformask.losses.maps import wrong_pixels
from conformask.losses.sums import Sums
from conformask.records.loss import LossTerms
from conformask.storage.as_json import Json
from conformask.types import ErrorMap, Images


@dataclass(frozen=True)
class Missed:
    """The loss sum(r m w) / sum(r w), w = [e > tolerance]; 0 where nothing is wrong."""

    errors: ErrorMap
    tolerance: float
    regional: bool = False
    monotone = True
    relative = False
    own_bounds = False
    family: ClassVar[Mapping[str, Json]] = {"name": "water_filling", "kappa": 1.0}
    exponent = 1.0
    upper_bound = 1.0

    @property
    def terms(self) -> LossTerms:
        """The terms of this loss, as records keep them."""
        return LossTerms(
            distance=self.errors.name, over="missed", tolerance=self.tolerance, region=self.regional
        )

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
