"""The origin of triplets: triplets.json beside the manifest."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from conformask.errors import MismatchError
from conformask.records.network import Network
from conformask.storage.as_json import Json, claim, read_json, write_json
from conformask.storage.typed import from_dict

FILE = "triplets.json"


@dataclass(frozen=True)
class Provenance:
    """The origin of the triplets, and what limits a promise about them."""

    task: str | None = None
    network: Network | None = None
    """The network that made y_hat; None if not recorded."""
    trained_on: tuple[str, ...] = ()
    """Pixel hashes of the true images that the network was trained on."""
    population: str | None = None
    """The images for which a promise holds, where they are fewer than "new images like these"; else None."""
    cues: str | None = None
    """How the maps in cues/ were made, such as "samples,8"; None where conformask did not make them."""
    source: str | None = None
    """Hash of the true images and of the task, until the triplets are finished."""
    finished: bool = True
    """True if the triplets are complete."""

    def save(self, folder: Path) -> None:
        """Write triplets.json."""
        write_json(folder / FILE, dict(vars(self)))

    def claim(self, folder: Path, files: Iterable[str]) -> None:
        """Write triplets.json, which claims these files, relative to the folder, before they are written.

        Raises:
            OutputError: something lies there that no record of conformask claims.
        """
        claim(folder / FILE, dict(vars(self)), files)

    @classmethod
    def load(cls, folder: Path, network: str | None = None) -> "Provenance":
        """Read triplets.json, if there is one; `network` is the maker of y_hat, if the file names none.

        Raises:
            MismatchError: it names another network, its triplets are not finished, or it is damaged.
        """
        path = folder / FILE
        record = _record(folder)
        if record.get("predictor"):  # as conformask 0.1 wrote it
            record["network"] = {"name": record["predictor"]}
        provenance = from_dict(cls, record, path)
        if not provenance.finished:
            raise MismatchError(f"{folder} contains unfinished triplets: repeat the command")
        if network is None or provenance.network == Network(network):
            return provenance
        if provenance.network is not None:
            raise MismatchError(
                f"{path} states that y_hat was made by {provenance.network.name}, not {network}"
            )
        return replace(provenance, network=Network(network))


def unfinished(folder: Path) -> Provenance | None:
    """Return the provenance of triplets that are not complete yet; None where there are none."""
    record = _record(folder)
    return from_dict(Provenance, record, folder / FILE) if record.get("finished") is False else None


def _record(folder: Path) -> dict[str, Json]:
    return read_json(folder / FILE) if (folder / FILE).is_file() else {}


UNKNOWN = Provenance()
