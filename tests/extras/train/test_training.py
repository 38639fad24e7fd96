"""Training: what it writes and resumes, its losses, and when it stops because nothing improves."""

import csv
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from conformask.arrays import seeded
from conformask.cli import main
from conformask.errors import InvalidArgumentError, MismatchError, MissingFileError
from conformask.extras.train import DEFAULT_EPOCHS, TrainingConfig
from conformask.extras.train.training import (
    CUT,
    MARGIN,
    Budget,
    CachedReader,
    ShuffledByEpoch,
    clock,
    fit,
    flipped,
    schedule,
)
from conformask.images.read import write_image
from conformask.losses import loss
from conformask.scores.network_scorer import load_scorer, mask_loss, straight_through_clip
from screens import heed_ctrl_c


class Counting(TensorDataset):
    """Indices count on from epoch to epoch, as training gives them."""

    def __getitem__(self, index):
        return super().__getitem__(index % len(self))


GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(24, 1, 6, 6, generator=GENERATOR)
WORLD = Counting(X, 1 - X + 0.1 * torch.randn(X.shape, generator=GENERATOR))
HELD_OUT = Counting(X[:5], 1 - X[:5])
PLAN = TrainingConfig(epochs=4, batch_size=8, learning_rate=0.02)


def small_network():
    with seeded(7):
        return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))


def squares(network, batch):
    return (network(batch[0]) - batch[1]).square().mean((1, 2, 3))


def train(out, plan=PLAN, *, resume=False, data="world"):
    network = small_network()
    config = replace(plan, resume=resume)
    fit(network, squares, WORLD, HELD_OUT, out, config, title="test", identity={"data": data})
    return network


def rows(out):
    with (out / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def without_seconds(out):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows(out)]


def assert_same_weights(one, other):
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


# losses
def optimum(loss, start):
    value = torch.tensor(start, requires_grad=True)
    adam = torch.optim.Adam([value], lr=0.02)
    for _ in range(600):
        adam.zero_grad()
        loss(value).backward()
        adam.step()
    return float(value.detach())


def test_losses_are_per_image():
    y, y_hat = torch.rand(2, 3, 1, 5, 5, generator=GENERATOR)
    both = mask_loss(0.5 * y, y, y_hat, loss("l1"))
    assert both.shape == (3,)
    torch.testing.assert_close(both[1:2], mask_loss(0.5 * y[1:2], y[1:2], y_hat[1:2], loss("l1")))


@pytest.mark.parametrize(("error", "expected"), [(0.3, 0.7), (0.0, 1.0), (0.9, 0.3)])
def test_mask_loss_is_least_at_one_minus_the_error(error, expected):
    y = torch.full((1, 1, 4, 4), 0.95)
    spread = torch.tensor([0.5, 1.5]).repeat(8).view(1, 1, 4, 4)
    y_hat = y - error * spread.clamp(max=0.95 / max(error, 1e-9))
    mean = float((y - y_hat).abs().mean())
    found = optimum(
        lambda v: mask_loss(straight_through_clip(v.expand_as(y)), y, y_hat, loss("l1"), mu=2.0).sum(), 1.0
    )
    assert min(max(found, 0.0), 1.0) == pytest.approx(1 - mean, abs=0.01)
    assert 1 - mean == pytest.approx(expected, abs=0.15)


def test_mask_loss_of_l1_is_least_squares_of_the_error():
    mask, y, y_hat = torch.rand(3, 4, 1, 5, 5, generator=GENERATOR)
    error = (y - y_hat).abs()
    squares = ((1 - mask - error) ** 2 + 2 * error - error**2).mean((1, 2, 3))
    torch.testing.assert_close(mask_loss(mask, y, y_hat, loss("l1")), squares)


def test_mask_loss_clips_to_zero_where_mu_is_large():
    y, y_hat = torch.ones(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.5)
    found = optimum(
        lambda v: mask_loss(straight_through_clip(v.expand_as(y)), y, y_hat, loss("l1"), 8.0).sum(), 1.0
    )
    assert found <= 0.01


