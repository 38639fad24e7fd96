"""Losses of whole masked images: the paper's distance between them, and a user's own callable."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from conformask.errors import InvalidArgumentError
from conformask.extensions import PACKAGE
from conformask.losses.base import Loss
from conformask.records.extent import Extent, extent_of
from conformask.records.loss import StatedLoss, Traits
from conformask.records.loss_words import LossWords, Texts
from conformask.records.names import DISTANCES
from conformask.records.numbers import Values, rounded_up, written

if TYPE_CHECKING:
    from torch import Tensor

    from conformask.arrays import Distance, ErrorMap, Images, PerImage
    from conformask.losses.of_images import OfCallable

    Function = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    AnyDistance = str | Distance | Callable[[Tensor, Tensor], Tensor]
    from conformask.records.card import CalibrationCard
else:
    Function, AnyDistance = Callable, object
DIFFERS = "what stays visible differs from the truth by at most {threshold} in {label} ({equal})"
SIMILAR = StatedLoss.texts._replace(
    event="what stays visible is at least as similar to the truth as {threshold} (1 is equal; {equal})",
    limit="the similarity of what stays visible to the truth (1 is equal; {equal}) is at least {threshold}",
)
MINUS = "1 − "
"""Beginning of the labels of distances that are 1 minus a similarity."""


@dataclass(frozen=True)
class CustomLoss(Loss):
    """Wraps a callable (mask, y, y_hat, region) -> (N,) that is 0 for the closed mask.

    The mask has one channel or those of y_hat; the region is (N, 1, *space), all ones where images have none.
    The loss is treated as not monotone unless declared monotone (never larger under a smaller mask).

    Examples:
        >>> import conformask as cm
        >>> def worst(mask, y, y_hat, region):
        ...     return (region * mask * (y - y_hat).abs()).amax(dim=(1, 2, 3))
        >>> cm.CustomLoss(worst, monotone=True, upper_bound=1.0).name
        'worst'
    """

    function: Function
    monotone: bool = False
    upper_bound: float | None = None
    regional: bool = False
    common = Traits(suits_mask_network=True)

    @property
    def traits(self) -> Traits:
        """The traits of the loss, which the user has declared."""
        return replace(super().traits, monotone=self.monotone, upper_bound=self.upper_bound)

    @property
    def extent(self) -> Extent:
        """The whole image, or its region."""
        return extent_of(regional=self.regional)

    def in_regions(self, regions: bool) -> "Loss":
        """Return the loss over the region of each image, or over whole images."""
        return replace(self, regional=regions)

    @property
    def of(self) -> str:
        """The callable's own name."""
        from conformask.records.fingerprints import name_of

        return name_of(self.function)

    def on(self, y: "Images", y_hat: "Images", region: "Images | None", channels: int) -> "OfCallable":
        """Return the loss on these images, for masks with this many channels."""
        from conformask.losses.of_images import OfCallable

        return OfCallable(self._checked, y, y_hat, y.new_ones(y[:, :1].shape) if region is None else region)

    def _checked(self, mask: "Images", y: "Images", y_hat: "Images", region: "Images") -> "PerImage":
        """Check and return the callable's value."""
        from conformask.arrays import full_precision
        from conformask.losses.distances import one_per_image

        with full_precision(mask):
            value = self.function(mask, y, y_hat, region)
        return one_per_image(value, len(mask), f"loss {self.name!r}", self.upper_bound)


