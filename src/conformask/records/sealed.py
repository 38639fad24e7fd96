"""A record and its arrays, replaced as one: a reader sees either all of the old or all of the new.

The arrays lie in files named after their content; the JSON, replaced last, lists the current ones. Its
seal and the hashes of the files detect damage, not malice: whoever can change a file can seal it again.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from conformask.errors import MismatchError, MissingFileError, OutputError
from conformask.records.files import claimed_by, refuse_unclaimed, remove
from conformask.records.record import (
    Array,
    Json,
    hash_of,
    hash_of_arrays,
    read_arrays,
    read_json,
    to_jsonable,
    write_arrays,
    write_json,
)

TRIES = 5
"""Number of times that a reader tries again while a writer replaces the files."""
UNSEALED = ("schema", "conformask", "seal")


@dataclass
class State:
    """A published record continued by one process at a time, so that no other process's changes are lost."""

    seal: str | None = None
    """Seal of the record that was read or written last; None for a new one."""

    def publish(
        self, path: Path, record: Mapping[str, Json], arrays: Mapping[str, Mapping[str, Array]]
    ) -> None:
        """Write the record, as publish does."""
        refuse_unclaimed([path])
        if path.is_file() and read_json(path).get("seal") != self.seal:
            raise OutputError(
                f"{path} is not the state that this one continues; perhaps another process has changed it "
                "in the meantime: load it and add the images again"
            )
        self.seal = publish(path, record, arrays)

    def read(self, path: Path, stems: Iterable[str]) -> "SealedRecord":
        """Read the record, as read_published does."""
        published = read_published(path, stems)
        self.seal = str(published.record["seal"])
        return published


@dataclass(frozen=True)
class SealedRecord:
    """A record and its arrays, as publish wrote them."""

    record: Mapping[str, Json]
    arrays: Mapping[str, Mapping[str, Array]]


def publish(
    path: Path,
    record: Mapping[str, Json],
    arrays: Mapping[str, Mapping[str, Array]],
    sealed: Iterable[str] = (),
    outdated: Path | None = None,
) -> str:
    """Write a record as JSON, and its arrays beside it; return its seal.

    Args:
        path: the path of the JSON.
        record: the content of the JSON.
        arrays: the content of each npz, by its stem.
        sealed: names of existing files that belong to the record.
        outdated: a file that is no longer true, removed before the record appears.
    """
    named = {f"{stem}-{hash_of_arrays(content)[:8]}.npz": content for stem, content in arrays.items()}
    refuse_unclaimed([path])
    claimed = claimed_by(path)
    for name, content in named.items():
        if not _holds(path.parent / name, content):
            write_arrays(path.parent / name, content)
    files = {name: path_hash(path.parent / name) for name in (*named, *sealed)}
    of_arrays = re.compile(rf"({'|'.join(arrays)})-[0-9a-f]{{8}}\.npz")
    replaced = [
        name
        for name in claimed
        if of_arrays.fullmatch(name) and name not in files and (path.parent / name).is_file()
    ]
    content = to_jsonable({**record, "files": files, "replaced": replaced})
    if outdated is not None:
        remove(outdated)
    seal = hash_of(content)
    write_json(path, {**content, "seal": seal})
    for name in replaced:
        with suppress(OSError):
            (path.parent / name).unlink()
    return seal


def read_published(path: Path, stems: Iterable[str]) -> SealedRecord:
    """Read a record and its arrays, as publish wrote them."""
    for _ in range(TRIES):
        record = read_json(path)
        try:
            verify(path, record)
            return SealedRecord(
                record, {stem: read_arrays(path.parent / _named(record, stem)) for stem in stems}
            )
        except (MismatchError, MissingFileError):
            if record == read_json(path):  # else a writer replaced the files in between
                raise
    raise MismatchError(f"{path} is being rewritten all the time: read it when writing has finished")


def verify(path: Path, record: Mapping[str, Json]) -> None:
    """Raise for a record that was changed, or one of whose files was changed or replaced by another's."""
    files = record.get("files")
    content = {key: value for key, value in record.items() if key not in UNSEALED}
    if not isinstance(files, dict) or record.get("seal") != hash_of(content):
        raise MismatchError(not_as_written(path))
    verify_files(path.parent, files)


def verify_files(folder: Path, hashes: Mapping[str, Json]) -> None:
    """Raise for files whose hashes are not these."""
    for name, expected in hashes.items():
        found = None
        with suppress(FileNotFoundError):  # a writer may remove it at any moment
            found = path_hash(folder / name)
        if found != expected:
            raise MismatchError(not_as_written(folder / name))


def path_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files in a folder and their names."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return hash_of([[str(file.relative_to(path)), path_hash(file)] for file in files])
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def not_as_written(path: Path) -> str:
    """Return the message about a file that does not match the record beside it."""
    return (
        f"{path} is damaged, or is not the file that was written with the others: do not rely on it. Create "
        "it again, or copy the whole folder again"
    )


def _named(record: Mapping[str, Json], stem: str) -> str:
    return next((name for name in record["files"] if name.startswith(f"{stem}-")), f"{stem}.npz")


def _holds(path: Path, content: Mapping[str, Array]) -> bool:
    """Return whether a file with exactly these arrays exists, such as one of a killed process."""
    with suppress(MismatchError, MissingFileError, OSError):
        return hash_of_arrays(read_arrays(path)) == hash_of_arrays(content)
    return False