def test_mask_loss_is_equation_6():
    y, y_hat, mask = torch.rand(3, 2, 3, 5, 5, generator=GENERATOR)
    expected = ((mask - 1) ** 2).mean((1, 2, 3)) + 3 * (mask * (y - y_hat)).pow(2).mean((1, 2, 3))
    torch.testing.assert_close(mask_loss(mask, y, y_hat, loss("l2"), mu=3.0), expected)


@pytest.mark.parametrize(("sign", "expected"), [(1.0, [0.0, 1.0, 1.0]), (-1.0, [-1.0, -1.0, 0.0])])
def test_straight_through_clip_lets_what_lies_outside_come_back_only(sign, expected):
    value = torch.tensor([-1.0, 0.5, 2.0], requires_grad=True)
    clipped = straight_through_clip(value)
    torch.testing.assert_close(clipped.detach(), torch.tensor([0.0, 0.5, 1.0]))
    (sign * clipped).sum().backward()  # descent goes against the sign
    torch.testing.assert_close(value.grad, torch.tensor(expected))


# the plan and its pieces
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs = 0: must be a number above 0"),
        ({"max_minutes": -1.0}, "max_minutes"),
        ({"epochs": 1, "batch_size": 0}, "batch_size"),
        ({"patience": 0}, "patience = 0: must be a number above 0"),
        ({"epochs": 1, "learning_rate": math.nan}, "learning_rate"),
    ],
)
def test_plans_that_are_refused(settings, message):
    with pytest.raises(InvalidArgumentError, match=message):
        TrainingConfig(**settings)


def test_the_order_depends_on_seed_and_epoch_only():
    def order(seed, epoch):
        sampler = ShuffledByEpoch(10, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 3) == order(0, 3)
    assert sorted(order(0, 3)) == list(range(30, 40)), "each index tells its epoch"
    assert [i % 10 for i in order(0, 3)] != [i % 10 for i in order(0, 4)]
    assert order(0, 3) != order(1, 3)


def test_flips_depend_on_seed_and_step_and_treat_a_triplet_as_one():
    images = torch.arange(64.0).view(16, 1, 1, 4)
    one, two = flipped([images, images + 1], 0, 0, 0)
    torch.testing.assert_close(one + 1, two)
    changed = (one != images).any(dim=3).flatten()
    assert 0 < changed.sum() < 16
    torch.testing.assert_close(one[changed], images[changed].flip(-1))
    assert torch.equal(flipped([images], 0, 0, 0)[0], one)
    for other in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        assert not torch.equal(flipped([images], *other)[0], one)


def test_turns_are_the_symmetries_of_the_image():
    square = torch.arange(9.0).view(1, 1, 3, 3).expand(400, 1, 3, 3)
    turned = flipped([square], 0, 0, 0, turns=True)[0]
    expected = {
        tuple(torch.rot90(image, quarters, (-2, -1)).flatten().tolist())
        for image in (square[0], square[0].flip(-1))
        for quarters in range(4)
    }
    assert {tuple(image.flatten().tolist()) for image in turned} == expected
    wide = torch.arange(6.0).view(1, 1, 2, 3).expand(400, 1, 2, 3)
    assert len({tuple(image.flatten().tolist()) for image in flipped([wide], 0, 0, 0, turns=True)[0]}) == 4
    one, two = flipped([square, square + 1], 3, 2, 1, turns=True)
    torch.testing.assert_close(one + 1, two)


def test_schedule_warms_up_and_falls():
    values = [schedule(spent) for spent in np.linspace(0, 1, 101)]
    assert values[0] == pytest.approx(0.1)
    assert max(values) == values[3] == pytest.approx(1.0)
    assert all(np.diff(values[3:]) < 0)
    assert values[-1] == pytest.approx(0.01)


def test_seeded_leaves_the_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with seeded(11):
        torch.rand(7)
    assert torch.equal(torch.rand(4), expected)


def test_images_are_read_once_while_they_fit(monkeypatch):
    read: list[int] = []
    monkeypatch.setattr("conformask.extras.train.training.LIMIT", 12 * 4)
    remembered = CachedReader(lambda index: (read.append(index), (torch.full((10,), float(index)),))[1])
    assert [float(remembered(index)[0][0]) for index in (0, 1, 0, 1, 1)] == [0, 1, 0, 1, 1]
    assert read == [0, 1, 1, 1]


