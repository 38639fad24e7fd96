"""Monitoring of batches: whether new images look like those of the calibration, and how they differ."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import scipy
from jaxtyping import Float

from conformask.arrays import Array, Batch
from conformask.background import DEFAULT_DEVICES, Compute
from conformask.errors import InvalidArgumentError, expect
from conformask.images.triplets import Triplets, pixel_ids
from conformask.masker.admission import ROLES, SCORES, appearance
from conformask.masker.checks import has_theorem
from conformask.masker.masker import Masker
from conformask.masker.validation import (
    LEVEL,
    bonferroni,
    ks_p_value,
    measurement_of,
    one_of_each_group,
)
from conformask.masks.critical import batch_curves, features_of
from conformask.promises.axes import first_of_each
from conformask.records.evaluation import Change, Measurement
from conformask.records.numbers import left_out_text, plural
from conformask.records.reading import Caveat
from conformask.records.words import measured_text, shift_text
from conformask.scores.scoring import check_parts, gathered, parts_folder

SMALLEST = {"brightness": 1.05, "contrast": 1.1, "noise": 1.25, "sharpness": 1.05}
"""The ratio from which a change of each property is reported."""
COMPARISONS = 2 * 4
"""Number of comparisons that the level is divided by (Bonferroni): two roles, four measures."""


@dataclass(frozen=True)
class _RankedChange:
    change: Change
    strength: tuple[float, float]
    """Separation of new images from the calibration's, and the logarithmic change of the median.

    The separation is 1 where all new images lie on one side of the calibration's, 0 where they are mixed.
    """


def changes_of(
    calibration: Float[np.ndarray, "n 2 4"], new: Float[np.ndarray, "k 2 4"], level: float
) -> tuple[Change, ...]:
    """Return the clear changes, the strongest first; both arguments are results of `appearance`.

    A change is clear if a Mann-Whitney test is significant at the level divided by the number of comparisons
    (Bonferroni), and the median changes enough to be reported.
    """
    changes = [
        change
        for row, role in enumerate(ROLES)
        for change in _changes_of_role(role, calibration[:, row], new[:, row], level / COMPARISONS)
    ]
    changes.sort(key=lambda ranked: ranked.strength, reverse=True)
    return tuple(ranked.change for ranked in changes)


def _changes_of_role(
    role: str, calibration: Float[np.ndarray, "n 4"], new: Float[np.ndarray, "k 4"], level: float
) -> list[_RankedChange]:
    def compare(measure: str, *weights: int) -> _RankedChange | None:
        return _compare(measure, role, calibration @ weights, new @ weights, level)

    brightness, contrast = compare("brightness", 1, 0, 0, 0), compare("contrast", 0, 1, 0, 0)
    noise, sharpness = compare("noise", 0, 0, 1, 0), compare("sharpness", 0, 0, 0, 1)
    to_signal = compare("noise", -1, -1, 1, 0)  # divided by brightness times contrast
    changes = brightness, contrast, *_explain_noise_and_sharpness(noise, to_signal, sharpness)
    return [change for change in changes if change is not None]


def _explain_noise_and_sharpness(
    noise: _RankedChange | None, to_signal: _RankedChange | None, sharpness: _RankedChange | None
) -> tuple[_RankedChange | None, _RankedChange | None]:
    """Return changes of noise and sharpness, without those that another change explains.

    Fine structure counts as both: a blurred image has less noise, and where both grow the clearer one is
    reported. A change of gain changes noise alone, a duller scene noise divided by the signal: noise has
    changed where both have.
    """

    def same_direction(one: _RankedChange, other: _RankedChange) -> bool:
        return (one.change.ratio > 1) == (other.change.ratio > 1)

    if to_signal is not None and sharpness is not None and same_direction(to_signal, sharpness):
        if sharpness.change.ratio < 1 or sharpness.strength > to_signal.strength:
            return None, sharpness
        sharpness = None
    if noise is None or to_signal is None or not same_direction(noise, to_signal):
        return None, sharpness
    return min(noise, to_signal, key=lambda change: change.strength), sharpness


def _compare(
    measure: str, role: str, old: Float[np.ndarray, "n"], new: Float[np.ndarray, "k"], level: float
) -> _RankedChange | None:
    logarithm = float(np.median(new) - np.median(old))
    if abs(logarithm) < np.log(SMALLEST[measure]):
        return None
    test = scipy.stats.mannwhitneyu(new, old)
    if not test.pvalue < level:
        return None
    ratio = float(np.exp(logarithm))
    # Cliff's delta, 2 U / (n k) - 1
    separation = abs(2 * float(test.statistic) / (len(old) * len(new)) - 1)
    return _RankedChange(Change(measure, role, ratio), (separation, abs(logarithm)))


SIZE = "mask size"


@dataclass(frozen=True)
class Measures:
    """The measures of calibration images and of new ones, without those that an earlier step has seen."""

    images: Triplets
    """The new images."""
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
    n_used: int
    """Number of images that are left out, because an earlier step has seen them or others of their group."""
    caveat: Caveat | None
    """A caveat where the promise may not be about the new images."""


def check_level(level: float) -> None:
    """Refuse a false-alarm rate outside (0, 1)."""
    if not 0 < level < 1:
        raise InvalidArgumentError(f"level: {level}; give a number between 0 and 1, such as {LEVEL}")


def measures_of(masker: Masker, new: Triplets, compute: Compute) -> Measures:
    """Compute the measures of the calibration images, from their curves, and of new ones.

    Mask sizes are those at the grid point below the deployed lambda, for both.
    """
    expect(masker, Masker, "masker", "what calibrate() or load() returned")
    check_parts(compute)
    if masker.card.promise.is_weighted:
        raise InvalidArgumentError(
            "a weighted promise is, by design, about images other than its calibration images: "
            "monitoring cannot compare the two"
        )
    caveat = masker.admit(new).warn().caveat
    calibration = masker.evidence()
    curves, features = calibration.curves, calibration.column("features")
    if "bound_curve" in masker.rule.needs:
        calibration.column("bound")
    with parts_folder(compute):
        measurable = has_theorem(masker.card.promise, masker.loss, new.reference)
        measure, key = partial(_measures, masker, measurable), masker.fingerprint
        measures = gathered(masker.scorer, new, measure, "monitoring", key, compute)
    masker.warn_of_clipped(new.names, measures["clipped"])
    points = _grid_points(masker, masker.rule(curves.covariates))
    old_measures = np.column_stack([features, curves.size[np.arange(len(points)), points]])
    more = old_measures.shape[1] - len(SCORES) - 1
    first = one_of_each_group(curves)
    old_appearance, groups = curves.appearance, np.array(new.groups)
    used = new.used(masker.seen, measures["pixels"].tolist())
    left = ~np.isin(groups, groups[used])
    measures = {name: values[left] for name, values in measures.items()}
    return Measures(
        images=new.select(np.flatnonzero(left)),
        names=(*SCORES, *(f"feature {k + 1} of the score" for k in range(more)), SIZE),
        calibration=old_measures[first],
        new=np.column_stack([measures["features"], measures["size"]]),
        appearance=None if old_appearance is None else (old_appearance[first], measures["appearance"]),
        losses=measures.get("loss"),
        n_used=int((~left).sum()),
        caveat=caveat,
    )


def _measures(masker: Masker, measurable: bool, item: Batch) -> dict[str, Array]:
    lambdas, points = np.unique(masker.grid[_grid_points(masker, masker.lambdas(item))], return_inverse=True)
    without_truth = replace(item, y=item.y_hat)
    # computed like the calibration's curves: sizes of float32 masks would break ties with them
    sizes = batch_curves(without_truth, masker.family, masker.loss, lambdas)[1]
    measures = {
        "features": features_of(item.score),
        "size": sizes[np.arange(len(points)), points.ravel()],
        "pixels": pixel_ids(item),
        "clipped": np.array(item.clipped),
    }
    if masker.stored_curves().appearance is not None:
        measures["appearance"] = appearance(item)
    loss = masker.judge(item).loss if measurable else None
    return measures if loss is None else measures | {"loss": loss}


def _grid_points(masker: Masker, lam: Float[np.ndarray, "n"]) -> Array:
    """Return the grid points at or below lambda."""
    return np.searchsorted(masker.grid, lam, side="right") - 1


@dataclass(frozen=True)
class Comparison:
    """A comparison of one measure on calibration images and on new ones."""

    measure: str
    calibration: float
    """Median on the calibration images."""
    new: float
    """Median on the new images."""
    p_value: float
    """The p-value of the two-sample Kolmogorov-Smirnov test."""

    def __str__(self) -> str:
        return f"{self.measure} {self.new:.4g}, was {self.calibration:.4g} (p = {self.p_value:.3g})"


@dataclass(frozen=True)
class Monitoring:
    """Results of `monitor`: whether new images look exchangeable, and whether their masks held."""

    comparisons: tuple[Comparison, ...]
    n_calibration: int
    """Number of calibration images that were compared: one of each group."""
    n_new: int
    p_value: float
    """The p-value of all comparisons combined (Bonferroni)."""
    level: float
    changes: tuple[Change, ...] | None
    """Changes of shifted images, strongest first; None if no shift, or if the calibration is too old."""
    measurement: Measurement | None
    """The loss under the masks compared with the promise; None without truth."""
    n_used: int
    """Number of images that are left out, because an earlier step has seen them or others of their group."""
    caveat: Caveat | None
    """A caveat where the promise may not be about the new images."""

    def __repr__(self) -> str:
        facts = [
            shift_text(self.p_value, self.level, shifted=self.shifted),
            f"Medians of {plural(self.n_new, 'new image')} and {self.n_calibration} calibration images: "
            f"{'; '.join(map(str, self.comparisons))}.",
        ]
        if self.changes is not None:
            facts.insert(1, changes_text(self.changes))
        if self.n_used:
            facts.append(left_out_text(self.n_used))
        if self.measurement is not None:
            facts.insert(0, measured_text(self.measurement))
        if self.caveat is not None:
            facts.insert(0, f"{self.caveat.text}.")
        return f"Monitoring({' '.join(facts)})"

    @property
    def shifted(self) -> bool:
        """True if the new images no longer look exchangeable; false in at most a share `level` of cases."""
        return self.p_value < self.level

    @property
    def failing(self) -> bool:
        """True if the promise is broken on the new images; wrongly in at most a share `level` of cases.

        Of promises about a mean the share is that of a bootstrap: larger where few images err greatly.
        """
        return self.measurement is not None and self.measurement.broken


def monitor(
    masker: Masker,
    new: Triplets,
    *,
    level: float = LEVEL,
    compute: Compute = DEFAULT_DEVICES,
) -> Monitoring:
    """Compare the scores and mask sizes of new images with the calibration images.

    Both are computed without the truth, so a shift is seen before any truth is known; a shift that changes
    none of them goes unseen. One image per group is compared. Mask sizes are those at the grid point below
    the deployed lambda, for both. If there is a shift, `changes` describes how the images differ; no
    false-alarm rate is promised for that description.

    Args:
        masker: a calibrated masker with stored curves.
        new: images (x, y_hat), with y where it is known.
        level: how often images that are exchangeable may be called shifted, and how often failing, see
            `Monitoring.failing`.
        compute: the devices, and a folder for finished parts, from which a killed run resumes.

    Raises:
        InvalidArgumentError: a level outside (0, 1), a weighted promise, which is about other images than
            those of the calibration, a fact that the rule needs is missing, or no image is new.
        MismatchError: no curves are stored, or not what the rule needs of them; images of other channels or
            of another network.
        ImageError: an image that cannot be used.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> y = np.random.default_rng(1).random((20, 16, 16), dtype=np.float32)
        >>> new = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> cm.monitor(masker, new).shifted
        False
    """
    check_level(level)
    measures = measures_of(masker, new, compute)
    new = measures.images
    if not len(new):
        raise InvalidArgumentError(f"no image is new: {left_out_text(measures.n_used)} Give others")
    first = first_of_each(np.array(new.groups))
    old_measures, new_measures = measures.calibration, measures.new[first]
    comparisons = tuple(
        _comparison_of(name, *pair)
        for name, *pair in zip(measures.names, old_measures.T, new_measures.T, strict=True)
    )
    result = Monitoring(
        comparisons=comparisons,
        n_calibration=len(old_measures),
        n_new=len(new_measures),
        p_value=bonferroni([comparison.p_value for comparison in comparisons]),
        level=level,
        changes=None,
        measurement=None
        if measures.losses is None
        else measurement_of(masker, measures.losses, np.array(new.groups), np.array(new.categories), level),
        n_used=measures.n_used,
        caveat=measures.caveat,
    )
    if not result.shifted or measures.appearance is None:
        return result
    old_appearance, new_appearance = measures.appearance
    return replace(result, changes=changes_of(old_appearance, new_appearance[first], level))


def _comparison_of(name: str, old: Array, new: Array) -> Comparison:
    medians = [float(np.median(values)) for values in (old, new)]
    if name in SCORES:  # as logarithms
        medians = [float(np.exp(median)) for median in medians]
    return Comparison(name, medians[0], medians[1], ks_p_value(old, new))


def changes_text(changes: Iterable[Change], images: str = "these images") -> str:
    """Return how images differ from the calibration images, separately for x and y_hat."""
    texts: dict[str, list[str]] = {"x": [], "y_hat": []}
    for change in changes:
        texts[change.role].append(change.text)
    if not any(texts.values()):
        return f"Brightness, contrast, noise and sharpness of {images} are as before (no clear change)."
    by_role = "; ".join(f"{role} {', '.join(changed) or 'as before'}" for role, changed in texts.items())
    return f"What changed in {images}: {by_role}."
