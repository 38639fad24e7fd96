"""Progress of a long run on standard error: a line per stage, and rows x stages on a terminal."""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from conformask.paper.plan import RowPlan
from conformask.paper.stages import Cache, Stage, unique
from conformask.progress import main_process


@dataclass
class Display:
    """Display of a run's stages: which are done, and about how long the others will take."""

    plans: Sequence[RowPlan]
    cache: Cache
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.stages = unique(stage for plan in self.plans for stage in plan.stages())

    def begin(self, plan: RowPlan, stage: Stage) -> None:
        """Show which stage begins."""
        number = len(self.stages) - len(self._missing()) + 1
        left = clock(self.remaining())
        self._print(
            f"[{number}/{len(self.stages)}] row {plan.row.number}: {stage.kind} {stage.name}, {left} left"
        )

    def report_failure(self, plan: RowPlan, error: Exception) -> None:
        """Show that a row cannot be finished."""
        self._print(f"row {plan.row.number} failed: {error}")

    def report_finished(self, plan: RowPlan) -> None:
        """Show that a row is finished."""
        self._print(f"row {plan.row.number} finished, {clock(time.monotonic() - self.started)} so far")
        if self.console.is_terminal and main_process():
            self.console.print(self.matrix())

    def remaining(self) -> float:
        """Return the seconds left, by the times of similar finished stages, or else by expected times."""
        seconds_by_likeness = defaultdict(list)
        for stage in self.stages:
            seconds = self.cache.seconds(stage)
            if seconds is not None:
                seconds_by_likeness[stage.likeness].append(seconds)
        return sum(
            sum(times) / len(times) if (times := seconds_by_likeness[stage.likeness]) else stage.expected
            for stage in self._missing()
        )

    def matrix(self) -> Table:
        """Return a table of rows and stages: how many of each kind are done."""
        table = Table("row", "done", box=None, padding=(0, 2, 0, 0))
        for plan in self.plans:
            row, done = plan.row, defaultdict(list)
            for stage in plan.stages():
                done[stage.kind].append(self.cache.done(stage))
            title = f"{row.number} {row.task} of {row.data}, {row.network}, {row.distance}"
            table.add_row(title, ", ".join(f"{kind} {sum(each)}/{len(each)}" for kind, each in done.items()))
        return table

    def _missing(self) -> list[Stage]:
        return self.cache.missing(goal for plan in self.plans for goal in plan.goals())

    def _print(self, text: str) -> None:
        if main_process():
            self.console.print(text, markup=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """Format as hours and minutes, or minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{rest:02d} min"
