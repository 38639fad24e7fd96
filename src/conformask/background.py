"""Work beside the main thread, within bounds; the processes that share work; and a progress bar."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from conformask.errors import InvalidArgumentError
from conformask.extensions import required

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


@dataclass(frozen=True)
class Compute:
    """The devices that share the work, and the folder of its finished parts.

    Raises:
        InvalidArgumentError: the devices are invalid or more than there are, or there are no nodes.

    Examples:
        >>> import conformask as cm
        >>> cm.Compute("auto").nodes
        1
    """

    devices: int | str | None = None
    """Number or indices of the devices, or auto for all; passed to Lightning. If not given, 1, and all for
    training."""
    nodes: int = 1
    """Number of machines; passed to Lightning."""
    parts: str | Path | None = None
    """A folder for finished parts, from which a killed run resumes; it is removed at the end. Several devices
    share the work through it. Training has its run folder instead."""

    def __post_init__(self) -> None:
        check_devices(self.devices)
        if self.nodes < 1:
            raise InvalidArgumentError(f"nodes = {self.nodes}: must be a number above 0")

    @property
    def is_one_process(self) -> bool:
        """True if one device of one machine does all the work."""
        return self.devices in (None, 1, "1") and self.nodes == 1


@dataclass(frozen=True)
class Processes:
    """The processes that share the work."""

    rank: int = 0
    """The number of this process."""
    count: int = 1
    wait: Callable[[], None] = lambda: None
    """Function that returns when every process has called it."""

    @property
    def is_first(self) -> bool:
        """True in the one process that does what is done once."""
        return self.rank == 0


def launch(compute: Compute) -> Processes:
    """Start the processes that share the work, one for each device on each node; this one may be all."""
    if compute.is_one_process:
        check_processes(1)
        return Processes()
    fabric = _fabric()(devices=compute.devices or 1, num_nodes=compute.nodes)
    check_processes(fabric.world_size)
    fabric.launch()
    return Processes(fabric.global_rank, fabric.world_size, fabric.barrier)


def _fabric() -> Any:
    """Return what starts processes."""
    return required("lightning.fabric", "work on several devices", "train").Fabric


def check_processes(processes: int) -> None:
    """Refuse a number of processes that disagrees with what started this one.

    Several that work as one each would all write every file; one that is not the first would write none.
    """
    started = os.environ.get("WORLD_SIZE", "1") if TORCHRUN in os.environ else str(processes)
    if int(started) != processes:
        raise InvalidArgumentError(
            f"torchrun started {started} processes, but --devices and --nodes specify {processes}: set "
            "--devices to its --nproc-per-node and --nodes to its --nnodes"
        )
    if processes == 1 and not main_process():
        raise InvalidArgumentError(
            "this process is not the first of several (LOCAL_RANK, NODE_RANK or torch.distributed say so), "
            "but --devices and --nodes specify one: unset these variables, or give the number of processes"
        )


def check_devices(devices: int | str | None) -> None:
    """Refuse devices that Lightning would fail on, or more than this machine has."""
    if devices in (None, "auto", 1, "1"):
        return
    fabric = _fabric()
    import torch
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    available = torch.accelerator.device_count() or os.cpu_count() or 1
    try:
        requested = fabric(devices=devices).world_size
    except (TypeError, ValueError, MisconfigurationException):
        requested = 0
    if not 0 < requested <= available:
        raise InvalidArgumentError(
            f"devices = {devices}: give auto, or a number up to {available}, that of this machine's"
            " accelerators or, without one, processors"
        )


DEFAULT_DEVICES = Compute()


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
