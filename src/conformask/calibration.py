"""Scores and a calibration set -> critical lambdas, and curves that any threshold can be read off."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.conformal.crossing import first_crossing
from conformask.conformal.guarantees import Guarantee
from conformask.results import Curves
from conformask.types import Batch, Distance, Family, Images, PerImage, Score

GRID_POINTS = 128
NEARLY_ALL = 0.999
MARGIN = 10.0


@dataclass(frozen=True)
class Scored:
    """A batch of triplets with its score."""

    batch: Batch
    score: Score


def like_score(error: Images, score: Images) -> Images:
    """A pixelwise error with the channels of the score: averaged for a one-channel score."""
    return error.mean(dim=1, keepdim=True) if score.shape[1] == 1 else error


def masked_distance(distance: Distance, mask: Images, y: Images, y_hat: Images) -> PerImage:
    """d(m*y, m*y_hat) of each image; a one-channel mask is broadcast."""
    return distance(mask * y, mask * y_hat)


def mask_size(mask: Images) -> Float[Tensor, "n"]:
    """mean(1 - m) of each image, float64."""
    return 1 - mask.mean(dim=(1, 2, 3), dtype=torch.float64)


def lambda_grid(family: Family, scores: list[Tensor]) -> Float[np.ndarray, "g"]:
    """The fixed grid, from scores of selection images: 0, geometric points, inf.

    From a tenth of the lambda at which the masks have mean size .999 to ten times that at which all are 1.
    """
    low = _lambda_of_size(family, scores, NEARLY_ALL) / MARGIN
    high = _lambda_of_size(family, scores, 0.0) * MARGIN
    return np.concatenate([[0.0], np.geomspace(low, high, GRID_POINTS), [np.inf]])


def _lambda_of_size(family: Family, scores: list[Tensor], size: float, steps: int = 40) -> float:
    """The smallest lambda, to a part in a thousand, whose masks have at most this mean size."""
    low, high = 1e-18, 1e6
    for _ in range(steps):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if _mean_size(family, scores, middle) <= size else (middle, high)
    return high


def _mean_size(family: Family, scores: list[Tensor], lam: float) -> float:
    sizes = [mask_size(family.apply(s, family.level(s, torch.full((len(s),), lam)))) for s in scores]
    return float(torch.cat(sizes).mean())


def curves(
    scored: Iterable[Scored], family: Family, distance: Distance, grid: Float[np.ndarray, "g"]
) -> Curves:
    """Raw distance and mask size of every image at every lambda of the grid; one batch in memory."""
    names: list[str] = []
    distances, sizes = [], []
    for item in scored:
        names.extend(item.batch.names)
        d, size = _batch_curves(item, family, distance, grid)
        distances.append(d)
        sizes.append(size)
    return Curves(np.array(names), grid, np.concatenate(distances), np.concatenate(sizes))


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
    """(distance, size), each (N, G), measured on the masks themselves."""
    score, y, y_hat = item.score.map, item.batch.truth(), item.batch.y_hat
    levels = family.level(score, torch.as_tensor(grid, device=score.device).expand(len(score), -1))
    points = []
    for g in range(len(grid)):
        mask = family.apply(score, levels[:, g])
        points.append((masked_distance(distance, mask, y, y_hat).double(), mask_size(mask)))
    distances, sizes = (torch.stack(column, dim=1).cpu().numpy() for column in zip(*points, strict=True))
    return distances, sizes


def exact_critical_lambdas(
    item: Scored, family: Family, distance: Distance, exponent: float, threshold: float
) -> Float[np.ndarray, "n"]:
    """Critical lambdas under an lp distance, without a grid."""
    error = like_score(distance.error_map(item.batch.truth(), item.batch.y_hat), item.score.map)
    return family.critical_lambda(item.score.map, error, exponent, threshold).cpu().numpy()


@dataclass(frozen=True)
class Calibration:
    """What calibration images say at one threshold."""

    curves: Curves
    critical_lambdas: Float[np.ndarray, "n"]
    exact: bool
    """Solved exactly; otherwise the last grid point before the first crossing."""


def critical_lambdas(
    scored: Iterable[Scored],
    family: Family,
    distance: Distance,
    grid: Float[np.ndarray, "g"],
    threshold: float,
) -> Calibration:
    """Curves and critical lambdas in one pass over the images."""
    exact: list[np.ndarray] = []

    def passing(items: Iterable[Scored]) -> Iterator[Scored]:
        for item in items:
            if distance.exponent is not None:
                exact.append(exact_critical_lambdas(item, family, distance, distance.exponent, threshold))
            yield item

    measured = curves(passing(scored), family, distance, grid)
    if exact:
        return Calibration(measured, np.concatenate(exact), exact=True)
    return Calibration(measured, first_crossing(grid, measured.distance, threshold), exact=False)


def size_at(curves: Curves, threshold: float, guarantee: Guarantee) -> float:
    """The mean mask size of these images if they were the calibration set, read off their curves."""
    critical = first_crossing(curves.grid, curves.distance, threshold)
    lam = guarantee.rule(critical).lam
    return float(curves.size[:, np.searchsorted(curves.grid, lam)].mean())
