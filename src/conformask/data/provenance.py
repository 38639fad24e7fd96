"""Where triplets come from: triplets.json beside the manifest."""

from dataclasses import dataclass
from pathlib import Path

from conformask.storage.as_json import read_json, write_json

FILE = "triplets.json"


@dataclass(frozen=True)
class Provenance:
    """What made the triplets, and what a promise about them must know."""

    task: str | None = None
    predictor: str | None = None
    trained_on: tuple[str, ...] = ()
    """Pixel hashes of the true images that the predictor was trained on."""
    population: str | None = None
    """For which images a promise holds, where it is narrower than "new images like these"."""

    def save(self, folder: Path) -> None:
        """Write triplets.json."""
        write_json(folder / FILE, dict(vars(self)))

    @classmethod
    def load(cls, folder: Path) -> "Provenance":
        """Read triplets.json; nothing is known where there is none."""
        if not (folder / FILE).is_file():
            return cls()
        record = read_json(folder / FILE)
        trained_on = tuple(record.get("trained_on", ()))
        return cls(record.get("task"), record.get("predictor"), trained_on, record.get("population"))


UNKNOWN = Provenance()
