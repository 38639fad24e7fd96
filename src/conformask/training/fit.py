"""Training of a network on tensors, within a budget, into a run folder that a killed run resumes from.

With several devices Lightning starts the same command again for each of them: every process reads the
images, trains on its share of each epoch, and ends with the same weights; only the first writes.
"""

import contextlib
import logging
import math
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import lightning as L
import torch
from torch import nn

from conformask.arithmetic import to_channels_last
from conformask.errors import ConformaskWarning, InvalidArgumentError, MismatchError
from conformask.storage.as_json import Json, read_json, to_jsonable, write_json
from conformask.training.adversarial import Adversarial
from conformask.training.budget import Budget
from conformask.training.loading import TensorDataset, loader
from conformask.training.module import Objective, TrainingModule
from conformask.training.processes import ALL_DEVICES, Compute, check_processes
from conformask.training.progress import ProgressBar, StatusCallback
from conformask.training.record import Record
from conformask.training.weights import load_into

T = TypeVar("T")

RESULTS = ("scorer.json", "predictor.json", "calibration.json")
"""Files that training, or a step after it, leaves in its run folder at the end."""
LARGEST_SEED = 2**63 - 1
DEFAULT_EPOCHS = 30
"""Epochs if neither epochs nor minutes nor patience are given."""
SEEN = 6400
"""Least number of images seen in total by default, where few images make an epoch short."""
HOW_LONG = ("epochs", "max_minutes", "patience")
"""Settings that may be changed to make training longer."""
PASSES_AFTER, MOST_AFTER = 4, 0.3
"""Passes over the selection images after training, and the largest share of max_minutes for them."""
FROM_SCRATCH = 5e-4
"""Learning rate from random weights."""


@dataclass(frozen=True)
class TrainingConfig:
    """Training settings; training ends with the first of epochs, max_minutes and patience that is spent.

    Args:
        epochs: how often to see every image; if neither this nor max_minutes nor patience is given 30, or as
            many as it takes to see 6400 images.
        max_minutes: how long to train, in minutes; with resume those of earlier runs count.
        batch_size: images per step, on each device.
        learning_rate: the peak rate; if None 5e-4 from scratch and 1e-2 from the packaged weights. It falls
            as a cosine, or with patience is cut whenever a third of it has passed.
        seed: decides initial weights and the order of images.
        patience: stop when the selection loss has not improved for this many epochs.
        grid_points: number of lambdas at which the curves of a scorer's selection images are known; 256 if
            None.
        resume: resume a run that was stopped, or make a finished one longer by other epochs, max_minutes or
            patience; the run must then be calibrated again.

    Raises:
        InvalidArgumentError: a setting outside what is allowed.

    Examples:
        >>> import conformask as cm
        >>> cm.TrainingConfig(max_minutes=20, seed=1).batch_size
        16
    """

    epochs: int | None = None
    max_minutes: float | None = None
    batch_size: int = 16
    learning_rate: float | None = None
    seed: int = 0
    patience: int | None = None
    grid_points: int | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "max_minutes", "batch_size", "learning_rate", "patience", "grid_points"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InvalidArgumentError(f"{name} = {value}: must be a number above 0")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InvalidArgumentError(f"seed = {self.seed}: must be from 0 to 2**63 - 1")

    def resolved(self, n: int, learning_rate: float = FROM_SCRATCH) -> "TrainingConfig":
        """Return the settings for n training images, with epochs and learning rate where none are given."""
        used = self if self.learning_rate is not None else replace(self, learning_rate=learning_rate)
        if (self.epochs, self.max_minutes, self.patience) == (None, None, None):
            return replace(used, epochs=max(DEFAULT_EPOCHS, math.ceil(SEEN / n)))
        return used

    def settings(self) -> dict[str, Json]:
        """Return the settings that determine the result: all but resume and grid_points."""
        return {key: value for key, value in asdict(self).items() if key not in ("resume", "grid_points")}


