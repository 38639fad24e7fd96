"""The share of the shown pixels that is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from conformask.losses.image import within
from conformask.losses.maps import wrong_pixels
from conformask.losses.sums import Sums
from conformask.records.loss import LossTerms
from conformask.storage.as_json import Json
from conformask.types import ErrorMap, Images


@dataclass(frozen=True)
class Wrong:
    """The loss sum(r m w) / sum(r m), w = [e > tolerance]; 0 where nothing is shown. Not monotone."""

    errors: ErrorMap
    tolerance: float
    regional: bool = False
    monotone = False
    relative = True
    own_bounds = False
    family: ClassVar[Mapping[str, Json]] = {"name": "trusted_mean"}
    exponent = None
    upper_bound = 1.0

    @property
    def terms(self) -> LossTerms:
        """The terms of this loss, as records keep them."""
        return LossTerms(
            distance=self.errors.name, over="wrong", tolerance=self.tolerance, region=self.regional
        )

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> Sums:
        """Return the loss on these images, for masks with this many channels."""
        wrong = wrong_pixels(self.errors, y, y_hat, channels, self.tolerance)
        inside = within(region, wrong)
        return Sums(inside * wrong, shown=inside)
