"""Bounded background reading and writing, ahead of the main thread."""

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