DEFAULT_TRAINING = TrainingConfig()


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the context, and restore its state after."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def fit(
    network: nn.Module,
    objective: Objective,
    train: TensorDataset,
    selection: TensorDataset,
    out: Path,
    config: TrainingConfig,
    compute: Compute = ALL_DEVICES,
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

    Raises:
        MismatchError: the folder holds another run, or one that was not asked to be resumed.
        KeyboardInterrupt: Ctrl-C; the run can be resumed.
    """
    config = config.resolved(len(train))  # type: ignore[arg-type]
    rate = config.learning_rate or FROM_SCRATCH
    module = TrainingModule(network, objective, learning_rate=rate, seed=config.seed, turns=turns)
    initial_weights = {name: value.clone() for name, value in network.state_dict().items()}
    started = time.monotonic()
    loss_before = _mean_loss(module, selection, config)
    after = PASSES_AFTER * (time.monotonic() - started) / 60
    fit_module(
        module,
        train,
        selection,
        out,
        config,
        compute,
        title=title,
        identity=identity,
        minutes_after=after,
        status_callback=status_callback,
    )
    if not _mean_loss(module, selection, config) <= loss_before:
        network.load_state_dict(initial_weights)
        warnings.warn(
            "no epoch improved on the initial network on the selection images; its weights were restored",
            category=ConformaskWarning,
            stacklevel=3,
        )


def _mean_loss(module: TrainingModule, dataset: TensorDataset, config: TrainingConfig) -> float:
    batches = loader(dataset, config.batch_size, config.seed, 1, shuffle=False)
    losses = _in_use(module, lambda: [module.objective(module.network, batch) for batch in batches])
    return float(torch.cat(losses).mean())


@torch.no_grad()
def _in_use(module: TrainingModule, measure: Callable[[], T]) -> T:
    """Measure in evaluation mode, then restore the previous modes."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    measured = measure()
    for part, training in modes.items():
        part.training = training
    return measured


def fit_module(
    module: TrainingModule | Adversarial,
    train: TensorDataset,
    selection: TensorDataset,
    out: Path,
    config: TrainingConfig,
    compute: Compute = ALL_DEVICES,
    *,
    title: str,
    identity: dict[str, Json],
    minutes_after: float = 0.0,
    status_callback: StatusCallback | None = None,
) -> None:
    """Train module.network in place, like fit; a GAN ends with the weights of its last epoch."""
    config = config.resolved(len(train))  # type: ignore[arg-type]
    minutes = config.max_minutes
    budget = Budget(
        epochs=config.epochs,
        max_minutes=None if minutes is None else minutes - min(minutes_after, MOST_AFTER * minutes),
        learning_rate=config.learning_rate or FROM_SCRATCH,
        patience=config.patience,
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
        settings = config.batch_size, config.seed, trainer.world_size
        trainer.fit(
            module,
            loader(train, *settings, shuffle=True),
            loader(selection, *settings, shuffle=False),
            ckpt_path=record.to_resume(),
            weights_only=True,
        )
    if budget.spent_before and trainer.is_global_zero:
        warnings.warn(
            f"nothing was trained: the {minutes:g} minutes, which include earlier runs, are used up. To "
            "train for longer, give more minutes",
            category=ConformaskWarning,
            stacklevel=4,
        )
    elif budget.out_of_time and trainer.is_global_zero and not record.settled():
        after = f"after epoch {len(record.rows)}"
        warnings.warn(
            (f"time ran out {after} while the loss was still falling: train for longer"),
            category=ConformaskWarning,
            stacklevel=4,
        )
    load_into(module.network, record.best)
    module.network.eval().requires_grad_(False)


def _trainer(
    config: TrainingConfig, compute: Compute, callbacks: list[L.Callback], module: L.LightningModule
) -> L.Trainer:
    settings: dict[str, Any] = {
        "max_epochs": config.epochs or -1,
        "devices": compute.devices,
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
