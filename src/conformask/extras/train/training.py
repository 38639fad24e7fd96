"""Training of a network on tensors, within a budget, into a run folder that a killed run resumes from.

With several devices Lightning starts the same command again for each of them: every process reads the images,
trains on its share of each epoch, and ends with the same weights; only the first writes.
"""

import contextlib
import logging
import math
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal
from zipfile import ZipFile

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from conformask.arrays import Images, full_precision, per_image, to_channels_last
from conformask.background import DEFAULT_DEVICES, SECONDS, Compute, Lines, check_processes
from conformask.errors import MismatchError, MissingFileError, warn
from conformask.extensions import pip_install
from conformask.extras.train import BATCH_SIZE, FROM_SCRATCH, TrainingConfig
from conformask.records.record import Json, atomic_write, read_json, to_jsonable, write_csv, write_json
from conformask.scores.network_scorer import load_into, save_weights

try:
    import lightning as L
    from lightning.pytorch.core.optimizer import LightningOptimizer
except ImportError as error:
    raise MissingFileError(f"training needs lightning: {pip_install('train')}") from error

TensorBatch = list[Tensor]
Objective = Callable[[nn.Module, TensorBatch], Tensor]
"""A callable (network, batch) -> loss of each image, (N,)."""


class NetworkModule(L.LightningModule):
    """A network in training; the budget sets the learning rate step by step."""

    losses: ClassVar[tuple[str, ...]] = ("loss",)
    """Losses logged once per epoch, in addition to selection_loss."""
    keeps_last: ClassVar[bool] = False
    """True if training ends with the last epoch's weights, not with those of the lowest selection loss."""

    def __init__(self, network: nn.Module, *, learning_rate: float, seed: int) -> None:
        super().__init__()
        self.network, self.learning_rate, self.seed = network, learning_rate, seed


