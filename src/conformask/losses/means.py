"""Means and shares over pixels: the paper's mean error, that of what is shown, and shares of wrong pixels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from conformask.losses.base import (
    EXACTLY,
    NOTHING,
    TOLERANCE,
    AnyMap,
    ErrorWords,
    MapLoss,
    NumberOption,
    checked_tolerance,
)
from conformask.records.names import DISTANCES
from conformask.records.record import Json

if TYPE_CHECKING:
    from conformask.arrays import Images
    from conformask.losses.of_images import Sums


@dataclass(frozen=True, init=False)
class Mean(MapLoss):
    """The loss sum(r m^p e) / sum(r), where p is the exponent of lp, else 1.

    Args:
        errors: the name of an error map ("l1", "l2", "l1.5", "ssim_map", "lpips_map", ...), an object, or a
            `CustomErrorMap`.

    Examples:
        >>> import conformask as cm
        >>> cm.Mean("l1").name
        'l1'
    """

    over = "image"
    aggregate = "its mean over the image"
    monotone = True
    suits_mask_network = True

    @property
    def of_masked_images(self) -> bool:
        """True for lp of whole images: that is the paper's distance between the masked images."""
        return self.power is not None and not self.regional

    @property
    def exponent(self) -> float:
        """The exponent p of the mask."""
        return self.error_map.exponent

    @property
    def convex(self) -> bool:
        """True for lp."""
        return self.power is not None

    @property
    def averaged_over(self) -> str:  # type: ignore[override]  # an attribute of other losses
        """The pixels over which the loss averages errors, in words."""
        return "all pixels" * (self.of in DISTANCES)

    def on(self, y: "Images", y_hat: "Images", region: "Images | None", channels: int) -> "Sums":
        """Return the loss on these images, for masks with this many channels."""
        from conformask.losses.of_images import Sums, errors_for, weighted

        return Sums(weighted(errors_for(self.error_map, y, y_hat, channels), region), self.exponent)

    def furthest(self, y_hat: "Images") -> "Images | None":
        """Return the largest error of each pixel that any truth in [0, 1] could give, for lp."""
        from conformask.losses.distances import Lp

        return None if self.power is None else Lp(self.power).furthest(y_hat)

    @property
    def own_bounds(self) -> bool:
        """True if y_hat alone bounds the loss: for lp, unless it depends on a region."""
        return self.of_masked_images

    @property
    def name(self) -> str:
        """The loss as written in a formula: l1, l1 in the region."""
        return f"{self.of}{self.where}"

    @property
    def formula_and_letters(self) -> tuple[str, ...]:
        """The formula, and what each of its letters means but m and e."""
        return f"Σ m{self.raised_to} e / n", f"sums over the n pixels{self.where or ' of the image'}"

    def said(self, words: ErrorWords) -> tuple[str, str]:
        """Return the event that an image meets the threshold, and the limit of a mean over images."""
        return said_of_images(self, words)


def said_of_images(loss: MapLoss, words: ErrorWords) -> tuple[str, str]:
    """Return the event that the mean error of an image is small, and the limit of a mean over images."""
    whole, as_zero = "the region" if loss.regional else "the whole image", words.as_zero()
    return (
        f"what stays visible is off by at most {words.threshold}{words.off}, {words.averaged} over "
        f"{whole} {as_zero}{words.by_bound}",
        f"the {words.error} of what stays visible{words.against}, averaged over {whole} {as_zero}, is at "
        f"most {words.limit}",
    )


@dataclass(frozen=True, init=False)
class MeanShown(MapLoss):
    """The loss sum(r m e) / sum(r m); 0 where nothing is shown. Not monotone under nested masks.

    Args:
        errors: an error map, as for `Mean`.

    Examples:
        >>> import conformask as cm
        >>> cm.MeanShown("l1").name
        'trusted(l1)'
    """

    over = "trusted"
    aggregate = "its mean over the shown pixels"
    relative = True
    family: ClassVar[Mapping[str, Json]] = {"name": "binary", "bounds": "mean"}

    @property
    def convex(self) -> bool:
        """True for lp."""
        return self.power is not None

    @property
    def averaged_over(self) -> str:  # type: ignore[override]  # an attribute of other losses
        """The pixels over which the loss averages errors, in words."""
        return "the pixels shown" * (self.of in DISTANCES)

    def on(self, y: "Images", y_hat: "Images", region: "Images | None", channels: int) -> "Sums":
        """Return the loss on these images, for masks with this many channels."""
        from conformask.losses.of_images import Sums, errors_for, within

        errors = errors_for(self.error_map, y, y_hat, channels)
        inside = within(region, errors)
        return Sums(inside * errors, shown=inside)

    @property
    def plain_label(self) -> str:
        """The loss as people write it, but for the region."""
        return f"mean {self.of_label} of what is shown"

    @property
    def formula_and_letters(self) -> tuple[str, ...]:
        """The formula, and what each of its letters means but m and e."""
        return "Σ m e / Σ m", f"sums over all pixels{self.where}; 0 if nothing is shown"

    def said(self, words: ErrorWords) -> tuple[str, str]:
        """Return the event that an image meets the threshold, and the limit of a mean over images."""
        shown = f"the pixels shown{self.where}{words.by_mask}"
        return (
            f"{shown} are off by at most {words.threshold}{words.off}{words.average}",
            f"the mean {words.error} of {shown}{words.against} {NOTHING} is at most {words.limit}",
        )


