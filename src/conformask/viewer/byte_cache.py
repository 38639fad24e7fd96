"""A cache with a limit of bytes."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class ByteCache(Generic[T]):
    """Thread-safe cache of the last used values, up to a limit of bytes; the very last is always kept."""

    def __init__(self, most: int, weigh: Callable[[T], int]) -> None:
        self._most, self._weigh = most, weigh
        self._kept: OrderedDict[str, T] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: str) -> T | None:
        """Return the value under this key; None if there is none."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: str, value: T) -> T:
        """Keep a value, and drop those that were not used for longest."""
        with self._lock:
            if key in self._kept:
                self._bytes -= self._weigh(self._kept.pop(key))
            self._kept[key] = value
            self._bytes += self._weigh(value)
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= self._weigh(self._kept.popitem(last=False)[1])
        return value
