"""Work beside the main thread, read ahead and written behind within bounds; and a progress bar."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = 4
DEPTH = 32
"""Largest number of results waiting to be taken."""
BYTES = 2**26
"""Largest total size of the waiting results, unless one alone is larger."""


def prefetch(
    work: Callable[[T], R],
    items: Iterable[T],
    size_of: Callable[[R], int] | None = None,
    threads: int = THREADS,
) -> Iterator[R]:
    """Yield work(item) for each item, in order, while threads work on the items that follow.

    The caller's thread takes the items. An error is raised in place of its result; work that has not begun by
    then is dropped.

    Args:
        work: the function; with several threads it may be called by all of them at once.
        items: the items, any number.
        size_of: the bytes of a result; as many wait as fit into BYTES. If None, one per thread.
        threads: the number of threads.
    """
    waiting: deque[Future[R]] = deque()
    depth, largest = (threads, 0) if size_of is None else (1, 1)
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                while len(waiting) >= depth:
                    result = waiting.popleft().result()
                    if size_of is not None:
                        largest = max(largest, size_of(result))
                        depth = max(1, min(DEPTH, BYTES // largest))
                    yield result
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


RANKS = ("LOCAL_RANK", "NODE_RANK")
TORCHRUN, TORCHRUN_RANKS = "TORCHELASTIC_RUN_ID", ("RANK",)
"""Variables of torchrun, where only processes of the first machine have a NODE_RANK."""
Tell = Callable[[int, int], None]
"""A callback that gets the number of things done and their total."""
SECONDS = 30.0
"""Seconds between two lines, where no bar can be drawn."""


def main_process() -> bool:
    """Return whether this is the first of the processes that share the work, or the only one.

    Lightning starts the same command again for each device, and all run the same lines. Once they have found
    each other torch knows their ranks; until then, the environment does.
    """
    distributed = sys.modules.get("torch.distributed")  # not imported here: torch takes seconds to load
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return bool(distributed.get_rank() == 0)
    ranks = TORCHRUN_RANKS if TORCHRUN in os.environ else RANKS
    return all(os.environ.get(rank, "0") == "0" for rank in ranks)


class Lines:
    """A line on standard error every SECONDS, for logs; from the first process only."""

    def __init__(self) -> None:
        self.due = time.monotonic() + SECONDS

    def write(self, text: str) -> None:
        """Print the text, if a line is due."""
        if time.monotonic() >= self.due and main_process():
            print(text, file=sys.stderr, flush=True)
            self.due = time.monotonic() + SECONDS


def tracked(items: Iterable[T], title: str, total: int, step: int | Callable[[T], int] = 1) -> Iterator[T]:
    """Yield the items, drawing progress on standard error; lines, where that is not a terminal.

    The bar is as wide as the terminal; of a title that is longer than half of it, the beginning is shown.

    Args:
        items: the items to work through.
        title: the title of the work.
        total: the number of things done in the end.
        step: the number of things in an item.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    console = Console(stderr=True)
    columns = (
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", max_width=console.width // 2),
        ),
        BarColumn(None),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    shown, done, lines = console.is_terminal and main_process(), 0, Lines()
    with Progress(*columns, console=console, transient=True, expand=True, disable=not shown) as progress:
        bar = progress.add_task(title, total=total)
        for item in items:
            yield item
            done = min(done + (step if isinstance(step, int) else step(item)), total)
            progress.update(bar, completed=done)
            if not shown:
                lines.write(f"{title} {done}/{total}")
