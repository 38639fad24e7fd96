"""The squared error of the clean image, from two repeats of it that both have noise.

Let b = y + d and c = y + d' be two acquisitions of the clean image y, whose noise d, d' has mean 0 and is
independent of each other and of x. Then (b - y_hat)(c - y_hat) has the mean (y - y_hat)^2 at every pixel,
under every mask, and no noise floor. It is computed as ((b + c) / 2 - y_hat)^2 - ((b - c) / 2)^2, its equal.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, get_args

import torch
from scipy.special import stdtrit
from torch import Tensor

from conformask.arithmetic import per_image, window_index
from conformask.distances.lp import Lp
from conformask.errors import InvalidArgumentError, chosen
from conformask.losses.map_loss import MapLoss, Sums, within
from conformask.losses.maps import AnyMap, errors_for, with_channels
from conformask.losses.means import weighted
from conformask.losses.window import LargestShown, LocalLoss, local_means, window_sums
from conformask.names import Allowance
from conformask.types import Batch, Images, LossOfImages, PerImage

FEWEST = 200
"""Independent pixels that a window needs for an allowance by the central limit theorem, see `CleanLocal`."""


@dataclass(frozen=True, init=False)
class CleanLoss(MapLoss):
    """A loss of the squared error less the noise of the reference, with an allowance for that noise."""

    allowance: Allowance
    eta: float
    reach: float

    def __init__(
        self, errors: AnyMap, *, allowance: Allowance, eta: float, reach: float, **numbers: Any
    ) -> None:
        super().__init__(errors, **numbers, allowance=allowance, eta=eta, reach=float(reach))
        if not (isinstance(self.errors, Lp) and self.errors.p == 2):
            raise InvalidArgumentError(
                f"the products of two repeats give the squared error, l2, and not {self.errors.name!r}"
            )
        chosen({name: name for name in get_args(Allowance)}, allowance, "allowance")
        if not 0 < eta < 0.1:
            raise InvalidArgumentError(f"eta = {eta:g}: must be above 0 and below 0.1")
        if not 1 <= reach < math.inf or (allowance == "exact" and reach != int(reach)):
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

    def allowed(
        self, summed: Callable[[Images], Tensor], products: Images, inside: Images, ranges: Tensor
    ) -> Tensor:
        """Return the allowance for sums of products, which are 0 where `inside`, of 0 and 1, is 0.

        `summed` sums values of pixels, for each image or each window; `ranges` are as in `of_moments`.
        """
        total = torch.zeros((), dtype=torch.float64, device=products.device)
        for grid in (inside,) if self.in_one_grid else _grids(inside, int(self.reach)):
            sums, squares = (summed(grid * power) for power in (products, products.square()))
            total = total + self.of_moments(sums, squares, summed(grid), ranges, products.ndim - 2)
        return total

    def of_moments(self, total: Tensor, squares: Tensor, count: Tensor, ranges: Tensor, axes: int) -> Tensor:
        """Return the allowance for a sum of `count` products of images with this many spatial axes.

        It is infinite where there are too few to have a variance. `squares` are the sums of the squares of
        the products, `ranges` the lengths of the range that a product may have.
        """
        spread = (squares * count - total.square()).clamp(min=0)
        dependent = self.reach**axes
        if self.allowance == "clt":
            freedom = (count / dependent - 1).clamp(min=0)
            student = torch.from_numpy(stdtrit(freedom.cpu().numpy(), 1 - self.eta)).to(count.device)
            found = student * torch.sqrt(spread / count * dependent)
        else:
            freedom, log = count - 1, math.log(2 * dependent / self.eta)
            found = torch.sqrt(2 * spread * log / freedom) + 7 * ranges * log * count / (3 * freedom)
        return found.where(freedom > 0, math.inf).where(count > 0, 0.0)


@dataclass(frozen=True, init=False)
class CleanMean(CleanLoss):
    """The mean of m^2 (b - y_hat)(c - y_hat) over the image or region, and an allowance t for its noise.

    With n pixels, V the variance of the n products of the image under the mask and r the reach of the noise
    along each of d axes, t = z sqrt(V r^d / n) by the central limit theorem, z the quantile at 1 - eta of
    Student's law with n / r^d - 1 degrees of freedom; exactly t = sqrt(2 V l / n) + 7 R l / (3 (n - 1))
    (Maurer and Pontil 2009, theorem 11), l = ln(2 / eta), R the largest max(y_hat, 1 - y_hat), the length of
    the range of a product of two errors of images in [0, 1]. For r > 1 that is the mean of the t of each of
    the r^d grids of pixels r apart, with eta / r^d. In a region with weights w in [0, 1] the products are
    w m^2 (b - y_hat)(c - y_hat), n the pixels with w > 0, and their mean and t are divided by that of w.

    Then for each image P(mean of m^2 (y - y_hat)^2 > T) <= P(this loss > T) + eta. It may be negative and is
    not monotone under nested masks.

    Args:
        errors: "l2", the only map for which products of two repeats have the right mean.
        allowance: "clt", or "exact", for images of 200 x 200 pixels and more.
        eta: the share of images for which the allowance may be too small; it comes off the confidence.
        reach: the number of pixels r along each axis from which on noise is independent: 1 where that of
            neighbours is. For "clt" it need not be whole: r^d is a bound on the sum of the absolute
            autocorrelations of the noise, the 1 of a pixel with itself included.

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
        reach: float = 1,
        *,
        regional: bool = False,
    ) -> None:
        super().__init__(errors, allowance=allowance, eta=eta, reach=reach, regional=regional)

    def on(
        self, y: Images, y_hat: Images, region: Images | None, channels: int, noise: Images | None = None
    ) -> LossOfImages:
        """Return the loss on images, see `CleanLoss.on`; without noise it is that of `Mean`."""
        errors = errors_for(self.errors, y, y_hat, channels)
        if noise is None:
            return Sums(weighted(errors, region), 2.0)
        weights = within(region, errors)
        products = weights * (errors - with_channels(noise, channels))
        return Products(products, weights, ranges_of(y_hat, channels), self)


