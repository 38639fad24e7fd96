"""The mean error over the pixels that are shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from conformask.losses.map_loss import MapLoss, within
from conformask.losses.maps import errors_for
from conformask.losses.sums import Sums
from conformask.records.loss import LossTerms
from conformask.storage.as_json import Json
from conformask.types import Images


@dataclass(frozen=True, init=False)
class MeanShown(MapLoss):
    """The loss sum(r m e) / sum(r m); 0 where nothing is shown. Not monotone under nested masks.

    Args:
        errors: an error map, as for `Mean`.

    Example:
        >>> import conformask as cm
        >>> cm.MeanShown("l1").terms.loss_name
        'trusted(l1)'
    """

    relative = True
    family: ClassVar[Mapping[str, Json]] = {"name": "trusted_mean"}

    @property
    def terms(self) -> LossTerms:
        """The terms of this loss, as records keep them."""
        return LossTerms(distance=self.errors.name, over="trusted", region=self.regional)

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> Sums:
        """Return the loss on these images, for masks with this many channels."""
        errors = errors_for(self.errors, y, y_hat, channels)
        inside = within(region, errors)
        return Sums(inside * errors, shown=inside)
