"""What a format for exporting a masker is; credits and writing of exported folders."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from conformask import extensions
from conformask.errors import OutputError
from conformask.masker.masker import Masker
from conformask.records.reading import Caveat
from conformask.records.record import atomic_write, refuse_unwritable

TAGS = ("uncertainty", "conformal-prediction", "image-to-image")
"""Tags by which people find the model."""


@dataclass(frozen=True)
class Credits:
    """Credits of an exported folder, which only a person knows."""

    authors: tuple[str, ...] = ()
    license: str | None = None
    """SPDX identifier, such as CC-BY-4.0."""
    cite: str | None = None
    """Citation: a text that ends with a DOI or a URL."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the credits that were not given."""
        return tuple(name for name, value in vars(self).items() if not value)


NOTHING = Credits()
"""Empty credits."""


@dataclass(frozen=True)
class ExportedFolder:
    """Summary of an exported folder."""

    path: Path
    missing: tuple[str, ...]
    """Names of authors, license and cite if not given; nothing stands in their place."""
    caveat: Caveat | None = None
    """Caveat if the promise may not be about outputs of the predictor inside; else None."""


def check_free(path: Path) -> None:
    """Raise for a folder that is not empty."""
    refuse_unwritable(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise OutputError(f"{path} exists already: choose another folder, or delete it")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` to write to; on success it becomes `path`, else nothing is left."""
    check_free(path)
    with atomic_write(path) as temporary:
        temporary.mkdir()
        yield temporary


CREDITS = {"authors": "--author", "license": "--license", "cite": "--cite"}
"""Options of the command line that give the credits."""


@dataclass(frozen=True)
class ExportOptions:
    """Contents of an export beside the masker; formats ignore what they do not take."""

    credits: Credits = NOTHING
    predictor: Path | None = None
    network: str | None = None
    any_network: bool = False


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


EXPORTS = extensions.Extensions(extensions.EXPORTS, ExportFormat, {})
"""All formats for exporting a masker, by name."""


def summary_of(folder: ExportedFolder) -> Exported:
    """Return the summary of a folder, which names the credits that are missing."""
    notes = [f"Written: {folder.path}"]
    if folder.missing:
        left = ", ".join(f"{name} ({CREDITS[name]})" for name in folder.missing)
        notes.append(f"Missing, because only you know it: {left}. Nothing was made up instead.")
    return Exported(folder.path, folder.caveat, {"missing": folder.missing}, notes=notes)
