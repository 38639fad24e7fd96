"""Losses of local mean errors: of windows in which hidden pixels count as right, and around shown pixels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from conformask.errors import InvalidArgumentError, MismatchError
from conformask.losses.base import (
    NOTHING,
    TOLERANCE,
    AnyMap,
    ErrorWords,
    MapLoss,
    NumberOption,
    checked_tolerance,
)
from conformask.records.geometry import Geometry, PhysicalWindow, parsed
from conformask.records.record import Json

if TYPE_CHECKING:
    from conformask.arrays import Images
    from conformask.losses.of_images import LargestShown, Sums, WindowOfImages

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
    options: ClassVar[Mapping[str, NumberOption]] = {"window": WINDOW}

    def __init__(
        self,
        errors: AnyMap,
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
        super().__init__(errors, regional=regional, window=checked, length=length, **numbers)

    def with_pixels(self, window: Callable[[str], PhysicalWindow]) -> Self:
        """Return the loss with its length converted to pixels."""
        if self.window is not None or self.length is None:
            return self
        converted = window(self.length)
        return replace(self, window=converted.sides, length=converted.length)

    def check_spacing(self, geometry: Geometry | None) -> None:
        """Refuse a window given as a length if the images' spacing makes another number of pixels of it."""
        if self.length is None:
            return
        sides = self.window
        if geometry is None or not isinstance(sides, tuple) or not geometry.spans(sides, self.length):
            spacing = "no spacing" if geometry is None else f"a spacing of {geometry.text}"
            raise MismatchError(
                f"the window of {self.length} was {sides} pixels, but these images have {spacing}: give "
                "the window again, and train or calibrate with images of this spacing"
            )

    def sides(self, dimensions: int) -> tuple[int, ...]:
        """Return the sides of the window along each axis, in pixels."""
        if self.window is None:
            raise InvalidArgumentError(
                f"the window of {self.length} has no number of pixels yet: these images state no spacing"
            )
        return sides_of(self.window, dimensions)

    @property
    def inside(self) -> str:
        """What stands in the brackets of the name: the error map, and numbers."""
        sides = self.window if isinstance(self.window, tuple) else (self.window,)
        return f"{self.of}, {self.length or f'{_times(sides)} px'}"

    @property
    def window_label(self) -> str:
        """The window in words, such as 9 x 9 pixels, or 7.5 x 5 x 5 mm (3 x 5 x 5 pixels)."""
        sides = _times(self.window if isinstance(self.window, tuple) else (self.window, self.window))
        return f"{sides} pixels" if self.length is None else f"{self.length} ({sides} pixels)"

    def window_in_words(self, axes: int) -> str:
        """Return the pixels of a window, such as 9 x 9 pixels (5 x 5 mm)."""
        sides = self.window if isinstance(self.window, tuple) else (self.window,) * axes
        length = ""
        if self.length is not None:
            length = f" ({self.length})"
            if " x " not in self.length:
                number, unit = parsed(self.length)
                length = f" ({_times((f'{number:g}',) * axes)} {unit})"
        return f"{_times(sides)} pixels{length}"


def _times(sides: tuple[object, ...]) -> str:
    return " x ".join(map(str, sides))


@dataclass(frozen=True, init=False)
class LocalLoss(WindowLoss):
    """A loss of the mean error in the window around each pixel that is shown, e_j as for `Local`."""

    family: ClassVar[Mapping[str, Json]] = {"name": "binary", "bounds": "largest", "kappa": 0.0}

    @property
    def score_window(self) -> int | tuple[int, ...] | None:
        """The side of the window that a score is averaged over, to estimate local means."""
        return self.window

    @property
    def around_label(self) -> str:
        """The mean error around a pixel."""
        return f"mean {self.of_label} over {self.window_label} around"

    def window_in_words(self, axes: int) -> str:
        """Return the pixels of a window that count, such as 9 x 9 pixels (5 x 5 mm)."""
        pixels = super().window_in_words(axes)
        return f"those of {pixels} that lie in the region" if self.regional else pixels

    @property
    def around(self) -> str:
        """The pixels around j in a formula."""
        return f"the {self.window_label} around j{' that lie in the region' * self.regional}"

    @property
    def of_pixels(self) -> str:
        """What j is in a formula."""
        return f"j the pixels{self.where}; 0 if nothing is shown"


def said_of_windows(loss: LocalLoss, words: ErrorWords) -> tuple[str, str]:
    """Return the event that the largest mean error around a shown pixel is small, and the limit of a mean."""
    window = loss.window_in_words(words.about.axes)
    return (
        f"around every pixel shown{loss.where} the output is off by at most {words.threshold}{words.off}, "
        f"{words.averaged} over {window}{words.by_bound}",
        f"the largest {words.error} around a pixel shown{loss.where}, averaged over {window} {NOTHING}, is "
        f"at most {words.limit}",
    )


