"""A user's own score without training: any callable on (x, y_hat)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from conformask.fingerprints import fingerprint_of, name_of
from conformask.records.curves import Selection
from conformask.storage.as_json import claim, write_json
from conformask.storage.claims import BESIDE
from conformask.types import Images, Score


@dataclass(frozen=True)
class Heuristic:
    """A scorer from a callable (x, y_hat) -> map >= 0 of shape (N, 1 or C, *space); fitted for no loss."""

    function: Callable[[Tensor, Tensor], Tensor]
    channels: int
    per_channel: bool = False
    family: str = "reciprocal"
    selection: Selection | None = None
    loss = None
    sizes = None
    perceptual_hashes = None
    about = None
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

    def save(self, folder: Path) -> None:
        """Write scorer.json; the callable itself must be passed again: load(..., scorer=)."""
        claim(folder / "scorer.json", {"finished": False}, BESIDE["scorer.json"])
        if self.selection is not None:
            self.selection.save(folder)
        write_json(
            folder / "scorer.json", {"scorer": self.name, "heuristic": True, "fingerprint": self.fingerprint}
        )
