"""Monitoring of a stream of new images: sequential tests that are valid whenever one looks."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from conformask.conformal.streams import ExchangeabilityMartingale, FailureMartingale, StreamTest
from conformask.conformal.units import members
from conformask.data.images import is_constant, pixel_hash
from conformask.data.splits import uniform
from conformask.data.triplets import Triplets
from conformask.data.unread import hash_of_group
from conformask.errors import InvalidArgumentError, expect
from conformask.masker.masker import Masker
from conformask.masker.online import refuse_other_masker
from conformask.masker.validation import LEVEL, most_failing
from conformask.monitoring.changes import changes_of
from conformask.monitoring.measures import Measures, check_level, measures_of
from conformask.records.stream_status import StreamStatus
from conformask.storage.sealed import State
from conformask.training.processes import ONE_DEVICE, Compute

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
        compute: Compute = ONE_DEVICE,
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
        statement, unit = self.masker.guarantee.statement, self.masker.guarantee.unit
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
        return self._status(len(stream.seen) - n_before, measures)

    def _status(self, n_new: int, measures: Measures) -> StreamStatus:
        stream = self.stream
        assert stream is not None
        failures = stream.failures
        status = StreamStatus(
            n_new=n_new,
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
        state = {**head, "stream": self.stream.to_json(), "latest": self.latest}
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
        monitor.stream, monitor._stored = StreamTest.from_json(record["stream"]), stored
        monitor.latest = list(record.get("latest", []))  # missing in states of earlier versions
        return monitor


def _key(new: Triplets, index: int) -> str:
    """Return a hash by which a group, or an image without one, is recognised again."""
    group, name = new.groups[index], new.names[index]
    if group != name:
        return hash_of_group(group)
    y_hat = new[index].y_hat
    return hash_of_group(f"constant {name}") if is_constant(y_hat) else pixel_hash(y_hat)
