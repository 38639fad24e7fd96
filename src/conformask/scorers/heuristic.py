"""A user's own score without training: any callable on (x, y_hat)."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from conformask.fingerprints import fingerprint_of, name_of
from conformask.records.selection import Selection
from conformask.scorers.scorer import Scorer
from conformask.types import Images, Score


@dataclass(frozen=True)
class Heuristic(Scorer):
    """A scorer from a callable (x, y_hat) -> map >= 0 of shape (N, 1 or C, *space); fitted for no loss.

    Example:
        >>> import conformask as cm
        >>> cm.Heuristic(lambda x, y_hat: (x - y_hat).abs(), channels=1).family
        'reciprocal'
    """

    function: Callable[[Tensor, Tensor], Tensor]
    channels: int
    per_channel: bool = False
    family: str = "reciprocal"
    selection: Selection | None = None
    trained_on: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The callable's own name."""
        return name_of(self.function)

    @property
    def fingerprint(self) -> str:
        """A hash of the callable's code."""
        return fingerprint_of(self.function)

    def __call__(self, x: Images, y_hat: Images) -> Score:
        """Return the callable's map as a score."""
        return Score(self.function(x, y_hat))
