"""The squared error of the clean image, from two repeats of it that both have noise.

Let b = y + d and c = y + d' be two acquisitions of the clean image y, whose noise d, d' has mean 0 and is
independent of each other and of x. Then (b - y_hat)(c - y_hat) has the mean (y - y_hat)^2 at every pixel,
under every mask, and no noise floor. It is computed as ((b + c) / 2 - y_hat)^2 - ((b - c) / 2)^2, its equal.
"""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from conformask.errors import InvalidArgumentError, chosen
from conformask.losses.base import AnyMap, Form, MapLoss, NumberOption
from conformask.losses.means import Mean
from conformask.losses.window import BY_LARGEST, SHOWN, WINDOW, Local, LocalLoss, WindowWords
from conformask.losses.words import MapWords
from conformask.records.loss import Traits
from conformask.records.loss_words import LossWords, Texts
from conformask.records.numbers import percent
from conformask.records.reading import Reference
from conformask.records.record import Array, Json
from conformask.records.truth import Truth

if TYPE_CHECKING:
    from conformask.arrays import Batch, Images, Triplet
    from conformask.extras.noise.products import Products
    from conformask.losses.of_images import LossOfImages

Allowance = Literal["exact", "clt"]
"""How an allowance for noise is computed: by empirical Bernstein, or by the central limit theorem."""
LIT = 20
"""Independent pixels with noise that an allowance by the central limit theorem needs, see `CleanMean`."""
UNKNOWN = 0.25
"""Least loss where there are fewer: (max(y_hat, 1 - y_hat))^2 is never below it."""
SHORT = 1.2
"""Times that the reach of noise may be longer than that of a loss by the central limit theorem."""
FEWEST = 32
"""Independent pixels of a window in which `LIT` are sure to have noise, if it is normal."""

NOISE_OPTIONS = {
    "allowance": NumberOption(
        "how the allowance for noise is computed, exact (for images or windows of 200 x 200 pixels and more) "
        "or by the central limit theorem; clt if not given."
    ),
    "reach": NumberOption(
        "pixels from which on noise is independent; if not given, as two repeats of the images set aside "
        "show it."
    ),
}


