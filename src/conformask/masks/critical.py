"""Critical lambdas and curves of a calibration set; the best mask given the truth."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from conformask.arrays import Batch, Distance, Images, PerImage, Score, image_means, per_image
from conformask.errors import InvalidArgumentError
from conformask.losses.base import Loss
from conformask.losses.distances import Lp
from conformask.losses.of_images import LossOfImages, with_channels
from conformask.masks.family import LARGEST, SMALLEST, Family
from conformask.masks.kernels import medians
from conformask.promises.axes import Group, Simultaneous
from conformask.promises.order import SLACK, CalibrationData, Curves, best_start, first_crossing
from conformask.promises.promise import DEFAULTS, Promise
from conformask.records.extent import IMAGE
from conformask.records.record import Array

GRID_POINTS = 128
"""Number of lambdas in a grid, besides 0 and inf."""
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
ZOOM = 128
"""Number of lambdas that are tried at once between two: an image's pixels are sorted once for all."""
EVEN = 0.25
"""Weight of even spacing in log lambda when grid points are placed, beside changes of size and loss."""


def loss_on(item: Batch, loss: Loss) -> LossOfImages:
    """Return a loss on the images of a scored batch, for masks with the channels of the score."""
    if item.known_loss is not None and item.known_loss[0] is loss:
        known: LossOfImages = item.known_loss[1]
        return known
    return loss.of_batch(item, item.score.map.shape[1])


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
    family: Family, loss: Loss, items: Sequence[Batch], points: int = GRID_POINTS
) -> Float[np.ndarray, "g"]:
    """Return the fixed grid, from selection images: 0, points, inf; independent of any threshold.

    The points reach from a tenth of the lambda at which the masks have mean size .999 to ten times the lambda
    at which all masks are 1, and are close together where the mean size or the mean loss of these images
    changes. For a loss relative to what is shown, the first point is the lambda that shows a hundredth.
    """
    scores = loss.extent.counted_scores([item.score.map for item in items])
    low = _lambda_of_size(family, scores, A_HUNDREDTH if loss.traits.relative else NEARLY_ALL)
    low = low if loss.traits.relative else low / MARGIN
    high = _lambda_of_size(family, scores, 0.0) * MARGIN
    even = np.geomspace(low, high, points)
    losses, sizes = zip(*(batch_curves(item, family, loss, even) for item in items), strict=True)
    names = np.concatenate([item.names for item in items])
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


def coarse_grid(family: Family, loss: Loss, items: Sequence[Batch], points: int) -> Float[np.ndarray, "g"]:
    """Return 0, points at equal steps of log lambda, and inf: cheap, for comparisons of scores.

    They reach from where the first image shows a hundredth to where the last shows all.
    """
    scores = loss.extent.counted_scores([item.score.map for item in items])
    low, high = _lambdas_of_size(family, scores, A_HUNDREDTH).min(), _lambdas_of_size(family, scores, 0).max()
    return np.concatenate([[0.0], np.geomspace(float(low), float(high) * (1 + PRECISION), points), [np.inf]])


def _lambdas_of_size(family: Family, scores: list[Tensor], size: float) -> Float[Tensor, "n"]:
    """Return the largest lambda with which each image has at least this mask size, exact."""
    lambdas = []
    for score in scores:
        shown = 1 - max(size, 0.5 / score[0].numel())  # at size 0, all but half a pixel
        lambdas.append(family.critical_lambda(score, torch.ones_like(score), 1.0, shown))
    return torch.cat(lambdas).clamp(SMALLEST, LARGEST)


def _lambda_of_size(family: Family, scores: list[Tensor], size: float) -> float:
    """Return the smallest lambda whose masks have at most this mean size, a PRECISION above it at most.

    It lies between the lambdas at which the masks of single images have this size, which are exact.
    """
    lambdas = _lambdas_of_size(family, scores, size)
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
    sizes = np.concatenate([family.sizes(score, lambdas) for score in scores])
    return np.asarray(sizes.mean(axis=0))


def features_of(score: Score) -> Float[np.ndarray, "n f"]:
    """Return features of a score, (N, 3 + F): log mean, log relative deviation, log relative median, its own.

    They are finite for any score; float64.
    """
    values = score.map.flatten(1).double()
    mean = values.mean(dim=1) + TINY
    shapes = (values.std(dim=1, correction=0), medians(score.map, torch.ones_like(score.map)).to(mean))
    log_features = [mean.log(), *((shape / mean + TINY).log() for shape in shapes)]
    own_features = [] if score.features is None else [score.features.double()]
    return torch.cat([torch.stack(log_features, dim=1), *own_features], dim=1).cpu().numpy()


