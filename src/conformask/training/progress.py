"""A progress bar over the whole of training, with loss and remaining time."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from torch import nn

from conformask.progress import SECONDS, Lines
from conformask.training.budget import Budget

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
        self.budget = budget
        self.status_callback = status_callback
        self.stands, self.due = "", time.monotonic() + SECONDS
        self.title = title
        self.lines = Lines()
        self.loss = math.nan
        self.selection_loss = math.nan
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
