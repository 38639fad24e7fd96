"""Triplets of a task by a killed run, several processes and an interrupted one: what one alone writes."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from conformask.arrays import Images
from conformask.cli import main
from conformask.extras.make.tasks import SuperResolution
from conformask.extras.make.triplets import TrueImages, write_triplets
from conformask.images.read import read_image, write_image

COMMAND = Path(sys.executable).with_name("conformask")
NETWORK = """
import os
import signal
from pathlib import Path

import numpy as np


def enlarge(x):
    if Path("deadly").exists() and len(list(Path("killed/y").glob("[!.]*"))) > 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.kron(x, np.ones((4, 4, 1), np.float32))
"""
TILES = 40
"""Three batches."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    image = np.random.default_rng(0).random((3, 128, 80), dtype=np.float32)
    write_image(tmp_path / "images" / "0.png", image)
    (tmp_path / "network_of_processes.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(out: str) -> list[str]:
    cut = ["--size", "16", "--stride", "16", "--split", "tile"]
    return [
        *("triplets", "images", out, "--task", "super_resolution"),
        *("--predictor", "network_of_processes:enlarge", *cut),
    ]


def status(*words: str) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([COMMAND, *words], env=environment, check=False).returncode


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("[!.]*") if p.is_file()}


@pytest.mark.slow
def test_two_processes_resume_a_killed_run(folder: Path) -> None:
    main(words("alone"))
    (folder / "deadly").touch()
    assert status(*words("killed")) == -signal.SIGKILL
    (folder / "deadly").unlink()
    assert not (folder / "killed" / "manifest.csv").exists()
    times = {path: path.stat().st_mtime_ns for path in (folder / "killed" / "y").glob("[!.]*")}
    assert status(*words("killed"), "--devices", "2") == 0
    assert len(files(folder / "alone")) == 3 * TILES + 2
    assert files(folder / "killed") == files(folder / "alone")
    assert {path: path.stat().st_mtime_ns for path in times} == times, "what is there is not written again"


class Enlarging:
    """Stopped by hand at one of its batches."""

    name, fingerprint, trained_on = "enlarging", None, ()

    def __init__(self, stopped_at: int | None = None) -> None:
        self.batches, self.stopped_at = 0, stopped_at

    def __call__(self, x: Images) -> Images:
        self.batches += 1
        if self.batches == self.stopped_at:
            raise KeyboardInterrupt
        return torch.nn.functional.interpolate(x, scale_factor=4)


def test_only_what_would_be_the_same_is_kept(folder: Path) -> None:
    def write(out: str, size: int, network: Enlarging) -> int:
        images = TrueImages.from_folder("images", size, 16, "tile")
        return write_triplets(images, out, task=SuperResolution(), predictor=network)

    with pytest.raises(KeyboardInterrupt):
        write("stopped", 16, Enlarging(stopped_at=3))
    shutil.copytree("stopped", "smaller")
    same, smaller = Enlarging(), Enlarging()
    assert write("stopped", 16, same) == TILES
    assert 1 <= same.batches <= 2, "what is there is not predicted again"
    assert write("smaller", 8, smaller) == TILES
    assert smaller.batches == 3
    assert {read_image(path).shape for path in Path("smaller/y").iterdir()} == {(3, 8, 8)}
