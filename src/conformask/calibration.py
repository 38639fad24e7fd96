"""Critical lambdas of a calibration set, and curves of loss and mask size for any threshold."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arithmetic import image_means
from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.certainty import Simultaneous
from conformask.conformal.crossing import best_start, first_crossing
from conformask.conformal.curves import Curves
from conformask.conformal.guarantee import Guarantee
from conformask.conformal.presets import DEFAULTS
from conformask.conformal.rules import covariates_of
from conformask.conformal.units import Group
from conformask.distances.lp import Lp
from conformask.errors import InvalidArgumentError
from conformask.losses.clean import Moments, Products
from conformask.losses.map_loss import Sums
from conformask.losses.means import Mean
from conformask.losses.window import LargestShown
from conformask.masks.binary import Binary
from conformask.masks.curves import places_of
from conformask.masks.kernels import pairs
from conformask.masks.mask_family import LARGEST, SMALLEST, Family, largest_lambda
from conformask.storage.as_arrays import Array
from conformask.types import Batch, Images, Loss, LossOfImages, PerImage, Score

GRID_POINTS = 128
"""Number of lambdas in a grid, besides 0 and inf."""
VALUES_A_CALL = 2**16
"""Number of values of masked images that a distance is given at once, to fit into a CPU cache."""
ON_ACCELERATOR = 2**7
"""Factor on VALUES_A_CALL on an accelerator."""
TINY = 1e-12
"""Constant added before a logarithm or a division."""
NO_GRID = np.array([0.0, np.inf])
"""Grid used where there are no selection images to make one from; monotone losses need none."""
NEARLY_ALL = 0.999
"""Mean mask size at which a grid starts."""
A_HUNDREDTH = 0.99
"""Mean mask size at which a grid starts for relative losses, which few pixels decide beyond it."""
MARGIN = 10.0
"""Factor by which a grid extends beyond both of its ends."""
PRECISION = 1e-3
"""Relative precision of the ends of a grid."""
ZOOM = 16
"""Number of lambdas that are tried at once between two: an image's pixels are sorted once for all."""
EVEN = 0.25
"""Weight of even spacing in log lambda when grid points are placed, beside changes of size and loss."""


@dataclass(frozen=True)
class ScoredBatch:
    """A batch of triplets with its score."""

    batch: Batch
    score: Score
    image_loss: LossOfImages | None = None
    """The loss of its images, where it is needed more than once."""

    def __len__(self) -> int:
        return len(self.batch)

    def loss_of(self, loss: Loss) -> LossOfImages:
        """Return the loss on its images, for masks with the channels of the score."""
        return self.image_loss or loss.of_batch(self.batch, self.score.map.shape[1])


def like_score(error: Images, score: Images) -> Images:
    """Return a pixelwise error with the channels of the score: averaged for a one-channel score."""
    return error.mean(dim=1, keepdim=True) if score.shape[1] == 1 else error


def loss_under(loss: Loss, mask: Images, batch: Batch) -> PerImage:
    """Compute the loss of each image under its mask, float64 except for the paper's form.

    A mask of one channel is broadcast.
    """
    return loss.of_batch(batch, mask.shape[1]).of(mask)


def unmasked_loss(loss: Loss, batch: Batch) -> PerImage:
    """Compute the loss of each image where all of it is shown."""
    return loss_under(loss, torch.ones_like(batch.y_hat[:, :1]), batch)


def mask_size(mask: Images, region: Images | None = None) -> Float[Tensor, "n"]:
    """Compute mean(1 - m) of each image, or of its region, float64."""
    if region is None:
        return 1 - image_means(mask, torch.float64)
    shown, inside = (image_means(each, torch.float64) for each in (mask * region, region.expand_as(mask)))
    return 1 - shown / inside


