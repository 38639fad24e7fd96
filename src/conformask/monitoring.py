"""Watching a masker in use: do new images still look like those of its calibration? No truth is needed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats

from conformask.calibration import Scored, features_of, joined, mask_size, masked_distance
from conformask.conformal.facts import facts_of
from conformask.conformal.grouping import first_of_each
from conformask.conformal.populations import Weighted
from conformask.data.triplets import Triplets
from conformask.errors import InvalidArgumentError
from conformask.masker.agreement import LEVEL, measured
from conformask.masker.masker import Masker
from conformask.records.evaluation import Measurement
from conformask.records.network import Caveat
from conformask.scorers.scoring import scored
from conformask.storage.as_arrays import Array

LOOKS = ("mean score", "spread / mean score", "median / mean score")
"""What features_of makes of a score map, before the score's own features."""


@dataclass(frozen=True)
class Comparison:
    """One measure on calibration images and on new ones."""

    measure: str
    calibration: float
    """Median."""
    new: float
    """Median."""
    p_value: float
    """Of the two-sample Kolmogorov-Smirnov test."""


@dataclass(frozen=True)
class Monitoring:
    """Whether new images look exchangeable with those of the calibration, and whether their masks held."""

    comparisons: tuple[Comparison, ...]
    n_calibration: int
    """Calibration images that were compared: one of each group."""
    n_new: int
    p_value: float
    """Of all comparisons combined (Bonferroni)."""
    level: float
    measurement: Measurement | None
    """How the masks of the new images stand to the promise; None without truth."""
    caveat: Caveat | None
    """What to say where the promise may not be about the new images."""

    @property
    def shifted(self) -> bool:
        """Whether the new images no longer look exchangeable; false in at most a share `level` of cases."""
        return self.p_value < self.level

    @property
    def failing(self) -> bool:
        """Whether the promise is broken on the new images; false in at most a share `level` of cases."""
        return self.measurement is not None and self.measurement.broken


def monitor(
    masker: Masker, new: Triplets, *, level: float = LEVEL, other_network: bool = False
) -> Monitoring:
    """Compare scores and mask sizes of new images with those of the calibration images.

    Both are numbers of an image that the masker computes without the truth, so that a shift is seen before
    any truth is known; a shift that changes none of them goes unseen. Of each group one image is compared.
    Mask sizes are those at the grid point below the deployed lambda, for both.

    Args:
        masker: a calibrated masker with stored curves.
        new: images (x, y_hat), with y where it is known.
        level: how often images that are exchangeable may be called shifted, and how often failing.
        other_network: compare outputs of another network than the calibration's.

    Raises:
        InvalidArgumentError: a level outside (0, 1), a weighted promise, which is about other images than
            those of the calibration, or a fact that the rule needs is missing.
        MismatchError: no curves are stored, or not what the rule needs of them; images of other channels or
            of another network.
        ImageError: an image that cannot be used.
    """
    if not 0 < level < 1:
        raise InvalidArgumentError(f"level: {level}; give a number between 0 and 1, such as {LEVEL}")
    if isinstance(masker.guarantee.population, Weighted):
        raise InvalidArgumentError(
            "a weighted promise is about other images than its calibration's by design"
        )
    caveat = masker.card.check_network(new.network, other_network=other_network)
    calibration = masker.evidence()
    curves, features = calibration.curves, calibration.column("features")
    if "bound_curve" in masker.rule.needs:
        calibration.column("bound")
    measures = joined(_measures(masker, item) for item in scored(masker.scorer, new, "monitoring"))
    places = _places(masker, masker.rule(facts_of(curves)))
    before = np.column_stack([features, curves.size[np.arange(len(places)), places]])
    now = np.column_stack([measures["features"], measures["size"]])
    groups = curves.names if curves.group is None else curves.group
    before, now = before[first_of_each(groups)], now[first_of_each(np.array(new.groups))]
    comparisons = tuple(
        _compared(name, *pair) for name, *pair in zip(_names(before), before.T, now.T, strict=True)
    )
    return Monitoring(
        comparisons=comparisons,
        n_calibration=len(before),
        n_new=len(now),
        p_value=min(1.0, len(comparisons) * min(each.p_value for each in comparisons)),
        level=level,
        measurement=_measured(masker, new, measures["distance"], level) if new.has_truth else None,
        caveat=caveat,
    )


def _measured(masker: Masker, new: Triplets, distances: Float[np.ndarray, "n"], level: float) -> Measurement:
    return measured(masker, distances, np.array(new.groups), np.array(new.categories), level)


def _measures(masker: Masker, item: Scored) -> dict[str, Array]:
    score, lam, y = item.score.map, masker.lambdas(item), item.batch.y
    snapped = torch.from_numpy(masker.grid[_places(masker, lam)])
    measures = {
        "features": features_of(item.score),
        "size": mask_size(masker.family.apply(score, masker.family.level(score, snapped))).cpu().numpy(),
    }
    if y is None:
        return measures
    distance = masked_distance(masker.distance, masker.open(item), y, item.batch.y_hat)
    return measures | {"distance": distance.detach().double().cpu().numpy()}


def _places(masker: Masker, lam: Float[np.ndarray, "n"]) -> Array:
    """The grid points at or below lambda."""
    return np.searchsorted(masker.grid, lam, side="right") - 1


def _names(measures: Array) -> Iterator[str]:
    yield from LOOKS
    yield from (f"feature {k + 1} of the score" for k in range(measures.shape[1] - len(LOOKS) - 1))
    yield "mask size"


def _compared(name: str, before: Array, now: Array) -> Comparison:
    p_value = float(stats.ks_2samp(before, now).pvalue)
    medians = [float(np.median(values)) for values in (before, now)]
    if name != "mask size":  # features are logarithms
        medians = [float(np.exp(median)) for median in medians]
    return Comparison(name, medians[0], medians[1], p_value)