@dataclass(frozen=True, init=False)
class Local(LocalLoss):
    """The loss max over shown pixels j of e_j, the mean error in the window around j; 0 if nothing is shown.

    e_j = sum_k r_k e_k / sum_k r_k over the pixels k of the window around j that lie in the image, r the
    region. Neither the mask nor what lies outside image or region counts as right.

    Args:
        errors: an error map, as for `Mean`.
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
    aggregate = "its largest mean in a window around a shown pixel"
    monotone = True

    def on(self, y: "Images", y_hat: "Images", region: "Images | None", channels: int) -> "LargestShown":
        """Return the loss on these images, for masks with this many channels."""
        from conformask.losses.of_images import LargestShown, errors_for, local_means

        errors = errors_for(self.error_map, y, y_hat, channels)
        return LargestShown(local_means(errors, region, self.sides(errors.ndim - 2))[0])

    @property
    def plain_label(self) -> str:
        """The loss as people write it, but for the region."""
        return f"largest {self.around_label} a pixel that is shown"

    @property
    def formula_and_letters(self) -> tuple[str, ...]:
        """The formula, and what each of its letters means but m and e."""
        return "max {ē_j : m_j > 0}", f"ē_j the mean of e over {self.around}", self.of_pixels

    def said(self, words: ErrorWords) -> tuple[str, str]:
        """Return the event that an image meets the threshold, and the limit of a mean over images."""
        return said_of_windows(self, words)


@dataclass(frozen=True, init=False)
class LocalShare(LocalLoss):
    """The loss "share of the shown pixels with e_j > tolerance", e_j as for `Local`; 0 if nothing is shown.

    Not monotone: hiding a pixel whose surroundings are right makes the share larger.

    Args:
        errors: an error map, as for `Mean`.
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
    relative = True
    is_share = True
    upper_bound = 1.0
    aggregate = "the share of the shown pixels around which that mean is above the tolerance"
    options: ClassVar[Mapping[str, NumberOption]] = {"window": WINDOW, "tolerance": TOLERANCE}

    def __init__(
        self,
        errors: AnyMap,
        window: int | str | tuple[int, ...] | None,
        tolerance: float | str,
        *,
        regional: bool = False,
        length: str | None = None,
    ) -> None:
        super().__init__(errors, window, regional=regional, length=length)
        object.__setattr__(self, "tolerance", checked_tolerance(tolerance, self))

    def on(self, y: "Images", y_hat: "Images", region: "Images | None", channels: int) -> "Sums":
        """Return the loss on these images, for masks with this many channels."""
        from conformask.losses.of_images import Sums, errors_for, local_means

        errors = errors_for(self.error_map, y, y_hat, channels)
        means, inside = local_means(errors, region, self.sides(errors.ndim - 2))
        shown = inside.float()
        return Sums(shown * (means > self.tolerance), shown=shown)

    @property
    def inside(self) -> str:
        """What stands in the brackets of the name: the error map, and numbers."""
        return f"{super().inside} > {self.tolerance:g}"

    @property
    def plain_label(self) -> str:
        """The loss as people write it, but for the region."""
        return f"share of the shown pixels with a {self.around_label} them above {self.tolerance:g}"

    @property
    def formula_and_letters(self) -> tuple[str, ...]:
        """The formula, and what each of its letters means but m and e."""
        share = f"#{{j : m_j > 0, ē_j > {self.tolerance:g}}} / #{{j : m_j > 0}}"
        return share, f"ē_j the mean of e over {self.around}", self.of_pixels

    def said(self, words: ErrorWords) -> tuple[str, str]:
        """Return the event that an image meets the threshold, and the limit of a mean over images."""
        wrong = f"the output is {words.wrong(self.tolerance)}, {words.averaged} over "
        wrong += self.window_in_words(words.about.axes)
        return (
            f"around at most {words.threshold} of the pixels shown{self.where} {wrong}",
            f"the share of the pixels shown{self.where} around which {wrong}, is at most {words.threshold}",
        )


@dataclass(frozen=True, init=False)
class MaskedWindow(WindowLoss):
    """The loss max over windows of mean(r m e), the window a square (a cube) inside the image.

    What is hidden, and what lies outside the region, counts as right: a window that is half hidden may be
    twice as wrong where it is shown. `Local` is about what is shown.

    Args:
        errors: an error map, as for `Mean`.
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
    aggregate = "its largest mean in a window in which hidden pixels count as right"
    monotone = True
    best_is_exact = False
    family: ClassVar[Mapping[str, Json]] = {"name": "reciprocal"}

    @property
    def convex(self) -> bool:
        """True for lp."""
        return self.power is not None

    def on(self, y: "Images", y_hat: "Images", region: "Images | None", channels: int) -> "WindowOfImages":
        """Return the loss on these images, for masks with this many channels."""
        from conformask.losses.of_images import WindowOfImages, errors_for, within

        errors = errors_for(self.error_map, y, y_hat, channels)
        return WindowOfImages(within(region, errors) * errors, self.sides(errors.ndim - 2))

    @property
    def plain_label(self) -> str:
        """The loss as people write it, but for the region."""
        return f"mean {self.of_label} in any {self.window_label}, what is hidden counted as right"

    @property
    def formula_and_letters(self) -> tuple[str, ...]:
        """The formula, and what each of its letters means but m and e."""
        outside = ("e = 0 outside the region",) if self.regional else ()
        return "max Σ m e / n", f"sums over the n pixels of each window of {self.window_label}", *outside

    def said(self, words: ErrorWords) -> tuple[str, str]:
        """Return the event that an image meets the threshold, and the limit of a mean over images."""
        window = self.window_in_words(words.about.axes)
        outside = "pixels hidden or outside it" if self.regional else "hidden pixels"
        as_zero = words.as_zero(words.error, outside)
        return (
            f"in any {window} what stays visible{self.where} is off by at most {words.threshold}{words.off}"
            f"{words.average} {as_zero}",
            f"the largest {words.error} of what stays visible{self.where}{words.against} in any {window}, "
            f"averaged over them {as_zero}, is at most {words.limit}",
        )


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
