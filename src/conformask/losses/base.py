"""What a loss owes: its words, one number per image and mask, and facts that choose how it is calibrated.

Torch is loaded when a loss is computed, not when it is made or described.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from conformask.errors import ImageError, InvalidArgumentError
from conformask.extensions import LOSSES, Extensions
from conformask.losses.words import MapWords
from conformask.records.extent import Extent, extent_of
from conformask.records.loss import LP, OwnLoss, StatedLoss, Traits, is_same
from conformask.records.loss_words import LossWords, Texts
from conformask.records.names import DISTANCES
from conformask.records.numbers import Values
from conformask.records.reading import PhysicalWindow, Reference
from conformask.records.selection import tolerance_of

if TYPE_CHECKING:
    from conformask.arrays import Batch, ErrorMap, Images, Triplet
    from conformask.losses.of_images import LossOfImages

    AnyMap = str | ErrorMap | OwnLoss
else:
    AnyMap = object
CHOICES: Extensions[object] = Extensions(LOSSES, object, {name: name for name in DISTANCES})
"""All distances, error maps and losses by name: a built-in name stays one, a package gives an object."""


@dataclass(frozen=True)
class NumberOption:
    """A number of a loss as an option of the command line."""

    help: str
    example: str | None = None
    """An example where the number has to be given; None where it has a default."""


@dataclass(frozen=True)
class OwnOption:
    """An option of the command line that chooses a loss in the place of --loss."""

    name: str
    """The name of the option, and of the field of `Reading` that it fills in; also what the loss counts."""
    help: str
    read: str
    """What the option names, in words."""
    over: tuple[str, ...]
    """What --over may be beside it."""
    over_help: str


@dataclass(frozen=True)
class Form:
    """How the command line asks for a loss."""

    aggregate: str = ""
    """What becomes of an error map, as the help of --over says it; empty for losses without one."""
    numbers: Mapping[str, NumberOption] = field(default_factory=dict)
    """The options for the numbers of the loss, by name."""
    own: OwnOption | None = None
    """The option that chooses the loss; None where --loss and --over do."""


class Readable(Protocol):
    """Images by what is known of them before one is read, such as `Triplets`."""

    @property
    def values(self) -> Values | None:
        """The values that become 0 and 1; None where they are not known."""

    def window(self, length: str) -> PhysicalWindow:
        """Return the window with a side such as "5mm" in pixels."""


class Loss(StatedLoss):
    """The quantity a promise is about: one number per image and mask, 0 for the closed mask."""

    form: ClassVar[Form] = Form()
    """How the command line asks for the loss."""

    @abstractmethod
    def on(self, y: "Images", y_hat: "Images", region: "Images | None", channels: int) -> "LossOfImages":
        """Return the loss on images, for masks with this many channels; region (N, 1, *space) in [0, 1]."""

    def of_batch(self, batch: "Batch", channels: int) -> "LossOfImages":
        """Return the loss on the images of a batch, for masks with this many channels.

        Raises:
            MismatchError: the loss is about regions or objects, and the images have none.
        """
        return self.on(batch.truth(), batch.y_hat, self.extent.weights(batch), channels)

    @abstractmethod
    def in_regions(self, regions: bool) -> "Loss":
        """Return the loss over the region of each image, or over whole images.

        Raises:
            InvalidArgumentError: `regions` is true, and the loss compares whole masked images.
        """

    def prepared(self, images: Readable) -> "Loss":
        """Return the loss for these images, of which none is read: lengths, such as 5 mm, in their pixels.

        Raises:
            InvalidArgumentError: the loss cannot be computed of images with this spacing or range.
        """
        return self

    @property
    def error_map(self) -> "ErrorMap | None":
        """The error map that the loss is made of, if any."""
        return None


def fitted_loss(loss: Loss, images: "Iterable[Triplet]", reference: Reference) -> Loss:
    """Return a loss with the numbers that these images, whose y is this reference, show of all."""
    numbers = loss.traits.truth.numbers(images, reference)
    return replace(cast("Any", loss), **numbers) if numbers else loss


def measured_as(loss: Loss, kept: StatedLoss) -> Loss:
    """Return a loss with the numbers that were measured on images for the same loss, which a record kept."""
    missing = [name for name in loss.traits.truth.measured if loss.numbers[name] is None]
    numbers = {name: kept.numbers.get(name) for name in missing}
    measured = replace(cast("Any", loss), **numbers) if numbers else loss
    return measured if is_same(measured, kept) else loss


class RatioMap(ABC):
    """An error map of ratios to the truth: percentages are shares of it, not of the range.

    So the range of the images has to begin at 0, and where y is 0 in the region, they are refused.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    """The error of a pixel, of y and ŷ."""
    exponent: ClassVar[float] = 1.0
    upper_bound: ClassVar[float | None] = None

    @abstractmethod
    def error_map(self, y: "Images", y_hat: "Images") -> "Images":
        """Compute errors >= 0, finite also where y is 0, which counts nowhere."""

    @abstractmethod
    def text(self, error: float, digits: int) -> str:
        """Return an error in words, after "off by more than", rounded up."""

    def symbol(self, error: float) -> str:
        """Return an error in formulas."""
        return f"{error:g}"

    def error_of(self, share: float) -> float:
        """Return the error of a pixel that is off by this share of the truth."""
        return share

    def check_values(self, values: Values | None) -> None:
        """Refuse images whose 0 is not the least value of the range."""
        if values is not None and (values.low != 0 or values.high <= 0):
            raise InvalidArgumentError(
                f"loss {self.name!r} divides by the truth, but the range of the images is {values.low:g} to "
                f"{values.high:g}: give one that begins at 0 (--data-range 0 HIGH)"
            )

    def check_truth(self, names: Sequence[str], y: "Images", region: "Images | None") -> None:
        """Refuse images with these names where y is 0 in the region."""
        zero = (y <= 0).any(dim=1, keepdim=True)
        inside = zero if region is None else zero & (region > 0)
        for name, image in zip(names, inside, strict=True):
            if bool(image.any()):
                raise ImageError(
                    f"triplet {name!r}: y is 0 at {int(image.sum()):,} pixels, and loss {self.name!r} "
                    "divides by it: if 0 means that there is no truth, say --no-truth 0 (Reading(no_truth=0))"
                )


