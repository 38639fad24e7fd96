"""Losses on given images, for any masks; how their curves, critical lambdas and best masks are found."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from conformask.arrays import Array, ErrorMap, Images, PerImage, image_means, per_image
from conformask.losses.window import sides_of
from conformask.masks.families import Binary, Reciprocal, WaterFilling
from conformask.masks.family import LARGEST, SMALLEST, Family, largest_lambda
from conformask.masks.kernels import compiled, pairs

VALUES_A_CALL = 2**16
"""Number of values of masked images that a loss is given at once, to fit into a CPU cache."""
ON_ACCELERATOR = 2**7
"""Factor on VALUES_A_CALL on an accelerator."""
ROUNDING, ROUNDING_OF_SUMS = 1e-6, 1e-9
"""Relative rounding of float32 masks and of running sums, within which means of windows count as equal."""
FEW = 4
"""Number of values of windows, for each pixel, that are summed as fast as all windows are by running sums."""
PRECISION, ZOOM = 1e-6, 128
"""Relative precision of the critical lambda of a window, and how many lambdas are tried at once for it."""
SMALLEST_ERROR = 1e-6
"""Local mean errors below this are dimmed alike by the oracle for window losses."""


class LossOfImages(ABC):
    """A loss on given images, for any masks; parts that need no mask are computed once.

    A loss that knows its curve, its critical lambda or its best masks exactly overrides these methods.
    """

    @property
    @abstractmethod
    def images(self) -> Images:
        """What the masks are compared on, (N, C, *space): as many masks fit into memory as it has values."""

    @abstractmethod
    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask."""

    @abstractmethod
    def take(self, places: Tensor) -> "LossOfImages":
        """Return the loss on the images at these places, which may repeat."""

    def curve(
        self, score: Images, family: Family, grid: Float[Array, "g"]
    ) -> tuple[Float[Array, "n g"], Float[Array, "n g"]]:
        """Compute (loss, mask size) of each image at every lambda of the grid, float64.

        They are measured mask by mask, as many lambdas at once as is efficient.
        """
        levels = family.level(score, torch.as_tensor(grid, device=score.device).expand(len(score), -1))
        values = VALUES_A_CALL * (1 if score.device.type == "cpu" else ON_ACCELERATOR)
        points = []
        for level_chunk in torch.split(levels, max(1, values // self.images.numel()), dim=1):
            lambdas = level_chunk.shape[1]
            mask = family.apply(score.repeat_interleave(lambdas, dim=0), level_chunk.flatten(0, 1))
            indices = torch.arange(len(score), device=score.device).repeat_interleave(lambdas)
            sizes = 1 - image_means(mask, torch.float64)
            points.append(torch.stack((_losses(self, mask, indices), sizes)).reshape(2, len(score), -1))
        losses, sizes = torch.cat(points, dim=2).cpu().numpy()
        return losses, sizes

    def critical_lambda(self, score: Images, family: Family, threshold: float) -> Float[Tensor, "n"]:
        """Return the largest lambda up to which each image is within the threshold, for a monotone loss.

        It is found by bisection, float64; see `largest_lambda`.
        """

        def is_within(lambdas: Tensor) -> Tensor:
            mask = family.apply(score, family.level(score, lambdas))
            return self.of(mask).detach().double() <= threshold

        return largest_lambda(is_within, len(score), score.device)

    def oracle(self, threshold: float) -> Images | None:
        """Return the smallest mask of each image within the threshold; None where none is known."""
        return None


def _losses(loss: LossOfImages, masks: Tensor, indices: Tensor) -> Tensor:
    """Compute the loss of each mask on the image at its place; open masks only once per image."""
    # many lambdas open a mask wholly; its loss is measured once, as a perceptual distance is slow
    is_open = masks.flatten(1).amin(dim=1) == 1
    if not bool(is_open.any()):
        of_masks = loss if len(masks) == len(loss.images) else loss.take(indices)  # one mask of each
        return of_masks.of(masks).double()
    losses = torch.empty(len(masks), dtype=torch.float64, device=masks.device)
    if not bool(is_open.all()):
        losses[~is_open] = loss.take(indices[~is_open]).of(masks[~is_open]).double()
    image_indices, inverse = torch.unique(indices[is_open], return_inverse=True)
    first_mask = torch.zeros_like(image_indices).scatter_(
        0, inverse, torch.arange(len(inverse), device=inverse.device)
    )
    losses[is_open] = loss.take(image_indices).of(masks[is_open][first_mask]).double()[inverse]
    return losses


@dataclass(frozen=True)
class Sums(LossOfImages):
    """The loss mean(mask^exponent * error) on given images, divided by mean(mask * shown) if that is given.

    error and shown are float32 with the channels of the masks. Where nothing is shown the loss is 0.
    """

    error: Images
    exponent: float = 1.0
    shown: Images | None = None

    @property
    def images(self) -> Images:
        """The errors."""
        return self.error

    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask, float64.

        The difference of masked float32 images would lose the last digits of small errors, which decide
        whether an exact solution is within the threshold.
        """
        opened = mask.double()
        powered = opened if self.exponent == 1 else opened**self.exponent
        total = image_means(powered * self.error.double())
        if self.shown is None:
            return total
        shown = image_means(opened * self.shown.double())
        return torch.where(shown > 0, total / torch.where(shown > 0, shown, 1.0), 0.0)

    def take(self, places: Tensor) -> "Sums":
        """Return the loss on the images at these places."""
        shown = None if self.shown is None else self.shown[places]
        return replace(self, error=self.error[places], shown=shown)

    def curve(
        self, score: Images, family: Family, grid: Float[Array, "g"]
    ) -> tuple[Float[Array, "n g"], Float[Array, "n g"]]:
        """Compute (loss, mask size) by the kernels of the family, or from the sums that binary masks show."""
        if self.shown is None:
            return family.curve(score, self.error, self.exponent, grid)
        if isinstance(family, Binary):
            of_masks = family.shown(score, grid)
            total, shown = (
                of_masks.sums(values for _, values in pairs(score, each, 0.0)) / score[0].numel()
                for each in (self.error, self.shown)
            )
            size = of_masks.sizes
        else:
            total, size = family.curve(score, self.error, self.exponent, grid)
            shown = family.curve(score, self.shown, 1.0, grid)[0]
        return np.divide(total, shown, out=np.zeros_like(total), where=shown > 0), size

    def critical_lambda(self, score: Images, family: Family, threshold: float) -> Float[Tensor, "n"]:
        """Return the exact critical lambda, by the kernels of the family."""
        return family.critical_lambda(score, self.error, self.exponent, threshold)

    def oracle(self, threshold: float) -> Images | None:
        """Return the smallest masks: the smallest errors are shown, as long as their mean is within."""
        if self.shown is None:
            return exact_oracle(self.error, threshold, self.exponent)
        costs = self.error.double() - threshold * self.shown.double()
        # all pixels within the threshold are shown; what they leave is spent on the others, cheapest first
        spared = image_means(costs.clamp(max=0)).neg()
        return exact_oracle(costs.clamp(min=0).float(), spared, 1.0).where(costs > 0, 1.0)


def exact_oracle(error_p: Images, threshold: float | PerImage, exponent: float) -> Images:
    """Return the smallest mask (in mean(1 - m)) with mean(m^p * error) <= threshold: the optimum of (P1).

    error_p is |y - y_hat|^p, (N, C, H, W), averaged over channels for a one-channel mask; p the exponent.
    At p = 1 it is binary but for the boundary. With threshold 0 everything is masked.
    """
    family = WaterFilling(exponent, kappa=0.0)
    budgets = torch.as_tensor(threshold, dtype=torch.float64).expand(len(error_p))
    return family.apply(error_p, family.level(error_p, budgets))


def errors_for(errors: ErrorMap, y: Images, y_hat: Images, channels: int) -> Images:
    """Return the error map with the channels of a mask: averaged for one, repeated for many; float32."""
    return with_channels(errors.error_map(y, y_hat).float(), channels)


def with_channels(pixelwise: Images, channels: int) -> Images:
    """Return values of pixels with the channels of a mask: averaged for one, repeated for many."""
    if channels == 1:
        return pixelwise.mean(dim=1, keepdim=True)
    return pixelwise.expand(-1, channels, *pixelwise.shape[2:])


def within(region: Images | None, errors: Images) -> Images:
    """Return the region with the shape of the errors, (N, C, *space); ones where there is none."""
    return torch.ones_like(errors) if region is None else region.float().expand_as(errors)


def weighted(errors: Images, region: Images | None) -> Images:
    """Return r e / mean(r), whose mean is the mean of e over the region."""
    return errors if region is None else region * errors / per_image(image_means(region), region)


def shown_share_of(weights: Images) -> Sums:
    """Return the loss sum(m w) / sum(w), 0 where all weights are 0."""
    mean = per_image(image_means(weights, torch.float64), weights)
    rounded = (weights / mean.where(mean > 0, 1.0)).float()
    # down by one digit: j of k wrong pixels must not exceed j / k by rounding
    return Sums(rounded.nextafter(torch.zeros_like(rounded)))


@dataclass(frozen=True)
class LargestShown(LossOfImages):
    """The largest over shown pixels of a map of local means, (N, C, *space) float64, 0 outside the region."""

    means: Images

    @property
    def images(self) -> Images:
        """The local means."""
        return self.means

    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask, float64; a pixel is shown if its mask is above 0."""
        return self.means.where(mask.detach() > 0, 0.0).flatten(1).amax(dim=1)

    def beyond(self, threshold: float) -> Images:
        """Return 1 where a pixel must be hidden, else 0; float32."""
        return (self.means > threshold).float()

    def take(self, places: Tensor) -> "LargestShown":
        """Return the loss on the images at these places."""
        return LargestShown(self.means[places])

    def curve(
        self, score: Images, family: Family, grid: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """Compute (loss, mask size), for binary masks in one pass: the largest mean below each level."""
        if not isinstance(family, Binary):
            return super().curve(score, family, grid)
        means = self.means.flatten(1).cpu().numpy()
        largest, shown = np.zeros((len(score), len(grid) + 1)), family.shown(score, grid)
        for row, first, values in zip(largest, shown.first, means, strict=True):
            np.maximum.at(row, first, values)
        return np.maximum.accumulate(largest, axis=1)[:, :-1], shown.sizes

    def critical_lambda(self, score: Images, family: Family, threshold: float) -> Float[Tensor, "n"]:
        """Return the exact critical lambda: none of the pixels that must be hidden is shown."""
        return family.critical_lambda(score, self.beyond(threshold), 1.0, 0.0)

    def oracle(self, threshold: float) -> Images:
        """Return the smallest masks: they hide what must be hidden, and nothing else."""
        return 1 - self.beyond(threshold)


def local_means(
    errors: Images, region: Images | None, sides: tuple[int, ...]
) -> tuple[Float[Tensor, "n c *space"], Bool[Tensor, "n c *space"]]:
    """Return the mean error in the window around each pixel, and which pixels are inside the region.

    A window counts the pixels that lie in image and region, weighted by the region; outside the region the
    mean is 0. Float64.
    """
    if region is None:
        means = _padded_means(errors, sides) / _padded_means(torch.ones_like(errors[:1, :1]), sides)
        return torch.from_numpy(means).to(errors.device), torch.ones_like(errors, dtype=torch.bool)
    weights = within(region, errors)
    inside = weights > 0
    total, weight = (_padded_means(each, sides) for each in (weights * errors, weights))
    means = np.divide(total, weight, out=np.zeros_like(total), where=inside.cpu().numpy())
    return torch.from_numpy(means).to(errors.device), inside


def window_sums(values: Images, sides: tuple[int, ...]) -> Float[Tensor, "n c *space"]:
    """Return the sum over the window around each pixel, cut off at the border; float64, any sign."""
    above, below = (_padded_means(part.clamp(min=0), sides) for part in (values, -values))
    return torch.from_numpy((above - below) * math.prod(sides)).to(values.device)


def _padded_means(values: Images, sides: tuple[int, ...]) -> Array:
    """Return the mean in the window around each pixel, with zeros outside the image; shape of values."""
    padding = [(0, 0), (0, 0), *((side // 2, (side - 1) // 2) for side in sides)]
    return box_means(np.pad(values.detach().double().cpu().numpy(), padding), sides)


@dataclass(frozen=True)
class WindowOfImages(LossOfImages):
    """The loss max over windows of mean(mask * error) on given images."""

    error: Images
    sides: tuple[int, ...]

    @property
    def images(self) -> Images:
        """The errors."""
        return self.error

    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask, float64; without a gradient."""
        means = self.means(mask)
        return torch.from_numpy(means.max(axis=tuple(range(1, means.ndim)))).to(mask.device)

    @property
    def inside(self) -> tuple[int, ...]:
        """The sides of a window, at most those of the image."""
        return tuple(map(min, self.sides, self.error.shape[2:]))

    def means(self, mask: Images) -> Array:
        """Return the mean of mask * error in each window, (N, C, *windows) float64."""
        return box_means((mask.detach().double() * self.error).cpu().numpy(), self.inside)

    def curve(
        self, score: Images, family: Family, grid: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """Compute (loss, mask size), float64; all windows are looked at for few of the lambdas."""
        losses = np.array([windows.largest(grid) for windows in self._each_image(score, family)])
        return losses, family.sizes(score, grid)

    def critical_lambda(self, score: Images, family: Family, threshold: float) -> Float[Tensor, "n"]:
        """Return the critical lambda to one part in 10^6 or nearer, see `NestedWindows.critical_lambda`."""
        lambdas = [windows.critical_lambda(threshold) for windows in self._each_image(score, family)]
        return torch.tensor(lambdas, dtype=torch.float64, device=score.device)

    def _each_image(self, score: Images, family: Family) -> Iterator["NestedWindows"]:
        errors, scores = (torch.split(each.cpu(), 1) for each in (self.error, score))
        for of_image, score_of_image in zip(errors, scores, strict=True):
            yield NestedWindows(replace(self, error=of_image), score_of_image, family)

    def take(self, places: Tensor) -> "WindowOfImages":
        """Return the loss on the images at these places."""
        return replace(self, error=self.error[places])

    def oracle(self, threshold: float) -> Images:
        """Return masks of the reciprocal family on the true local mean errors: not always the smallest."""
        family, score = Reciprocal(epsilon=SMALLEST_ERROR), around(self.error, self.sides)
        lambdas = self.critical_lambda(score, family, threshold)
        return family.apply(score, family.level(score, lambdas))


@dataclass(frozen=True)
class NestedWindows:
    """The windows of one image under nested masks, with which means of mask * error grow; on the CPU."""

    loss: WindowOfImages
    score: Images
    family: Family

    def largest(self, grid: Float[np.ndarray, "g"]) -> Float[np.ndarray, "g"]:
        """Return the largest mean of a window at each of ascending lambdas, float64.

        Between two lambdas, only a window whose mean at the second is at least the largest at the first can
        have the largest; and, as means grow no faster than a power of lambda, only one whose mean at the
        first is at least that share of the largest at the second. Where these are few, no other is looked at.
        """
        losses, levels = np.empty(len(grid)), self._levels(grid)

        def measured(place: int) -> Array:
            means = self._means(levels[place : place + 1])
            losses[place] = means.max()
            return means

        def between(first: int, of_first: Array, last: int, of_last: Array) -> None:
            inside = slice(first + 1, last)
            if last - first < 2:
                return
            least = losses[last] * (grid[first] / grid[last]) ** self.family.growth
            may_be = (of_last >= losses[first] * (1 - ROUNDING)) & (of_first >= least * (1 - ROUNDING))
            windows = np.count_nonzero(may_be)
            if windows * math.prod(self.loss.inside) * (last - first - 1) <= FEW * self.score.numel():
                losses[inside] = self._means_at(np.nonzero(may_be), levels[inside]).max(axis=1)
                return
            middle = (first + last) // 2
            of_middle = measured(middle)
            between(first, of_first, middle, of_middle)
            between(middle, of_middle, last, of_last)

        last = len(grid) - 1
        between(0, measured(0), last, measured(last))
        return losses

    def critical_lambda(self, threshold: float) -> float:
        """Return the largest lambda up to which all windows are within the threshold.

        From above: the lambda with which the worst window is within it, that of the window which is worst
        then, and so on, until none exceeds.
        """
        critical = math.inf
        while True:
            means = self._means(self._levels(np.array([critical])))
            worst = np.unravel_index(means.argmax(), means.shape)
            if means[worst] <= threshold * (1 + ROUNDING_OF_SUMS):
                return critical
            before, critical = critical, self._critical_lambda_at(worst, threshold, critical)
            if critical in (0, before):
                return critical

    def _critical_lambda_at(self, place: tuple[np.intp, ...], threshold: float, beyond: float) -> float:
        """Return the largest lambda with which one window is within the threshold, below one that is not."""
        places = tuple(np.array([each]) for each in place)
        low, high = SMALLEST, min(beyond, LARGEST)
        while high > low * (1 + PRECISION):
            lambdas = np.geomspace(low, high, ZOOM)
            is_within = self._means_at(places, self._levels(lambdas))[:, 0] <= threshold
            if not is_within[0]:
                return 0.0
            if is_within.all():
                return high
            beyond_last = int(is_within.argmin())
            low, high = lambdas[beyond_last - 1 : beyond_last + 1].tolist()
        return low

    def _levels(self, lambdas: Float[np.ndarray, "g"]) -> Float[Tensor, "g l"]:
        return self.family.level(self.score, torch.from_numpy(lambdas)[None])[0]

    def _means(self, level: Float[Tensor, "1 l"]) -> Array:
        means: Array = self.loss.means(self.family.apply(self.score, level))[0]
        return means

    def _means_at(self, places: tuple[Array, ...], levels: Float[Tensor, "g l"]) -> Float[np.ndarray, "g k"]:
        """Return the means of K windows, by their channel and first pixel, at each level."""
        sides, axes = self.loss.inside, tuple(range(1, self.score.ndim - 1))
        score, error = (
            torch.from_numpy(sliding_window_view(each[0].numpy(), sides, axes)[places]).flatten(1)
            for each in (self.score, self.loss.error)
        )
        masks = self.family.apply(score.expand(len(levels), 1, *score.shape), levels)
        return np.asarray((masks[:, 0].double() * error).mean(dim=2))


def box_means(values: Array, sides: tuple[int, ...]) -> Array:
    """Compute the mean in each window of these sides inside the image, (N, C, *space) float64."""
    for side in sides:
        images, channels, length, *others = values.shape
        means = running_means(values.reshape(images * channels, length, math.prod(others)), side)
        # the axis comes last, so that the next one has many neighbours to sum at once, and all end in order
        values = np.moveaxis(means.reshape(images, channels, length - side + 1, *others), 2, -1)
    return values


@compiled
def running_means(values: Array, side: int) -> Array:
    """Average `side` neighbours along the middle axis of (outer, length, inner) float64, by running sums."""
    outer, length, inner = values.shape
    means = np.empty((outer, length - side + 1, inner))
    for o in range(outer):
        total = np.zeros(inner)
        for place in range(length):
            for i in range(inner):
                total[i] += values[o, place, i]
            if place >= side:
                for i in range(inner):
                    total[i] -= values[o, place - side, i]
            if place >= side - 1:
                for i in range(inner):
                    means[o, place - side + 1, i] = max(total[i], 0.0) / side
    return means


def around(values: Images, side: int | tuple[int, ...]) -> Images:
    """Average over the window around each pixel, cut off at the border; shape of values, float32."""
    return local_means(values, None, sides_of(side, values.ndim - 2))[0].float()


@dataclass(frozen=True)
class OfCallable(LossOfImages):
    """The loss function(mask, y, y_hat, region) on given images."""

    function: Callable[[Images, Images, Images, Images], PerImage]
    y: Images
    y_hat: Images
    region: Images

    @property
    def images(self) -> Images:
        """The outputs."""
        return self.y_hat

    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask."""
        return self.function(mask, self.y, self.y_hat, self.region)

    def take(self, places: Tensor) -> "OfCallable":
        """Return the loss on the images at these places."""
        return replace(self, y=self.y[places], y_hat=self.y_hat[places], region=self.region[places])
