"""Monitoring of a batch: whether new images still look like the calibration's. No truth is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy

from conformask.conformal.populations import Weighted
from conformask.conformal.units import first_of_each
from conformask.data.triplets import Triplets
from conformask.masker.masker import Masker
from conformask.masker.outliers import SCORES
from conformask.masker.validation import LEVEL, measurement_of_unused
from conformask.monitoring.changes import changes_of
from conformask.monitoring.measures import check_level, measures_of, one_of_each_group
from conformask.records.change import Change
from conformask.records.evaluation import Measurement
from conformask.records.network import Caveat
from conformask.records.sentence import worst_text
from conformask.storage.as_arrays import Array
from conformask.training.processes import ONE_DEVICE, Compute
from conformask.wording.measurements import changes_text, shift_text
from conformask.wording.numbers import figure, plural, share


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
    """Number of images with truth that are not measured, because an earlier step has seen them."""
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
        if self.measurement is not None:
            facts.insert(0, self._measured(self.measurement))
        if self.caveat is not None:
            facts.insert(0, f"{self.caveat.text}.")
        return f"Monitoring({' '.join(facts)})"

    def _measured(self, measurement: Measurement) -> str:
        low, high = (share(end) for end in measurement.coverage_interval)
        status = "BROKEN" if measurement.broken else "Measured"
        mean = f"mean loss {figure(measurement.mean_loss)}"
        coverage = f"coverage {share(measurement.coverage)} (95 % interval {low} to {high})"
        return f"{status}: {coverage}{worst_text(measurement.worst)}, {mean}."

    @property
    def shifted(self) -> bool:
        """True if the new images no longer look exchangeable; false in at most a share `level` of cases."""
        return self.p_value < self.level

    @property
    def failing(self) -> bool:
        """True if the promise is broken on the new images; false in at most a share `level` of cases."""
        return self.measurement is not None and self.measurement.broken


def monitor(
    masker: Masker,
    new: Triplets,
    *,
    level: float = LEVEL,
    allow_network_mismatch: bool = False,
    compute: Compute = ONE_DEVICE,
) -> Monitoring:
    """Compare the scores and mask sizes of new images with the calibration images.

    Both are computed without the truth, so a shift is seen before any truth is known; a shift that changes
    none of them goes unseen. One image per group is compared. Mask sizes are those at the grid point below
    the deployed lambda, for both. If there is a shift, `changes` describes how the images differ; no
    false-alarm rate is promised for that description.

    Args:
        masker: a calibrated masker with stored curves.
        new: images (x, y_hat), with y where it is known.
        level: how often images that are exchangeable may be called shifted, and how often failing.
        allow_network_mismatch: compare outputs of another network than the calibration's.
        compute: the devices, and a folder for finished parts, from which a killed run resumes.

    Raises:
        InvalidArgumentError: a level outside (0, 1), a weighted promise, which is about other images than
            those of the calibration, or a fact that the rule needs is missing.
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
    measures = measures_of(masker, new, compute, allow_network_mismatch=allow_network_mismatch)
    first = first_of_each(np.array(new.groups))
    old_measures, new_measures = measures.calibration, measures.new[first]
    comparisons = tuple(
        _compare(name, *pair)
        for name, *pair in zip(measures.names, old_measures.T, new_measures.T, strict=True)
    )
    result = Monitoring(
        comparisons=comparisons,
        n_calibration=len(old_measures),
        n_new=len(new_measures),
        p_value=_combined([comparison.p_value for comparison in comparisons]),
        level=level,
        changes=None,
        measurement=None
        if measures.losses is None
        else measurement_of_unused(masker, new, measures.losses, measures.used, level),
        n_used=int(measures.used.sum()),
        caveat=measures.caveat,
    )
    if not result.shifted or measures.appearance is None:
        return result
    old_appearance, new_appearance = measures.appearance
    return replace(result, changes=changes_of(old_appearance, new_appearance[first], level))


def shift_of(masker: Masker, features: Mapping[str, Array], new: Triplets) -> str | None:
    """Return a warning if the scores of new images do not look like those of the calibration images.

    `features` are those of the scores of some of the images, by name; one image of each group is compared.
    None is returned where no shift is seen, and where the calibration has nothing to compare with.
    """
    curves = masker.curves
    weighted = isinstance(masker.guarantee.population, Weighted)
    if not features or weighted or curves is None or curves.features is None:
        return None
    by_group: dict[str, Array] = {}  # with its first image, as on the other side
    for name, group in zip(new.names, new.groups, strict=True):
        if name in features:
            by_group.setdefault(group, features[name])
    old, of_new = curves.features[one_of_each_group(curves)], np.stack(list(by_group.values()))
    p_value = _combined([_p_value(*pair) for pair in zip(old.T, of_new.T, strict=True)])
    return shift_text(p_value, LEVEL, shifted=True) if p_value < LEVEL else None


def _compare(name: str, old: Array, new: Array) -> Comparison:
    medians = [float(np.median(values)) for values in (old, new)]
    if name in SCORES:  # as logarithms
        medians = [float(np.exp(median)) for median in medians]
    return Comparison(name, medians[0], medians[1], _p_value(old, new))


def _p_value(old: Array, new: Array) -> float:
    """Return the p-value of the two-sample Kolmogorov-Smirnov test."""
    return float(scipy.stats.ks_2samp(old, new).pvalue)


def _combined(p_values: Sequence[float]) -> float:
    """Return the p-value of all comparisons together (Bonferroni)."""
    return min(1.0, len(p_values) * min(p_values))
