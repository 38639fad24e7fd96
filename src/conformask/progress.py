"""A progress bar for loops over images."""

import os
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
RANKS = ("LOCAL_RANK", "NODE_RANK")


def main_process() -> bool:
    """Whether this is the first of several processes that Lightning started, or the only one."""
    return all(os.environ.get(rank, "0") == "0" for rank in RANKS)


def tracked(items: Iterable[T], title: str, total: int, step: int = 1) -> Iterator[T]:
    """Pass the items on, drawing progress on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not (console.is_terminal and main_process())
    ) as progress:
        bar = progress.add_task(title, total=total)
        for item in items:
            yield item
            progress.update(bar, advance=min(step, total))
