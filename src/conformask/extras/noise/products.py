"""Products of the errors of two repeats of given images, and the allowance for the noise of their mean."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from conformask.arrays import Images, PerImage, per_image, window_index
from conformask.errors import InvalidArgumentError
from conformask.extras.noise.clean import LIT, CleanLoss
from conformask.losses.of_images import LossOfImages, window_sums, with_channels, within
from conformask.masks.families import Binary
from conformask.masks.family import Family

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


def products_of(
    loss: CleanLoss, y: Images, y_hat: Images, region: Images | None, channels: int, noise: Images
) -> "Products":
    """Return the products of the errors of two repeats, and what their allowance is computed from."""
    if loss.reach is None:
        raise InvalidArgumentError(
            "the reach of the noise of repeats is not known: give reach= (--reach), as `conformask "
            "check` measures it"
        )
    errors = loss.error_map.error_map(y, y_hat).float()
    inside = (within(region, errors[:, :1]) > 0).float()

    def beside(values: Tensor) -> Tensor:
        """Sum over the other pixels of the window around each."""
        return window_sums(values, (NEAR,) * (errors.ndim - 2)) - values

    others = beside(inside).clamp(min=1)
    variance = (beside(inside * noise) / others).clamp(min=0)
    of_noise = (beside(inside * noise.square()) / others - variance.square()).clamp(min=0)
    spread = 4 * errors * variance - (2 * variance.square() - of_noise).clamp(min=0)
    spread = with_channels(spread.float(), channels)
    spread = spread / errors.shape[1] if channels == 1 else spread
    noise = with_channels(noise, channels)
    products = with_channels(errors, channels) - noise
    noise, weights = noise.clamp(min=0).sqrt(), within(region, products)
    most, below = (
        with_channels(ends, channels).flatten(1).amax(dim=1).double()
        for ends in (torch.maximum(y_hat, 1 - y_hat).square(), y_hat * (1 - y_hat))
    )
    return Products(products, spread, noise, weights, most + below, most, loss)


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
    """Length of the interval that holds all products of each image, at most 1.25, float64.

    For images in [0, 1] the product at a pixel lies between -y_hat (1 - y_hat) and max(y_hat, 1 - y_hat)^2.
    The proof of the exact allowance takes one interval for all pixels: from the least of the lower ends to
    the largest of the upper ones.
    """
    most: PerImage
    """Largest squared error that a truth in [0, 1] can have: of max(y_hat, 1 - y_hat)^2, float64."""
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

    def grids(self, like: Images) -> Iterator[Images]:
        """Yield 1 in each grid of pixels `reach` apart, 0 elsewhere; one of all pixels if `in_one_grid`."""
        step = 1 if self.loss.in_one_grid else int(self.loss.reach or 1)
        for starts in product(range(step), repeat=like.ndim - 2):
            grid = torch.zeros_like(like)
            grid[window_index(tuple(slice(start, None, step) for start in starts))] = 1
            yield grid

    def allowed(self, sums: Moments, ranges: Tensor) -> Tensor:
        """Return the allowance for a sum of products.

        It is infinite where there are too few of them, and 0 where there are none. `ranges` are the lengths
        of the range that a product may have.
        """
        n, loss = sums.pixels, self.loss
        dependent = (loss.reach or 1) ** (self.products.ndim - 2)
        squares = (sums.square - sums.product.square() / n).clamp(min=0) * n / (n - 1)
        if loss.allowance == "clt":
            freedom = (n / dependent - 1).clamp(min=0)
            student = torch.from_numpy(stdtrit(freedom.cpu().numpy(), 1 - loss.eta)).to(n.device)
            allowed = student * torch.sqrt(torch.maximum(squares, sums.spread) * dependent)
            lit = sums.noise.square() / sums.noise_square
            enough = lit >= LIT * dependent
        else:
            log = math.log(2 * dependent / loss.eta)
            allowed = torch.sqrt(2 * squares * log) + 7 * ranges * log * n / (3 * (n - 1))
            enough = n > 1
        return allowed.where(enough, math.inf).where(n > 0, 0.0)

    def bounds(self, mask: Images, summed: Callable[[Images], Tensor]) -> Tensor:
        """Return the means of the products, with their allowances, for each image or each window.

        `summed` sums values of pixels. Where there are too few products, it is the largest squared error that
        a clean image in [0, 1] can have.
        """
        allowed = torch.zeros((), dtype=torch.float64)
        total, weight = summed(self.maps(mask).product), summed(self.weights)
        ranges, most = self.ranges, self.most
        if total.ndim > 1:
            ranges, most = per_image(ranges, total), per_image(most, total)
        for grid in self.grids(mask):
            sums = Moments(*map(summed, self.maps(mask * grid)))
            allowed = allowed + self.allowed(sums, ranges)
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
        allowed = self.allowed(sums, self.ranges[:, None])
        most, enough = self.most[:, None], allowed.isfinite() & (sums.pixels > 0)
        weight = _image_sums(self.weights)[:, None]
        losses = torch.where(enough, (sums.product + allowed) / weight, most)
        first = losses.gather(1, enough.float().argmax(dim=1, keepdim=True))
        losses = losses.where(enough.cummax(dim=1).values | ~enough.any(dim=1, keepdim=True), first)
        return losses.where(sums.pixels > 0, 0.0)

    def of_constant(self, values: Float[Tensor, "n g"]) -> Float[Tensor, "n g"]:
        """Compute the losses of masks that have one of these values at all pixels of an image."""
        powers = Moments((values > 0).double(), *(values**power for power in (2, 4, 4, 2, 4)))

        def summed(mask: Images) -> Moments:
            sums = map(_image_sums, self.maps(mask))
            return Moments(*(each[:, None] * power for each, power in zip(sums, powers, strict=True)))

        shown = torch.ones_like(self.products)
        allowed = torch.zeros((), dtype=torch.float64)
        for grid in self.grids(shown):
            allowed = allowed + self.allowed(summed(grid), self.ranges[:, None])
        losses = (summed(shown).product + allowed) / _image_sums(self.weights)[:, None]
        return torch.where(allowed.isfinite(), losses, self.most[:, None]).where(values > 0, 0.0)

    def take(self, places: Tensor) -> "Products":
        """Return the loss on the images at these places."""
        parts = ("products", "spread", "noise", "weights", "ranges", "most")
        return replace(self, **{part: vars(self)[part][places] for part in parts})

    def curve(
        self, score: Images, family: Family, grid: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """Compute (loss, mask size), for binary masks from the sums of what each level shows.

        The masks of a constant score are constant, too, so that the sums are those of the open mask times
        powers of its values.
        """
        first = score.flatten(1)[:, :1, None]
        if bool((score.flatten(1) == first[..., 0]).all()):
            levels = family.level(score, torch.as_tensor(grid, device=score.device).expand(len(score), -1))
            masks = family.apply(first.repeat_interleave(len(grid), dim=0), levels.flatten(0, 1))
            values = masks.reshape(len(score), -1).double()
            return self.of_constant(values).cpu().numpy(), 1 - values.cpu().numpy()
        if not (isinstance(family, Binary) and self.loss.in_one_grid):
            return super().curve(score, family, grid)
        shown = family.shown(score, grid)

        def of_means(values: Tensor) -> Tensor:
            """Sum the means of channels."""
            return torch.from_numpy(shown.sums(values.flatten(1).double().cpu().numpy()) / score.shape[1])

        losses = self.of_nested(Moments(*map(of_means, self.maps(torch.ones_like(score)))))
        return losses.numpy(), shown.sizes


def _image_sums(values: Images) -> PerImage:
    """Return the sum over the pixels of each image, of the means of channels."""
    return values.double().mean(dim=1).flatten(1).sum(dim=1)
