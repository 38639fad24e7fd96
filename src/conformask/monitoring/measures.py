"""Numbers per image that a masker computes without the truth, on calibration images and new ones."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Bool, Float

from conformask.calibration import ScoredBatch, batch_curves, features_of, loss_under
from conformask.conformal.curves import Curves
from conformask.conformal.populations import Weighted
from conformask.conformal.rules import covariates_of
from conformask.conformal.units import Places, first_of_each
from conformask.data.triplets import Triplets, refuse_others
from conformask.errors import InvalidArgumentError, expect
from conformask.masker.appearance import appearance
from conformask.masker.data_leakage import truth_ids, used_images
from conformask.masker.masker import Masker
from conformask.masker.outliers import SCORES
from conformask.masker.resolve import has_theorem
from conformask.masker.validation import LEVEL
from conformask.records.network import Caveat
from conformask.scorers.streaming import check_parts, gathered, parts_folder
from conformask.storage.as_arrays import Array
from conformask.training.processes import Compute

SIZE = "mask size"


@dataclass(frozen=True)
class Measures:
    """The measures of calibration images and of new ones."""

    names: tuple[str, ...]
    """Names of the columns."""
    calibration: Float[np.ndarray, "n m"]
    """Measures of one calibration image of each group."""
    new: Float[np.ndarray, "k m"]
    """Measures of all new images."""
    appearance: tuple[Float[np.ndarray, "n 2 4"], Float[np.ndarray, "k 2 4"]] | None
    """Appearance of the same calibration images and the new ones; None where the calibration kept none."""
    losses: Float[np.ndarray, "k"] | None
    """Losses under the masks; None without truth."""
    used: Bool[np.ndarray, "k"]
    """Images whose truth an earlier step has seen."""
    caveat: Caveat | None
    """A caveat where the promise may not be about the new images."""


def check_level(level: float) -> None:
    """Refuse a false-alarm rate outside (0, 1).

    Raises:
        InvalidArgumentError: the level is outside (0, 1).
    """
    if not 0 < level < 1:
        raise InvalidArgumentError(f"level: {level}; give a number between 0 and 1, such as {LEVEL}")


def measures_of(
    masker: Masker, new: Triplets, compute: Compute, *, allow_network_mismatch: bool = False
) -> Measures:
    """Compute the measures of the calibration images, from their curves, and of new ones.

    Mask sizes are those at the grid point below the deployed lambda, for both.

    Raises:
        InvalidArgumentError: a weighted promise, which is about other images than those of the calibration,
            or a fact that the rule needs is missing.
        MismatchError: no curves are stored, or not what the rule needs of them; images of other channels or
            of another network.
        ImageError: an image that cannot be used.
    """
    expect(masker, Masker, "masker", "what calibrate() or load() returned")
    refuse_others(new)
    check_parts(compute)
    if isinstance(masker.guarantee.population, Weighted):
        raise InvalidArgumentError(
            "a weighted promise is, by design, about images other than its calibration images: "
            "monitoring cannot compare the two"
        )
    masker.card.check_cues(new.provenance.cues)
    caveat = masker.card.check_network(new.network, allow_network_mismatch=allow_network_mismatch)
    masker.card.check_spacing(new.geometries())
    calibration = masker.evidence()
    curves, features = calibration.curves, calibration.column("features")
    if "bound_curve" in masker.rule.needs:
        calibration.column("bound")
    with parts_folder(compute):
        measurable = has_theorem(masker.guarantee, masker.loss, new.reference)
        measure, key = partial(_measures, masker, measurable), masker.fingerprint
        measures = gathered(masker.scorer, new, measure, "monitoring", key, compute)
    points = _grid_points(masker, masker.rule(covariates_of(curves)))
    old_measures = np.column_stack([features, curves.size[np.arange(len(points)), points]])
    first = one_of_each_group(curves)
    old_appearance = curves.appearance
    return Measures(
        names=tuple(_names(old_measures.shape[1])),
        calibration=old_measures[first],
        new=np.column_stack([measures["features"], measures["size"]]),
        appearance=None if old_appearance is None else (old_appearance[first], measures["appearance"]),
        losses=measures.get("loss"),
        used=used_images(masker.seen, new, measures["truth"].tolist()),
        caveat=caveat,
    )


def one_of_each_group(curves: Curves) -> Places:
    """Return the place of one calibration image of each group; of each image where there are no groups."""
    return first_of_each(curves.names if curves.group is None else curves.group)


def _measures(masker: Masker, measurable: bool, item: ScoredBatch) -> dict[str, Array]:
    lambdas, points = np.unique(masker.grid[_grid_points(masker, masker.lambdas(item))], return_inverse=True)
    without_truth = replace(item, batch=replace(item.batch, y=item.batch.y_hat))
    # computed like the calibration's curves: sizes of float32 masks would break ties with them
    sizes = batch_curves(without_truth, masker.family, masker.loss, lambdas)[1]
    measures = {
        "features": features_of(item.score),
        "size": sizes[np.arange(len(points)), points.ravel()],
        "truth": truth_ids(item.batch),
    }
    if masker.stored_curves().appearance is not None:
        measures["appearance"] = appearance(item.batch)
    if item.batch.y is None or not measurable:
        return measures
    loss = loss_under(masker.loss, masker.open(item), item.batch)
    return measures | {"loss": loss.detach().double().cpu().numpy()}


def _grid_points(masker: Masker, lam: Float[np.ndarray, "n"]) -> Array:
    """Return the grid points at or below lambda."""
    return np.searchsorted(masker.grid, lam, side="right") - 1


def _names(count: int) -> Iterator[str]:
    yield from SCORES
    yield from (f"feature {k + 1} of the score" for k in range(count - len(SCORES) - 1))
    yield SIZE
