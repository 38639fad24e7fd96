"""Threads beside the main one: they read what it is going to ask for, and write what it has made."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = 4
DEPTH = 32
"""Results that wait to be asked for, at most."""
BYTES = 2**26
"""Of such results together, unless one is larger."""


def ahead(
    work: Callable[[T], R],
    items: Iterable[T],
    size_of: Callable[[R], int] | None = None,
    threads: int = THREADS,
) -> Iterator[R]:
    """work(item) of each item, in their order, while threads work on those to come.

    The items are taken by the caller's thread. An error is raised in its place; what has not begun by then is
    dropped.

    Args:
        work: where there are several threads it may be called by all of them at once.
        items: as many as there are.
        size_of: the bytes of a result; as many wait as fit into BYTES. If None, one for each thread.
        threads: how many.
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