@dataclass(frozen=True)
class Products:
    """The loss on given images, of which the products of the errors of two repeats are known."""

    products: Images
    """The products times the weights."""
    weights: Images
    """The region, with the shape of the products."""
    ranges: PerImage
    """Length of the range that the products of each image may have."""
    loss: CleanMean

    @property
    def inside(self) -> Images:
        """1 where a pixel is in the region, else 0; the shape of the products."""
        return (self.weights > 0).float()

    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask, float64; 0 where nothing is shown."""
        masked, inside = mask.double().square() * self.products.double(), self.inside
        allowed = self.loss.allowed(_image_sums, masked, inside, self.ranges)
        shown = (inside * mask).flatten(1).any(dim=1)
        return torch.where(shown, (_image_sums(masked) + allowed) / _image_sums(self.weights), 0.0)

    def of_means(self, mean: Tensor, square: Tensor, shown: Tensor) -> Tensor:
        """Compute the losses (N, G) of G masks of each image from means over its pixels, each (N, G).

        They are those of the masked products, of their squares, and of what is shown inside the region. Only
        where the loss is `in_one_grid`.
        """
        total, squares = (each * self.products[0, 0].numel() for each in (mean, square))
        count, weight = (_image_sums(each)[:, None] for each in (self.inside, self.weights))
        allowed = self.loss.of_moments(total, squares, count, self.ranges[:, None], self.products.ndim - 2)
        return torch.where(shown > 0, (total + allowed) / weight, 0.0)

    def take(self, places: Tensor) -> "Products":
        """Return the loss on the images at these places."""
        products, weights = self.products[places], self.weights[places]
        return replace(self, products=products, weights=weights, ranges=self.ranges[places])


@dataclass(frozen=True, init=False)
class CleanLocal(CleanLoss, LocalLoss):
    """The largest, over shown pixels j, of p_j + t_j; 0 if nothing is shown. The counterpart of `Local`.

    p_j is the mean of (b - y_hat)(c - y_hat) over the pixels of the window around j that lie in image and
    region, t_j the allowance of `CleanMean` for the noise of that mean, from the variance of the products of
    this window.

    For each mask P(largest clean mean over shown j > T) <= P(this loss > T) + eta, without a union bound: the
    shown pixel around which the clean mean is largest does not depend on the noise, p_j + t_j is above that
    mean there but for a share eta, and this loss is at least as large. Monotone under nested binary masks.

    By the central limit theorem the share is eta for many pixels only. For eta = 0.002, errors of 0 to 2
    standard deviations of the noise, and normal noise (counts of 2), research/repeats_promise.py found up to
    .009 (.024) in windows of 5 x 5, .005 (.011) in 9 x 9, .004 (.007) in 15 x 15. So a window needs FEWEST
    independent pixels, 15 x 15 for r = 1.

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
        reach: float = 1,
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
        needed = FEWEST * self.reach**dimensions
        if self.allowance == "clt" and math.prod(sides) < needed:
            side = math.ceil(needed ** (1 / dimensions))
            raise InvalidArgumentError(
                f"a window of {' x '.join(map(str, sides))} pixels is too small for an allowance by the "
                f"central limit theorem with a reach of {self.reach:g}: take one of "
                f"{' x '.join([str(side)] * dimensions)} or more"
            )
        return sides

    def on(
        self, y: Images, y_hat: Images, region: Images | None, channels: int, noise: Images | None = None
    ) -> LargestShown:
        """Return the loss on images, see `CleanLoss.on`; without noise it is that of `Local`."""
        errors = errors_for(self.errors, y, y_hat, channels)
        sides = self.sides(errors.ndim - 2)
        if noise is None:
            return LargestShown(*local_means(errors, region, sides))
        weights = within(region, errors)
        inside, products = weights > 0, (weights * (errors - with_channels(noise, channels))).double()

        def summed(values: Images) -> Tensor:
            return window_sums(values, sides)

        ranges = per_image(ranges_of(y_hat, channels), errors)
        allowed = self.allowed(summed, products, inside.double(), ranges)
        return LargestShown(((summed(products) + allowed) / summed(weights)).where(inside, 0.0), inside)


def ranges_of(y_hat: Images, channels: int) -> PerImage:
    """Return the length of the range that products of two errors may have in each image, float64."""
    return with_channels(torch.maximum(y_hat, 1 - y_hat), channels).flatten(1).amax(dim=1).double()


def _image_sums(values: Images) -> PerImage:
    """Return the sum over the pixels of each image, of the means of channels."""
    return values.double().mean(dim=1).flatten(1).sum(dim=1)


def _grids(inside: Images, reach: int) -> Iterator[Images]:
    """Yield the parts of `inside` that lie in the grids of pixels `reach` apart along all axes."""
    for starts in product(range(reach), repeat=inside.ndim - 2):
        index = window_index(tuple(slice(start, None, reach) for start in starts))
        grid = torch.zeros_like(inside)
        grid[index] = inside[index]
        yield grid
