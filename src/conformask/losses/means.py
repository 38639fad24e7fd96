"""Means and shares over pixels: the paper's mean error, that of what is shown, and shares of wrong pixels."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from conformask.losses.base import TOLERANCE, AnyMap, Form, MapLoss, checked_tolerance
from conformask.records.loss import OwnLoss, Traits
from conformask.records.loss_words import Texts
from conformask.records.record import Json

if TYPE_CHECKING:
    from conformask.arrays import Images
    from conformask.losses.of_images import Sums


BY_MEAN: Mapping[str, Json] = {"name": "binary", "bounds": "mean"}
"""Settings of the family of masks for a loss that is divided by what the mask shows."""


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
    form = Form("its mean over the image")
    common = Traits(monotone=True, suits_mask_network=True, convex=True)
    texts = Texts(
        "{of}",
        "{label}",
        ("Σ m{p} e / n", "sums over the n pixels{of_image}"),
        "what stays visible is off by at most {threshold}{off}, {averaged} over {whole} {as_zero}{by_bound}",
        "the {error} of what stays visible{against}, averaged over {whole} {as_zero}, is at most {limit}",
        averaged="all pixels",
    )

    @property
    def traits(self) -> Traits:
        """The traits of the loss; lp of whole images is the paper's distance between the masked images."""
        is_distance = self.power is not None and not self.regional
        exponent = self.power or (1.0 if isinstance(self.loss, str | OwnLoss) else self.loss.exponent)
        return replace(
            super().traits,
            masks_images=is_distance,
            own_bounds=is_distance,
            exponent=exponent,
            block_exponent=self.power if is_distance else None,
        )

    def of_errors(self, errors: "Images", region: "Images | None") -> "Sums":
        """Return the loss for masks with the channels of these errors."""
        from conformask.losses.of_images import Sums, weighted

        return Sums(weighted(errors, region), self.traits.exponent or 1.0)


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
    common = Traits(relative=True, convex=True, family=BY_MEAN)
    form = Form("its mean over the shown pixels")
    texts = Texts(
        "{over}({of})",
        "mean {label} of what is shown",
        ("Σ m e / Σ m", "sums over all pixels{where}; 0 if nothing is shown"),
        "the pixels shown{where}{by_mask} are off by at most {threshold}{off}{average}",
        "the mean {error} of the pixels shown{where}{by_mask}{against} {nothing} is at most {limit}",
        averaged="the pixels shown",
    )

    def of_errors(self, errors: "Images", region: "Images | None") -> "Sums":
        """Return the loss for masks with the channels of these errors."""
        from conformask.losses.of_images import Sums, within

        inside = within(region, errors)
        return Sums(inside * errors, shown=inside)


@dataclass(frozen=True, init=False)
class WrongPixelLoss(MapLoss):
    """A share of pixels, by which of them are wrong: their error is above the tolerance."""

    tolerance: float
    common = Traits(is_share=True)

    def __init__(self, loss: AnyMap, tolerance: float | str, *, regional: bool = False) -> None:
        super().__init__(loss, regional=regional)
        of_map = Mean(loss)  # traits of self need the tolerance
        object.__setattr__(self, "tolerance", checked_tolerance(tolerance, of_map))

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
    common = Traits(
        is_share=True,
        monotone=True,
        exponent=1.0,
        family={"name": "binary", "bounds": "total", "kappa": 1.0},
    )
    form = Form("the share of the wrong pixels that is shown", {"tolerance": TOLERANCE})
    texts = Texts(
        "{over}({of} > {tolerance})",
        "share of the wrong pixels ({label} above {tolerance}) that are shown",
        ("Σ m [e > {tolerance}] / Σ [e > {tolerance}]", IS_WRONG, "sums over all pixels{where}"),
        "at most {threshold} of the pixels{where} that are {wrong}{by_mask} are shown",
        "of the pixels{where} that are {wrong}, the share{by_mask} that is shown is at most {threshold}",
        digits=6,  # a larger tolerance would not be a weaker promise, so that it must not be rounded up
    )

    @property
    def traits(self) -> Traits:
        """The traits of the loss: a network learns the probability that a pixel is wrong."""
        return replace(super().traits, wrong_above=self.tolerance)

    def of_errors(self, errors: "Images", region: "Images | None") -> "Sums":
        """Return the loss for masks with the channels of these errors."""
        from conformask.losses.of_images import shown_share_of, within

        wrong = self.wrong(errors)
        return shown_share_of(within(region, wrong) * wrong)


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
    common = Traits(is_share=True, relative=True, family=BY_MEAN)
    form = Form("the share of the shown pixels that is wrong", {"tolerance": TOLERANCE})
    texts = Texts(
        "{over}({of} > {tolerance})",
        "share of what is shown that is wrong ({label} above {tolerance})",
        ("Σ m [e > {tolerance}] / Σ m", IS_WRONG, "sums over all pixels{where}; 0 if nothing is shown"),
        "at most {threshold} of the pixels shown{where}{by_mask} are {wrong}",
        "the share of the pixels shown{where}{by_mask} that are {wrong} is at most {threshold}",
    )

    def of_errors(self, errors: "Images", region: "Images | None") -> "Sums":
        """Return the loss for masks with the channels of these errors."""
        from conformask.losses.of_images import Sums, within

        wrong = self.wrong(errors)
        inside = within(region, wrong)
        return Sums(inside * wrong, shown=inside)