def lambda_grid(
    family: Family, loss: Loss, items: Sequence[ScoredBatch], points: int = GRID_POINTS
) -> Float[np.ndarray, "g"]:
    """Return the fixed grid, from selection images: 0, points, inf; independent of any threshold.

    The points reach from a tenth of the lambda at which the masks have mean size .999 to ten times the lambda
    at which all masks are 1, and are close together where the mean size or the mean loss of these images
    changes. For a loss relative to what is shown, the first point is the lambda that shows a hundredth.
    """
    scores = [item.score.map for item in items]
    if loss.terms.of_objects:  # whose background has the score 0, and is always shown
        scores = [torch.cat([score[score > 0] for score in scores])[None, None]]
        if not scores[0].numel():
            raise InvalidArgumentError("no object of the selection images has a score above 0: add images")
    low = _lambda_of_size(family, scores, A_HUNDREDTH if loss.relative else NEARLY_ALL)
    low = low if loss.relative else low / MARGIN
    high = _lambda_of_size(family, scores, 0.0) * MARGIN
    even = np.geomspace(low, high, points)
    losses, sizes = zip(*(batch_curves(item, family, loss, even) for item in items), strict=True)
    names = np.concatenate([item.batch.names for item in items])
    return concentrated(Curves(names, even, np.concatenate(losses), np.concatenate(sizes)))


def concentrated(curves: Curves) -> Float[np.ndarray, "g"]:
    """Return 0, points at equal steps of combined size, loss and log lambda, and inf.

    The points are as many as those of the curves, between the same ends. Log lambda has the weight EVEN, so
    that no stretch is left without points.
    """
    logs, risk = np.log(curves.grid), np.maximum.accumulate(curves.loss, axis=1).mean(axis=0)
    coordinates = (logs, -curves.size.mean(axis=0), risk)
    lengths = [max(float(coordinate[-1] - coordinate[0]), TINY) for coordinate in coordinates]
    path = sum(
        share * (coordinate - coordinate[0]) / length
        for share, coordinate, length in zip((EVEN, 1.0, 1.0), coordinates, lengths, strict=True)
    )
    points = np.exp(np.interp(np.linspace(0, path[-1], len(logs)), path, logs))
    # exp(log(a)) may differ from a in the last bit
    points[[0, -1]] = curves.grid[[0, -1]]
    return np.concatenate([[0.0], points, [np.inf]])


def _lambda_of_size(family: Family, scores: list[Tensor], size: float) -> float:
    """Return the smallest lambda whose masks have at most this mean size, a PRECISION above it at most.

    It lies between the lambdas at which the masks of single images have this size, which are exact.

    Raises:
        InvalidArgumentError: the scores are so large that no lambda opens the masks that far.
    """
    of_images = []
    for score in scores:
        shown = 1 - max(size, 0.5 / score[0].numel())  # at size 0, all but half a pixel
        of_images.append(family.critical_lambda(score, torch.ones_like(score), 1.0, shown))
    lambdas = torch.cat(of_images).clamp(SMALLEST, LARGEST)
    low, high = float(lambdas.min() if size > 0 else lambdas.max()), float(lambdas.max()) * (1 + PRECISION)
    while _mean_sizes(family, scores, np.array([high]))[0] > size:
        if high > LARGEST:
            largest = max(float(score.max()) for score in scores)
            raise InvalidArgumentError(
                f"the score reaches {largest:g}, too much for a grid of lambdas: scale it, such as to [0, 1]"
            )
        low, high = high, 2 * high
    while high > low * (1 + PRECISION) ** 2:
        points = np.geomspace(low, high, ZOOM + 2)
        passed = _mean_sizes(family, scores, points[1:-1]) <= size
        first = 1 + int(np.append(passed, True).argmax())
        low, high = points[first - 1], points[first]
    return float(high)


def _mean_sizes(family: Family, scores: list[Tensor], lambdas: Array) -> Array:
    """Compute the mean mask size of all images of these batches of scores, at each lambda."""
    return np.concatenate([_sizes_of(score, family, lambdas) for score in scores]).mean(axis=0)


def features_of(score: Score) -> Float[np.ndarray, "n f"]:
    """Return features of a score, (N, 3 + F): log mean, log relative deviation, log relative median, its own.

    They are finite for any score; float64.
    """
    values = score.map.flatten(1).double()
    mean = values.mean(dim=1) + TINY
    shapes = (values.std(dim=1, correction=0), values.median(dim=1).values)
    log_features = [mean.log(), *((shape / mean + TINY).log() for shape in shapes)]
    own_features = [] if score.features is None else [score.features.double()]
    return torch.cat([torch.stack(log_features, dim=1), *own_features], dim=1).cpu().numpy()


