"""Progress is told in logs, too, where no bar can be drawn."""

from pathlib import Path

import pytest

from conformask import progress
from conformask.progress import tracked
from conformask.scorers.fit import fit_scorer
from conformask.scorers.initial_network import NetworkOptions
from conformask.training.fit import TrainingConfig
from synthetic_triplets import triplets


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
    for told in ("scorer 50%  epoch 1", "grids 12/12", "selection 12/12", "comparing spread 12/12"):
        assert any(line.startswith(told) for line in lines), told