class TrainingModule(NetworkModule):
    """AdamW on mean(objective), with random flips that depend only on seed, step and process: see flipped."""

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        *,
        learning_rate: float,
        seed: int,
        turns: bool = False,
    ) -> None:
        super().__init__(network, learning_rate=learning_rate, seed=seed)
        self.objective, self.turns = objective, turns

    def training_step(self, batch: TensorBatch, index: int) -> Tensor:
        """Compute the loss of one batch."""
        batch = flipped(batch, self.seed, self.global_step, self.global_rank, turns=self.turns)
        loss = self.objective(self.network, batch).mean()
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: TensorBatch, index: int) -> None:
        """Add to selection_loss, the mean over the selection images."""
        loss = self.objective(self.network, batch).mean()
        self.log("selection_loss", loss, on_epoch=True, sync_dist=True, batch_size=len(batch[0]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW."""
        return torch.optim.AdamW(self.network.parameters(), lr=self.learning_rate, weight_decay=1e-4)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the network's weights alone."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Load weights that state_dict returned."""
        return self.network.load_state_dict(state_dict, strict=strict, assign=assign)


def flipped(batch: TensorBatch, seed: int, step: int, rank: int, *, turns: bool = False) -> TensorBatch:
    """Mirror half of the images left to right, all roles of an image alike.

    With `turns`, each image is transformed by one of the eight symmetries of the square, or of the four of a
    rectangle if its sides differ.
    """
    generator = torch.Generator().manual_seed(hash((seed, step, rank)))
    moves: list[Callable[[Tensor], Tensor]] = [partial(torch.flip, dims=(-1,))]
    if turns:
        moves += [partial(torch.flip, dims=(axis,)) for axis in range(2, batch[0].ndim - 1)]
    if turns and all(images.shape[-1] == images.shape[-2] for images in batch):
        moves.append(lambda images: images.mT)
    for moved in moves:
        flips = torch.rand(len(batch[0]), generator=generator) < 0.5
        batch = [
            torch.where(per_image(flips, images).to(images.device), moved(images), images) for images in batch
        ]
    return batch


Generate = Callable[[nn.Module, TensorBatch], tuple[Images, Images, Images]]
"""A callable (network, batch) -> x at the size of y, y_hat and y."""

L1_WEIGHT = 20.0
"""Weight of the L1 loss, the paper's lambda."""
BETAS = (0.5, 0.999)
"""Momentum parameters of Adam, as usual for GANs."""


class Adversarial(NetworkModule):
    """Minimises adversarial loss + 20 * L1, alternating with the discriminator's halved loss; Adam.

    The discriminator gets (x, y) or (x, y_hat) on the channel axis, scaled to [-1, 1], and returns a logit
    for each patch. The selection loss is the L1 of y_hat; a GAN selected by it would be a regressor again, so
    training keeps the last epoch's weights.
    """

    losses = ("loss", "adversarial_loss", "discriminator_loss")
    keeps_last = True

    def __init__(
        self,
        network: nn.Module,
        discriminator: nn.Module,
        generate: Generate,
        *,
        learning_rate: float,
        seed: int,
    ) -> None:
        super().__init__(network, learning_rate=learning_rate, seed=seed)
        self.automatic_optimization = False
        self.discriminator, self.generate = discriminator, generate

    def training_step(self, batch: TensorBatch, index: int) -> Tensor:
        """Take one step of the discriminator, then one of the generator."""
        batch = flipped(batch, self.seed, self.global_step, self.global_rank)
        x, y_hat, y = self.generate(self.network, batch)
        generator, discriminator = self.optimizers()  # type: ignore[attr-defined]
        real = realness_loss(self._logits(x, y), real=True)
        real_or_made = (real + realness_loss(self._logits(x, y_hat.detach()), real=False)) / 2
        self._step(discriminator, real_or_made)
        self.discriminator.requires_grad_(False)
        adversarial = realness_loss(self._logits(x, y_hat), real=True)
        loss = adversarial + L1_WEIGHT * (y - y_hat).abs().mean()
        self._step(generator, loss)
        self.discriminator.requires_grad_(True)
        values = dict(zip(self.losses, (loss, adversarial, real_or_made), strict=True))
        self.log_dict(values, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(y))
        return loss.detach()

    def validation_step(self, batch: TensorBatch, index: int) -> None:
        """Add to selection_loss, the mean L1 over the selection images."""
        _, y_hat, y = self.generate(self.network, batch)
        self.log("selection_loss", (y - y_hat).abs().mean(), on_epoch=True, sync_dist=True, batch_size=len(y))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam for the generator and the discriminator."""
        return [
            torch.optim.Adam(network.parameters(), lr=self.learning_rate, betas=BETAS)
            for network in (self.network, self.discriminator)
        ]

    def _logits(self, x: Images, y: Images) -> Images:
        logits: Images = self.discriminator(2 * torch.cat([x, y], dim=1) - 1)
        return logits

    def _step(self, optimizer: torch.optim.Optimizer | LightningOptimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


def realness_loss(logits: Images, *, real: bool) -> Float[Tensor, ""]:
    """Compute binary cross entropy of logits for images that are all real, or all made; in float32."""
    with full_precision(logits):
        target = torch.full_like(logits, float(real), dtype=torch.float32)
        return F.binary_cross_entropy_with_logits(logits.float(), target)


WARM_UP = 0.03
"""The share of a training run in which the learning rate rises."""
MARGIN = 1e-4
"""A loss that is lower by less than this fraction of it has not improved."""
CUTS, CUT = 3, 0.3
"""Number of cuts of the learning rate within the patience, and the factor of each cut."""


class Budget(L.Callback):
    """Stops when epochs or minutes are spent, or the selection loss has not improved for `patience` epochs.

    The learning rate warms up, then falls as a cosine; with patience, whose end is not known in advance, it
    is cut permanently after each third of it without improvement of the loss. Minutes count training itself,
    over all resumed runs. With several processes the clock of the first counts, so that all take the same
    steps.
    """

    def __init__(
        self,
        *,
        epochs: int | None,
        max_minutes: float | None,
        learning_rate: float,
        patience: int | None = None,
        minutes_after: float = 0.0,
    ) -> None:
        self.epochs, self.patience, self.learning_rate = epochs, patience, learning_rate
        self.max_minutes, self.minutes_after = max_minutes, minutes_after
        self.best, self.waited, self.share = math.inf, 0, 1.0
        self.spent = self.elapsed_before = self.started = 0.0

    @property
    def seconds(self) -> float | None:
        """The seconds of training: all of max_minutes but those kept back for the work that follows."""
        minutes = self.max_minutes
        return None if minutes is None else 60 * (minutes - min(self.minutes_after, MOST_AFTER * minutes))

    def elapsed(self) -> float:
        """Return the seconds of training so far."""
        return self.elapsed_before + time.monotonic() - self.started

    def is_over(self, elapsed: float) -> bool:
        """Return whether this many seconds are all of max_minutes."""
        return self.seconds is not None and elapsed >= self.seconds

    def remaining(self) -> float:
        """Estimate the seconds that remain from the share of the budget that is spent."""
        return self.elapsed() * (1 / self.spent - 1) if self.spent else math.inf

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock; a finished run stays finished, unless its budget was extended."""
        self.started = time.monotonic()
        self._spend(trainer, trainer.current_epoch)
        if self.patience is not None and self.waited >= self.patience:
            self.spent = 1.0
        trainer.should_stop = self.spent >= 1.0

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of this step."""
        share = schedule(self.spent) if self.patience is None else self.share
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * share

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Stop when the budget is spent."""
        self._spend(trainer, trainer.current_epoch + (args[-1] + 1) / trainer.num_training_batches)
        trainer.should_stop = self.spent >= 1.0

    def _spend(self, trainer: L.Trainer, epochs: float) -> None:
        by_epochs = epochs / self.epochs if self.epochs else 0.0
        by_time = trainer.strategy.broadcast(self.elapsed() / self.seconds) if self.seconds else 0.0
        self.spent = min(1.0, max(by_epochs, by_time))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Cut the learning rate as patience runs out, and stop when it is used up."""
        if self.patience is None:
            return
        loss = float(trainer.callback_metrics["selection_loss"])
        improved = self.best == math.inf or loss < self.best - MARGIN * abs(self.best)
        self.waited = 0 if improved else self.waited + 1
        self.best = loss if improved else self.best
        if self.waited and self.waited % max(1, self.patience // CUTS) == 0:
            self.share *= CUT
        if self.waited >= self.patience:
            self.spent = 1.0
            trainer.should_stop = True

    def state_dict(self) -> dict[str, float]:
        """Return the state that a resumed run starts from."""
        state = {"best": self.best, "waited": self.waited, "share": self.share}
        return {"elapsed": self.elapsed(), "minutes_after": self.minutes_after, **state}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Continue from a saved state, with the minutes that it kept back: a new estimate could be lower."""
        self.elapsed_before = state_dict["elapsed"]
        self.minutes_after = state_dict.get("minutes_after", self.minutes_after)  # older files lack it
        self.best = state_dict["best"]
        self.waited = int(state_dict["waited"])
        self.share = state_dict["share"]


def schedule(spent: float) -> float:
    """Return the factor on the learning rate when `spent` of the budget is used."""
    if spent < WARM_UP:
        return 0.1 + 0.9 * spent / WARM_UP
    return 0.01 + 0.99 * (1 + math.cos(math.pi * (spent - WARM_UP) / (1 - WARM_UP))) / 2


TensorDataset = Dataset[tuple[Tensor, ...]]
LIMIT = 2 << 30
"""Bytes of images that are cached."""
WORKERS = 4
"""Most reading processes beside training."""


class CachedReader:
    """Calls `read` once per index, as long as the results fit into 2 GiB over all processes."""

    def __init__(self, read: Callable[[int], tuple[Tensor, ...]]) -> None:
        self._read = read
        self._items: dict[int, tuple[Tensor, ...]] = {}
        self._bytes = 0

    def __call__(self, index: int) -> tuple[Tensor, ...]:
        """Return the result of read(index), from the cache if it is there."""
        if index in self._items:
            return self._items[index]
        item, worker = self._read(index), get_worker_info()
        self._bytes += sum(tensor.nbytes for tensor in item)
        if self._bytes <= LIMIT // (1 if worker is None else worker.num_workers):
            self._items[index] = item
        return item


class ShuffledByEpoch(Sampler[int]):
    """A permutation that depends on seed and epoch only, so that a resumed run gets the same.

    Indices count on from epoch to epoch: index modulo n is the item, the quotient its epoch.
    """

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.n)
        return iter((order + self.epoch * self.n).tolist())

    def __len__(self) -> int:
        return self.n


def loader(
    dataset: TensorDataset, batch_size: int, seed: int, processes: int, *, shuffle: bool
) -> DataLoader[tuple[Tensor, ...]]:
    """Return the batches of a process; Lightning assigns the sampler's indices to the processes in turn."""
    n = len(dataset)  # type: ignore[arg-type]
    fit_into_memory = n * sum(tensor.nbytes for tensor in dataset[0]) <= LIMIT
    workers = 0 if fit_into_memory else min(WORKERS, max(1, (os.cpu_count() or 1) - 1))
    return DataLoader(
        dataset,
        num_workers=workers,
        persistent_workers=workers > 0,
        batch_size=min(batch_size, -(-n // processes)),
        sampler=ShuffledByEpoch(n, seed) if shuffle else None,
        drop_last=shuffle,
    )


SMOOTHING = 0.98
"""Smoothing factor of the displayed loss."""
BAR = 5
"""Least width of the bar in characters; the rest of the line is the bar's too."""
GAP = "  "
DISPENSABLE = ("status", "loss", "selection")
"""Facts that a narrow terminal does not show, the first to go first."""
SELDOM = 30
"""The status text is computed again after this many times as long as it took."""
StatusCallback = Callable[[nn.Module], str]
"""A callable that describes how good a network is so far, in a few words."""


class ProgressBar(L.Callback):
    """A bar on standard error; where that is not a terminal, a line now and then, and the last state."""

    def __init__(self, title: str, budget: Budget, status_callback: StatusCallback | None = None) -> None:
        self.title, self.budget, self.status_callback = title, budget, status_callback
        self.stands, self.due = "", time.monotonic() + SECONDS
        self.lines = Lines()
        self.loss = self.selection_loss = math.nan
        self.progress = Progress(
            TextColumn(title),
            BarColumn(None, table_column=Column(min_width=BAR)),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            expand=True,
        )
        self.bar = self.progress.add_task("starting", total=1.0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar on the first process."""
        if trainer.is_global_zero:
            self.progress.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        """Update loss and progress."""
        loss = float(outputs["loss"])
        self.loss = loss if math.isnan(self.loss) else SMOOTHING * self.loss + (1 - SMOOTHING) * loss
        facts = self._facts(trainer)
        room = self.progress.console.width - len(f"{self.title}  100 %  ") - BAR
        self.progress.update(self.bar, completed=self.budget.spent, description=fitting(facts, room))
        if not self.progress.console.is_terminal:
            self.lines.write(f"{self.title} {self.budget.spent:.0%}  {GAP.join(facts.values())}")

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Update the selection loss and, now and then, the status of the network."""
        self.selection_loss = float(trainer.callback_metrics.get("selection_loss", math.nan))
        if self.status_callback is not None and trainer.is_global_zero and time.monotonic() >= self.due:
            started = time.monotonic()
            self.stands = self.status_callback(pl_module.network)
            took = time.monotonic() - started
            self.due = time.monotonic() + max(SECONDS, SELDOM * took)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop, and leave the finished bar."""
        self.progress.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Stop, and release the terminal."""
        self.progress.stop()

    def _facts(self, trainer: L.Trainer) -> dict[str, str]:
        """Return what is known of the training by its name, in the order of display."""
        facts = {"epoch": f"epoch {trainer.current_epoch + 1}"}
        if not self.stands:
            facts["loss"] = f"loss {self.loss:.3g}"
        if not math.isnan(self.selection_loss):
            facts["selection"] = f"selection {self.selection_loss:.3g}"
        if self.stands:
            facts["status"] = self.stands
        remaining = self.budget.remaining()
        return facts if math.isinf(remaining) else facts | {"remaining": f"{clock(remaining)} left"}


def fitting(facts: Mapping[str, str], room: int) -> str:
    """Return the facts in one line of at most `room` characters; those of DISPENSABLE are left out first."""
    shown = dict(facts)
    for name in (*DISPENSABLE, *facts):
        if len(line := GAP.join(shown.values())) <= room:
            return line
        shown.pop(name, None)
    return ""


def clock(seconds: float) -> str:
    """Return minutes and seconds, as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


SAVE_SECONDS = 30
"""Seconds between two checkpoints."""
STILL_FALLING = 0.25
"""A loss has not settled while the second half of training brings more than this part of its fall."""


class Record(L.Callback):
    """Writes a row of metrics.csv after each epoch; last.ckpt and best weights every SECONDS and at the end.

    The best weights are those of the lowest selection loss, or of the last epoch if the module says so.
    """

    def __init__(self, folder: Path, budget: Budget) -> None:
        self.folder, self.budget = folder, budget
        self.rows: list[dict[str, float]] = []
        self.best_weights: dict[str, torch.Tensor] = {}
        self.written = -math.inf

    @property
    def last(self) -> Path:
        """The file that a resumed run starts from."""
        return self.folder / "checkpoints" / "last.ckpt"

    def to_resume(self) -> Path | None:
        """Return the file that a resumed run starts from, if there is one."""
        if not self.last.exists():
            return None
        with suppress(Exception), ZipFile(self.last) as file:  # the exception depends on the damage
            if file.testzip() is None:
                return self.last
        raise MismatchError(f"{self.last} is damaged: train again, in another folder")

    @property
    def best(self) -> Path:
        """The weights that training ends with."""
        return self.folder / "checkpoints" / "best.safetensors"

    def settled(self) -> bool:
        """Return whether the second half of the epochs brought little of the fall of the selection loss."""
        losses = [row["selection_loss"] for row in self.rows]
        first_half = losses[: (len(losses) + 1) // 2]
        return len(losses) > 1 and min(first_half) - min(losses) <= STILL_FALLING * (losses[0] - min(losses))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Add a row, keep the weights if they are the best, and write files that are due."""
        best = min((row["selection_loss"] for row in self.rows), default=math.inf)
        self.rows.append(self._row(trainer, pl_module.losses))
        if pl_module.keeps_last or self.rows[-1]["selection_loss"] < best or len(self.rows) == 1:
            weights = pl_module.network.state_dict()
            self.best_weights = {name: value.clone() for name, value in weights.items()}
        if trainer.is_global_zero:
            write_csv(self.folder / "metrics.csv", self.rows, list(self.rows[0]))
        due = self.budget.spent >= 1 or self.budget.elapsed() - self.written >= SAVE_SECONDS
        if not trainer.strategy.broadcast(due):
            return
        self.written = self.budget.elapsed()
        if trainer.is_global_zero and self.best_weights:
            save_weights(self.best_weights, self.best)
        with atomic_write(self.last) if trainer.is_global_zero else nullcontext(self.last) as aside:
            trainer.save_checkpoint(aside)

    def _row(self, trainer: L.Trainer, losses: tuple[str, ...]) -> dict[str, float]:
        logged = {name: float(trainer.callback_metrics[name]) for name in (*losses, "selection_loss")}
        return {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step // len(trainer.optimizers),
            **logged,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": round(self.budget.elapsed(), 2),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from saved rows."""
        self.rows = state_dict["rows"]


RESULTS = ("scorer.json", "predictor.json", "calibration.json")
"""Files that training, or a step after it, leaves in its run folder at the end."""
HOW_LONG = ("epochs", "max_minutes", "patience")
"""Settings that may be changed to make training longer."""
PASSES_AFTER, MOST_AFTER = 4, 0.3
"""Passes over the selection images after training, and the largest share of max_minutes for them."""


def fit(
    network: nn.Module,
    objective: Objective,
    train: TensorDataset,
    selection: TensorDataset,
    out: Path,
    config: TrainingConfig,
    compute: Compute = DEFAULT_DEVICES,
    *,
    title: str,
    identity: dict[str, Json],
    turns: bool = False,
    status_callback: StatusCallback | None = None,
) -> None:
    """Train the network in place; it ends with the weights of the lowest selection loss, or its initial ones.

    `identity` describes what is trained on what; a run is resumed only if it and the settings are the same,
    except for how long. Images are mirrored at random, and with `turns` flipped both ways and rotated. A part
    of max_minutes is kept back for the work on the selection images that is likely to follow. The text from
    `status_callback` about the network is shown beside the progress. The initial weights are restored if
    their loss was lower on the selection images.
    """
    config = config.resolved(len(train))  # type: ignore[arg-type]
    rate = config.learning_rate or FROM_SCRATCH
    module = TrainingModule(network, objective, learning_rate=rate, seed=config.seed, turns=turns)
    initial_weights = {name: value.clone() for name, value in network.state_dict().items()}
    started = time.monotonic()
    loss_before = _mean_loss(module, selection, config)
    after = PASSES_AFTER * (time.monotonic() - started) / 60
    fit_module(
        module, train, selection, out, config, compute, title=title, identity=identity, minutes_after=after,
        status_callback=status_callback,
    )  # fmt: skip
    if not _mean_loss(module, selection, config) <= loss_before:
        network.load_state_dict(initial_weights)
        warn("no epoch improved on the initial network on the selection images; its weights were restored")


@torch.no_grad()
def _mean_loss(module: TrainingModule, dataset: TensorDataset, config: TrainingConfig) -> float:
    """Return the mean loss in evaluation mode, and restore the modes of all parts."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    batches = loader(dataset, config.batch_size or BATCH_SIZE, config.seed, 1, shuffle=False)
    losses = [module.objective(module.network, batch) for batch in batches]
    for part, training in modes.items():
        part.training = training
    return float(torch.cat(losses).mean())


def fit_module(
    module: NetworkModule,
    train: TensorDataset,
    selection: TensorDataset,
    out: Path,
    config: TrainingConfig,
    compute: Compute = DEFAULT_DEVICES,
    *,
    title: str,
    identity: dict[str, Json],
    minutes_after: float = 0.0,
    status_callback: StatusCallback | None = None,
) -> None:
    """Train module.network in place, like fit; a GAN ends with the weights of its last epoch."""
    config = config.resolved(len(train))  # type: ignore[arg-type]
    budget = Budget(
        epochs=config.epochs,
        max_minutes=config.max_minutes,
        learning_rate=config.learning_rate or FROM_SCRATCH,
        patience=config.patience,
        minutes_after=minutes_after,
    )
    record = Record(out, budget)
    with _quiet(), _interruptible():
        trainer = _trainer(
            config, compute, [budget, record, ProgressBar(title, budget, status_callback)], module
        )
        _claim(
            out, {**identity, "plan": config.settings()}, record, config.resume, writes=trainer.is_global_zero
        )
        to_channels_last(module)
        settings = config.batch_size or BATCH_SIZE, config.seed, trainer.world_size
        trainer.fit(
            module,
            loader(train, *settings, shuffle=True),
            loader(selection, *settings, shuffle=False),
            ckpt_path=record.to_resume(),
            weights_only=True,
        )
    if budget.is_over(budget.elapsed_before) and trainer.is_global_zero:
        warn(
            f"nothing was trained: the {config.max_minutes:g} minutes, which include earlier runs, are used "
            "up. To train for longer, give more minutes"
        )
    elif budget.is_over(budget.elapsed()) and trainer.is_global_zero and not record.settled():
        after = f"after epoch {len(record.rows)}"
        warn(f"time ran out {after} while the loss was still falling: train for longer")
    load_into(module.network, record.best)
    module.network.eval().requires_grad_(False)


def _trainer(
    config: TrainingConfig, compute: Compute, callbacks: list[L.Callback], module: L.LightningModule
) -> L.Trainer:
    settings: dict[str, Any] = {
        "max_epochs": config.epochs or -1,
        "devices": compute.devices or "auto",
        "num_nodes": compute.nodes,
        "precision": best_precision(),
        "callbacks": callbacks,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    trainer = L.Trainer(**settings)
    check_processes(trainer.world_size)
    if trainer.world_size > 1 and not module.automatic_optimization:  # each step skips some weights
        return L.Trainer(**settings, strategy="ddp_find_unused_parameters_true")
    return trainer


def _claim(out: Path, identity: dict[str, Json], record: Record, resume: bool, *, writes: bool) -> None:
    path = out / "training.json"
    if record.last.exists() and not resume:
        raise MismatchError(f"{out} already contains a training run: resume it, or choose another folder")
    results = [name for name in RESULTS if (out / name).exists()]
    if results and not record.last.exists():
        raise MismatchError(
            f"{out} contains {results[0]} from something that cannot be resumed: choose another folder"
        )
    if resume and path.exists():
        stored, current = _flat(read_json(path)), _flat(to_jsonable(identity))
        changed = [key for key in current if stored.get(key) != current[key] and key not in HOW_LONG]
        if changed:
            raise MismatchError(
                f"{out} was started with different settings ({', '.join(changed)}): use the same to resume it"
            )
    if writes:
        write_json(path, identity)


def _flat(identity: dict[str, Json]) -> dict[str, Json]:
    plan = identity.get("plan")
    return {**identity, **(plan if isinstance(plan, Mapping) else {}), "plan": None}


def best_precision() -> Literal["bf16-mixed", "32-true"]:
    """Return bf16-mixed where the hardware multiplies bfloat16, else 32-true."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Turn Lightning's SystemExit on Ctrl-C into KeyboardInterrupt, and restore the signal handler."""
    try:
        handler = signal.getsignal(signal.SIGINT)
        yield
    except SystemExit as stop:
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from stop
