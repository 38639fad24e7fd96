"""What the folders of an export have in common: who stands behind them, and that they appear whole or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conformask.errors import OutputError
from conformask.records.network import Caveat
from conformask.storage.whole import whole_file

TAGS = ("uncertainty", "conformal-prediction", "image-to-image")
"""By which people look for it."""


@dataclass(frozen=True)
class Credits:
    """What only a person knows, as a reader of the folder asks for it."""

    authors: tuple[str, ...] = ()
    license: str | None = None
    """An SPDX identifier, such as CC-BY-4.0."""
    cite: str | None = None
    """A text that ends with a DOI or an address."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of those that were not given."""
        return tuple(name for name, value in vars(self).items() if not value)


NOTHING = Credits()
"""Nobody said anything."""


@dataclass(frozen=True)
class ExportedFolder:
    """What was written."""

    path: Path
    missing: tuple[str, ...]
    """Of authors, license and cite those that nobody gave: nothing stands in their place."""
    caveat: Caveat | None = None
    """What to say where the promise may not be about outputs of the predictor inside."""


def check_free(path: Path) -> None:
    """Refuse a folder that holds something already.

    Raises:
        OutputError: it does.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise OutputError(f"{path} exists already: choose another folder, or delete it")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` to write to; on success it becomes `path`, on failure nothing is left.

    Raises:
        OutputError: the folder holds something already, or cannot be written.
    """
    check_free(path)
    with whole_file(path) as aside:
        aside.mkdir()
        yield aside
