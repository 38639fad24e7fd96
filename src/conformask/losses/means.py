"""Means and shares over pixels: the paper's mean error, that of what is shown, and shares of wrong pixels."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from conformask.arithmetic import image_means, per_image
from conformask.arrays import ErrorMap, Images
from conformask.losses.distances import Lp
from conformask.losses.maps import AnyMap, MapLoss, Sums, checked_tolerance, errors_for, within
from conformask.records.loss import LossTerms
from conformask.records.record import Json


@dataclass(frozen=True, init=False)
class Mean(MapLoss):
    """The loss sum(r m^p e) / sum(r), where p is the exponent of lp, else 1.

    Args:
        errors: the name of an error map ("l1", "l2", "l1.5", "ssim_map", "lpips_map", ...), an object, or a
            `CustomErrorMap`.

    Examples:
        >>> import conformask as cm
        >>> cm.Mean("l1").terms.name
        'l1'
    """

    over = "image"
    monotone = True

    @property
    def terms(self) -> LossTerms:
        """The terms of this loss, as records keep them."""
        plain = isinstance(self.errors, Lp) and not self.regional
        return replace(super().terms, over=None) if plain else super().terms

    @property
    def exponent(self) -> float:
        """The exponent p of the mask."""
        return self.errors.exponent

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> Sums:
        """Return the loss on these images, for masks with this many channels."""
        return Sums(weighted(errors_for(self.errors, y, y_hat, channels), region), self.exponent)

    def furthest(self, y_hat: Images) -> Images | None:
        """Return the largest error of each pixel that any truth in [0, 1] could give, for lp."""
        return self.errors.furthest(y_hat) if isinstance(self.errors, Lp) else None

    @property
    def own_bounds(self) -> bool:
        """True if y_hat alone bounds the loss: for lp, unless it depends on a region."""
        return isinstance(self.errors, Lp) and not self.regional


def weighted(errors: Images, region: Images | None) -> Images:
    """Return r e / mean(r), whose mean is the mean of e over the region."""
    return errors if region is None else region * errors / per_image(image_means(region), region)


@dataclass(frozen=True, init=False)
class MeanShown(MapLoss):
    """The loss sum(r m e) / sum(r m); 0 where nothing is shown. Not monotone under nested masks.

    Args:
        errors: an error map, as for `Mean`.

    Examples:
        >>> import conformask as cm
        >>> cm.MeanShown("l1").terms.name
        'trusted(l1)'
    """

    over = "trusted"
    relative = True
    family: ClassVar[Mapping[str, Json]] = {"name": "binary", "bounds": "mean"}

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> Sums:
        """Return the loss on these images, for masks with this many channels."""
        errors = errors_for(self.errors, y, y_hat, channels)
        inside = within(region, errors)
        return Sums(inside * errors, shown=inside)


@dataclass(frozen=True, init=False)
class WrongPixelLoss(MapLoss):
    """A share of pixels, by which of them are wrong: their error is above the tolerance."""

    tolerance: float
    upper_bound = 1.0

    def __init__(self, errors: AnyMap, tolerance: float | str, *, regional: bool = False) -> None:
        super().__init__(errors, regional=regional, tolerance=checked_tolerance(tolerance, errors))

    @property
    def _numbers(self) -> dict[str, Any]:
        return {"tolerance": self.tolerance}


@dataclass(frozen=True, init=False)
class MissRate(WrongPixelLoss):
    """The loss sum(r m w) / sum(r w), w = [e > tolerance]; 0 where nothing is wrong.

    Args:
        errors: an error map, as for `Mean`.
        tolerance: the error above which a pixel is wrong, at least 0; or such as "10%" of the range.

    Raises:
        InvalidArgumentError: the tolerance is negative, or the error map is not known.

    Examples:
        >>> import conformask as cm
        >>> cm.MissRate("l1", 0.1).terms.name
        'missed(l1 > 0.1)'
    """

    over = "missed"
    monotone = True
    family: ClassVar[Mapping[str, Json]] = {"name": "binary", "bounds": "total", "kappa": 1.0}
    exponent = 1.0

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> Sums:
        """Return the loss on these images, for masks with this many channels."""
        wrong = wrong_pixels(self.errors, y, y_hat, channels, self.tolerance)
        return shown_share_of(within(region, wrong) * wrong)


def shown_share_of(weights: Images) -> Sums:
    """Return the loss sum(m w) / sum(w), 0 where all weights are 0."""
    mean = per_image(image_means(weights, torch.float64), weights)
    return Sums(_rounded_down(weights / mean.where(mean > 0, 1.0)))


def _rounded_down(weights: Tensor) -> Images:
    """Round to float32 and down by one digit: j of k wrong pixels must not exceed j / k by rounding."""
    rounded = weights.float()
    return rounded.nextafter(torch.zeros_like(rounded))


@dataclass(frozen=True, init=False)
class FalseOmissionRate(WrongPixelLoss):
    """The loss sum(r m w) / sum(r m), w = [e > tolerance]; 0 where nothing is shown. Not monotone.

    Args:
        errors: an error map, as for `Mean`.
        tolerance: the error above which a pixel is wrong, at least 0; or such as "10%" of the range.

    Raises:
        InvalidArgumentError: the tolerance is negative, or the error map is not known.

    Examples:
        >>> import conformask as cm
        >>> cm.FalseOmissionRate("l1", 0.1).terms.name
        'wrong(l1 > 0.1)'
    """

    over = "wrong"
    relative = True
    family: ClassVar[Mapping[str, Json]] = {"name": "binary", "bounds": "mean"}

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> Sums:
        """Return the loss on these images, for masks with this many channels."""
        wrong = wrong_pixels(self.errors, y, y_hat, channels, self.tolerance)
        inside = within(region, wrong)
        return Sums(inside * wrong, shown=inside)


def wrong_pixels(errors: ErrorMap, y: Images, y_hat: Images, channels: int, tolerance: float) -> Images:
    """Return 1 where the error is above the tolerance, with the channels of a mask; float32."""
    return (errors_for(errors, y, y_hat, channels) > tolerance).float()