def measures(
    item: Batch,
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
    image_loss = loss_on(item, loss)
    losses, size = image_loss.curve(item.score.map, family, grid)
    columns = {
        "names": np.array(item.names),
        "features": features_of(item.score),
        "distance": losses,
        "size": size,
    }
    if loss.extent != IMAGE:
        columns["hidden"] = hidden_curves(item, family, loss, grid)
    if bounded:
        bound = bound_curves(item, family, loss, grid)
        columns |= {} if bound is None else {"bound": bound}
    if threshold is None or not loss.traits.monotone:
        return columns
    lambdas = image_loss.critical_lambda(item.score.map, family, threshold)
    return columns | {"critical_lambda": lambdas.cpu().numpy()}


def critical_lambdas(
    item: Batch, family: Family, loss: Loss, grid: Float[np.ndarray, "g"], threshold: float
) -> Float[np.ndarray, "n"]:
    """Return critical lambdas: exact for monotone losses, else the last grid point before a crossing."""
    if not loss.traits.monotone:
        return first_crossing(grid, batch_curves(item, family, loss, grid)[0], threshold)
    return loss_on(item, loss).critical_lambda(item.score.map, family, threshold).cpu().numpy()


def hidden_curves(
    item: Batch, family: Family, loss: Loss, grid: Float[np.ndarray, "g"]
) -> Float[np.ndarray, "n g"]:
    """Compute the hidden share of each image, or of its region, at every lambda of the grid."""
    score, region = item.score.map, loss.extent.weights(item)
    if region is None:
        return family.sizes(score, grid)
    inside = region.expand_as(score)
    shown, share = family.curve(score, inside, 1.0, grid)[0], image_means(inside, torch.float64)
    return np.asarray(1 - shown / share.cpu().numpy()[:, None])


def concatenate(parts: Iterable[dict[str, Array]]) -> dict[str, Array]:
    """Concatenate arrays with the same names."""
    parts = list(parts)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def curves(scored: Iterable[Batch], family: Family, loss: Loss, grid: Float[np.ndarray, "g"]) -> Curves:
    """Compute the raw loss and mask size of every image at every lambda of the grid; one batch in memory."""
    columns = concatenate(measures(item, family, loss, grid) for item in scored)
    return Curves.from_arrays(columns | {"grid": grid})


def batch_curves(
    item: Batch, family: Family, loss: Loss, grid: Float[np.ndarray, "g"]
) -> tuple[np.ndarray, np.ndarray]:
    """Compute (loss, size), each (N, G): sums over pixels by the kernels, other losses mask by mask."""
    return loss_on(item, loss).curve(item.score.map, family, grid)


def measured_curves(
    item: Batch, family: Family, loss: Loss, grid: Float[np.ndarray, "g"]
) -> tuple[np.ndarray, np.ndarray]:
    """Compute (loss, size), each (N, G), mask by mask, as many lambdas at once as is efficient."""
    return LossOfImages.curve(loss_on(item, loss), item.score.map, family, grid)


def bound_curves(
    item: Batch, family: Family, loss: Loss, grid: Float[np.ndarray, "g"]
) -> Float[np.ndarray, "n g"] | None:
    """Return the largest lp loss that any truth in [0, 1] could give, None for other losses."""
    score, power = item.score.map, loss.traits.power
    if power is None or not loss.traits.own_bounds:
        return None
    return family.curve(score, with_channels(Lp(power).furthest(item.y_hat), score.shape[1]), power, grid)[0]


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
    bound, own_bounds = loss.traits.upper_bound, loss.traits.own_bounds
    return CalibrationData(threshold, critical_lambdas, curves, bound, own_bounds, loss.traits.monotone)


def start_of(curves: Curves | None, threshold: float, promise: Promise, loss: Loss) -> float:
    """Return the lambda from which on masks open, by the curves of selection images; see `best_start`.

    It is 0, any lambda, unless the loss is relative to what is shown.
    """
    if curves is None or not loss.traits.relative:
        return 0.0
    evidence = calibration_data(curves, threshold, loss)
    if isinstance(promise.axes.unit, Group):
        evidence = promise.axes.unit.reduce(evidence)
    # a table of promises has one start for all confidences
    fixed = isinstance(promise.axes.certainty, Simultaneous)
    confidence = DEFAULTS["confidence"] if fixed or promise.confidence is None else promise.confidence
    reduced = evidence.curves
    return best_start(reduced.grid, reduced.loss, curves.hidden_shares.mean(axis=0), threshold, confidence)


def size_at(curves: Curves, threshold: float, promise: Promise, loss: Loss) -> float:
    """Return the mean mask size if these images were the calibration set, read off their curves."""
    evidence = calibration_data(curves, threshold, loss, start=start_of(curves, threshold, promise, loss))
    rule = promise.fit_on_selection(evidence, evidence.n).rule(evidence)
    return curves.hidden_at(rule(curves.covariates))


STEPS, STEP_SIZE, FIRST_MU, DOUBLING = 1000, 0.01, 2.0, 50
"""Settings of Adam; mu starts at FIRST_MU and doubles every DOUBLING steps."""

Curve = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def paper_oracle(
    distance: Distance, y: Images, y_hat: Images, threshold: float, per_channel: bool
) -> tuple[Images, Bool[Tensor, "n"]]:
    """Return the paper's Opt, eq. 9 on the realised error with mu per image, and where it succeeded.

    The mask has one channel, or those of y_hat if per_channel; it is 1 where an image passes unmasked. It is
    found for l1 and l2 in closed form with d_m = threshold, else by Adam with mu doubled until d_m <=
    threshold.
    """
    if not threshold > 0:
        raise InvalidArgumentError(f"threshold: {threshold}; the paper's oracle needs one above 0")
    exponent = distance.exponent
    if exponent is None or exponent not in CURVES:
        return _descend(distance, y, y_hat, threshold, per_channel)
    error = (y.cpu().double() - y_hat.cpu().double()).abs() ** exponent
    error = error if per_channel else error.mean(1, keepdim=True)
    mask, reached = _solve_closed_form(CURVES[exponent], error, threshold)
    return mask.to(y.device), reached.to(y.device)


def _linear(error: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the l1 mask max(0, 1 - c e), and d_m with its derivative with respect to c, per pixel."""
    mask = (1 - c * error).clamp(min=0)
    return mask, mask * error, -(error**2) * (mask > 0)


def _rational(error: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the l2 mask 1 / (1 + c e), e the squared error, d_m and its derivative by c, per pixel."""
    mask = 1 / (1 + c * error)
    return mask, mask**2 * error, -2 * mask**3 * error**2


CURVES: Mapping[float, Curve] = {1.0: _linear, 2.0: _rational}


def _solve_closed_form(curve: Curve, error: Tensor, threshold: float) -> tuple[Images, Bool[Tensor, "n"]]:
    """Solve d_m(c) = threshold by Newton: convex and decreasing in c, so it never overshoots from c = 0."""
    c = per_image(error.new_zeros(len(error)), error)
    for _ in range(STEPS):
        mask, masked_error, slope = curve(error, c)
        excess = per_image(image_means(masked_error), error) - threshold
        passed = excess <= threshold * SLACK / 2
        if passed.all():
            break
        c = torch.where(passed, c, c - excess / per_image(image_means(slope), error))
    return mask.float(), passed.flatten()


def _descend(
    distance: Distance, y: Images, y_hat: Images, threshold: float, per_channel: bool
) -> tuple[Images, Bool[Tensor, "n"]]:
    """Minimise mean (m - 1)^2 + mu * d_m by Adam from m = 1, clipped to [0, 1]; freeze images that pass."""
    mask = torch.ones_like(y_hat if per_channel else y_hat[:, :1], requires_grad=True)
    optimizer = torch.optim.Adam([mask], lr=STEP_SIZE)
    masks, reached = mask.detach().clone(), torch.zeros(len(y), dtype=torch.bool, device=y.device)
    for step in range(STEPS + 1):
        with torch.enable_grad():
            masked = distance(mask * y, mask * y_hat)
            mu = FIRST_MU * 2 ** (step // DOUBLING)
            loss = image_means((mask - 1) ** 2) + mu * masked
        # an image keeps the mask with which it first passed, while others go on
        masks = torch.where(per_image(reached, mask), masks, mask.detach())
        reached |= masked.detach() <= threshold * (1 + SLACK)
        if reached.all():
            break
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        with torch.no_grad():
            mask.clamp_(0, 1)
    return masks, reached
