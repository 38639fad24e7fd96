"""The mean error over an image, or over its region: for lp the paper's promise."""

from dataclasses import dataclass

import torch

from conformask.arithmetic import beside, image_means
from conformask.distances.lp import Lp
from conformask.losses.maps import errors_for
from conformask.losses.sums import Sums
from conformask.records.loss import LossTerms
from conformask.types import ErrorMap, Images


@dataclass(frozen=True)
class OverImage:
    """sum(r m^p e) / sum(r), p the exponent of lp, else 1."""

    errors: ErrorMap
    regional: bool = False
    monotone = True
    relative = False
    family = None

    @property
    def terms(self) -> LossTerms:
        """Its words."""
        plain = isinstance(self.errors, Lp) and not self.regional
        return LossTerms(distance=self.errors.name, over=None if plain else "image", region=self.regional)

    @property
    def exponent(self) -> float:
        """p."""
        return self.errors.exponent

    @property
    def upper_bound(self) -> float | None:
        """That of the map."""
        return self.errors.upper_bound

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> Sums:
        """The loss of these images, for masks with this many channels."""
        return Sums(weighted(errors_for(self.errors, y, y_hat, channels), region), self.exponent)

    @property
    def own_bounds(self) -> bool:
        """Of lp; where a region decides they are not known before it is."""
        return isinstance(self.errors, Lp) and not self.regional


def weighted(errors: Images, region: Images | None) -> Images:
    """r e / mean(r), whose mean is that over the region."""
    return errors if region is None else region * errors / beside(image_means(region), region)


def within(region: Images | None, errors: Images) -> Images:
    """The region with the shape of the errors, (N, C, *space); ones where there is none."""
    return torch.ones_like(errors) if region is None else region.float().expand_as(errors)
