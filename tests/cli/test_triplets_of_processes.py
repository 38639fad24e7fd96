"""Triplets of a task by several processes, and by a killed one: the same files, bit for bit."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conformask.cli import main
from conformask.data.batches import BATCH_SIZE
from conformask.data.images import read_image, write_image

COMMAND = Path(sys.executable).with_name("conformask")
NETWORK = """
import os
import signal
from pathlib import Path

import numpy as np


def enlarge(x):
    if Path("deadly").exists() and len(list(Path("killed/y").glob("[!.]*"))) > 20:
        os.kill(os.getpid(), signal.SIGKILL)
    with Path("calls").open("a") as calls:
        calls.write(".")
    return np.kron(x, np.ones((4, 4, 1), np.float32))
"""
TILES = 40
assert 2 * BATCH_SIZE < TILES < 3 * BATCH_SIZE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("true")
    image = np.random.default_rng(0).random((3, 128, 80), dtype=np.float32)
    write_image(folder / "images" / "0.png", image)
    (folder / "network_of_processes.py").write_text(NETWORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(words("alone"))
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def words(out: str, *options: str, size: int = 16) -> list[str]:
    cut = ["--size", str(size), "--stride", "16", "--split", "tile"]
    made = ["--task", "super_resolution", "--predictor", "network_of_processes:enlarge"]
    return ["triplets", "images", out, *made, *cut, *options]


def status(*command: object) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([str(word) for word in command], env=environment, check=False).returncode


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix}


def test_two_processes_write_the_same_as_one(folder: Path) -> None:
    assert status(COMMAND, *words("two", "--devices", "2")) == 0
    assert len(files(folder / "alone")) == 3 * TILES + 2
    assert files(folder / "two") == files(folder / "alone")


def test_a_killed_run_resumes_if_it_made_the_same(folder: Path) -> None:
    (folder / "deadly").touch()
    assert status(COMMAND, *words("killed")) == -signal.SIGKILL
    (folder / "deadly").unlink()
    (folder / "calls").unlink()
    assert not (folder / "killed" / "manifest.csv").exists()
    other = shutil.copytree(folder / "killed", folder / "other")
    times = {path: path.stat().st_mtime_ns for path in (folder / "killed" / "y").glob("[!.]*")}

    commands = f"from conformask.cli import main; main({words('killed')}); main({words('other', size=8)})"
    assert status(sys.executable, "-c", commands) == 0
    assert files(folder / "killed") == files(folder / "alone")
    assert {path: path.stat().st_mtime_ns for path in times} == times, "what is there is not written again"
    calls = len((folder / "calls").read_text())
    assert TILES < calls <= 2 * TILES - BATCH_SIZE, "only what is not there is predicted"
    assert {read_image(path).shape for path in (other / "y").iterdir()} == {(3, 8, 8)}