@pytest.mark.thorough
def test_processes_read_what_does_not_fit_and_change_nothing(tmp_path, monkeypatch):
    network, loaders = train(tmp_path / "in memory"), []
    monkeypatch.setattr("conformask.extras.train.training.LIMIT", 1)
    monkeypatch.setattr("conformask.extras.train.training.WORKERS", 2)
    monkeypatch.setattr("conformask.extras.train.training.os.cpu_count", lambda: 4)
    original = DataLoader.__init__

    def noted(loader, *given, **how):
        original(loader, *given, **how)
        loaders.append(loader.num_workers)

    monkeypatch.setattr(DataLoader, "__init__", noted)
    assert_same_weights(train(tmp_path / "read"), network)
    assert set(loaders) == {2}


def test_clock():
    assert [clock(seconds) for seconds in (0, 61.9, 3600)] == ["0:00", "1:01", "60:00"]


# whole trainings
def test_the_same_seed_gives_the_same_weights(tmp_path):
    one, two = train(tmp_path / "a"), train(tmp_path / "b")
    assert_same_weights(one, two)
    assert without_seconds(tmp_path / "a") == without_seconds(tmp_path / "b")
    other = train(tmp_path / "c", TrainingConfig(epochs=4, batch_size=8, learning_rate=0.02, seed=1))
    assert not torch.equal(other[0].weight, one[0].weight)


def test_what_a_training_leaves(tmp_path):
    network = train(tmp_path)
    written = rows(tmp_path)
    assert [int(row["epoch"]) for row in written] == [0, 1, 2, 3]
    assert [int(row["step"]) for row in written] == [3, 6, 9, 12]
    assert float(written[-1]["loss"]) < float(written[0]["loss"])
    best = min(range(4), key=lambda k: float(written[k]["selection_loss"]))
    held = torch.cat(
        [squares(network, [a[None], b[None]]) for a, b in zip(*HELD_OUT.tensors, strict=True)]
    ).mean()
    assert float(held) == pytest.approx(float(written[best]["selection_loss"]), rel=0.05)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    saved = load_file(tmp_path / "checkpoints" / "best.safetensors")
    assert torch.equal(saved["0.weight"], network[0].weight)
    assert not list(tmp_path.rglob(".*")), "unfinished files are left"


def test_the_best_epoch_is_kept(tmp_path):
    """Weights of the lowest selection loss, not the last ones."""

    def moving(network, batch):
        if network.training:
            return -network(batch[0]).mean((1, 2, 3))
        return (network(batch[0]) - 0.1).square().mean((1, 2, 3))

    class Level(nn.Module):
        def __init__(self):
            super().__init__()
            self.level = nn.Parameter(torch.zeros(()))

        def forward(self, image):
            return self.level.expand_as(image)

    network = Level()
    plan = TrainingConfig(epochs=6, batch_size=8, learning_rate=0.03)
    fit(network, moving, WORLD, HELD_OUT, tmp_path, plan, title="test", identity={})
    losses = [float(row["selection_loss"]) for row in rows(tmp_path)]
    assert losses.index(min(losses)) < 5
    assert (float(network.level) - 0.1) ** 2 == pytest.approx(min(losses), rel=0.1)


@pytest.fixture
def killed(monkeypatch):
    """Presses Ctrl-C in the middle of the third epoch."""
    original = Budget.on_train_batch_start

    def start(self, trainer, module, batch, index):
        if trainer.current_epoch == 2 and index == 1:
            raise KeyboardInterrupt
        original(self, trainer, module, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Budget, "on_train_batch_start", start)
        yield patch


def test_a_killed_run_resumes_to_the_same_weights(tmp_path, killed):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed")
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(rows(tmp_path / "killed")) == 2
    killed.undo()
    resumed, whole = train(tmp_path / "killed", resume=True), train(tmp_path / "whole")
    assert_same_weights(resumed, whole)
    assert without_seconds(tmp_path / "killed") == without_seconds(tmp_path / "whole")
    seconds = [float(row["seconds"]) for row in rows(tmp_path / "killed")]
    assert seconds == sorted(seconds)


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    first = train(tmp_path)
    before = without_seconds(tmp_path)
    assert_same_weights(train(tmp_path, resume=True), first)
    assert without_seconds(tmp_path) == before


