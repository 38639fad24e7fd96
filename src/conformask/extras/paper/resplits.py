"""Coverage and mask size over random calibration/test resplits, against the theoretical law of coverage."""

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from conformask.errors import InvalidArgumentError
from conformask.images.triplets import Triplets
from conformask.masker.masker import Masker
from conformask.masker.measure import critical_lambdas_of
from conformask.masks.critical import curves, measured_curves
from conformask.promises.order import meets_threshold, smallest
from conformask.promises.promise import Promise
from conformask.records.evaluation import ImageRecords
from conformask.records.record import Json
from conformask.scores.scoring import scored

MEASURED = 5
"""Number of resplits for which coverage is also measured on the masks themselves."""


@dataclass(frozen=True)
class Resplits:
    """Coverage and mask size of each resplit, for the masks that it would deploy."""

    coverage: Float[np.ndarray, "r"]
    size: Float[np.ndarray, "r"]
    measured: Float[np.ndarray, "m"]
    """Coverage of the first five resplits, measured on the masks themselves."""
    law_mean: float
    """Mean of Beta-binomial(n_test; n + 1 - j, j), an exact law if critical lambdas are distinct."""
    law_std: float

    def summary(self) -> dict[str, Json]:
        """Return means, and the 2.5 and 97.5 per cent quantiles of the mask size, over resplits."""
        low, high = np.quantile(self.size, [0.025, 0.975])
        return {
            "coverage": float(self.coverage.mean()),
            "coverage_std": float(self.coverage.std()),
            "first_five": self.coverage[: len(self.measured)].tolist(),
            "first_five_measured": self.measured.tolist(),
            "law_mean": self.law_mean,
            "law_std": self.law_std,
            "mask_size": float(self.size.mean()),
            "mask_size_interval": (float(low), float(high)),
        }


def resplit(
    masker: Masker,
    calibration: Triplets,
    test: Triplets,
    n: int = 200,
    seed: int = 0,
    evaluated: ImageRecords | None = None,
) -> Resplits:
    """Resplit calibration and test images n times, each time deploying what the calibration gives.

    If `evaluated` has the measures of the test images, critical lambdas are not computed again.
    """
    promise = masker.card.promise
    if promise.confidence is None or promise != Promise("marginal", promise.confidence):
        raise InvalidArgumentError(
            "resplits are compared with the law of the guarantee marginal: recalibrate with it, not with "
            f"{promise.guarantee}"
        )
    critical = _critical(masker, calibration, test, evaluated)
    rank = promise.axes.certainty.rank(len(calibration), promise.confidence)
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(len(critical)) for _ in range(n)]
    splits = [(order[: len(calibration)], order[len(calibration) :]) for order in orders]
    lambdas = np.array([smallest(critical[drawn], rank) for drawn, _ in splits])
    grid, columns = np.unique(lambdas, return_inverse=True)
    curves_by_part = [
        curves(scored(masker.scorer, part, "resplits"), masker.family, masker.loss, grid)
        for part in (calibration, test)
    ]
    met = meets_threshold(np.concatenate([part.loss for part in curves_by_part]), masker.card.threshold)
    size = np.concatenate([part.size for part in curves_by_part])
    # the rank-th of n exchangeable critical lambdas: see law_mean
    law = scipy.stats.betabinom(len(test), len(calibration) + 1 - rank, rank)
    if not masker.loss.traits.monotone:
        measured_met = met[:, columns[:MEASURED]]
    else:
        losses = _measured(masker, (calibration, test), lambdas[:MEASURED])
        measured_met = meets_threshold(losses, masker.card.threshold)
    return Resplits(
        measured=np.array(
            [measured_met[rest, column].mean() for column, (_, rest) in enumerate(splits[:MEASURED])]
        ),
        coverage=np.array(
            [met[rest, column].mean() for (_, rest), column in zip(splits, columns, strict=True)]
        ),
        size=np.array([size[rest, column].mean() for (_, rest), column in zip(splits, columns, strict=True)]),
        law_mean=float(law.mean() / len(test)),
        law_std=float(law.std() / len(test)),
    )


def _critical(
    masker: Masker, calibration: Triplets, test: Triplets, evaluated: ImageRecords | None
) -> Float[np.ndarray, "n"]:
    if evaluated is not None:
        return np.concatenate([masker.critical_lambdas, evaluated.critical_lambda])
    items = (item for part in (calibration, test) for item in scored(masker.scorer, part, "resplits"))
    return np.concatenate([critical_lambdas_of(masker, item) for item in items])


def _measured(
    masker: Masker, parts: tuple[Triplets, Triplets], lambdas: Float[np.ndarray, "g"]
) -> Float[np.ndarray, "n g"]:
    items = (item for part in parts for item in scored(masker.scorer, part, "resplits"))
    losses = [measured_curves(item, masker.family, masker.loss, lambdas)[0] for item in items]
    return np.concatenate(losses)
