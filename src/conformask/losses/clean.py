"""The squared error of the clean image, from two repeats of it that both have noise.

Let b = y + d and c = y + d' be two acquisitions of the clean image y, whose noise d, d' has mean 0 and is
independent of each other and of x. Then (b - y_hat)(c - y_hat) has the mean (y - y_hat)^2 at every pixel,
under every mask, and no noise floor. It is computed as ((b + c) / 2 - y_hat)^2 - ((b - c) / 2)^2, its equal.
"""

import math
from dataclasses import dataclass, replace
from itertools import product
from statistics import NormalDist
from typing import Any, get_args

import torch
from torch import Tensor

from conformask.arithmetic import image_means, window_index
from conformask.distances.lp import Lp
from conformask.errors import InvalidArgumentError, chosen
from conformask.losses.map_loss import MapLoss, Sums
from conformask.losses.maps import AnyMap, errors_for, with_channels
from conformask.names import Allowance
from conformask.types import Batch, Images, LossOfImages, PerImage


@dataclass(frozen=True, init=False)
class CleanMean(MapLoss):
    """The mean of m^2 (b - y_hat)(c - y_hat) over the image, and an allowance t for its noise.

    With N pixels, V the variance of the N products of the image under the mask and r the reach of the noise,
    t = z sqrt(V r^d / N) by the central limit theorem, z the quantile of the normal law at 1 - eta; exactly
    t = sqrt(2 V l / N) + 7 R l / (3 (N - 1)) (Maurer and Pontil 2009, theorem 11), l = ln(2 / eta), R the
    largest max(y_hat, 1 - y_hat), the length of the range of a product of two errors of images in [0, 1]. For
    r > 1 that is the mean of the t of each of the r^d grids of pixels r apart, with eta / r^d. Then for each
    image P(mean of m^2 (y - y_hat)^2 > T) <= P(this loss > T) + eta. It may be negative and is not monotone
    under nested masks.

    Args:
        errors: "l2", the only map for which products of two repeats have the right mean.
        allowance: "clt", or "exact", for images of 200 x 200 pixels and more.
        eta: the share of images for which the allowance may be too small; it comes off the confidence.
        reach: the number of pixels r along each axis from which on noise is independent: 1 where that of
            neighbours is.

    Raises:
        InvalidArgumentError: another map, or a number outside what is allowed.

    Example:
        >>> import conformask as cm
        >>> cm.CleanMean("l2").terms.name
        'clean(l2, clt)'
    """

    allowance: Allowance
    eta: float
    reach: int
    over = "clean"

    def __init__(
        self,
        errors: AnyMap = "l2",
        allowance: Allowance = "clt",
        eta: float = 0.002,
        reach: int = 1,
        *,
        regional: bool = False,
    ) -> None:
        super().__init__(errors, regional=regional, allowance=allowance, eta=eta, reach=reach)
        if not (isinstance(self.errors, Lp) and self.errors.p == 2):
            raise InvalidArgumentError(
                f"the products of two repeats give the squared error, l2, and not {self.errors.name!r}"
            )
        chosen({name: name for name in get_args(Allowance)}, allowance, "allowance")
        if not 0 < eta < 0.1:
            raise InvalidArgumentError(f"eta = {eta:g}: must be above 0 and below 0.1")
        if reach < 1:
            raise InvalidArgumentError(f"reach = {reach}: must be a number of pixels of at least 1")

    @property
    def _numbers(self) -> dict[str, Any]:
        return {"allowance": self.allowance, "eta": self.eta, "reach": self.reach}

    @property
    def upper_bound(self) -> float | None:
        """None: the allowance has no bound of its own."""
        return None

    def in_regions(self, regions: bool) -> "CleanMean":
        """Return the loss itself.

        Raises:
            InvalidArgumentError: `regions` is true.
        """
        if regions:
            raise InvalidArgumentError(
                "the loss clean is about whole images, not about regions: leave them out"
            )
        return self

    def on(
        self, y: Images, y_hat: Images, region: Images | None, channels: int, noise: Images | None = None
    ) -> LossOfImages:
        """Return the loss on the mean y of two repeats; `noise` is the square of half their difference.

        Without noise, y is the clean image itself, and nothing is allowed for.
        """
        errors = errors_for(self.errors, y, y_hat, channels)
        if noise is None:
            return Sums(errors, 2.0)
        ranges = with_channels(torch.maximum(y_hat, 1 - y_hat), channels).flatten(1).amax(dim=1).double()
        return Products(errors - with_channels(noise, channels), ranges, self)

    def of_batch(self, batch: Batch, region: Images | None, channels: int) -> LossOfImages:
        """Return the loss on the images of a batch, with the noise of their repeats."""
        return self.on(batch.truth(), batch.y_hat, region, channels, batch.noise)


@dataclass(frozen=True)
class Products:
    """The loss on given images, of which the products of the errors of two repeats are known."""

    products: Images
    ranges: PerImage
    """Length of the range that the products of each image may have."""
    loss: CleanMean

    @property
    def in_one_grid(self) -> bool:
        """True if the loss follows from the moments of all products."""
        return self.loss.allowance == "clt" or self.loss.reach == 1

    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask, float64; 0 where nothing is shown."""
        masked = mask.double().square() * self.products.double()
        shown, mean = mask.flatten(1).any(dim=1), image_means(masked)
        if self.in_one_grid:
            return self.of_moments(mean, image_means(masked.square()), shown)
        return torch.where(shown, mean + self._over_grids(masked), 0.0)

    def of_moments(self, mean: Tensor, square: Tensor, shown: Tensor) -> Tensor:
        """Compute the loss from the means of masked products and of their squares, where anything is shown.

        All are (N,) or, for masks at G lambdas, (N, G); only where the loss is `in_one_grid`.
        """
        count, variance = self.products[0, 0].numel(), _variance(mean, square)
        exact = self.loss.allowance == "exact"
        allowed = self._bernstein(variance, count, 1) if exact else self._normal(variance, count)
        return torch.where(shown, mean + allowed, 0.0)

    def _normal(self, variance: Tensor, count: int) -> Tensor:
        axes = self.products.ndim - 2
        return NormalDist().inv_cdf(1 - self.loss.eta) * torch.sqrt(variance * self.loss.reach**axes / count)

    def _over_grids(self, masked: Images) -> PerImage:
        """Return the mean over grids of pixels `reach` apart, weighted by their numbers of pixels."""
        reach, axes = self.loss.reach, masked.ndim - 2
        total = torch.zeros(len(masked), dtype=torch.float64, device=masked.device)
        for starts in product(range(reach), repeat=axes):
            grid = masked[window_index(tuple(slice(start, None, reach) for start in starts))]
            count = grid[0, 0].numel()
            variance = _variance(image_means(grid), image_means(grid.square()))
            total += count * self._bernstein(variance, count, reach**axes)
        return total / masked[0, 0].numel()

    def _bernstein(self, variance: Tensor, count: int, grids: int) -> Tensor:
        if count < 2:
            return torch.full_like(variance, math.inf)
        log = math.log(2 * grids / self.loss.eta)
        ranges = self.ranges.reshape(-1, *[1] * (variance.ndim - 1))
        unbiased = variance * (count / (count - 1))
        return torch.sqrt(2 * unbiased * log / count) + 7 * ranges * log / (3 * (count - 1))

    def take(self, places: Tensor) -> "Products":
        """Return the loss on the images at these places."""
        return replace(self, products=self.products[places], ranges=self.ranges[places])


def _variance(mean: Tensor, square: Tensor) -> Tensor:
    return (square - mean.square()).clamp(min=0)