def measures(
    item: ScoredBatch,
    family: Family,
    loss: Loss,
    grid: Float[np.ndarray, "g"],
    threshold: float | None = None,
    *,
    bounded: bool = False,
) -> dict[str, Array]:
    """Measure a batch for calibration: names, features, loss and size on the grid.

    With a threshold, the exact critical_lambda is added for a monotone loss. If `bounded`, bound is added
    for an lp loss: the largest loss that any truth could give.
    """
    image_loss = item.loss_of(loss)
    losses, size = _curves_of(item, family, image_loss, grid)
    columns = {
        "names": np.array(item.batch.names),
        "features": features_of(item.score),
        "distance": losses,
        "size": size,
    }
    if loss.terms.region or loss.terms.of_objects:
        columns["hidden"] = hidden_curves(item, family, loss, grid)
    if bounded:
        bound = bound_curves(item, family, loss, grid)
        columns |= {} if bound is None else {"bound": bound}
    if threshold is None or not loss.monotone:
        return columns
    return columns | {"critical_lambda": _solve(item.score.map, family, image_loss, threshold)}


def critical_lambdas(
    item: ScoredBatch, family: Family, loss: Loss, grid: Float[np.ndarray, "g"], threshold: float
) -> Float[np.ndarray, "n"]:
    """Return critical lambdas: exact for monotone losses, else the last grid point before a crossing."""
    if not loss.monotone:
        return first_crossing(grid, batch_curves(item, family, loss, grid)[0], threshold)
    return _solve(item.score.map, family, item.loss_of(loss), threshold)


def _solve(
    score: Images, family: Family, image_loss: LossOfImages, threshold: float
) -> Float[np.ndarray, "n"]:
    if isinstance(image_loss, Sums):
        return family.critical_lambda(score, image_loss.error, image_loss.exponent, threshold).cpu().numpy()
    if isinstance(image_loss, LargestShown):
        return family.critical_lambda(score, image_loss.beyond(threshold), 1.0, 0.0).cpu().numpy()
    return bisect(score, family, image_loss, threshold).cpu().numpy()


def bisect(score: Images, family: Family, loss: LossOfImages, threshold: float) -> Float[Tensor, "n"]:
    """Return the critical lambda of a monotone loss by bisection; see `largest_lambda`."""

    def is_within(lambdas: Tensor) -> Tensor:
        mask = family.apply(score, family.level(score, lambdas))
        return loss.of(mask).detach().double() <= threshold

    return largest_lambda(is_within, len(score), score.device)


def hidden_curves(
    item: ScoredBatch, family: Family, loss: Loss, grid: Float[np.ndarray, "g"]
) -> Float[np.ndarray, "n g"]:
    """Compute the hidden share of each image, or of its region, at every lambda of the grid."""
    score, region = item.score.map, loss.region_of(item.batch)
    if region is None:
        return _sizes_of(score, family, grid)
    inside = region.expand_as(score)
    shown, share = family.curve(score, inside, 1.0, grid)[0], image_means(inside, torch.float64)
    return np.asarray(1 - shown / share.cpu().numpy()[:, None])


def _sizes_of(score: Images, family: Family, grid: Float[np.ndarray, "g"]) -> Float[np.ndarray, "n g"]:
    """Compute the mask size of each image at every lambda of the grid; no error is summed."""
    return family.curve(score, torch.zeros_like(score), 1.0, grid)[1]


def concatenate(parts: Iterable[dict[str, Array]]) -> dict[str, Array]:
    """Concatenate arrays with the same names."""
    parts = list(parts)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def curves(scored: Iterable[ScoredBatch], family: Family, loss: Loss, grid: Float[np.ndarray, "g"]) -> Curves:
    """Compute the raw loss and mask size of every image at every lambda of the grid; one batch in memory."""
    columns = concatenate(measures(item, family, loss, grid) for item in scored)
    return Curves.from_arrays(columns | {"grid": grid})


def batch_curves(
    item: ScoredBatch, family: Family, loss: Loss, grid: Float[np.ndarray, "g"]
) -> tuple[np.ndarray, np.ndarray]:
    """Compute (loss, size), each (N, G): sums over pixels by the kernels, other losses mask by mask."""
    return _curves_of(item, family, item.loss_of(loss), grid)


