"""Losses of local mean errors: of windows in which hidden pixels count as right, and around shown pixels."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from conformask.errors import InvalidArgumentError, MismatchError
from conformask.losses.base import (
    TOLERANCE,
    AnyMap,
    Form,
    Loss,
    MapLoss,
    NumberOption,
    Readable,
    checked_tolerance,
)
from conformask.losses.words import MapWords
from conformask.records.loss import Traits
from conformask.records.loss_words import LossWords, Texts
from conformask.records.reading import PhysicalWindow, parsed
from conformask.records.record import Json

if TYPE_CHECKING:
    from conformask.arrays import Images
    from conformask.losses.of_images import LargestShown, Sums, WindowOfImages
    from conformask.records.card import CalibrationCard

WINDOW = NumberOption(
    "the side of the window in pixels, or in units, such as 5mm, if images have a spacing: the next odd "
    "number of pixels.",
    "9 (pixels) or 5mm",
)


@dataclass(frozen=True, init=False)
class WindowLoss(MapLoss):
    """A loss with a window: a square, or a cube."""

    window: int | tuple[int, ...] | None
    """The side in pixels; None for a length before the spacing of the images is known."""
    length: str | None
    """The side where it was given as a length: as given, or with `window` the true one, such as 5 mm."""

    def __init__(
        self,
        loss: AnyMap,
        window: int | str | tuple[int, ...] | None,
        *,
        regional: bool = False,
        length: str | None = None,
        **numbers: Any,
    ) -> None:
        if isinstance(window, str) and window.strip().isdecimal():
            window = int(window)
        if isinstance(window, str):
            window, length = None, window
        if window is None and length is not None:
            parsed(length)
        checked = _checked_window(window, length)
        super().__init__(loss, regional=regional, window=checked, length=length, **numbers)

    def prepared(self, images: Readable) -> "Loss":
        """Return the loss for these images, with its length converted to pixels."""
        super().prepared(images)
        if self.window is not None or self.length is None:
            return self
        converted = images.window(self.length)
        return replace(self, window=converted.sides, length=converted.length)

    @property
    def traits(self) -> Traits:
        """The traits of the loss, which is another one on images of another spacing if it has a length."""
        window = None if self.length is None else PhysicalWindow(self.window, self.length)
        return replace(super().traits, physical_window=window)

    def sides(self, dimensions: int) -> tuple[int, ...]:
        """Return the sides of the window along each axis, in pixels."""
        if self.window is None:
            raise InvalidArgumentError(
                f"the window of {self.length} has no number of pixels yet: these images state no spacing"
            )
        return sides_of(self.window, dimensions)

    @property
    def words(self) -> LossWords:
        """The words for the loss."""
        return WindowWords(self)


@dataclass(frozen=True)
class WindowWords(MapWords):
    """The words for a loss with a window."""

    loss: WindowLoss

    @property
    def symbols(self) -> dict[str, str]:
        """What stands for the parts of the loss in its templates."""
        loss = self.loss
        sides = loss.window if isinstance(loss.window, tuple) else (loss.window,)
        pixels = f"{_times(sides if len(sides) > 1 else sides * 2)} pixels"
        window = pixels if loss.length is None else f"{loss.length} ({pixels})"
        return super().symbols | {
            "side": loss.length or f"{_times(sides)} px",
            "window": window,
            "around": f"the {window} around j{' that lie in the region' * loss.regional}",
            "outside": "e = 0 outside the region" * loss.regional,
            "hidden": "pixels hidden or outside it" if loss.regional else "hidden pixels",
        }

    def in_sentences(self, card: "CalibrationCard") -> dict[str, str]:
        """Return what stands for the parts of the loss, the promise and its images in sentences."""
        pixels = self.window(len(card.sizes[0]))
        counted = f"those of {pixels} that lie in the region" if self.loss.regional else pixels
        return super().in_sentences(card) | {"pixels": pixels, "counted": counted}

    def window(self, axes: int) -> str:
        """Return the pixels of a window, such as 9 x 9 pixels (5 x 5 mm)."""
        sides, length = self.loss.window, self.loss.length
        shown = sides if isinstance(sides, tuple) else (sides,) * axes
        text = "" if length is None else f" ({length})"
        if length is not None and " x " not in length:
            number, unit = parsed(length)
            text = f" ({_times((f'{number:g}',) * axes)} {unit})"
        return f"{_times(shown)} pixels{text}"


def _times(sides: tuple[object, ...]) -> str:
    return " x ".join(map(str, sides))


BY_LARGEST: Mapping[str, Json] = {"name": "binary", "bounds": "largest", "kappa": 0.0}
"""Settings of the family of masks for a loss of the largest mean that is shown, or of objects."""


@dataclass(frozen=True, init=False)
class LocalLoss(WindowLoss):
    """A loss of the mean error in the window around each pixel that is shown, e_j as for `Local`."""

    common = Traits(family=BY_LARGEST)

    @property
    def traits(self) -> Traits:
        """The traits of the loss: scores are averaged over its window, to estimate local means."""
        return replace(super().traits, score_window=self.window)


SHOWN = "j the pixels{where}; 0 if nothing is shown"


@dataclass(frozen=True, init=False)
class Local(LocalLoss):
    """The loss max over shown pixels j of e_j, the mean error in the window around j; 0 if nothing is shown.

    e_j = sum_k r_k e_k / sum_k r_k over the pixels k of the window around j that lie in the image, r the
    region. Neither the mask nor what lies outside image or region counts as right.

    Args:
        loss: an error map, as for `Mean`.
        window: the side of the window in pixels, for all axes or for each; an even one reaches one pixel
            further before j than after it. Or a length such as "5mm" or "20um", where images have a spacing:
            the next odd number of pixels.

    Raises:
        InvalidArgumentError: the side is below 1 or not a number of pixels or a length, or the error map is
            not known.

    Examples:
        >>> import conformask as cm
        >>> cm.Local("l1", 9).name
        'local(l1, 9 px)'
    """

    over = "local"
    common = Traits(monotone=True, family=BY_LARGEST)
    form = Form("its largest mean in a window around a shown pixel", {"window": WINDOW})
    texts = Texts(
        "{over}({of}, {side})",
        "largest mean {label} over {window} around a pixel that is shown",
        ("max {{ē_j : m_j > 0}}", "ē_j the mean of e over {around}", SHOWN),
        "around every pixel shown{where} the output is off by at most {threshold}{off}, {averaged} over "
        "{counted}{by_bound}",
        "the largest {error} around a pixel shown{where}, averaged over {counted} {nothing}, is at most "
        "{limit}",
    )

    def of_errors(self, errors: "Images", region: "Images | None") -> "LargestShown":
        """Return the loss for masks with the channels of these errors."""
        from conformask.losses.of_images import LargestShown, local_means

        return LargestShown(local_means(errors, region, self.sides(errors.ndim - 2))[0])


@dataclass(frozen=True, init=False)
class LocalShare(LocalLoss):
    """The loss "share of the shown pixels with e_j > tolerance", e_j as for `Local`; 0 if nothing is shown.

    Not monotone: hiding a pixel whose surroundings are right makes the share larger.

    Args:
        loss: an error map, as for `Mean`.
        window: the side of the window, as for `Local`.
        tolerance: the local mean error above which a pixel is wrong, at least 0; or such as "10%" of the
            range.

    Raises:
        InvalidArgumentError: as for `Local`, or the tolerance is negative.

    Examples:
        >>> import conformask as cm
        >>> cm.LocalShare("l1", 9, 0.1).name
        'local_share(l1, 9 px > 0.1)'
    """

    tolerance: float
    over = "local_share"
    common = Traits(relative=True, is_share=True, family=BY_LARGEST)
    form = Form(
        "the share of the shown pixels around which that mean is above the tolerance",
        {"window": WINDOW, "tolerance": TOLERANCE},
    )
    texts = Texts(
        "{over}({of}, {side} > {tolerance})",
        "share of the shown pixels with a mean {label} over {window} around them above {tolerance}",
        ("#{{j : m_j > 0, ē_j > {tolerance}}} / #{{j : m_j > 0}}", "ē_j the mean of e over {around}", SHOWN),
        "around at most {threshold} of the pixels shown{where} the output is {wrong}, {averaged} over "
        "{counted}",
        "the share of the pixels shown{where} around which the output is {wrong}, {averaged} over {counted}, "
        "is at most {threshold}",
    )

    def __init__(
        self,
        loss: AnyMap,
        window: int | str | tuple[int, ...] | None,
        tolerance: float | str,
        *,
        regional: bool = False,
        length: str | None = None,
    ) -> None:
        super().__init__(loss, window, regional=regional, length=length)
        object.__setattr__(self, "tolerance", checked_tolerance(tolerance, self))

    def of_errors(self, errors: "Images", region: "Images | None") -> "Sums":
        """Return the loss for masks with the channels of these errors."""
        from conformask.losses.of_images import Sums, local_means

        means, inside = local_means(errors, region, self.sides(errors.ndim - 2))
        shown = inside.float()
        return Sums(shown * (means > self.tolerance), shown=shown)


@dataclass(frozen=True, init=False)
class MaskedWindow(WindowLoss):
    """The loss max over windows of mean(r m e), the window a square (a cube) inside the image.

    What is hidden, and what lies outside the region, counts as right: a window that is half hidden may be
    twice as wrong where it is shown. `Local` is about what is shown.

    Args:
        loss: an error map, as for `Mean`.
        window: the side of the window in pixels, for all axes or for each; or a length such as "5mm" or
            "20um", where images have a spacing, for the next odd number of pixels. A window larger than the
            image is as large as the image.

    Raises:
        InvalidArgumentError: the side is below 1 or not a number of pixels or a length, or the error map is
            not known.

    Examples:
        >>> import conformask as cm
        >>> cm.MaskedWindow("l1", 9).name
        'masked_window(l1, 9 px)'
    """

    over = "masked_window"
    common = Traits(monotone=True, convex=True, best_is_exact=False, family={"name": "reciprocal"})
    form = Form("its largest mean in a window in which hidden pixels count as right", {"window": WINDOW})
    texts = Texts(
        "{over}({of}, {side})",
        "mean {label} in any {window}, what is hidden counted as right",
        ("max Σ m e / n", "sums over the n pixels of each window of {window}", "{outside}"),
        "in any {pixels} what stays visible{where} is off by at most {threshold}{off}{average} "
        "({as_grey}{hidden} count as no error)",
        "the largest {error} of what stays visible{where}{against} in any {pixels}, averaged over them "
        "({as_grey}{hidden} count as no error), is at most {limit}",
    )

    def of_errors(self, errors: "Images", region: "Images | None") -> "WindowOfImages":
        """Return the loss for masks with the channels of these errors."""
        from conformask.losses.of_images import WindowOfImages, within

        return WindowOfImages(within(region, errors) * errors, self.sides(errors.ndim - 2))


def _checked_window(window: int | tuple[int, ...] | None, length: str | None) -> int | tuple[int, ...] | None:
    sides = () if window is None else window if isinstance(window, tuple) else (window,)
    if any(each < 1 or int(each) != each for each in sides):
        raise InvalidArgumentError(f"window = {window}: must be a whole number of pixels, at least 1")
    if window is None and length is None:
        raise InvalidArgumentError("a window needs a side, such as 9 (pixels) or 5mm")
    return int(window) if isinstance(window, float) else window


def sides_of(side: int | tuple[int, ...], dimensions: int) -> tuple[int, ...]:
    """Return the sides of the window along each axis."""
    sides = (side,) * dimensions if isinstance(side, int) else side
    if len(sides) != dimensions:
        raise MismatchError(f"a window of {_times(sides)} pixels does not fit images with {dimensions} axes")
    return sides
