"""Progress is told in logs, too, where no bar can be drawn."""

from pathlib import Path

import pytest

from conformask import background as progress
from conformask.background import tracked
from conformask.extras.train import NetworkOptions, TrainingConfig
from conformask.extras.train.fit import fit_scorer
from conformask.extras.train.training import fitting
from synthetic_triplets import triplets
from terminal import drawn


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.0)


def test_a_line_now_and_then(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(tracked("abc", "reading", 5, 2)) == ["a", "b", "c"]
    assert capfd.readouterr().err.splitlines() == ["reading 2/5", "reading 4/5", "reading 5/5"]


def test_items_that_are_several_things(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(tracked(["ab", "c"], "reading", 3, len)) == ["ab", "c"]
    assert capfd.readouterr().err.splitlines() == ["reading 2/3", "reading 3/3"]


def test_nothing_before_a_line_is_due(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS", 30.0)
    assert list(tracked("abc", "reading", 3)) == ["a", "b", "c"]
    assert capfd.readouterr().err == ""


def test_other_processes_are_silent(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert list(tracked("abc", "reading", 3)) == ["a", "b", "c"]
    assert capfd.readouterr().err == ""


@pytest.mark.filterwarnings("ignore")
def test_a_training_tells_what_it_does_to_its_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
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


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_bar_is_as_wide_as_the_terminal(width: int) -> None:
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
def test_a_narrow_terminal_shows_what_matters_most_of_a_training(room: int, line: str) -> None:
    facts = {
        "epoch": "epoch 12",
        "selection": "selection 0.00123",
        "status": "hides 34 %, best 12 %",
        "remaining": "12:30 left",
    }
    assert fitting(facts, room) == line


@pytest.mark.thorough
def test_the_bar_of_a_training_is_as_wide_as_the_terminal() -> None:
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
