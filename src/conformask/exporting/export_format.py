"""Formats for exporting a masker: what each takes and returns. All come from plugins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from conformask import extensions
from conformask.exporting.folder import NOTHING, Credits, ExportedFolder
from conformask.extensions import Extensions
from conformask.masker.masker import Masker
from conformask.records.network import Caveat

CREDITS = {"authors": "--author", "license": "--license", "cite": "--cite"}
"""Options of the command line that give the credits."""


@dataclass(frozen=True)
class ExportOptions:
    """Contents of an export beside the masker; formats ignore what they do not take."""

    credits: Credits = NOTHING
    predictor: Path | None = None
    network: str | None = None
    allow_network_mismatch: bool = False


@dataclass(frozen=True)
class Exported:
    """Summary of an export, as JSON and for people."""

    path: Path
    caveat: Caveat | None = None
    """Caveat if the promise may not be about outputs of the predictor inside; else None."""
    record: Mapping[str, object] = field(default_factory=dict)
    """Facts by name, for JSON."""
    rows: Sequence[tuple[str, str]] = ()
    """Facts with their labels."""
    notes: Sequence[str] = ()
    """Sentences after the facts."""


@dataclass(frozen=True)
class ExportFormat:
    """A format in which a masker can be exported."""

    write: Callable[[Masker, Path, ExportOptions], Exported]
    """Function that writes a masker to a file or a folder."""
    takes_credits: bool = False
    """True if authors, license and citation are part of it."""
    takes_predictor: bool = False
    """True if the predictor can be part of it."""


EXPORTS = Extensions(extensions.EXPORTS, ExportFormat, {})
"""All formats for exporting a masker, by name."""


def summary_of(folder: ExportedFolder) -> Exported:
    """Return the summary of a folder, which names the credits that are missing."""
    notes = [f"Written: {folder.path}"]
    if folder.missing:
        left = ", ".join(f"{name} ({CREDITS[name]})" for name in folder.missing)
        notes.append(f"Missing, because only you know it: {left}. Nothing was made up instead.")
    return Exported(folder.path, folder.caveat, {"missing": folder.missing}, notes=notes)
