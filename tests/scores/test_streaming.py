import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from conformask.arrays import Batch, Images
from conformask.background import Compute, Processes
from conformask.errors import InvalidArgumentError
from conformask.images.triplets import Triplets
from conformask.scores.scorer import Heuristic
from conformask.scores.scoring import gathered, parts_folder

COUNT = 37
GENERATOR = np.random.default_rng(0)
Y_HAT, Y = GENERATOR.random((2, COUNT, 6, 7), dtype=np.float32)
TRIPLETS = Triplets.from_arrays(Y_HAT, Y_HAT, Y)


def doubt(x: Images, y_hat: Images) -> Images:
    return y_hat + 0.1


SCORER = Heuristic(doubt, channels=1)


class Measure:
    """Counts the images that it measures, and is killed at one of them."""

    def __init__(self, killed_at: int | None = None) -> None:
        self.seen: list[str] = []
        self.killed_at = killed_at

    def __call__(self, item: Batch) -> dict[str, np.ndarray]:
        if self.killed_at is not None and len(self.seen) >= self.killed_at:
            raise KeyboardInterrupt
        self.seen += item.names
        error = (item.score.map * (item.truth() - item.y_hat)).double()
        rows = torch.stack([error.mean((1, 2, 3)), error.square().mean((1, 2, 3))], dim=1)
        return {"names": np.array(item.names), "rows": rows.numpy()}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformask.scores.scoring.PART", 8)


def gather(measure: Measure, compute: Compute, key: object = "key", triplets: Triplets = TRIPLETS):
    with parts_folder(compute):
        return gathered(SCORER, triplets, measure, "measuring", key, compute)


@pytest.fixture(name="folder")
def folder_of_parts(tmp_path: Path) -> Path:
    return tmp_path / "parts"


def test_parts_are_the_whole(folder: Path) -> None:
    expected = ((Y_HAT + 0.1) * (Y - Y_HAT)).astype(np.float64).mean((1, 2))
    in_memory = gather(Measure(), Compute())
    on_disk = gather(Measure(), Compute(parts=folder))
    for found in (in_memory, on_disk):
        assert found["names"].tolist() == list(TRIPLETS.names)
        np.testing.assert_allclose(found["rows"][:, 0], expected, rtol=1e-4, atol=1e-8)
    assert not folder.exists(), "parts are removed at the end"


@pytest.mark.parametrize("batch_size", [1, 3, 8, 50])
def test_the_batch_size_does_not_matter(
    batch_size: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gather(Measure(), Compute())["rows"]
    monkeypatch.setattr("conformask.scores.scoring.BATCH_SIZE", batch_size)
    for where in (None, folder):
        found = gather(Measure(), Compute(parts=where))["rows"]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def killed(folder: Path, after: int = 20) -> None:
    with pytest.raises(KeyboardInterrupt):
        gather(Measure(killed_at=after), Compute(parts=folder))


def test_a_killed_run_goes_on(folder: Path) -> None:
    killed(folder)
    assert len(list(folder.glob("*.npz"))) == 3
    again = Measure()
    found = gather(again, Compute(parts=folder))
    assert again.seen == list(TRIPLETS.names[24:]), "three parts of eight were finished"
    np.testing.assert_array_equal(found["rows"], gather(Measure(), Compute())["rows"])


def test_a_damaged_part_is_made_again(folder: Path) -> None:
    killed(folder)
    first = min(folder.glob("*.npz"))
    first.write_bytes(first.read_bytes()[:40])
    again = Measure()
    found = gather(again, Compute(parts=folder))
    assert again.seen == [*TRIPLETS.names[:8], *TRIPLETS.names[24:]]
    np.testing.assert_array_equal(found["rows"], gather(Measure(), Compute())["rows"])


def test_parts_of_something_else_are_not_taken(folder: Path) -> None:
    for key, triplets in (("another", TRIPLETS), ("key", TRIPLETS.select(range(30)))):
        killed(folder)
        again = Measure()
        gather(again, Compute(parts=folder), key, triplets)
        assert len(again.seen) == len(triplets)


def test_parts_of_another_score_are_not_taken(folder: Path) -> None:
    def doubt(x: Images, y_hat: Images) -> Images:
        return y_hat + 0.2

    killed(folder)
    again = Measure()
    with parts_folder(Compute(parts=folder)):
        gathered(Heuristic(doubt, channels=1), TRIPLETS, again, "measuring", "key", Compute(parts=folder))
    assert len(again.seen) == COUNT


def test_several_devices_need_a_folder() -> None:
    for several in (Compute(devices=2), Compute(nodes=2)):
        with pytest.raises(InvalidArgumentError, match="several devices need a folder"):
            gather(Measure(), several)


def by_two(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ranks: tuple[int, int]
) -> list[dict[str, np.ndarray]]:
    """What two processes gather, here threads."""
    barrier, here = threading.Barrier(2, timeout=60), threading.local()
    monkeypatch.setattr("conformask.scores.scoring.launch", lambda _: Processes(here.rank, 2, barrier.wait))

    def work(rank: int) -> dict[str, np.ndarray]:
        here.rank = rank
        return gathered(SCORER, TRIPLETS, Measure(), "measuring", "key", Compute(parts=folder))

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(work, ranks))


def test_two_processes_measure_as_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = gather(Measure(), Compute())
    for found in by_two(folder, monkeypatch, (0, 1)):
        assert found.keys() == alone.keys()
        for name in alone:
            np.testing.assert_array_equal(found[name], alone[name])


def test_a_part_that_nobody_writes_is_missed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match="part-"):
        by_two(folder, monkeypatch, (0, 0))
