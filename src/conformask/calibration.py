"""Scores and a calibration set -> critical lambdas, and curves that any threshold can be read off."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arithmetic import image_means
from conformask.conformal.crossing import first_crossing
from conformask.conformal.evidence import Evidence
from conformask.conformal.facts import facts_of
from conformask.conformal.promise import Promise
from conformask.errors import InvalidArgumentError
from conformask.records.curves import Curves
from conformask.types import Array, Batch, Distance, Family, Images, PerImage, Score

GRID_POINTS = 128
"""Lambdas of a grid, besides 0 and inf."""
VALUES_A_CALL = 2**16
"""Values of the masked images that a distance is given at once: what stays in a processor's cache."""
ON_ACCELERATOR = 2**7
"""So many times as many on an accelerator."""
TINY = 1e-12
"""Added before a logarithm or a division."""
NO_GRID = np.array([0.0, np.inf])
"""Where there were no selection images to make a grid from; lp distances need none."""
NEARLY_ALL = 0.999
"""The mean mask size from which a grid starts."""
MARGIN = 10.0
"""How far a grid reaches beyond both of its ends."""
SMALLEST, LARGEST = 1e-36, 1e36
"""Lambdas of a grid: float32 holds them and their margin, and so any score that it is worth to tell apart."""
EVEN = 0.25
"""How much of a grid is spread evenly in log lambda, beside where masks and distances change."""


@dataclass(frozen=True)
class Scored:
    """A batch of triplets with its score."""

    batch: Batch
    score: Score


def like_score(error: Images, score: Images) -> Images:
    """A pixelwise error with the channels of the score: averaged for a one-channel score."""
    return error.mean(dim=1, keepdim=True) if score.shape[1] == 1 else error


def masked_distance(distance: Distance, mask: Images, y: Images, y_hat: Images) -> PerImage:
    """d(m*y, m*y_hat) of each image; a one-channel mask is broadcast.

    For lp mean(m^p |y - y_hat|^p), float64: the difference of masked float32 images would lose the last
    digits of small errors, which decide whether an exact solution is within the threshold.
    """
    if distance.exponent is None:
        return distance(mask * y, mask * y_hat)
    error = distance.error_map(y, y_hat).double()
    return image_means(mask.double() ** distance.exponent * error)


def mask_size(mask: Images) -> Float[Tensor, "n"]:
    """mean(1 - m) of each image, float64."""
    return 1 - image_means(mask, torch.float64)


def lambda_grid(
    family: Family, distance: Distance, items: Sequence[Scored], points: int = GRID_POINTS
) -> Float[np.ndarray, "g"]:
    """The fixed grid, from selection images: 0, points, inf. No threshold enters.

    The points reach from a tenth of the lambda at which the masks have mean size .999 to ten times that at
    which all are 1, and lie close together where the mean size or the mean distance of these images changes.
    """
    scores = [item.score.map for item in items]
    low = _lambda_of_size(family, scores, NEARLY_ALL) / MARGIN
    high = _lambda_of_size(family, scores, 0.0) * MARGIN
    even = np.geomspace(low, high, points)
    return np.concatenate([[0.0], _concentrated(curves(items, family, distance, even)), [np.inf]])


def _concentrated(curves: Curves) -> Float[np.ndarray, "g"]:
    """As many points between the same ends, an equal part of the way of size and distance from each other.

    A part EVEN of the way is that of log lambda, so that no stretch is left without points.
    """
    logs, risk = np.log(curves.grid), np.maximum.accumulate(curves.distance, axis=1).mean(axis=0)
    ways = (logs, -curves.size.mean(axis=0), risk)
    lengths = [max(float(way[-1] - way[0]), TINY) for way in ways]
    path = sum(
        share * (way - way[0]) / length
        for share, way, length in zip((EVEN, 1.0, 1.0), ways, lengths, strict=True)
    )
    placed = np.exp(np.interp(np.linspace(0, path[-1], len(logs)), path, logs))
    placed[[0, -1]] = curves.grid[[0, -1]]
    return np.asarray(placed)


def _lambda_of_size(family: Family, scores: list[Tensor], size: float, steps: int = 40) -> float:
    """The smallest lambda whose masks have at most this mean size; to a millionth, by bisection of its log.

    Raises:
        InvalidArgumentError: the scores are so large that no lambda opens the masks that far.
    """
    low, high = SMALLEST, LARGEST
    if mean_size(family, scores, high) > size:
        largest = max(float(score.max()) for score in scores)
        raise InvalidArgumentError(
            f"the score reaches {largest:g}, too much for a grid of lambdas: scale it, such as to [0, 1]"
        )
    for _ in range(steps):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if mean_size(family, scores, middle) <= size else (middle, high)
    return high


def mean_size(family: Family, scores: list[Tensor], lam: float) -> float:
    """The mean mask size of all images of these batches of scores, at one lambda."""
    sizes = [mask_size(family.apply(s, family.level(s, torch.full((len(s),), lam)))) for s in scores]
    return float(torch.cat(sizes).mean())


def features_of(score: Score) -> Float[np.ndarray, "n f"]:
    """What a score looks like, (N, 3 + F): log mean, log relative deviation and log relative median, its own.

    Finite for any score; float64.
    """
    values = score.map.flatten(1).double()
    mean = values.mean(dim=1) + TINY
    shapes = (values.std(dim=1, correction=0), values.median(dim=1).values)
    looks = [mean.log(), *((shape / mean + TINY).log() for shape in shapes)]
    own = [] if score.features is None else [score.features.double()]
    return torch.cat([torch.stack(looks, dim=1), *own], dim=1).cpu().numpy()