def stated_map(loss: AnyMap) -> AnyMap:
    """Return the name of a built-in error map, or the object of another one."""
    known = DISTANCES.get(loss) if isinstance(loss, str) else None
    if isinstance(loss, OwnLoss) or (known is not None and known.is_map):
        return loss
    from conformask.losses.distances import error_map

    found = error_map(loss)
    return found.name if LP.fullmatch(found.name) else found


@dataclass(frozen=True, init=False)
class MapLoss(Loss):
    """A loss of an error map under a mask, over the image or over its region."""

    loss: AnyMap
    regional: bool
    texts = Texts()

    def __init__(self, loss: AnyMap, *, regional: bool = False, **numbers: Any) -> None:
        for name, value in {"loss": stated_map(loss), "regional": regional, **numbers}.items():
            object.__setattr__(self, name, value)

    @property
    def of(self) -> str:
        """The name of the error map."""
        return self.loss if isinstance(self.loss, str) else self.loss.name

    def of_batch(self, batch: "Batch", channels: int) -> "LossOfImages":
        """Return the loss on the images of a batch, for masks with this many channels.

        Raises:
            ImageError: the errors are ratios to the truth, and y is 0 in the region.
            MismatchError: the loss is about regions, and the images have none.
        """
        if self.ratio is not None:
            self.ratio.check_truth(batch.names, batch.truth(), self.extent.weights(batch))
        return super().of_batch(batch, channels)

    def on(self, y: "Images", y_hat: "Images", region: "Images | None", channels: int) -> "LossOfImages":
        """Return the loss on images, for masks with this many channels; region (N, 1, *space) in [0, 1]."""
        from conformask.losses.of_images import errors_for

        return self.of_errors(errors_for(self.error_map, y, y_hat, channels), region)

    @abstractmethod
    def of_errors(self, errors: "Images", region: "Images | None") -> "LossOfImages":
        """Return the loss for masks with the channels of these errors."""

    def in_regions(self, regions: bool) -> "Loss":
        """Return the loss over the region of each image, or over whole images."""
        return replace(self, regional=regions)

    @property
    def error_map(self) -> "ErrorMap":
        """The error map."""
        from conformask.losses.distances import error_map

        return error_map(self.loss)

    @property
    def ratio(self) -> RatioMap | None:
        """The error map where it is one of ratios to the truth."""
        part = CHOICES.get(self.of) if isinstance(self.loss, OwnLoss) else self.loss
        return part if isinstance(part, RatioMap) else None

    @property
    def extent(self) -> Extent:
        """The whole image, or its region."""
        return extent_of(regional=self.regional)

    def prepared(self, images: Readable) -> "Loss":
        """Return the loss for these images; refuse a range whose 0 is not that of ratios to the truth."""
        if self.ratio is not None:
            self.ratio.check_values(images.values)
        return self

    @property
    def traits(self) -> Traits:
        """The traits of the loss: those of its class, and of its error map."""
        bound = 1.0 if self.common.is_share else self._upper_bound
        return replace(self.common, power=self.power, upper_bound=bound)

    @property
    def _upper_bound(self) -> float | None:
        """The largest value of the error map, if it is known to have one."""
        if isinstance(self.loss, OwnLoss):
            return None
        if not isinstance(self.loss, str):
            return self.loss.upper_bound
        return DISTANCES["l1" if self.power else self.loss].upper_bound

    @property
    def power(self) -> float | None:
        """The exponent p where the error of a pixel is |y - y_hat|^p; None for other error maps."""
        power = LP.fullmatch(self.of)
        return None if power is None else float(power[1])

    @property
    def words(self) -> LossWords:
        """The words for the loss."""
        return MapWords(self)


TOLERANCE = NumberOption(
    "the error above which a pixel counts as wrong: a number, 10% of the range, or with --units such as "
    "0.5m.",
    "0.1",
)


def checked_tolerance(tolerance: float | str, loss: StatedLoss) -> float:
    """Return the error above which a pixel is wrong, given as a number, or such as "5%" of the range."""
    checked = tolerance_of(tolerance, loss, None)
    if not checked >= 0:
        raise InvalidArgumentError(f"tolerance = {checked:g}: must be an error of at least 0")
    return checked
