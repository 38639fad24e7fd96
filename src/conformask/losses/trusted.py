"""The mean error of what is shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from conformask.losses.image import within
from conformask.losses.maps import errors_for
from conformask.losses.sums import Sums
from conformask.records.loss import LossTerms
from conformask.storage.as_json import Json
from conformask.types import ErrorMap, Images


@dataclass(frozen=True)
class Trusted:
    """sum(r m e) / sum(r m); 0 where nothing is trusted. Not monotone under nested masks."""

    errors: ErrorMap
    regional: bool = False
    monotone = False
    relative = True
    own_bounds = False
    family: ClassVar[Mapping[str, Json]] = {"name": "trusted_mean"}
    exponent = None

    @property
    def terms(self) -> LossTerms:
        """Its words."""
        return LossTerms(distance=self.errors.name, over="trusted", region=self.regional)

    @property
    def upper_bound(self) -> float | None:
        """That of the map."""
        return self.errors.upper_bound

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> Sums:
        """The loss of these images, for masks with this many channels."""
        errors = errors_for(self.errors, y, y_hat, channels)
        inside = within(region, errors)
        return Sums(inside * errors, shown=inside)
