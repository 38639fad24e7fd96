"""Files that training writes to its run folder: metrics.csv, last.ckpt and the best weights."""

import math
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import lightning as L
import torch

from conformask.errors import MismatchError
from conformask.storage.as_csv import write_csv
from conformask.storage.atomic import atomic_write
from conformask.training.budget import Budget
from conformask.training.weights import save_weights

SECONDS = 30
"""Seconds between two checkpoints."""
STILL_FALLING = 0.25
"""A loss has not settled while the second half of training brings more than this part of its fall."""


class Record(L.Callback):
    """Writes a row of metrics.csv after each epoch; last.ckpt and best weights every SECONDS and at the end.

    The best weights are those of the lowest selection loss, or of the last epoch if the module says so.
    """

    def __init__(self, folder: Path, budget: Budget) -> None:
        self.folder = folder
        self.budget = budget
        self.rows: list[dict[str, float]] = []
        self.best_weights: dict[str, torch.Tensor] = {}
        self.written = -math.inf

    @property
    def last(self) -> Path:
        """The file that a resumed run starts from."""
        return self.folder / "checkpoints" / "last.ckpt"

    def to_resume(self) -> Path | None:
        """Return the file that a resumed run starts from, if there is one.

        Raises:
            MismatchError: the file is damaged.
        """
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
            self._write_metrics()
        due = self.budget.spent >= 1 or self.budget.elapsed() - self.written >= SECONDS
        if trainer.strategy.broadcast(due):
            self._write_weights(trainer)

    def _write_weights(self, trainer: L.Trainer) -> None:
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

    def _write_metrics(self) -> None:
        write_csv(self.folder / "metrics.csv", self.rows, list(self.rows[0]))

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from saved rows."""
        self.rows = state_dict["rows"]
