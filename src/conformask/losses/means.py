"""Mean errors over an image or its region, for lp the paper's promise, or over the pixels that are shown."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from conformask.arithmetic import image_means, per_image
from conformask.distances.lp import Lp
from conformask.losses.map_loss import MapLoss, Sums, within
from conformask.losses.maps import errors_for
from conformask.records.loss import LossTerms
from conformask.storage.as_json import Json
from conformask.types import Images


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
