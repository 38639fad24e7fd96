"""A cache of decoded images between epochs; images that do not fit are read by worker processes."""

import os
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

LIMIT = 2 << 30
"""Bytes of images that are cached."""
WORKERS = 4


class CachedReader:
    """Calls `read` once per index, as long as the results fit into 2 GiB over all processes."""

    def __init__(self, read: Callable[[int], tuple[Tensor, ...]]) -> None:
        self._read = read
        self._items: dict[int, tuple[Tensor, ...]] = {}
        self._bytes = 0

    def __call__(self, index: int) -> tuple[Tensor, ...]:
        """Return the result of read(index), from the cache if it is there."""
        if index in self._items:
            return self._items[index]
        item, worker = self._read(index), get_worker_info()
        self._bytes += sum(tensor.nbytes for tensor in item)
        if self._bytes <= LIMIT // (1 if worker is None else worker.num_workers):
            self._items[index] = item
        return item


def workers_for(dataset: Dataset[tuple[Tensor, ...]]) -> int:
    """Return the number of reading processes beside training: none if all images fit into memory."""
    sized: Any = dataset
    bytes_of_all = len(sized) * sum(tensor.nbytes for tensor in dataset[0])
    return 0 if bytes_of_all <= LIMIT else min(WORKERS, max(1, (os.cpu_count() or 1) - 1))
