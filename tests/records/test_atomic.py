"""Files are whole or not there, and nothing of killed processes stays."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformask.errors import OutputError
from conformask.records.files import MARK, atomic_write, sweep
from conformask.records.record import write_json


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_json(tmp_path / "record.json", {"files": ["deep/file.txt"]})
    with atomic_write(path) as aside:
        aside.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    with pytest.raises(UnicodeEncodeError), atomic_write(path) as aside:
        aside.write_text("half\udcff", encoding="utf-8")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".png", ".ome.tiff"])
def test_the_longest_name_that_a_folder_takes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"{'n' * (255 - len(suffix))}{suffix}"
    with atomic_write(path) as aside:
        aside.write_text("whole")
    assert path.read_text() == "whole"


def test_a_longer_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="shorter name"), atomic_write(tmp_path / ("n" * 256)) as aside:
        aside.write_text("whole")
    assert not list(tmp_path.iterdir())


def test_a_full_disk(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(OutputError, match="No space left on device; choose another folder"),
        atomic_write(tmp_path / "a"),
    ):
        raise full
    assert not list(tmp_path.iterdir())


KILLED = """
import os, sys
from pathlib import Path
from conformask.records.files import atomic_write
with atomic_write(Path(sys.argv[1]) / "file") as aside:
    aside.write_text("half") if len(sys.argv) < 3 else (aside.mkdir(), (aside / "chunk").write_text("half"))
    os._exit(9)
"""


@pytest.mark.parametrize("more", [[], ["folder"]])
def test_what_a_killed_process_left_is_swept(tmp_path: Path, more: list[str]) -> None:
    subprocess.run([sys.executable, "-c", KILLED, tmp_path, *more], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(MARK)
    with atomic_write(tmp_path / "other") as aside:
        aside.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_what_living_processes_or_other_machines_write_stays(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "file") as aside:
        living = aside.name
        aside.write_text("half")
    for name in (living, f"{MARK}0badcafe-{os.getpid()}-01234567", f"{MARK}what"):
        (tmp_path / name).write_text("half")
    sweep.cache_clear()
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {living, f"{MARK}0badcafe-{os.getpid()}-01234567"}
