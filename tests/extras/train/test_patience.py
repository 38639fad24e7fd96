"""Training that stops when the selection loss has not improved for a while."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from conformask.extras.train import DEFAULT_EPOCHS, TrainingConfig
from conformask.extras.train.training import CUT, MARGIN, Budget, TensorBatch, fit

PATIENCE = 3
RATE = 0.03
PLAN = TrainingConfig(patience=PATIENCE, batch_size=8, learning_rate=RATE)


class Counting(TensorDataset):
    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return super().__getitem__(index % len(self))


WORLD = Counting(torch.zeros(24, 1, 2, 2))


class Level(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))

    def forward(self, image: Tensor) -> Tensor:
        return self.level.expand_as(image)


def rising(network: nn.Module, batch: TensorBatch) -> Tensor:
    """Training lets the level rise without end; the selection loss is least where it passes 0.2."""
    level = network(batch[0]).mean((1, 2, 3))
    return -level if network.training else (level - 0.2).square()


def train(out: Path, plan: TrainingConfig = PLAN, *, resume: bool = False) -> Level:
    network = Level()
    fit(network, rising, WORLD, WORLD, out, replace(plan, resume=resume), title="test", identity={})
    return network


def column(out: Path, name: str) -> list[float]:
    with (out / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def test_it_stops_when_the_loss_has_not_improved_and_keeps_the_best(tmp_path: Path) -> None:
    network = train(tmp_path)
    losses = column(tmp_path, "selection_loss")
    best = losses.index(min(losses))
    assert best > 0
    assert len(losses) == best + 1 + PATIENCE
    assert (float(network.level) - 0.2) ** 2 == pytest.approx(min(losses), rel=0.1)


def test_the_learning_rate_is_cut_after_each_third_of_patience_without_improvement(tmp_path: Path) -> None:
    train(tmp_path)
    losses, rates = column(tmp_path, "selection_loss"), column(tmp_path, "learning_rate")
    best, cuts = math.inf, 0
    for loss, rate in zip(losses, rates, strict=True):
        assert rate == pytest.approx(RATE * CUT**cuts)  # a third of the patience of 3 is one epoch
        cuts += loss > best
        best = min(best, loss)
    assert cuts >= PATIENCE


def test_an_improvement_too_small_to_tell_is_none(tmp_path: Path) -> None:
    def flat(network: nn.Module, batch: TensorBatch) -> Tensor:
        level = network(batch[0]).mean((1, 2, 3))
        return -level if network.training else 1 - MARGIN / 100 * level

    fit(Level(), flat, WORLD, WORLD, tmp_path, PLAN, title="test", identity={})
    losses = column(tmp_path, "selection_loss")
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    assert len(losses) == 1 + PATIENCE


def test_epochs_are_a_cap(tmp_path: Path) -> None:
    train(tmp_path, TrainingConfig(epochs=2, patience=PATIENCE, batch_size=8, learning_rate=RATE))
    assert len(column(tmp_path, "epoch")) == 2


def test_a_run_that_lost_patience_is_finished(tmp_path: Path) -> None:
    first = train(tmp_path)
    before = (tmp_path / "metrics.csv").read_bytes()
    again = train(tmp_path, resume=True)
    assert (tmp_path / "metrics.csv").read_bytes() == before
    assert torch.equal(first.level, again.level)


def test_a_killed_run_remembers_how_long_it_waited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(tmp_path / "whole")
    losses = column(tmp_path / "whole", "selection_loss")
    original = Budget.on_train_batch_start

    def killed(self: Budget, trainer: L.Trainer, module: L.LightningModule, batch, index: int) -> None:
        if trainer.current_epoch == len(losses) - 1:
            raise KeyboardInterrupt
        original(self, trainer, module, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Budget, "on_train_batch_start", killed)
        patch.setattr("conformask.extras.train.training.SAVE_SECONDS", 0)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "killed")
    resumed = train(tmp_path / "killed", resume=True)
    assert column(tmp_path / "killed", "selection_loss") == losses
    assert torch.equal(resumed.level, whole.level)


def test_a_finished_run_by_minutes_is_finished(tmp_path: Path) -> None:
    plan = TrainingConfig(max_minutes=0.2 / 60, batch_size=8)
    train(tmp_path, plan)
    before = column(tmp_path, "step")
    train(tmp_path, plan, resume=True)
    assert column(tmp_path, "step") == before


def test_epochs_are_thirty_only_where_nothing_else_is_said() -> None:
    assert TrainingConfig().resolved(1000).epochs == DEFAULT_EPOCHS
    assert TrainingConfig().resolved(100).epochs == 64
    assert TrainingConfig(max_minutes=1.0).resolved(100).epochs is None
    assert TrainingConfig(patience=5).resolved(100).epochs is None
    assert TrainingConfig(7, 1.0, patience=5).resolved(100).epochs == 7
