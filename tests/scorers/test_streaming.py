"""Measures by several processes, here threads, are those of one, in its order."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from conformask.calibration import ScoredBatch, measures
from conformask.losses import loss
from conformask.masks import family
from conformask.scorers import streaming
from conformask.scorers.scorer import Heuristic
from conformask.scorers.streaming import PART, gathered
from conformask.storage.as_arrays import Array
from conformask.training.processes import Compute, Processes
from synthetic_triplets import scale_of, triplets

IMAGES = triplets(2 * PART + 22, 0)
GRID = np.array([0.0, 0.02, 0.1, np.inf])


def measure(item: ScoredBatch) -> dict[str, Array]:
    return measures(item, family("water_filling"), loss("l1"), GRID, 0.03)


def measured(compute: Compute) -> dict[str, Array]:
    return gathered(Heuristic(scale_of, channels=1), IMAGES, measure, "measuring", "key", compute)


def by_two(folder: Path, monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, int]) -> list[dict[str, Array]]:
    barrier, here = threading.Barrier(2, timeout=60), threading.local()
    monkeypatch.setattr(streaming, "launch", lambda _: Processes(here.rank, 2, barrier.wait))

    def work(rank: int) -> dict[str, Array]:
        here.rank = rank
        return measured(Compute(parts=folder))

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(work, numbers))


def test_two_processes_measure_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = measured(Compute())
    for found in by_two(tmp_path / "parts", monkeypatch, (0, 1)):
        assert found.keys() == alone.keys()
        for name in alone:
            np.testing.assert_array_equal(found[name], alone[name])


def test_a_part_that_nobody_writes_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match="part-"):
        by_two(tmp_path / "parts", monkeypatch, (0, 0))
