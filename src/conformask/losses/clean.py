"""The squared error of the clean image, from two repeats of it that both have noise.

Let b = y + d and c = y + d' be two acquisitions of the clean image y, whose noise d, d' has mean 0 and is
independent of each other and of x. Then (b - y_hat)(c - y_hat) has the mean (y - y_hat)^2 at every pixel,
under every mask, and no noise floor. It is computed as ((b + c) / 2 - y_hat)^2 - ((b - c) / 2)^2, its equal.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from conformask.arithmetic import per_image, window_index
from conformask.arrays import Batch, Images, PerImage
from conformask.errors import InvalidArgumentError, chosen
from conformask.losses.base import LossOfImages
from conformask.losses.distances import Lp
from conformask.losses.maps import AnyMap, MapLoss, Sums, errors_for, with_channels, within
from conformask.losses.means import weighted
from conformask.losses.window import LargestShown, LocalLoss, local_means, window_sums
from conformask.masks.families import Binary
from conformask.masks.family import Family, sizes_of
from conformask.records.names import Allowance

LIT = 20
"""Independent pixels with noise that an allowance by the central limit theorem needs, see `CleanMean`."""
FEWEST = 32
"""Independent pixels of a window in which as many are sure to have noise, if it is normal."""
UNKNOWN = 0.25
"""Least loss where there are fewer: (max(y_hat, 1 - y_hat))^2 is never below it."""
NEAR = 5
"""Side of the window around a pixel, from which the noise of that pixel is estimated."""


class Moments(NamedTuple):
    """What is summed over pixels, of an image under a mask or of a window: maps, or their sums."""

    pixels: Tensor
    """1 where a pixel is shown inside the region."""
    product: Tensor
    """q = w m^2 (b - y_hat)(c - y_hat), w the region and m the mask."""
    square: Tensor
    """q^2."""
    spread: Tensor
    """The variance of q if the noise is that of the pixels around, see `Products`."""
    noise: Tensor
    """w m^2 |b - c| / 2."""
    noise_square: Tensor
    """Its square."""


@dataclass(frozen=True, init=False)
class CleanLoss(MapLoss):
    """A loss of the squared error less the noise of the reference, with an allowance for that noise."""

    allowance: Allowance
    eta: float
    reach: float | None
    """None before it is measured on images, see `CleanMean`."""

    def __init__(
        self, errors: AnyMap, *, allowance: Allowance, eta: float, reach: float | None, **numbers: Any
    ) -> None:
        reach = None if reach is None else float(reach)
        super().__init__(errors, **numbers, allowance=allowance, eta=eta, reach=reach)
        if not (isinstance(self.errors, Lp) and self.errors.p == 2):
            raise InvalidArgumentError(
                f"the products of two repeats give the squared error, l2, and not {self.errors.name!r}"
            )
        chosen({name: name for name in get_args(Allowance)}, allowance, "allowance")
        if not 0 < eta < 0.1:
            raise InvalidArgumentError(f"eta = {eta:g}: must be above 0 and below 0.1")
        if reach is not None and not (1 <= reach < math.inf and (allowance == "clt" or reach == int(reach))):
            whole = "whole " if allowance == "exact" else ""
            raise InvalidArgumentError(f"reach = {reach:g}: must be a {whole}number of pixels of at least 1")

    @property
    def _numbers(self) -> dict[str, Any]:
        numbers = {"allowance": self.allowance, "eta": self.eta, "reach": self.reach}
        return {**super()._numbers, **numbers}

    @property
    def upper_bound(self) -> float | None:
        """None: the allowance has no bound of its own."""
        return None

    @abstractmethod
    def on(
        self, y: Images, y_hat: Images, region: Images | None, channels: int, noise: Images | None = None
    ) -> LossOfImages:
        """Return the loss on the mean y of two repeats; `noise` is the square of half their difference.

        Without noise, y is the clean image itself, and nothing is allowed for.
        """

    def of_batch(self, batch: Batch, channels: int) -> LossOfImages:
        """Return the loss on the images of a batch, with the noise of their repeats."""
        return self.on(batch.truth(), batch.y_hat, self.region_of(batch), channels, batch.noise)

    @property
    def in_one_grid(self) -> bool:
        """True if the allowance follows from the moments of all products."""
        return self.allowance == "clt" or self.reach == 1

    def grids(self, axes: int, like: Images) -> Iterator[Images]:
        """Yield 1 in each grid of pixels `reach` apart, 0 elsewhere; once 1 everywhere if `in_one_grid`."""
        step = 1 if self.in_one_grid else int(self.reach or 1)
        for starts in product(range(step), repeat=axes):
            grid = torch.zeros_like(like)
            grid[window_index(tuple(slice(start, None, step) for start in starts))] = 1
            yield grid

    def allowed(self, sums: Moments, ranges: Tensor, axes: int) -> Tensor:
        """Return the allowance for a sum of products of images with this many spatial axes.

        It is infinite where there are too few of them, and 0 where there are none. `ranges` are the lengths
        of the range that a product may have.
        """
        n, dependent = sums.pixels, (self.reach or 1) ** axes
        squares = (sums.square - sums.product.square() / n).clamp(min=0) * n / (n - 1)
        if self.allowance == "clt":
            freedom = (n / dependent - 1).clamp(min=0)
            student = torch.from_numpy(stdtrit(freedom.cpu().numpy(), 1 - self.eta)).to(n.device)
            allowed = student * torch.sqrt(torch.maximum(squares, sums.spread) * dependent)
            lit = sums.noise.square() / sums.noise_square
            enough = lit >= LIT * dependent
        else:
            log = math.log(2 * dependent / self.eta)
            allowed = torch.sqrt(2 * squares * log) + 7 * ranges * log * n / (3 * (n - 1))
            enough = n > 1
        return allowed.where(enough, math.inf).where(n > 0, 0.0)

    def products(
        self, y: Images, y_hat: Images, region: Images | None, channels: int, noise: Images
    ) -> "Products":
        """Return the products of the errors of two repeats, and what their allowance is computed from."""
        if self.reach is None:
            raise InvalidArgumentError(
                "the reach of the noise of repeats is not known: give reach= (--reach), as `conformask "
                "check` measures it"
            )
        errors = self.errors.error_map(y, y_hat).float()
        inside = (within(region, errors[:, :1]) > 0).float()

        def near(values: Tensor) -> Tensor:
            """Average over the other pixels of the window around each."""
            summed, others = (
                window_sums(inside * each, (NEAR,) * (errors.ndim - 2)) - inside * each
                for each in (values, torch.ones_like(inside))
            )
            return summed / others.clamp(min=1)

        variance = near(noise).clamp(min=0)
        of_noise = (near(noise.square()) - variance.square()).clamp(min=0)
        spread = 4 * errors * variance - (2 * variance.square() - of_noise).clamp(min=0)
        spread = with_channels(spread.float(), channels)
        spread = spread / errors.shape[1] if channels == 1 else spread
        noise = with_channels(noise, channels)
        products = with_channels(errors, channels) - noise
        noise, weights = noise.clamp(min=0).sqrt(), within(region, products)
        ranges, most = ranges_of(y_hat, channels), largest_squares(y_hat, channels)
        return Products(products, spread, noise, weights, ranges, most, self)


@dataclass(frozen=True, init=False)
class CleanMean(CleanLoss):
    """The mean of m^2 (b - y_hat)(c - y_hat) over the image or region, and an allowance t for its noise.

    N products are shown, V is their variance (with N - 1) and r the reach of the noise along each of d axes.
    The allowance for their mean is z sqrt(V r^d / N) by the central limit theorem, z the quantile at 1 - eta
    of Student's law with N / r^d - 1 degrees of freedom; exactly it is sqrt(2 V l / N) + 7 R l / (3 (N - 1))
    (Maurer and Pontil 2009, theorem 11), l = ln(2 / eta), R the length of one interval that
    holds all products of the image, see `ranges_of`. For r > 1 that is the mean over the r^d grids of
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
        errors: "l2", the only map for which products of two repeats have the right mean.
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
        >>> cm.CleanMean("l2").terms.name
        'clean(l2, clt)'
    """

    over = "clean"

    def __init__(
        self,
        errors: AnyMap = "l2",
        allowance: Allowance = "clt",
        eta: float = 0.002,
        reach: float | None = None,
        *,
        regional: bool = False,
    ) -> None:
        super().__init__(errors, allowance=allowance, eta=eta, reach=reach, regional=regional)

    def on(
        self, y: Images, y_hat: Images, region: Images | None, channels: int, noise: Images | None = None
    ) -> LossOfImages:
        """Return the loss on images, see `CleanLoss.on`; without noise it is that of `Mean`."""
        if noise is None:
            return Sums(weighted(errors_for(self.errors, y, y_hat, channels), region), 2.0)
        return self.products(y, y_hat, region, channels, noise)


@dataclass(frozen=True)
class Products(LossOfImages):
    """The loss on given images, of which the products of the errors of two repeats are known."""

    products: Images
    spread: Images
    """The variance of a product by the noise of the pixels around: the mean over channels of
    (4 (y - y_hat)^2 v - 2 v^2 + u) / C, v the mean over the others in a window of NEAR pixels of the estimate
    of the noise of y, u its variance but at most 2 v^2, as for two repeats with normal noise."""
    noise: Images
    """|b - c| / 2."""
    weights: Images
    """The region, with the shape of the products."""
    ranges: PerImage
    """Length of the interval that holds all products of each image."""
    most: PerImage
    """Largest max(y_hat, 1 - y_hat)^2 of each image."""
    loss: CleanLoss

    @property
    def images(self) -> Images:
        """The products."""
        return self.products

    def maps(self, mask: Images) -> Moments:
        """Return what is summed, of the images under their masks."""
        weight = self.weights * mask.square()
        product, noise = weight * self.products, weight * self.noise
        spread = weight.square() * self.spread
        return Moments((weight > 0).float(), product, product.square(), spread, noise, noise.square())

    def bounds(self, mask: Images, summed: Callable[[Images], Tensor]) -> Tensor:
        """Return the means of the products, with their allowances, for each image or each window.

        `summed` sums values of pixels. Where there are too few products, it is the largest squared error that
        a clean image in [0, 1] can have.
        """
        axes, allowed = mask.ndim - 2, torch.zeros((), dtype=torch.float64)
        total, weight = summed(self.maps(mask).product), summed(self.weights)
        ranges, most = self.ranges, self.most
        if total.ndim > 1:
            ranges, most = per_image(ranges, total), per_image(most, total)
        for grid in self.loss.grids(axes, mask):
            sums = Moments(*map(summed, self.maps(mask * grid)))
            allowed = allowed + self.loss.allowed(sums, ranges, axes)
        return torch.where(allowed.isfinite(), (total + allowed) / weight, most)

    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask, float64; 0 where nothing is shown."""
        shown = (self.weights * mask).flatten(1).any(dim=1)
        return self.bounds(mask, _image_sums).where(shown, 0.0)

    def of_nested(self, sums: Moments) -> Tensor:
        """Compute the losses (N, G) of nested masks of each image, from their sums.

        The clean loss only grows with the mask. So a mask that shows too few pixels for an allowance is
        judged by the first larger one that shows enough. Only for losses `in_one_grid`.
        """
        allowed = self.loss.allowed(sums, self.ranges[:, None], self.products.ndim - 2)
        most, enough = self.most[:, None], allowed.isfinite() & (sums.pixels > 0)
        weight = _image_sums(self.weights)[:, None]
        losses = torch.where(enough, (sums.product + allowed) / weight, most)
        first = losses.gather(1, enough.float().argmax(dim=1, keepdim=True))
        losses = losses.where(enough.cummax(dim=1).values | ~enough.any(dim=1, keepdim=True), first)
        return losses.where(sums.pixels > 0, 0.0)

    def take(self, places: Tensor) -> "Products":
        """Return the loss on the images at these places."""
        parts = ("products", "spread", "noise", "weights", "ranges", "most")
        return replace(self, **{part: getattr(self, part)[places] for part in parts})

    def curve(
        self, score: Images, family: Family, grid: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """Compute (loss, mask size), for binary masks from the sums of what each level shows."""
        if not (isinstance(family, Binary) and self.loss.in_one_grid):
            return super().curve(score, family, grid)
        sums = family.shown_sums(score, grid)

        def of_means(values: Tensor) -> Tensor:
            """Sum the means of channels."""
            return torch.from_numpy(sums(values.flatten(1).double().cpu().numpy()) / score.shape[1])

        losses = self.of_nested(Moments(*map(of_means, self.maps(torch.ones_like(score)))))
        return losses.numpy(), sizes_of(score, family, grid)


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
        errors: "l2", as for `CleanMean`.
        side: the side of the window, as for `Local`.
        allowance: "clt", or "exact", which is small only for windows of 200 x 200 pixels and more.
        eta: as for `CleanMean`.
        reach: as for `CleanMean`.

    Raises:
        InvalidArgumentError: as for `CleanMean` and `Local`, or the window is too small for "clt".

    Examples:
        >>> import conformask as cm
        >>> cm.CleanLocal("l2", 15).terms.name
        'clean_local(l2, 15 px, clt)'
    """

    over = "clean_local"
    monotone = True

    def __init__(
        self,
        errors: AnyMap = "l2",
        side: int | str | tuple[int, ...] | None = 15,
        allowance: Allowance = "clt",
        eta: float = 0.002,
        reach: float | None = None,
        *,
        regional: bool = False,
        length: str | None = None,
    ) -> None:
        window = {"side": side, "length": length}
        super().__init__(errors, allowance=allowance, eta=eta, reach=reach, regional=regional, **window)

    def sides(self, dimensions: int) -> tuple[int, ...]:
        """Return the sides of the window along each axis, in pixels.

        Raises:
            InvalidArgumentError: it is unknown, or the window has too few pixels for "clt".
            MismatchError: the window has another number of axes.
        """
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

    def on(
        self, y: Images, y_hat: Images, region: Images | None, channels: int, noise: Images | None = None
    ) -> LargestShown:
        """Return the loss on images, see `CleanLoss.on`; without noise it is that of `Local`."""
        sides = self.sides(y.ndim - 2)
        if noise is None:
            return LargestShown(local_means(errors_for(self.errors, y, y_hat, channels), region, sides)[0])
        products = self.products(y, y_hat, region, channels, noise)
        inside = products.weights > 0
        bounds = products.bounds(inside.float(), partial(window_sums, sides=sides))
        return LargestShown(bounds.where(inside, 0.0))


def largest_squares(y_hat: Images, channels: int) -> PerImage:
    """Return the largest squared error that a truth in [0, 1] can have in each image, float64."""
    return _largest(torch.maximum(y_hat, 1 - y_hat).square(), channels)


def ranges_of(y_hat: Images, channels: int) -> PerImage:
    """Return the length of the interval that holds all products of two errors of each image, float64.

    For images in [0, 1] the product at a pixel lies between -y_hat (1 - y_hat) and max(y_hat, 1 - y_hat)^2.
    The proof of the exact allowance takes one interval for all pixels: from the least of the lower ends to
    the largest of the upper ones, at most 1.25 long.
    """
    return largest_squares(y_hat, channels) + _largest(y_hat * (1 - y_hat), channels)


def _largest(values: Images, channels: int) -> PerImage:
    return with_channels(values, channels).flatten(1).amax(dim=1).double()


def _image_sums(values: Images) -> PerImage:
    """Return the sum over the pixels of each image, of the means of channels."""
    return values.double().mean(dim=1).flatten(1).sum(dim=1)
