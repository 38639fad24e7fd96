"""Monitoring of batches and streams: sequential tests, and how new images differ."""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import scipy
from jaxtyping import Bool, Float

from conformask.arrays import Array, Batch
from conformask.background import DEFAULT_DEVICES, Compute
from conformask.errors import InvalidArgumentError, expect
from conformask.extras.watch.online import refuse_other_masker
from conformask.images.read import is_constant, pixel_hash
from conformask.images.rows import uniform
from conformask.images.triplets import Triplets, hash_of_group
from conformask.masker.admission import ROLES, SCORES, Admission, appearance
from conformask.masker.guards import has_theorem, truth_ids, used_images
from conformask.masker.masker import Masker
from conformask.masker.validation import (
    LEVEL,
    bonferroni,
    ks_p_value,
    measurement_of_unused,
    most_failing,
    one_of_each_group,
)
from conformask.masks.critical import batch_curves, features_of
from conformask.promises.axes import first_of_each, members
from conformask.promises.rules import covariates_of
from conformask.records.evaluation import Change, Measurement, StreamStatus
from conformask.records.numbers import figure, plural, share
from conformask.records.reading import Caveat
from conformask.records.record import from_dict
from conformask.records.sealed import State
from conformask.records.sentence import worst_text
from conformask.records.words import changes_text, shift_text
from conformask.scores.scoring import check_parts, gathered, parts_folder