def test_resume_where_nothing_was_begun(tmp_path):
    train(tmp_path, resume=True)
    assert len(rows(tmp_path)) == 4


def test_of_a_stopped_run_it_says_how_to_finish_it(tmp_path):
    train(tmp_path, TrainingConfig(epochs=1))
    with pytest.raises(
        MissingFileError, match=r"was stopped: finish it .* conformask train \.\.\. .* --resume"
    ):
        load_scorer(tmp_path)


def test_a_folder_in_use_is_refused(tmp_path):
    train(tmp_path, TrainingConfig(epochs=1))
    before = (tmp_path / "metrics.csv").read_bytes()
    with pytest.raises(MismatchError, match="already contains a training run: resume it"):
        train(tmp_path, TrainingConfig(epochs=1))
    assert (tmp_path / "metrics.csv").read_bytes() == before


def test_resume_with_other_settings_names_them(tmp_path):
    train(tmp_path, TrainingConfig(epochs=1))
    with pytest.raises(MismatchError, match=r"different settings \(learning_rate, seed\): use the same"):
        train(tmp_path, TrainingConfig(epochs=1, learning_rate=1.0, seed=4), resume=True)
    with pytest.raises(MismatchError, match=r"different settings \(data\): use the same"):
        train(tmp_path, TrainingConfig(epochs=1), resume=True, data="moon")
    train(tmp_path, TrainingConfig(epochs=1), resume=True)


@pytest.mark.thorough
def test_minutes_stop_within_an_epoch_and_everything_is_written(tmp_path):
    def slow(network, batch):
        time.sleep(0.05)
        return squares(network, batch)

    data = Counting(X.repeat(20, 1, 1, 1), X.repeat(20, 1, 1, 1))
    network, plan = small_network(), TrainingConfig(max_minutes=0.6 / 60, batch_size=2)
    begun = time.monotonic()
    fit(network, slow, data, HELD_OUT, tmp_path, plan, title="test", identity={})
    assert time.monotonic() - begun < 8, "240 batches would take 12 seconds"
    written = rows(tmp_path)
    assert len(written) == 1
    assert 1 <= int(written[0]["step"]) < 240
    assert math.isfinite(float(written[0]["selection_loss"]))
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_fewer_images_than_a_batch(tmp_path):
    few = Counting(X[:3], X[:3])
    plan = TrainingConfig(epochs=2, batch_size=16)
    fit(small_network(), squares, few, few, tmp_path, plan, title="test", identity={})
    assert [int(row["step"]) for row in rows(tmp_path)] == [1, 2]


@pytest.mark.slow
def test_ctrl_c_on_the_command_line(tmp_path):
    generator = np.random.default_rng(0)
    for index in range(24):
        y = generator.random((1, 8, 8)).astype(np.float32)
        noise = 0.2 * generator.random((1, 8, 8)).astype(np.float32)
        for role, image in (("x", y), ("y_hat", (y + noise).clip(0, 1)), ("y", y)):
            write_image(tmp_path / "data" / role / f"{index}.png", image)
    run = tmp_path / "run"
    verb = ["train", str(tmp_path / "data"), str(run), "--epochs", "60", "--width", "4", "--batch-size", "8"]
    command = [sys.executable, "-c", "from conformask.cli import main; main()", *verb]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    options = {"stderr": subprocess.PIPE, "text": True, "env": environment, "preexec_fn": heed_ctrl_c}
    with subprocess.Popen(command, **options) as process:
        deadline = time.monotonic() + 60
        while not (run / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "--resume" in errors
    assert "Traceback" not in errors
    done = len(rows(run))
    assert 1 <= done < 60
    main([*verb, "--resume"])
    assert [int(row["epoch"]) for row in rows(run)] == list(range(60))
    assert (run / "scorer.safetensors").exists()


PATIENCE = 3
RATE = 0.03
PATIENT = TrainingConfig(patience=PATIENCE, batch_size=8, learning_rate=RATE)


BLANK = Counting(torch.zeros(24, 1, 2, 2))


class Level(nn.Module):
    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))

    def forward(self, image):
        return self.level.expand_as(image)


