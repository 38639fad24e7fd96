"""A progress bar for loops over images."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
RANKS = ("LOCAL_RANK", "NODE_RANK")
TORCHRUN, TORCHRUN_RANKS = "TORCHELASTIC_RUN_ID", ("RANK",)
"""Of torchrun, under which every process but those of the first machine has no NODE_RANK."""
Tell = Callable[[int, int], None]
"""Called with how many things are done, and how many there are."""
SECONDS = 30.0
"""Between two lines where no bar can be drawn."""


def main_process() -> bool:
    """Whether this is the first of several processes that Lightning or torchrun started, or the only one."""
    ranks = TORCHRUN_RANKS if TORCHRUN in os.environ else RANKS
    return all(os.environ.get(rank, "0") == "0" for rank in ranks)


class Lines:
    """A line on standard error every SECONDS, for logs; only of the first process."""

    def __init__(self) -> None:
        self.due = time.monotonic() + SECONDS

    def write(self, text: str) -> None:
        """Print it, if a line is due."""
        if time.monotonic() >= self.due and main_process():
            print(text, file=sys.stderr, flush=True)
            self.due = time.monotonic() + SECONDS


def tracked(items: Iterable[T], title: str, total: int, step: int | Callable[[T], int] = 1) -> Iterator[T]:
    """Pass the items on, drawing progress on standard error; lines, where that is not a terminal.

    Args:
        items: what is worked through.
        title: of the work.
        total: how many things are done in the end.
        step: how many an item is.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    shown, done, lines = console.is_terminal and main_process(), 0, Lines()
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        bar = progress.add_task(title, total=total)
        for item in items:
            yield item
            done = min(done + (step if isinstance(step, int) else step(item)), total)
            progress.update(bar, completed=done)
            if not shown:
                lines.write(f"{title} {done}/{total}")