RATES = (-1.0, 0.0, 1.0)
"""Betting rates of the simple jumper: on p-values too small, as they should be, and too large."""
JUMP = 0.01
"""The share of wealth redistributed among the rates at each step."""
STAKES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Fractions of the wealth that a bet on failures may lose at most."""


@dataclass
class ExchangeabilityMartingale:
    """A test of exchangeability of new values with the past: the simple jumper, a conformal test martingale.

    If all values are exchangeable, the probability that wealth ever reaches 1 / level is at most level (Vovk,
    Gammerman and Shafer 2005; Vovk 2021).
    """

    past: list[float]
    """Past values, ascending; initially those of the calibration images."""
    wealth: list[float] = field(default_factory=lambda: [1 / len(RATES)] * len(RATES))
    """The wealth of each rate."""

    def add(self, value: float, chance: float) -> None:
        """Bet on the p-value of a new value; chance, uniform in [0, 1), breaks ties."""
        below, through = bisect_left(self.past, value), bisect_right(self.past, value)
        greater, equal = len(self.past) - through, through - below + 1
        # ties broken by chance make p-values uniform, which the bets rely on
        p_value = (greater + chance * equal) / (len(self.past) + 1)
        redistributed = JUMP * sum(self.wealth) / len(RATES)
        self.wealth = [
            ((1 - JUMP) * wealth + redistributed) * (1 + rate * (p_value - 0.5))
            for wealth, rate in zip(self.wealth, RATES, strict=True)
        ]
        insort(self.past, value)

    @property
    def value(self) -> float:
        """The total wealth of all rates; 1 at the start."""
        return sum(self.wealth)


@dataclass
class FailureMartingale:
    """A test of whether more than a share fails: an e-process, a mean of bets on losses in [0, 1].

    If every loss has at most this mean given the past, the probability that wealth ever reaches 1 / level is
    at most level.
    """

    allowed: float
    """The share that may fail, 1 - confidence."""
    wealth: list[float] = field(default_factory=lambda: [1 / len(STAKES)] * len(STAKES))
    """The wealth of each stake."""
    images: int = 0
    failed: float = 0.0

    def add(self, loss: float) -> None:
        """Bet on one more loss: 1 where it failed, 0 where not."""
        self.wealth = [
            wealth * (1 + stake * (loss / self.allowed - 1))
            for wealth, stake in zip(self.wealth, STAKES, strict=True)
        ]
        self.images, self.failed = self.images + 1, self.failed + loss

    @property
    def value(self) -> float:
        """The total wealth of all stakes; 1 at the start."""
        return sum(self.wealth)


@dataclass
class StreamTest:
    """The monitored state of a stream, stored as JSON."""

    measures: dict[str, ExchangeabilityMartingale]
    """Tests of measures that need no truth, by name."""
    failures: FailureMartingale | None
    """The test of failures; None where the promise is about a mean."""
    seen: set[str] = field(default_factory=set)
    """Hashes of the images or groups that have entered: each enters once."""
    judged: set[str] = field(default_factory=set)
    """Hashes of the images or groups whose truth has been known, now or later: each is judged once."""
    peak: float = 1.0
    """The largest mean wealth of the measures so far."""
    failure_peak: float = 1.0
    """The largest wealth of the bets on failures so far."""

    def add(
        self, key: str, values: Mapping[str, float], loss: float | None, chances: Sequence[float]
    ) -> bool:
        """Take in an image that stands for its group; return whether it is new."""
        if loss is not None and self.failures is not None and key not in self.judged:
            self.judged.add(key)
            self.failures.add(loss)
            self.failure_peak = max(self.failure_peak, self.failures.value)
        if key in self.seen:
            return False
        self.seen.add(key)
        for (name, measure), chance in zip(self.measures.items(), chances, strict=True):
            measure.add(values[name], chance)
        self.peak = max(self.peak, self.value)
        return True

    @property
    def value(self) -> float:
        """The mean wealth of the measures: a mean of martingales is a martingale."""
        return math.fsum(measure.value for measure in self.measures.values()) / len(self.measures)


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
    """Refuse a false-alarm rate outside (0, 1)."""
    if not 0 < level < 1:
        raise InvalidArgumentError(f"level: {level}; give a number between 0 and 1, such as {LEVEL}")


def measures_of(
    masker: Masker, new: Triplets, compute: Compute, *, allow_network_mismatch: bool = False
) -> Measures:
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
    caveat = masker.admit(new, allow_network_mismatch=allow_network_mismatch).warn().caveat
    calibration = masker.evidence()
    curves, features = calibration.curves, calibration.column("features")
    if "bound_curve" in masker.rule.needs:
        calibration.column("bound")
    with parts_folder(compute):
        measurable = has_theorem(masker.card.promise, masker.loss, new.reference)
        measure, key = partial(_measures, masker, measurable), masker.fingerprint
        measures = gathered(masker.scorer, new, measure, "monitoring", key, compute)
    Admission.of_clipped(new.names, measures["clipped"], masker.card.clipped).warn()
    points = _grid_points(masker, masker.rule(covariates_of(curves)))
    old_measures = np.column_stack([features, curves.size[np.arange(len(points)), points]])
    more = old_measures.shape[1] - len(SCORES) - 1
    first = one_of_each_group(curves)
    old_appearance = curves.appearance
    return Measures(
        names=(*SCORES, *(f"feature {k + 1} of the score" for k in range(more)), SIZE),
        calibration=old_measures[first],
        new=np.column_stack([measures["features"], measures["size"]]),
        appearance=None if old_appearance is None else (old_appearance[first], measures["appearance"]),
        losses=measures.get("loss"),
        used=used_images(masker.seen, new, measures["truth"].tolist()),
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
        "truth": truth_ids(item),
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
        measured = self.measurement
        if measured is not None:
            low, high = (share(end) for end in measured.coverage_interval)
            status, mean = "BROKEN" if measured.broken else "Measured", figure(measured.mean_loss)
            coverage = f"coverage {share(measured.coverage)} (95 % interval {low} to {high})"
            facts.insert(0, f"{status}: {coverage}{worst_text(measured.worst)}, mean loss {mean}.")
        if self.caveat is not None:
            facts.insert(0, f"{self.caveat.text}.")
        return f"Monitoring({' '.join(facts)})"

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
        else measurement_of_unused(masker, new, measures.losses, measures.used, level),
        n_used=int(measures.used.sum()),
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


LATEST = 32
"""Number of the latest images that changes describe, if the latest batch is not larger."""


class StreamMonitor:
    """Monitors a masker in use: add images as they come in, and look whenever you like.

    A comparison that is repeated every week raises a false alarm sooner or later. Here, over all looks
    together, an unchanged stream is called shifted with probability at most `level`, and also failing with
    probability at most `level` where units are independent: both over calibration set and stream, since a set
    may be unlucky, see `Watched.most_failing`. The calibration images are the past of the stream.

    Raises:
        InvalidArgumentError: a level outside (0, 1).
        MismatchError: no curves are stored.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> y = np.random.default_rng(1).random((20, 16, 16), dtype=np.float32)
        >>> new = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> stream = cm.StreamMonitor(masker)
        >>> stream.add(new).shifted
        False
    """

    def __init__(self, masker: Masker, level: float = LEVEL) -> None:
        check_level(level)
        expect(masker, Masker, "masker", "what calibrate() or load() returned")
        self.masker, self.level = masker, level
        self.stream: StreamTest | None = None
        self.latest: list[list[list[float]]] = []
        """The appearance of the last images that entered."""
        self._stored = State()

    def add(
        self,
        new: Triplets,
        *,
        allow_network_mismatch: bool = False,
        compute: Compute = DEFAULT_DEVICES,
    ) -> StreamStatus:
        """Take in images (x, y_hat), with y where it is known, in order.

        A group enters once, with its first image; an image that has entered before does not enter again.
        Images are recognised by the pixels of y_hat; constant ones, such as blanks, by their name. Each is
        judged once, when its truth is first known, a group with all of its images in `new` then; those that
        an earlier step has seen are not judged. For `compute` see `monitor`.

        Raises:
            InvalidArgumentError: a weighted promise, or a fact that the rule needs is missing.
            MismatchError: images of other channels or of another network.
            ImageError: an image that cannot be used.
        """
        measures = measures_of(self.masker, new, compute, allow_network_mismatch=allow_network_mismatch)
        statement, unit = self.masker.card.promise.axes.statement, self.masker.card.promise.axes.unit
        if self.stream is None:
            past = {
                name: ExchangeabilityMartingale(sorted(column.tolist()))
                for name, column in zip(measures.names, measures.calibration.T, strict=True)
            }
            about_mean = statement.bounds_a_mean
            self.stream = StreamTest(
                past, None if about_mean else FailureMartingale(most_failing(self.masker, self.level / 2))
            )
        stream, n_before = self.stream, len(self.stream.seen)
        groups, new_places = np.array(new.groups), []
        for places in sorted(members(groups), key=lambda places: int(places[0])):
            key = _key(new, int(places[0]))
            loss = None
            if measures.losses is not None and not measures.used[places].any():
                losses = statement.bounded(measures.losses[places], self.masker.card.threshold)
                loss = float(unit.losses(losses, groups[places])[0])
            values = dict(zip(measures.names, measures.new[places[0]].tolist(), strict=True))
            if stream.add(key, values, loss, [uniform("stream", key, name) for name in measures.names]):
                new_places.append(int(places[0]))
        if measures.appearance is not None:
            looks = measures.appearance[1][new_places].tolist()
            self.latest = [*self.latest, *looks][-max(LATEST, len(looks)) :]
        failures = stream.failures
        status = StreamStatus(
            n_new=len(stream.seen) - n_before,
            n_seen=len(stream.seen),
            evidence=stream.peak,
            n_judged=0 if failures is None else failures.images,
            n_failed=0.0 if failures is None else failures.failed,
            failure_evidence=None if failures is None else stream.failure_peak,
            most_failing=None if failures is None else failures.allowed,
            changes=None,
            n_latest=len(self.latest),
            level=self.level,
            caveat=measures.caveat,
        )
        if not status.shifted or not self.latest or measures.appearance is None:
            return status
        changes = changes_of(measures.appearance[0], np.array(self.latest), self.level)
        return replace(status, changes=changes)

    def save(self, path: str | Path) -> None:
        """Write the state to one JSON file, atomically.

        Raises:
            InvalidArgumentError: nothing was added yet.
            OutputError: the file cannot be written, or holds a state that this one does not continue.
        """
        if self.stream is None:
            raise InvalidArgumentError("nothing was added yet: there is no state to save")
        head = {"fingerprint": self.masker.fingerprint, "level": self.level}
        state = {**head, "stream": self.stream, "latest": self.latest}
        self._stored.publish(Path(path), state, {})

    @classmethod
    def load(cls, masker: Masker, path: str | Path) -> "StreamMonitor":
        """Read a state that save wrote.

        Raises:
            MissingFileError: there is no such file.
            MismatchError: the state is another masker's, or damaged.
        """
        path, stored = Path(path), State()
        record = stored.read(path, ()).record
        refuse_other_masker(path, record, masker.fingerprint)
        monitor = cls(masker, float(record["level"]))
        monitor.stream, monitor._stored = from_dict(StreamTest, record["stream"], path), stored
        monitor.latest = list(record.get("latest", []))  # missing in states of earlier versions
        return monitor


def _key(new: Triplets, index: int) -> str:
    """Return a hash by which a group, or an image without one, is recognised again."""
    group, name = new.groups[index], new.names[index]
    if group != name:
        return hash_of_group(group)
    y_hat = new[index].y_hat
    return hash_of_group(f"constant {name}") if is_constant(y_hat) else pixel_hash(y_hat)