def rising(network, batch):
    """Training lets the level rise without end; the selection loss is least where it passes 0.2."""
    level = network(batch[0]).mean((1, 2, 3))
    return -level if network.training else (level - 0.2).square()


def train_patiently(out, plan=PATIENT, *, resume=False):
    network = Level()
    fit(
        network,
        rising,
        BLANK,
        BLANK,
        out,
        replace(plan, resume=resume),
        title="test",
        identity={},
    )
    return network


def column(out, name):
    with (out / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def test_it_stops_when_the_loss_has_not_improved_and_keeps_the_best(tmp_path):
    network = train_patiently(tmp_path)
    losses = column(tmp_path, "selection_loss")
    best = losses.index(min(losses))
    assert best > 0
    assert len(losses) == best + 1 + PATIENCE
    assert (float(network.level) - 0.2) ** 2 == pytest.approx(min(losses), rel=0.1)


def test_the_learning_rate_is_cut_after_each_third_of_patience_without_improvement(tmp_path):
    train_patiently(tmp_path)
    losses, rates = column(tmp_path, "selection_loss"), column(tmp_path, "learning_rate")
    best, cuts = math.inf, 0
    for value, rate in zip(losses, rates, strict=True):
        assert rate == pytest.approx(RATE * CUT**cuts)  # a third of the patience of 3 is one epoch
        cuts += value > best
        best = min(best, value)
    assert cuts >= PATIENCE


def test_an_improvement_too_small_to_tell_is_none(tmp_path):
    def flat(network, batch):
        level = network(batch[0]).mean((1, 2, 3))
        return -level if network.training else 1 - MARGIN / 100 * level

    fit(
        Level(),
        flat,
        BLANK,
        BLANK,
        tmp_path,
        PATIENT,
        title="test",
        identity={},
    )
    losses = column(tmp_path, "selection_loss")
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    assert len(losses) == 1 + PATIENCE


def test_epochs_are_a_cap(tmp_path):
    train_patiently(tmp_path, TrainingConfig(epochs=2, patience=PATIENCE, batch_size=8, learning_rate=RATE))
    assert len(column(tmp_path, "epoch")) == 2


def test_a_run_that_lost_patience_is_finished(tmp_path):
    first = train_patiently(tmp_path)
    before = (tmp_path / "metrics.csv").read_bytes()
    again = train_patiently(tmp_path, resume=True)
    assert (tmp_path / "metrics.csv").read_bytes() == before
    assert torch.equal(first.level, again.level)


def test_a_killed_run_remembers_how_long_it_waited(tmp_path, monkeypatch):
    whole = train_patiently(tmp_path / "whole")
    losses = column(tmp_path / "whole", "selection_loss")
    original = Budget.on_train_batch_start

    def killed(self, trainer, module, batch, index):
        if trainer.current_epoch == len(losses) - 1:
            raise KeyboardInterrupt
        original(self, trainer, module, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Budget, "on_train_batch_start", killed)
        patch.setattr("conformask.extras.train.training.SAVE_SECONDS", 0)
        with pytest.raises(KeyboardInterrupt):
            train_patiently(tmp_path / "killed")
    resumed = train_patiently(tmp_path / "killed", resume=True)
    assert column(tmp_path / "killed", "selection_loss") == losses
    assert torch.equal(resumed.level, whole.level)


def test_a_finished_run_by_minutes_is_finished(tmp_path, monkeypatch):
    plan = TrainingConfig(max_minutes=0.2 / 60, batch_size=8)
    train_patiently(tmp_path, plan)
    before = column(tmp_path, "step")
    monkeypatch.setattr("conformask.extras.train.training.PASSES_AFTER", 0)  # measured anew, it is less
    train_patiently(tmp_path, plan, resume=True)
    assert column(tmp_path, "step") == before


def test_epochs_are_thirty_only_where_nothing_else_is_said():
    assert TrainingConfig().resolved(1000).epochs == DEFAULT_EPOCHS
    assert TrainingConfig().resolved(100).epochs == 64
    assert TrainingConfig(max_minutes=1.0).resolved(100).epochs is None
    assert TrainingConfig(patience=5).resolved(100).epochs is None
    assert TrainingConfig(7, 1.0, patience=5).resolved(100).epochs == 7