def _curves_of(
    item: ScoredBatch, family: Family, image_loss: LossOfImages, grid: Float[np.ndarray, "g"]
) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(image_loss, LargestShown) and isinstance(family, Binary):
        score = item.score.map
        return _largest_shown(score, family, image_loss, grid), _sizes_of(score, family, grid)
    if isinstance(image_loss, Products) and isinstance(family, Binary) and image_loss.loss.in_one_grid:
        score = item.score.map
        return _products_shown(score, family, image_loss, grid), _sizes_of(score, family, grid)
    if isinstance(image_loss, Sums) and image_loss.shown is not None and isinstance(family, Binary):
        score, sums = item.score.map, _shown_sums(item.score.map, family, grid)
        maps = image_loss.error, image_loss.shown, torch.ones_like(score)
        total, shown, opened = (
            sums(values for _, values in pairs(score, each, 0.0)) / score[0].numel() for each in maps
        )
        return np.divide(total, shown, out=np.zeros_like(total), where=shown > 0), 1 - opened
    if not isinstance(image_loss, Sums):
        return _mask_by_mask(item, family, image_loss, grid)
    total, size = family.curve(item.score.map, image_loss.error, image_loss.exponent, grid)
    if image_loss.shown is None:
        return total, size
    shown = family.curve(item.score.map, image_loss.shown, 1.0, grid)[0]
    return np.divide(total, shown, out=np.zeros_like(total), where=shown > 0), size


def _products_shown(
    score: Images, family: Binary, image_loss: Products, grid: Float[np.ndarray, "g"]
) -> Float[np.ndarray, "n g"]:
    """Return the losses of the products that binary masks show, from their sums."""
    sums = _shown_sums(score, family, grid)

    def of_means(values: Tensor) -> Tensor:
        """Sum the means of channels."""
        return torch.from_numpy(sums(values.flatten(1).double().cpu().numpy()) / score.shape[1])

    return image_loss.of_nested(Moments(*map(of_means, image_loss.maps(torch.ones_like(score))))).numpy()


def _shown_sums(
    score: Images, family: Binary, grid: Float[np.ndarray, "g"]
) -> Callable[[Iterable[Array]], Float[np.ndarray, "n g"]]:
    """Return a function that sums values over what the mask of each lambda shows; levels are found once."""
    places = _first_shown(score, family, grid)

    def sums(values: Iterable[Array]) -> Float[np.ndarray, "n g"]:
        rows = zip(places, values, strict=True)
        parts = np.stack([np.bincount(*row, minlength=len(grid) + 1)[:-1] for row in rows])
        return np.asarray(parts.cumsum(axis=1))

    return sums


def _largest_shown(
    score: Images, family: Binary, image_loss: LargestShown, grid: Float[np.ndarray, "g"]
) -> Float[np.ndarray, "n g"]:
    """Return the largest local mean among the pixels whose score is below each level, in one pass."""
    means = image_loss.means.flatten(1).cpu().numpy()
    largest = np.zeros((len(score), len(grid) + 1))
    for row, places, values in zip(largest, _first_shown(score, family, grid), means, strict=True):
        np.maximum.at(row, places, values)
    return np.maximum.accumulate(largest, axis=1)[:, :-1]


def _first_shown(score: Images, family: Binary, grid: Float[np.ndarray, "g"]) -> list[Array]:
    """Return the place in the grid of the first lambda that shows each pixel, for each image."""
    levels = family.level(score, torch.from_numpy(grid).expand(len(score), -1)).cpu().numpy()[..., 0]
    scores = score.flatten(1).cpu().numpy()
    return [places_of(values, edges, True) for edges, values in zip(levels, scores, strict=True)]


def measured_curves(
    item: ScoredBatch, family: Family, loss: Loss, grid: Float[np.ndarray, "g"]
) -> tuple[np.ndarray, np.ndarray]:
    """Compute (loss, size), each (N, G), mask by mask, as many lambdas at once as is efficient."""
    return _mask_by_mask(item, family, item.loss_of(loss), grid)


