"""One process at a time writes a folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conformask.errors import OutputError
from conformask.records.files import exclusive_folder

HOLD = """
import sys, time
from pathlib import Path
from conformask.records.files import exclusive_folder
with exclusive_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=rf"is being written by process {holder.pid} on .*wait"),
        exclusive_folder(tmp_path),
    ):
        pass


def test_the_lock_dies_with_its_process(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with exclusive_folder(tmp_path):
        pass


def test_one_process_may_nest(tmp_path: Path) -> None:
    with exclusive_folder(tmp_path), exclusive_folder(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", HOLD, tmp_path], capture_output=True, text=True, check=False
        )
        assert f"is being written by process {os.getpid()}" in done.stderr
    with exclusive_folder(tmp_path):
        pass


def test_other_ranks_do_not_ask(holder: subprocess.Popen[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with exclusive_folder(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"), exclusive_folder(tmp_path / "file" / "sub"):
        pass
