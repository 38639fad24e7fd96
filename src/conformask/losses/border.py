"""The mean error near the border of an image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from conformask.losses.base import AnyMap, MapLoss, NumberOption
from conformask.records.loss import Texts

if TYPE_CHECKING:
    from conformask.arrays import Images
    from conformask.losses.of_images import Sums


@dataclass(frozen=True, init=False)
class BorderMean(MapLoss):
    """The loss sum(m e) / n over the pixels at most `width` from the border."""

    width: int
    over = "border"
    aggregate = "its mean near the border"
    monotone = True
    name_text = "border({of}, {width} px)"
    texts = Texts(
        "{label} near the border",
        ("Σ m e / n", "sums over the n pixels at most {width} from the border"),
        "what stays visible within {width} pixels of the border is off by at most {threshold}, on average",
        "what stays visible within {width} pixels of the border is off by at most {threshold}, on average",
    )
    exponent = 1.0
    options: ClassVar[Mapping[str, NumberOption]] = {
        "width": NumberOption("Pixels from the border that count, of --over border.", "4")
    }

    def __init__(self, loss: AnyMap, width: int, *, regional: bool = False) -> None:
        super().__init__(loss, regional=regional, width=width)

    def of_errors(self, errors: "Images", region: "Images | None") -> "Sums":
        """Return the loss for masks with the channels of these errors."""
        from conformask.losses.of_images import Sums, weighted

        inside = errors.new_ones(errors[:, :1].shape)
        inside[(..., *[slice(self.width, -self.width)] * (errors.ndim - 2))] = 0
        return Sums(weighted(errors, inside if region is None else inside * region), 1.0)