@dataclass(frozen=True, init=False)
class WrongPixelLoss(MapLoss):
    """A share of pixels, by which of them are wrong: their error is above the tolerance."""

    tolerance: float
    upper_bound = 1.0
    is_share = True
    options: ClassVar[Mapping[str, NumberOption]] = {"tolerance": TOLERANCE}

    def __init__(self, errors: AnyMap, tolerance: float | str, *, regional: bool = False) -> None:
        super().__init__(errors, regional=regional)
        object.__setattr__(self, "tolerance", checked_tolerance(tolerance, self))

    def wrong(self, y: "Images", y_hat: "Images", channels: int) -> "Images":
        """Return 1 where the error is above the tolerance, with the channels of a mask; float32."""
        from conformask.losses.of_images import errors_for

        return (errors_for(self.error_map, y, y_hat, channels) > self.tolerance).float()

    @property
    def inside(self) -> str:
        """What stands in the brackets of the name: the error map, and numbers."""
        return f"{self.of} > {self.tolerance:g}"

    @property
    def wrong_label(self) -> str:
        """The error of a wrong pixel."""
        return f"{self.of_label} above {self.tolerance:g}"

    @property
    def is_wrong(self) -> str:
        """What a formula says of wrong pixels."""
        return f"[e > {self.tolerance:g}] 1 where e > {self.tolerance:g}, else 0"


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
        >>> cm.MissRate("l1", 0.1).name
        'missed(l1 > 0.1)'
    """

    over = "missed"
    aggregate = "the share of the wrong pixels that is shown"
    monotone = True
    family: ClassVar[Mapping[str, Json]] = {"name": "binary", "bounds": "total", "kappa": 1.0}
    exponent = 1.0
    target_power = 1.0

    def on(self, y: "Images", y_hat: "Images", region: "Images | None", channels: int) -> "Sums":
        """Return the loss on these images, for masks with this many channels."""
        from conformask.losses.of_images import shown_share_of, within

        wrong = self.wrong(y, y_hat, channels)
        return shown_share_of(within(region, wrong) * wrong)

    def target(self, y: "Images", y_hat: "Images", channels: int) -> "Images":
        """Return the wrong pixels: a network learns the probability of each."""
        return self.wrong(y, y_hat, channels)

    @property
    def plain_label(self) -> str:
        """The loss as people write it, but for the region."""
        return f"share of the wrong pixels ({self.wrong_label}) that are shown"

    @property
    def formula_and_letters(self) -> tuple[str, ...]:
        """The formula, and what each of its letters means but m and e."""
        wrong = f"[e > {self.tolerance:g}]"
        return f"Σ m {wrong} / Σ {wrong}", self.is_wrong, f"sums over all pixels{self.where}"

    def said(self, words: ErrorWords) -> tuple[str, str]:
        """Return the event that an image meets the threshold, and the limit of a mean over images."""
        wrong = f"the pixels{self.where} that are {words.wrong(self.tolerance, EXACTLY)}"
        return (
            f"at most {words.threshold} of {wrong}{words.by_mask} are shown",
            f"of {wrong}, the share{words.by_mask} that is shown is at most {words.threshold}",
        )


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
        >>> cm.FalseOmissionRate("l1", 0.1).name
        'wrong(l1 > 0.1)'
    """

    over = "wrong"
    aggregate = "the share of the shown pixels that is wrong"
    relative = True
    family: ClassVar[Mapping[str, Json]] = {"name": "binary", "bounds": "mean"}

    def on(self, y: "Images", y_hat: "Images", region: "Images | None", channels: int) -> "Sums":
        """Return the loss on these images, for masks with this many channels."""
        from conformask.losses.of_images import Sums, within

        wrong = self.wrong(y, y_hat, channels)
        inside = within(region, wrong)
        return Sums(inside * wrong, shown=inside)

    @property
    def plain_label(self) -> str:
        """The loss as people write it, but for the region."""
        return f"share of what is shown that is wrong ({self.wrong_label})"

    @property
    def formula_and_letters(self) -> tuple[str, ...]:
        """The formula, and what each of its letters means but m and e."""
        sums = f"sums over all pixels{self.where}; 0 if nothing is shown"
        return f"Σ m [e > {self.tolerance:g}] / Σ m", self.is_wrong, sums

    def said(self, words: ErrorWords) -> tuple[str, str]:
        """Return the event that an image meets the threshold, and the limit of a mean over images."""
        shown, wrong = f"the pixels shown{self.where}{words.by_mask}", words.wrong(self.tolerance)
        return (
            f"at most {words.threshold} of {shown} are {wrong}",
            f"the share of {shown} that are {wrong} is at most {words.threshold}",
        )
