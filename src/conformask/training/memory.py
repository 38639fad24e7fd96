"""Keeps decoded images between epochs."""

from collections.abc import Callable

from torch import Tensor

LIMIT = 2 << 30
"""Bytes of images that are kept."""


class Remembered:
    """Calls `read` once for each index, as long as what it returned fits into 2 GiB."""

    def __init__(self, read: Callable[[int], tuple[Tensor, ...]]) -> None:
        self._read = read
        self._kept: dict[int, tuple[Tensor, ...]] = {}
        self._bytes = 0

    def __call__(self, index: int) -> tuple[Tensor, ...]:
        """What read(index) returns."""
        if index in self._kept:
            return self._kept[index]
        item = self._read(index)
        self._bytes += sum(tensor.nbytes for tensor in item)
        if self._bytes <= LIMIT:
            self._kept[index] = item
        return item
