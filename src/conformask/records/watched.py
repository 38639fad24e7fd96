"""How a stream of new images stands."""

from dataclasses import dataclass

from conformask.records.change import Change
from conformask.records.network import Caveat


@dataclass(frozen=True)
class Watched:
    """How a stream stands after its latest images."""

    n_new: int
    """Images, or groups, that entered just now; what entered before does not enter again."""
    n_seen: int
    """All that have entered."""
    evidence: float
    """That images differ from those of the calibration: the largest wealth so far of bets on it."""
    n_judged: int
    """Those whose truth was known."""
    n_failed: float
    """Those of them that failed; of a promise about members the sum of their shares."""
    failure_evidence: float | None
    """That more than `most_failing` fail; None for a promise about a mean."""
    most_failing: float | None
    """The share that may fail if the promise is true: at least 1 - confidence, and more by the chance of a
    calibration set in all but a share level / 2 of them."""
    changes: tuple[Change, ...] | None
    """In which way the latest images differ, the strongest first; None where no shift was ever seen, or where
    the calibration is of an earlier version and does not know."""
    n_latest: int
    """How many images these are."""
    level: float
    """How often a stream without any change is called shifted, ever; and failing, over calibration sets."""
    caveat: Caveat | None
    """What to say where the promise may not be about these images."""

    @property
    def shifted(self) -> bool:
        """Whether images were ever too unlike those of the calibration for chance."""
        return self.evidence >= 1 / self.level

    @property
    def failing(self) -> bool:
        """Whether more ever failed than was promised, by more than chance explains.

        The other half of the level is for calibration sets under which more than `most_failing` fail.
        """
        return self.failure_evidence is not None and self.failure_evidence >= 2 / self.level