@dataclass(frozen=True, init=False)
class MaskedDistance(Loss):
    """The loss d(m*y, m*y_hat), for a distance that is not a sum over pixels.

    Args:
        loss: a name ("ssim", "lpips", ...), an object, or a callable (a, b) -> (N,).

    Examples:
        >>> import conformask as cm
        >>> cm.MaskedDistance("ssim").name
        'ssim'
    """

    loss: AnyDistance
    common = Traits(takes_regions=False, suits_mask_network=True, family=None)

    def __init__(self, loss: AnyDistance) -> None:
        known = DISTANCES.get(loss) if isinstance(loss, str) else None
        if known is None or known.is_map:
            from conformask.losses.distances import distance as distance_from

            loss = distance_from(loss)
        object.__setattr__(self, "loss", loss)

    @property
    def of(self) -> str:
        """The name of the distance."""
        return self.loss if isinstance(self.loss, str) else self.distance.name

    @property
    def distance(self) -> "Distance":
        """The distance."""
        from conformask.losses.distances import distance

        return distance(self.loss)

    def in_regions(self, regions: bool) -> "Loss":
        """Return the loss itself, over whole images.

        Raises:
            InvalidArgumentError: regions are asked for.
        """
        if regions:
            from conformask.losses.distances import map_instead

            raise InvalidArgumentError(
                f"distance {self.of!r} compares whole images and cannot use a region: "
                f"{map_instead(self.of)}, or leave out region/"
            )
        return self

    @property
    def traits(self) -> Traits:
        """The traits of the loss: the distance may be monotone, and have a largest value."""
        if isinstance(self.loss, str):
            return replace(super().traits, upper_bound=DISTANCES[self.loss].upper_bound)
        own = self.distance
        return replace(
            super().traits,
            monotone=own.monotone,
            upper_bound=own.upper_bound,
            block_exponent=own.exponent,
        )

    def on(self, y: "Images", y_hat: "Images", region: "Images | None", channels: int) -> "OfCallable":
        """Return the loss on these images; regions are ignored."""
        from conformask.losses.of_images import OfCallable

        distance = self.distance
        return OfCallable(lambda mask, y, y_hat, _: distance(mask * y, mask * y_hat), y, y_hat, y_hat)

    @property
    def words(self) -> LossWords:
        """The words for the loss."""
        return DistanceWords(self)


def measured_by(loss: Loss) -> "Distance | ErrorMap | Loss":
    """Return the distance or error map that a loss is made of, or the loss itself."""
    return loss.distance if isinstance(loss, MaskedDistance) else loss.error_map or loss


def code_of(loss: Loss) -> str | None:
    """Return a hash of a user's own distance, map or loss; None for built-in ones, which have names."""
    from conformask.records.fingerprints import fingerprint_of

    measure = measured_by(loss)
    function = getattr(measure, "function", measure)
    own = [each for each in (loss, function) if type(each).__module__.split(".")[0] != PACKAGE]
    return fingerprint_of(own[0]) if own else None


@dataclass(frozen=True)
class DistanceWords(LossWords):
    """The words for a distance between masked images, or a similarity of them."""

    @property
    def similarity(self) -> str | None:
        """The similarity of masked images of which the loss is 1 minus, such as SSIM; None without."""
        return self.distance.removeprefix(MINUS) if self.distance.startswith(MINUS) else None

    def limit(self, threshold: float, values: Values | None) -> str:
        """Return the threshold in words, of a similarity the smallest that is accepted."""
        if self.similarity:
            return f"{self.similarity} {written(1 - rounded_up(threshold))}"
        return super().limit(threshold, values)

    @property
    def texts(self) -> Texts:
        """The templates for a distance, a similarity, or a distance of a user's own."""
        if self.similarity:
            return SIMILAR
        return super().texts if self.loss.of not in DISTANCES else super().texts._replace(event=DIFFERS)

    def in_sentences(self, card: "CalibrationCard") -> dict[str, str]:
        """Return what stands for the parts of the loss, the promise and its images in sentences."""
        equal = "both are multiplied by the mask" if card.is_grey else "hidden pixels are equal"
        return super().in_sentences(card) | {"equal": equal}

    @property
    def caveat(self) -> str | None:
        """What hidden pixels do to a distance between masked images."""
        name = self.loss.of
        if name not in DISTANCES:
            return None
        instead = f"{name}_map" if f"{name}_map" in DISTANCES else "ssim_map"
        return (
            f"{self.distance} compares the masked images, in which hidden pixels are identical: a few "
            "hidden dots can make them similar, so the mask need not cover what is wrong. A promise about "
            f"{instead} requires that."
        )
