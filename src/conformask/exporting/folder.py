"""Common parts of exported folders: their credits, and writing them wholly or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conformask.errors import OutputError
from conformask.records.network import Caveat
from conformask.storage.atomic import atomic_write
from conformask.storage.claims import refuse_unwritable

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
    """Raise for a folder that is not empty.

    Raises:
        OutputError: the path exists and is not an empty folder, or cannot be written.
    """
    refuse_unwritable(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise OutputError(f"{path} exists already: choose another folder, or delete it")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` to write to; on success it becomes `path`, on failure nothing is left.

    Raises:
        OutputError: the folder holds something already, or cannot be written.
    """
    check_free(path)
    with atomic_write(path) as temporary:
        temporary.mkdir()
        yield temporary