@dataclass(frozen=True)
class CleanTruth(Truth):
    """The clean image behind a reference with noise."""

    allowance: Allowance
    """How the allowance for noise is computed."""
    eta: float
    """The share of images for which it may be too small."""
    reach: float | None
    """The number of pixels along each axis from which on noise is independent; None before it is measured."""
    judged: str
    """What the central limit theorem judges, in words."""
    subtracts_noise = True
    measured = ("reach",)

    @property
    def images_left_out(self) -> str:
        """The share of images for which the allowance may be too small, in words."""
        return f"{'about' if self.allowance == 'clt' else 'at most'} {percent(self.eta)}"

    def words(self, reference: Reference) -> tuple[str, str]:
        """Return what a noisy reference is taken for, and by which theorem; both are empty for a truth."""
        if not reference.is_noisy:
            return "", ""
        bound = "the central limit theorem for about" if self.allowance == "clt" else "an exact bound for"
        share = f"{100 * self.eta:.4g} %"
        return "the clean image behind the noise", f", by {bound} all but {share} of images"

    def check_reference(self, reference: Reference) -> None:
        """Refuse noise that is not known and, where the allowance is exact, noise that is not measured."""
        reference.refuse_unknown_noise()
        if self.allowance == "exact" and reference.model is not None:
            raise InvalidArgumentError(
                "allowance exact: a noise model is assumed, not measured, so no allowance for it is exact; "
                "take allowance clt, or give a second repeat"
            )

    def numbers(self, images: "Iterable[Triplet]", reference: Reference) -> Mapping[str, Json]:
        """Return the reach of the noise that the repeats of images show, unless it is given.

        A larger reach only makes masks smaller, and clean losses grow with the mask. So a promise holds if
        the reach is at least that of the noise, on whichever images it was measured.
        """
        if self.reach is not None or not reference.is_noisy:
            return {}
        from conformask.extras.noise.repeats import reach_of

        return {"reach": reach_of(images, reference, self.allowance)}

    def check_measures(self, measures: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse images with noise that reaches farther than the loss allows for."""
        from conformask.extras.noise.checks import pooled_correlation, reach_shown
        from conformask.extras.noise.repeats import REPEATS

        pooled = pooled_correlation(measures.get(REPEATS.name, {}).values())
        if self.reach is None or pooled is None:
            return
        shown = reach_shown(pooled, self.allowance)
        if shown > self.reach * (1 if self.allowance == "exact" else SHORT):
            raise InvalidArgumentError(
                f"the noise of the repeats reaches {shown:g} pixels, and reach = {self.reach:g} allows for "
                f"less: give reach={shown:g} (--reach {shown:g}). It may be chosen now, as it only makes "
                "masks smaller"
            )

    def warnings(self, unmasked: Array) -> Iterable[str]:
        """Yield that images have too few noisy pixels for the central limit theorem, by their losses."""
        few = int((unmasked >= UNKNOWN).sum())
        if few and self.allowance == "clt":
            yield (
                f"{few} of the {len(unmasked)} calibration images are too small or too dark for an allowance "
                f"by the central limit theorem: it takes {LIT} independent pixels in which the repeats "
                f"differ in {self.judged}. Take larger images or windows, or repeats with more counts, or "
                "leave what is black out of the region; allowance exact takes 200 x 200 pixels"
            )


@dataclass(frozen=True, init=False)
class CleanLoss(MapLoss):
    """A loss of the squared error less the noise of the reference, with an allowance for that noise."""

    allowance: Allowance
    """How the allowance is computed: exact, or clt for the central limit theorem."""
    eta: float
    """The share of images for which the allowance may be too small."""
    reach: float | None
    """The number of pixels along each axis from which on noise is independent, see `CleanMean`.

    None before it is measured on images.
    """
    judged: ClassVar[str] = "an image"
    """What the central limit theorem judges, in words."""

    def __init__(
        self, loss: AnyMap, *, allowance: Allowance, eta: float, reach: float | None, **numbers: Any
    ) -> None:
        reach = None if reach is None else float(reach)
        super().__init__(loss, **numbers, allowance=allowance, eta=eta, reach=reach)
        if self.power != 2:
            raise InvalidArgumentError(
                f"the products of two repeats give the squared error, l2, and not {self.of!r}"
            )
        chosen({name: name for name in get_args(Allowance)}, allowance, "allowance")
        if not 0 < eta < 0.1:
            raise InvalidArgumentError(f"eta = {eta:g}: must be above 0 and below 0.1")
        if reach is not None and not (1 <= reach < math.inf and (allowance == "clt" or reach == int(reach))):
            whole = "whole " if allowance == "exact" else ""
            raise InvalidArgumentError(f"reach = {reach:g}: must be a {whole}number of pixels of at least 1")

    def on(
        self,
        y: "Images",
        y_hat: "Images",
        region: "Images | None",
        channels: int,
        noise: "Images | None" = None,
    ) -> "LossOfImages":
        """Return the loss on the mean y of two repeats; `noise` is the square of half their difference.

        Without noise, y is the clean image itself, and nothing is allowed for.
        """
        from conformask.extras.noise.products import products_of

        if noise is None:
            return super().on(y, y_hat, region, channels)
        return self.of_products(products_of(self, y, y_hat, region, channels, noise))

    @abstractmethod
    def of_products(self, products: "Products") -> "LossOfImages":
        """Return the loss of the products of the errors of two repeats."""

    def of_batch(self, batch: "Batch", channels: int) -> "LossOfImages":
        """Return the loss on the images of a batch, with the noise of their repeats."""
        region, noise = self.extent.weights(batch), batch.layers.get("noise")
        return self.on(batch.truth(), batch.y_hat, region, channels, noise)

    @property
    def traits(self) -> Traits:
        """The traits of the loss, which has no largest value: an allowance has none."""
        truth = CleanTruth(self.allowance, self.eta, self.reach, self.judged)
        return replace(super().traits, upper_bound=None, truth=truth)

    @property
    def in_one_grid(self) -> bool:
        """True if the allowance follows from the moments of all products."""
        return self.allowance == "clt" or self.reach == 1

    @property
    def words(self) -> LossWords:
        """The words for the loss."""
        return CleanWords(self)


@dataclass(frozen=True)
class CleanWords(MapWords):
    """The words for a loss less the noise of the reference."""

    loss: CleanLoss

    @property
    def symbols(self) -> dict[str, str]:
        """What stands for the parts of the loss in its templates."""
        return super().symbols | {
            "t": self.allowance_formula("m^2 (e − v)"),
            "t_j": self.allowance_formula("e − v"),
        }

    def allowance_formula(self, value: str) -> str:
        """Return the allowance for the noise of the mean of N values as a formula."""
        loss = self.loss
        reach = f"{loss.reach or 1:g}"
        axes, freedom = ("", "N") if reach == "1" else (f" {reach}^d", f"N / {reach}^d")
        eta, variance = f"{loss.eta:g}", f"V the variance of {value}"
        if loss.allowance == "clt":
            return (
                f"= z sqrt(V{axes} / N), z the quantile at 1 − {eta} of Student's law with {freedom} − 1 "
                f"degrees of freedom, {variance}, or that by the noise of the pixels around if it is larger"
            )
        span = "R = max_j max(ŷ_j, 1 − ŷ_j)² + max_j ŷ_j (1 − ŷ_j)"
        if loss.reach == 1:
            return f"= sqrt(2 V l / N) + 7 R l / (3 N − 3), {variance}, l = ln(2 / {eta}), {span}"
        return (
            f"the mean over the k = {reach}^d grids of pixels {reach} apart of sqrt(2 V l / N) + "
            f"7 R l / (3 N − 3), N the pixels of a grid, {variance}, l = ln(2 k / {eta}), {span}"
        )

    @property
    def caveat(self) -> str:
        """What is known of the clean image, and what the noise has to be like."""
        how = f"by an exact bound, for all but {percent(self.loss.eta)} of images"
        if self.loss.allowance == "clt":
            how = f"by the central limit theorem, for about all but {percent(self.loss.eta)} of images"
        reach = self.loss.reach or 1
        apart = "" if reach == 1 else f" {reach:g} or more apart"
        if reach != int(reach):
            apart = f", or correlated by {reach:g}^d at most, summed over a pixel and those around"
        return (
            f"The clean image, which is not known, is within the threshold too, {how}; this share comes "
            "off the confidence. It holds where the noise of the reference has mean 0 and is independent "
            f"of the input and between pixels{apart}."
        )


ALLOWED = ", with an allowance for the noise of the reference"
NOISE = "y the reference and v an estimate of the variance of its noise"


@dataclass(frozen=True, init=False)
class CleanMean(CleanLoss):
    """The mean of m^2 (b - y_hat)(c - y_hat) over the image or region, and an allowance t for its noise.

    N products are shown, V is their variance (with N - 1) and r the reach of the noise along each of d axes.
    The allowance for their mean is z sqrt(V r^d / N) by the central limit theorem, z the quantile at 1 - eta
    of Student's law with N / r^d - 1 degrees of freedom; exactly it is sqrt(2 V l / N) + 7 R l / (3 (N - 1))
    (Maurer and Pontil 2009, theorem 11), l = ln(2 / eta), R the length of one interval that
    holds all products of the image, see `Products.ranges`. For r > 1 that is the mean over the r^d grids of
    pixels r apart, with eta / r^d. In a region with weights w in [0, 1] the products are
    w m^2 (b - y_hat)(c - y_hat), and the mean and its allowance are divided by the mean of w.

    Few photons make few products, and large ones so seldom that N products may lack them. So the central
    limit theorem takes, in the place of V, what it would be by the noise of the pixels around each, if that
    is larger (`Products.spread`). It takes LIT r^d pixels with noise, counted by (sum d)^2 / sum d^2,
    d = |b - c|, of which normal noise has 2 in 3 pixels. The first mask of a score that shows as many also
    judges those that show fewer, since the clean loss grows with the mask. An image that has fewer gets the
    loss max(y_hat, 1 - y_hat)^2, the largest that there is.

    Then for each image P(mean of m^2 (y - y_hat)^2 > T) <= P(this loss > T) + eta, about so by the central
    limit theorem: for eta = 0.002 the share was at most .005 for even noise, of .02 photons to many, and .02
    where four bright pixels have most of it (research/repeats_promise.py). The loss may be negative and is
    not monotone under nested masks.

    Args:
        loss: "l2", the only map for which products of two repeats have the right mean.
        allowance: "clt", or "exact", for images of 200 x 200 pixels and more.
        eta: the share of images for which the allowance may be too small; it comes off the confidence.
        reach: the number of pixels r along each axis from which on noise is independent: 1 where that of
            neighbours is. For "clt" it need not be whole: r^d is a bound on the sum of the absolute
            autocorrelations of the noise, the 1 of a pixel with itself included. None: as the selection
            images show it or, without any, the calibration images; one repeat shows none.

    Raises:
        InvalidArgumentError: another map, or a number outside what is allowed.

    Examples:
        >>> import conformask as cm
        >>> cm.CleanMean("l2").name
        'clean(l2, clt)'
    """

    over = "clean"
    form = Form(
        "where DATA has noisy repeats/NAME_1 and NAME_2 in the place of y/, or NAME_1 and --noise-model, the "
        "mean of l2 to the clean image",
        NOISE_OPTIONS,
    )
    texts = Texts(
        "{over}({of}, {allowance})",
        "mean {label} to the clean image" + ALLOWED,
        (
            "(Σ m^2 (e − v) + N t) / n",
            NOISE,
            "sums over the n pixels{of_image}, of which N are shown",
            "t {t}",
        ),
        Mean.texts.event,
        Mean.texts.limit,
    )

    def __init__(
        self,
        loss: AnyMap = "l2",
        allowance: Allowance = "clt",
        eta: float = 0.002,
        reach: float | None = None,
        *,
        regional: bool = False,
    ) -> None:
        super().__init__(loss, allowance=allowance, eta=eta, reach=reach, regional=regional)

    def of_errors(self, errors: "Images", region: "Images | None") -> "LossOfImages":
        """Return the loss of errors to the clean image itself: that of `Mean`."""
        from conformask.losses.of_images import Sums, weighted

        return Sums(weighted(errors, region), 2.0)

    def of_products(self, products: "Products") -> "LossOfImages":
        """Return the loss of the products of the errors of two repeats."""
        return products


@dataclass(frozen=True, init=False)
class CleanLocal(CleanLoss, LocalLoss):
    """The largest, over shown pixels j, of p_j + t_j; 0 if nothing is shown. The counterpart of `Local`.

    p_j is the mean of (b - y_hat)(c - y_hat) over the pixels of the window around j that lie in image and
    region, t_j the allowance of `CleanMean` for the noise of that mean, from the variance of the products of
    this window.

    For each mask P(largest clean mean over shown j > T) <= P(this loss > T) + eta, without a union bound: the
    shown pixel around which the clean mean is largest does not depend on the noise, p_j + t_j is above that
    mean there but for a share eta, and this loss is at least as large. Monotone under nested binary masks.

    By the central limit theorem a window needs as many pixels with noise as a mask for `CleanMean`: 6 x 6
    pixels where noise is independent and normal. At the border half of a window counts, at corners a quarter,
    of which one of 12 x 12 pixels has enough. Around a pixel with fewer nothing can be shown.

    Args:
        loss: "l2", as for `CleanMean`.
        window: the side of the window, as for `Local`.
        allowance: "clt", or "exact", which is small only for windows of 200 x 200 pixels and more.
        eta: as for `CleanMean`.
        reach: as for `CleanMean`.

    Raises:
        InvalidArgumentError: as for `CleanMean` and `Local`, or the window is too small for "clt".

    Examples:
        >>> import conformask as cm
        >>> cm.CleanLocal("l2", 15).name
        'clean_local(l2, 15 px, clt)'
    """

    over = "clean_local"
    common = Traits(monotone=True, family=BY_LARGEST)
    judged = "the window around each pixel that is shown"
    form = Form(
        "likewise the largest mean in a window around a shown pixel", {"window": WINDOW, **NOISE_OPTIONS}
    )
    texts = Texts(
        "{over}({of}, {side}, {allowance})",
        "largest mean {label} over {window} around a pixel that is shown, to the clean image" + ALLOWED,
        (
            "max {{p_j + t_j : m_j > 0}}",
            NOISE,
            "p_j the mean of e − v over the N pixels of {around}",
            "t_j {t_j}",
            SHOWN,
        ),
        Local.texts.event,
        Local.texts.limit,
    )

    def __init__(
        self,
        loss: AnyMap = "l2",
        window: int | str | tuple[int, ...] | None = 15,
        allowance: Allowance = "clt",
        eta: float = 0.002,
        reach: float | None = None,
        *,
        regional: bool = False,
        length: str | None = None,
    ) -> None:
        sides = {"window": window, "length": length}
        super().__init__(loss, allowance=allowance, eta=eta, reach=reach, regional=regional, **sides)

    def sides(self, dimensions: int) -> tuple[int, ...]:
        """Return the sides of the window along each axis, in pixels; refuse too few for "clt"."""
        sides = super().sides(dimensions)
        needed = FEWEST * (self.reach or 1) ** dimensions
        if self.allowance == "clt" and math.prod(sides) < needed:
            side = math.ceil(needed ** (1 / dimensions))
            raise InvalidArgumentError(
                f"a window of {' x '.join(map(str, sides))} pixels is too small for an allowance by the "
                f"central limit theorem with a reach of {self.reach or 1:g}: take one of "
                f"{' x '.join([str(side)] * dimensions)} or more"
            )
        return sides

    @property
    def words(self) -> LossWords:
        """The words for the loss."""
        return CleanLocalWords(self)

    def of_errors(self, errors: "Images", region: "Images | None") -> "LossOfImages":
        """Return the loss of errors to the clean image itself: that of `Local`."""
        from conformask.losses.of_images import LargestShown, local_means

        return LargestShown(local_means(errors, region, self.sides(errors.ndim - 2))[0])

    def of_products(self, products: "Products") -> "LossOfImages":
        """Return the loss of the products of the errors of two repeats."""
        from conformask.losses.of_images import LargestShown, window_sums

        inside, sides = products.weights > 0, self.sides(products.weights.ndim - 2)
        bounds = products.bounds(inside.float(), partial(window_sums, sides=sides))
        return LargestShown(bounds.where(inside, 0.0))


@dataclass(frozen=True)
class CleanLocalWords(CleanWords, WindowWords):
    """The words for a local loss less the noise of the reference."""

    loss: CleanLocal
