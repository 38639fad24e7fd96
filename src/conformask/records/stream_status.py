"""The state of a stream of new images."""

from dataclasses import dataclass

from conformask.records.change import Change
from conformask.records.network import Caveat


@dataclass(frozen=True)
class StreamStatus:
    """The state of a stream after its latest images."""

    n_new: int
    """Number of images, or groups, that were new in the latest batch; none enters twice."""
    n_seen: int
    """Number of all that have entered."""
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
