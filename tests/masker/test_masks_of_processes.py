"""Several processes, and killed ones: the same files, bit for bit, as one that was left alone."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import conformask as cm
from conformask.cli import main
from conformask.images.read import write_image

COMMAND = Path(sys.executable).with_name("conformask")
N = 53


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the packaged network, and images of two sizes, so that batches differ."""
    folder = tmp_path_factory.mktemp("processes")
    generator = np.random.default_rng(0)
    y_hat = generator.random((30, 40, 40), dtype=np.float32)
    known = cm.Triplets.from_arrays(y_hat, y_hat, y_hat**2)
    cm.calibrate(cm.packaged_scorer(), known, threshold=0.05, loss="l1").save(folder / "run")
    for index in range(N):
        side = 40 if index % 5 else 33
        for role in ("x", "y_hat"):
            image = generator.random((1, side, side), dtype=np.float32)
            write_image(folder / "data" / role / f"{index:02d}.png", image)
    main(["mask", str(folder / "run"), str(folder / "data"), str(folder / "alone")])
    return folder


def started(folder: Path, out: str, *options: str) -> subprocess.Popen[bytes]:
    words: Sequence[str | Path] = ("mask", folder / "run", folder / "data", folder / out, *options)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([COMMAND, *map(str, words)], env=environment)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("[!.]*") if p.is_file()}


def names(sizes: Path) -> list[str]:
    with sizes.open(newline="") as file:
        return [row["name"] for row in csv.DictReader(file)]


@pytest.mark.slow
def test_two_processes_write_the_same_masks_as_one(folder: Path) -> None:
    assert started(folder, "two", "--devices", "2").wait() == 0
    assert len(files(folder / "alone")) == 2 * N + 2
    assert files(folder / "two") == files(folder / "alone")


@pytest.mark.slow
def test_a_run_that_is_killed_ends_as_if_it_had_not_been(folder: Path) -> None:
    sizes = folder / "killed" / "sizes.csv"
    process = started(folder, "killed")
    while process.poll() is None and (not sizes.exists() or len(names(sizes)) < 20):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert started(folder, "killed").wait() == 0
    assert names(sizes) == [f"{index:02d}" for index in range(N)]
    assert files(folder / "killed") == files(folder / "alone")