def measures(
    item: Scored,
    family: Family,
    distance: Distance,
    grid: Float[np.ndarray, "g"],
    threshold: float | None = None,
    *,
    bounded: bool = False,
) -> dict[str, Array]:
    """What calibration keeps of a batch: names, features, distance and size on the grid.

    With a threshold also critical_lambda: exact for lp, the last grid point before the first crossing for
    others. Where it is to be bounded, an lp distance comes with the largest that any truth could give.
    """
    along, size = _batch_curves(item, family, distance, grid)
    columns = {
        "names": np.array(item.batch.names),
        "features": features_of(item.score),
        "distance": along,
        "size": size,
    }
    if bounded and distance.exponent is not None:
        columns["bound"] = bound_curves(item, family, distance.exponent, grid)
    if threshold is None:
        return columns
    if distance.exponent is None:
        return columns | {"critical_lambda": first_crossing(grid, along, threshold)}
    return columns | {"critical_lambda": critical_lambdas(item, family, distance, grid, threshold)}


def critical_lambdas(
    item: Scored, family: Family, distance: Distance, grid: Float[np.ndarray, "g"], threshold: float
) -> Float[np.ndarray, "n"]:
    """Exact for lp, without a grid; the last grid point before the first crossing for others."""
    if distance.exponent is None:
        return first_crossing(grid, measured_curves(item, family, distance, grid)[0], threshold)
    error = like_score(distance.error_map(item.batch.truth(), item.batch.y_hat), item.score.map)
    return family.critical_lambda(item.score.map, error, distance.exponent, threshold).cpu().numpy()


def joined(parts: Iterable[dict[str, Array]]) -> dict[str, Array]:
    """Arrays of the same names, end to end."""
    parts = list(parts)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def curves(
    scored: Iterable[Scored], family: Family, distance: Distance, grid: Float[np.ndarray, "g"]
) -> Curves:
    """Raw distance and mask size of every image at every lambda of the grid; one batch in memory."""
    columns = joined(measures(item, family, distance, grid) for item in scored)
    return Curves.from_arrays(columns | {"grid": grid})


def _batch_curves(
    item: Scored, family: Family, distance: Distance, grid: Float[np.ndarray, "g"]
) -> tuple[np.ndarray, np.ndarray]:
    if distance.exponent is None:
        return measured_curves(item, family, distance, grid)
    error = like_score(distance.error_map(item.batch.truth(), item.batch.y_hat), item.score.map)
    return family.curve(item.score.map, error, distance.exponent, grid)


def measured_curves(
    item: Scored, family: Family, distance: Distance, grid: Float[np.ndarray, "g"]
) -> tuple[np.ndarray, np.ndarray]:
    """(distance, size), each (N, G), measured on the masks, as many lambdas at once as is quick."""
    score, y, y_hat = item.score.map, item.batch.truth(), item.batch.y_hat
    levels = family.level(score, torch.as_tensor(grid, device=score.device).expand(len(score), -1))
    values = VALUES_A_CALL * (1 if score.device.type == "cpu" else ON_ACCELERATOR)
    points = []
    for some in torch.split(levels, max(1, values // y.numel()), dim=1):
        lambdas = some.shape[1]
        mask = family.apply(score.repeat_interleave(lambdas, dim=0), some.flatten(0, 1))
        places = torch.arange(len(score), device=score.device).repeat_interleave(lambdas)
        measured = _distances(distance, mask, y, y_hat, places), mask_size(mask)
        points.append(torch.stack(measured).reshape(2, len(score), -1))
    distances, sizes = torch.cat(points, dim=2).cpu().numpy()
    return distances, sizes


def _distances(distance: Distance, masks: Tensor, y: Images, y_hat: Images, places: Tensor) -> Tensor:
    """d of each mask on the image at its place; that of fully open masks is measured once an image."""
    opened = masks.flatten(1).amin(dim=1) == 1
    distances = torch.empty(len(masks), dtype=torch.float64, device=masks.device)
    if not bool(opened.all()):
        at = places[~opened]
        distances[~opened] = masked_distance(distance, masks[~opened], y[at], y_hat[at]).double()
    if bool(opened.any()):
        whole, back = torch.unique(places[opened], return_inverse=True)
        distances[opened] = distance(y[whole], y_hat[whole]).double()[back]
    return distances


def bound_curves(
    item: Scored, family: Family, exponent: float, grid: Float[np.ndarray, "g"]
) -> Float[np.ndarray, "n g"]:
    """The largest lp distance that any truth in [0, 1] could give: mean(m^p * max(y_hat, 1 - y_hat)^p)."""
    y_hat = item.batch.y_hat
    furthest = torch.maximum(y_hat, 1 - y_hat).clamp(0, 1).pow(exponent)
    return family.curve(item.score.map, like_score(furthest, item.score.map), exponent, grid)[0]


def evidence(
    curves: Curves,
    threshold: float,
    distance: Distance,
    critical_lambdas: Float[np.ndarray, "n"] | None = None,
) -> Evidence:
    """What a guarantee reads; critical lambdas are read off the curves if they are not given."""
    if critical_lambdas is None:
        critical_lambdas = first_crossing(curves.grid, curves.distance, threshold)
    own = distance.exponent is not None
    return Evidence(threshold, critical_lambdas, curves, distance.upper_bound, own, distance.monotone)


def size_at(curves: Curves, threshold: float, promise: Promise, distance: Distance) -> float:
    """The mean mask size of these images if they were the calibration set, read off their curves."""
    seen = evidence(curves, threshold, distance)
    lam = promise.fixed(seen, seen.n).rule(seen)(facts_of(curves))
    place = np.searchsorted(curves.grid, lam, side="right") - 1
    return float(curves.size[np.arange(seen.n), place].mean())