def _mask_by_mask(
    item: ScoredBatch, family: Family, image_loss: LossOfImages, grid: Float[np.ndarray, "g"]
) -> tuple[np.ndarray, np.ndarray]:
    score = item.score.map
    levels = family.level(score, torch.as_tensor(grid, device=score.device).expand(len(score), -1))
    values = VALUES_A_CALL * (1 if score.device.type == "cpu" else ON_ACCELERATOR)
    points = []
    for level_chunk in torch.split(levels, max(1, values // item.batch.y_hat.numel()), dim=1):
        lambdas = level_chunk.shape[1]
        mask = family.apply(score.repeat_interleave(lambdas, dim=0), level_chunk.flatten(0, 1))
        indices = torch.arange(len(score), device=score.device).repeat_interleave(lambdas)
        points.append(
            torch.stack((_losses(image_loss, mask, indices), mask_size(mask))).reshape(2, len(score), -1)
        )
    losses, sizes = torch.cat(points, dim=2).cpu().numpy()
    return losses, sizes


def _losses(image_loss: LossOfImages, masks: Tensor, indices: Tensor) -> Tensor:
    """Compute the loss of each mask on the image at its place; open masks only once per image."""
    # many lambdas open a mask wholly; its loss is measured once, as a perceptual distance is slow
    is_open = masks.flatten(1).amin(dim=1) == 1
    losses = torch.empty(len(masks), dtype=torch.float64, device=masks.device)
    if not bool(is_open.all()):
        losses[~is_open] = image_loss.take(indices[~is_open]).of(masks[~is_open]).double()
    if bool(is_open.any()):
        image_indices, inverse = torch.unique(indices[is_open], return_inverse=True)
        first_mask = torch.zeros_like(image_indices).scatter_(
            0, inverse, torch.arange(len(inverse), device=inverse.device)
        )
        losses[is_open] = image_loss.take(image_indices).of(masks[is_open][first_mask]).double()[inverse]
    return losses


def bound_curves(
    item: ScoredBatch, family: Family, loss: Loss, grid: Float[np.ndarray, "g"]
) -> Float[np.ndarray, "n g"] | None:
    """Return the largest lp loss that any truth in [0, 1] could give, None for other losses."""
    if not (loss.own_bounds and isinstance(loss, Mean) and isinstance(loss.errors, Lp)):
        return None
    furthest = like_score(loss.errors.furthest(item.batch.y_hat), item.score.map)
    return family.curve(item.score.map, furthest, loss.exponent, grid)[0]


def calibration_data(
    curves: Curves,
    threshold: float,
    loss: Loss,
    critical_lambdas: Float[np.ndarray, "n"] | None = None,
    start: float = 0.0,
) -> CalibrationData:
    """Return the evidence for a threshold from curves, on their grid from a start on.

    Critical lambdas that are not given are the last grid points before the first crossing.
    """
    curves = curves.from_start(start)
    if critical_lambdas is None:
        critical_lambdas = first_crossing(curves.grid, curves.loss, threshold)
    return CalibrationData(
        threshold, critical_lambdas, curves, loss.upper_bound, loss.own_bounds, loss.monotone
    )


def start_of(curves: Curves | None, threshold: float, promise: Guarantee, loss: Loss) -> float:
    """Return the lambda from which on masks open, by the curves of selection images; see `best_start`.

    It is 0, any lambda, unless the loss is relative to what is shown.
    """
    if curves is None or not loss.relative:
        return 0.0
    evidence = calibration_data(curves, threshold, loss)
    if isinstance(promise.unit, Group):
        evidence = promise.unit.reduce(evidence)
    # a table of promises has one start for all confidences
    fixed = isinstance(promise.certainty, Simultaneous)
    confidence = DEFAULTS["confidence"] if fixed or promise.confidence is None else promise.confidence
    reduced = evidence.curves
    return best_start(reduced.grid, reduced.loss, curves.hidden_shares.mean(axis=0), threshold, confidence)


def size_at(curves: Curves, threshold: float, promise: Guarantee, loss: Loss) -> float:
    """Return the mean mask size if these images were the calibration set, read off their curves."""
    evidence = calibration_data(curves, threshold, loss, start=start_of(curves, threshold, promise, loss))
    lam = promise.fit_on_selection(evidence, evidence.n).rule(evidence)(covariates_of(curves))
    place = np.searchsorted(curves.grid, lam, side="right") - 1
    return float(curves.hidden_shares[np.arange(evidence.n), place].mean())
