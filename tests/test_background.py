"""Progress is told in logs, too, where no bar can be drawn."""

import threading
import time
from pathlib import Path

import pytest

from conformask import background as progress
from conformask.background import BYTES, DEPTH, THREADS, prefetch, tracked
from conformask.extras.train import NetworkOptions, TrainingConfig
from conformask.extras.train.fit import fit_scorer
from conformask.extras.train.training import fitting
from synthetic_triplets import triplets
from terminal import drawn


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)


def test_a_line_now_and_then(capfd):
    assert list(tracked("abc", "reading", 5, 2)) == ["a", "b", "c"]
    assert capfd.readouterr().err.splitlines() == ["reading 2/5", "reading 4/5", "reading 5/5"]


def test_items_that_are_several_things(capfd):
    assert list(tracked(["ab", "c"], "reading", 3, len)) == ["ab", "c"]
    assert capfd.readouterr().err.splitlines() == ["reading 2/3", "reading 3/3"]


def test_nothing_before_a_line_is_due(capfd, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 30.0)
    assert list(tracked("abc", "reading", 3)) == ["a", "b", "c"]
    assert capfd.readouterr().err == ""


def test_other_processes_are_silent(capfd, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert list(tracked("abc", "reading", 3)) == ["a", "b", "c"]
    assert capfd.readouterr().err == ""


@pytest.mark.filterwarnings("ignore")
def test_a_training_tells_what_it_does_to_its_end(tmp_path, capfd):
    """What follows the last epoch takes its time on many selection images, too."""
    fit_scorer(
        triplets(32, 0),
        selection=triplets(12, 1),
        out=tmp_path,
        training=TrainingConfig(epochs=1),
        network=NetworkOptions(width=2),
    )
    lines = capfd.readouterr().err.splitlines()
    for told in ("scorer 50%  epoch 1", "grids 12/12", "comparing spread 12/12"):
        assert any(line.startswith(told) for line in lines), told


BARS = """
import time
from conformask.background import tracked
for title in ("masks", "losses without a mask of {these} [images]", "score of " + "a_long_name_" * 12):
    for _ in tracked(range(1200), title, 1200):
        time.sleep(0.0003)
"""


@pytest.mark.quick(1)
@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_bar_is_as_wide_as_the_terminal(width):
    lines = drawn(BARS, width)
    assert {len(line) for line in lines} <= {width, width - 1}
    assert all(line.endswith(("-:--:--", "0:00:00", "0:00:01")) for line in lines)
    for start in ("masks ━", "losses without a mask of {th", "score of a_long_name_"):
        assert any(line.startswith(start) for line in lines), start


@pytest.mark.parametrize(
    ("room", "line"),
    [
        (62, "epoch 12  selection 0.00123  hides 34 %, best 12 %  12:30 left"),
        (61, "epoch 12  selection 0.00123  12:30 left"),
        (38, "epoch 12  12:30 left"),
        (10, "12:30 left"),
        (9, ""),
    ],
)
def test_a_narrow_terminal_shows_what_matters_most_of_a_training(room, line):
    facts = {
        "epoch": "epoch 12",
        "selection": "selection 0.00123",
        "status": "hides 34 %, best 12 %",
        "remaining": "12:30 left",
    }
    assert fitting(facts, room) == line


@pytest.mark.thorough
def test_the_bar_of_a_training_is_as_wide_as_the_terminal():
    lines = drawn(TRAINING, 60)
    bars = [line for line in lines if line.startswith("scorer ")]
    assert {len(line) for line in bars} <= {60}
    assert any("epoch 1 " in line for line in bars)


TRAINING = f"""
import sys, tempfile, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {str(Path(__file__).parent)!r})
from synthetic_triplets import triplets
from conformask.extras.train import NetworkOptions, TrainingConfig
from conformask.extras.train.fit import fit_scorer
fit_scorer(triplets(32, 0), selection=triplets(12, 1), out=tempfile.mkdtemp(),
           training=TrainingConfig(epochs=1), network=NetworkOptions(width=2))
"""


def test_results_come_in_order_whoever_is_done_first():
    def slow(number):
        time.sleep(0.002 * (number % 3))
        return number * number

    assert list(prefetch(slow, range(50))) == [number * number for number in range(50)]
    assert list(prefetch(slow, [])) == []


def test_threads_work_while_the_caller_does():
    begun = []
    results = prefetch(lambda number: begun.append(number) or number, range(100), lambda _: 1)
    next(results), next(results)
    time.sleep(0.1)
    assert len(begun) == DEPTH + 1, "the caller holds one, the others wait"
    results.close()


def test_no_more_is_kept_than_the_memory_allows():
    begun = []
    results = prefetch(lambda number: begun.append(number), range(100), lambda _: BYTES // 3)
    for taken in range(1, 20):
        next(results)
        time.sleep(0.005)
        assert len(begun) <= taken + 3
    results.close()


def test_one_thread_is_one_thread():
    here = threading.get_ident()
    threads = set(prefetch(lambda _: threading.get_ident(), range(30), threads=1))
    assert len(threads) == 1
    assert here not in threads
    assert 1 < len(set(prefetch(lambda _: time.sleep(0.01) or threading.get_ident(), range(30)))) <= THREADS


def test_an_error_comes_in_its_place_and_ends_the_work():
    begun, before = [], set(threading.enumerate())

    def work(number):
        begun.append(number)
        if number == 5:
            raise ValueError("number 5")
        return number

    results = prefetch(work, range(1000))
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="number 5"):
        next(results)
    assert len(begun) < 20
    assert set(threading.enumerate()) <= before, "its threads are gone"
