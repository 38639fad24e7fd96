"""Means and shares over pixels: the paper's mean error, that of what is shown, and shares of wrong pixels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from conformask.losses.base import TOLERANCE, AnyMap, MapLoss, NumberOption, checked_tolerance
from conformask.records.loss import Texts
from conformask.records.names import DISTANCES
from conformask.records.record import Json

if TYPE_CHECKING:
    from conformask.arrays import Images
    from conformask.losses.of_images import Sums


@dataclass(frozen=True, init=False)
class Mean(MapLoss):
    """The loss sum(r m^p e) / sum(r), where p is the exponent of lp, else 1.

    Args:
        loss: the name of an error map ("l1", "l2", "l1.5", "ssim_map", "lpips_map", ...), an object, or a
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
    convex = True
    name_text = "{of}"
    texts = Texts(
        "{label}",
        ("Σ m{p} e / n", "sums over the n pixels{of_image}"),
        "what stays visible is off by at most {threshold}{off}, {averaged} over {whole} {as_zero}{by_bound}",
        "the {error} of what stays visible{against}, averaged over {whole} {as_zero}, is at most {limit}",
    )

    @property
    def of_masked_images(self) -> bool:
        """True for lp of whole images: that is the paper's distance between the masked images."""
        return self.power is not None and not self.regional

    @property
    def exponent(self) -> float:  # type: ignore[override]  # others set it
        """The exponent p of the mask."""
        return self.error_map.exponent

    @property
    def averaged_over(self) -> str:  # type: ignore[override]  # others set it
        """The pixels over which the loss averages errors, in words."""
        return "all pixels" * (self.of in DISTANCES)

    def of_errors(self, errors: "Images", region: "Images | None") -> "Sums":
        """Return the loss for masks with the channels of these errors."""
        from conformask.losses.of_images import Sums, weighted

        return Sums(weighted(errors, region), self.exponent)

    def furthest(self, y_hat: "Images") -> "Images | None":
        """Return the largest error of each pixel that any truth in [0, 1] could give, for lp."""
        from conformask.losses.distances import Lp

        return None if self.power is None else Lp(self.power).furthest(y_hat)

    @property
    def own_bounds(self) -> bool:  # type: ignore[override]  # others set it
        """True if y_hat alone bounds the loss: for lp, unless it depends on a region."""
        return self.of_masked_images


@dataclass(frozen=True, init=False)
class MeanShown(MapLoss):
    """The loss sum(r m e) / sum(r m); 0 where nothing is shown. Not monotone under nested masks.

    Args:
        loss: an error map, as for `Mean`.

    Examples:
        >>> import conformask as cm
        >>> cm.MeanShown("l1").name
        'trusted(l1)'
    """

    over = "trusted"
    convex = True
    aggregate = "its mean over the shown pixels"
    texts = Texts(
        "mean {label} of what is shown",
        ("Σ m e / Σ m", "sums over all pixels{where}; 0 if nothing is shown"),
        "the pixels shown{where}{by_mask} are off by at most {threshold}{off}{average}",
        "the mean {error} of the pixels shown{where}{by_mask}{against} {nothing} is at most {limit}",
    )
    relative = True
    family: ClassVar[Mapping[str, Json]] = {"name": "binary", "bounds": "mean"}

    @property
    def averaged_over(self) -> str:  # type: ignore[override]  # others set it
        """The pixels over which the loss averages errors, in words."""
        return "the pixels shown" * (self.of in DISTANCES)

    def of_errors(self, errors: "Images", region: "Images | None") -> "Sums":
        """Return the loss for masks with the channels of these errors."""
        from conformask.losses.of_images import Sums, within

        inside = within(region, errors)
        return Sums(inside * errors, shown=inside)


@dataclass(frozen=True, init=False)
class WrongPixelLoss(MapLoss):
    """A share of pixels, by which of them are wrong: their error is above the tolerance."""

    tolerance: float
    upper_bound = 1.0
    is_share = True
    name_text = "{over}({of} > {tolerance})"
    options: ClassVar[Mapping[str, NumberOption]] = {"tolerance": TOLERANCE}

    def __init__(self, loss: AnyMap, tolerance: float | str, *, regional: bool = False) -> None:
        super().__init__(loss, regional=regional)
        object.__setattr__(self, "tolerance", checked_tolerance(tolerance, self))

    def wrong(self, errors: "Images") -> "Images":
        """Return 1 where the error is above the tolerance, else 0; float32."""
        return (errors > self.tolerance).float()


IS_WRONG = "[e > {tolerance}] 1 where e > {tolerance}, else 0"


@dataclass(frozen=True, init=False)
class MissRate(WrongPixelLoss):
    """The loss sum(r m w) / sum(r w), w = [e > tolerance]; 0 where nothing is wrong.

    Args:
        loss: an error map, as for `Mean`.
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
    digits = 6  # a larger tolerance would not be a weaker promise, so that it must not be rounded up
    texts = Texts(
        "share of the wrong pixels ({label} above {tolerance}) that are shown",
        ("Σ m [e > {tolerance}] / Σ [e > {tolerance}]", IS_WRONG, "sums over all pixels{where}"),
        "at most {threshold} of the pixels{where} that are {wrong}{by_mask} are shown",
        "of the pixels{where} that are {wrong}, the share{by_mask} that is shown is at most {threshold}",
    )
    monotone = True
    family: ClassVar[Mapping[str, Json]] = {"name": "binary", "bounds": "total", "kappa": 1.0}
    exponent = 1.0
    target_power = 1.0
    of_differences = False

    def of_errors(self, errors: "Images", region: "Images | None") -> "Sums":
        """Return the loss for masks with the channels of these errors."""
        from conformask.losses.of_images import shown_share_of, within

        wrong = self.wrong(errors)
        return shown_share_of(within(region, wrong) * wrong)

    def target(self, y: "Images", y_hat: "Images", channels: int) -> "Images":
        """Return the wrong pixels: a network learns the probability of each."""
        return self.wrong(super().target(y, y_hat, channels))


@dataclass(frozen=True, init=False)
class FalseOmissionRate(WrongPixelLoss):
    """The loss sum(r m w) / sum(r m), w = [e > tolerance]; 0 where nothing is shown. Not monotone.

    Args:
        loss: an error map, as for `Mean`.
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
    texts = Texts(
        "share of what is shown that is wrong ({label} above {tolerance})",
        ("Σ m [e > {tolerance}] / Σ m", IS_WRONG, "sums over all pixels{where}; 0 if nothing is shown"),
        "at most {threshold} of the pixels shown{where}{by_mask} are {wrong}",
        "the share of the pixels shown{where}{by_mask} that are {wrong} is at most {threshold}",
    )
    relative = True
    family: ClassVar[Mapping[str, Json]] = {"name": "binary", "bounds": "mean"}

    def of_errors(self, errors: "Images", region: "Images | None") -> "Sums":
        """Return the loss for masks with the channels of these errors."""
        from conformask.losses.of_images import Sums, within

        wrong = self.wrong(errors)
        inside = within(region, wrong)
        return Sums(inside * wrong, shown=inside)
