"""Length of training: epochs, minutes or patience, and the learning rate that follows from it."""

import math
import time
from typing import Any

import lightning as L

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
    ) -> None:
        self.epochs = epochs
        self.seconds = None if max_minutes is None else 60 * max_minutes
        self.learning_rate = learning_rate
        self.patience = patience
        self.best = math.inf
        self.waited = 0
        self.share = 1.0
        self.spent = 0.0
        self.elapsed_before = 0.0
        self.started = 0.0

    def elapsed(self) -> float:
        """Return the seconds of training so far."""
        return self.elapsed_before + time.monotonic() - self.started

    @property
    def out_of_time(self) -> bool:
        """True if max_minutes ended training."""
        return self.seconds is not None and self.elapsed() >= self.seconds

    @property
    def spent_before(self) -> bool:
        """True if nothing was left of max_minutes when the run was resumed."""
        return self.seconds is not None and self.elapsed_before >= self.seconds

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
        return {"elapsed": self.elapsed(), **state}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Continue from a saved state."""
        self.elapsed_before = state_dict["elapsed"]
        self.best = state_dict["best"]
        self.waited = int(state_dict["waited"])
        self.share = state_dict["share"]


def schedule(spent: float) -> float:
    """Return the factor on the learning rate when `spent` of the budget is used."""
    if spent < WARM_UP:
        return 0.1 + 0.9 * spent / WARM_UP
    return 0.01 + 0.99 * (1 + math.cos(math.pi * (spent - WARM_UP) / (1 - WARM_UP))) / 2
