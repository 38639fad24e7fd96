"""Monitoring of streams: sequential tests, valid at every look."""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from conformask.background import DEFAULT_DEVICES, Compute
from conformask.errors import InvalidArgumentError, MismatchError, expect
from conformask.extras.watch.monitor import changes_of, changes_text, check_level, measures_of
from conformask.extras.watch.online import refuse_other_masker
from conformask.images.read import is_constant, pixel_hash
from conformask.images.rows import uniform
from conformask.images.triplets import Triplets, hash_of_group
from conformask.masker.masker import Masker
from conformask.masker.validation import LEVEL, most_failing
from conformask.promises.axes import members
from conformask.records.card import CalibrationCard, promised_share
from conformask.records.evaluation import Change
from conformask.records.numbers import figure, left_out_text, percent, plural, share
from conformask.records.reading import Caveat
from conformask.records.record import State, from_dict

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


@dataclass(frozen=True)
class StreamStatus:
    """The state of a stream after its latest images."""

    n_new: int
    """Number of images, or groups, that were new in the latest batch; none enters twice."""
    n_seen: int
    """Number of all that have entered."""
    n_used: int
    """Number of images of the latest batch that are left out, because an earlier step has seen them or others
    of their group."""
    evidence: float
    """Evidence that images differ from the calibration's: the largest wealth so far of bets on it."""
    n_judged: int
    """Number of images or groups whose truth was known."""
    n_failed: float
    """Number of those that failed; for a promise about members the sum of their shares."""
    failure_evidence: float | None
    """Evidence that more than `most_failing` fail; None for a promise about a mean."""
    most_failing: float | None
    """The largest plausible share of failures if the promise is true: at least 1 - confidence.

    A share level / 2 of calibration sets may exceed it. None for a promise about a mean.
    """
    changes: tuple[Change, ...] | None
    """Changes of the latest images, strongest first; None if no shift, or if the calibration is too old."""
    n_latest: int
    """Number of the latest images that the changes describe."""
    level: float
    """Probability of ever calling an unchanged stream shifted, or failing (over calibration sets)."""
    caveat: Caveat | None
    """A caveat where the promise may not be about these images."""

    @property
    def shifted(self) -> bool:
        """True if images ever differed from the calibration's by more than chance explains."""
        return self.evidence >= 1 / self.level

    @property
    def failing(self) -> bool:
        """True if more images ever failed than promised, by more than chance explains.

        The other half of the level is for calibration sets under which more than `most_failing` fail.
        """
        return self.failure_evidence is not None and self.failure_evidence >= 2 / self.level


LATEST = 32
"""Number of the latest images that changes describe, if the latest batch is not larger."""


class StreamMonitor:
    """Monitors a masker in use: add images as they come in, and look whenever you like.

    A comparison that is repeated every week raises a false alarm sooner or later. Here, over all looks
    together, an unchanged stream is called shifted with probability at most `level`, and also failing with
    probability at most `level` where units are independent: both over calibration set and stream, since a set
    may be unlucky, see `StreamStatus.most_failing`. The calibration images are the past of the stream.

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

    def add(self, new: Triplets, *, compute: Compute = DEFAULT_DEVICES) -> StreamStatus:
        """Take in images (x, y_hat), with y where it is known, in order.

        A group enters once, with its first image; an image that has entered before does not enter again.
        Images are recognised by the pixels of y_hat; constant ones, such as blanks, by their name. Each is
        judged once, when its truth is first known, a group with all of its images in `new` then. Those that
        an earlier step has seen, and others of their groups, are left out. For `compute` see `monitor`.

        Raises:
            InvalidArgumentError: a weighted promise, or a fact that the rule needs is missing.
            MismatchError: images of other channels or of another network.
            ImageError: an image that cannot be used.
        """
        measures = measures_of(self.masker, new, compute)
        new = measures.images
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
            if measures.losses is not None:
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
            n_used=measures.n_used,
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
            MismatchError: the state is another masker's, or damaged, or the file is not a state.
        """
        path, stored = Path(path), State()
        record = stored.read(path, ()).record
        if "stream" not in record:
            raise MismatchError(f"{path} is not a state of conformask monitor: give the file that it wrote")
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


def stream_text(card: CalibrationCard, status: StreamStatus) -> list[str]:
    """Return the state of a stream: failures first, since scores can look the same while masks fail."""
    unit, confidence = card.promise.axes.unit, promised_share(card.promise)
    level = f"level {status.level:g}"
    lines = []
    if confidence is not None and status.failure_evidence is not None and status.n_judged:
        finding = f"{figure(status.n_failed)} of {plural(status.n_judged, unit.singular)} failed"
        limit, promised = status.most_failing or 1 - confidence, f"at most {percent(1 - confidence)}"
        by_chance = ""
        if limit > 1 - confidence:
            by_chance = f", which happens by chance under {percent(status.level / 2)} of calibration sets"
        odds = f"odds {figure(status.failure_evidence)} to 1 that more than {share(limit)} fail"
        evidence = f"was promised ({odds}{by_chance}; {level})."
        if status.failing:
            lines.append(f"BROKEN: {finding}, {promised} {evidence} Do not rely on these masks.")
        else:
            lines.append(f"Measured: {finding}; {promised} {evidence}")
    odds = f"odds {figure(status.evidence)} to 1, {level}"
    counts = f"of {status.n_seen:,} so far, {status.n_new:,} new"
    if status.shifted:
        lines.append(
            f"SHIFTED: the images ({counts}) no longer look like the calibration images ({odds}). The "
            "promise does not cover them: calibrate on images like these."
        )
    else:
        lines.append(f"No shift is seen in scores and mask sizes ({counts}; {odds}).")
    if status.n_used:
        lines.append(left_out_text(status.n_used))
    if status.changes is not None:
        lines.append(changes_text(status.changes, f"the latest {plural(status.n_latest, 'image')}"))
    return [card.promise.named(line) for line in lines]
