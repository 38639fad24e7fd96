"""Reading of images in training: their order, a cache between epochs, worker processes for the rest."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

TensorDataset = Dataset[tuple[Tensor, ...]]
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


def workers_for(dataset: TensorDataset) -> int:
    """Return the number of reading processes beside training: none if all images fit into memory."""
    sized: Any = dataset
    bytes_of_all = len(sized) * sum(tensor.nbytes for tensor in dataset[0])
    return 0 if bytes_of_all <= LIMIT else min(WORKERS, max(1, (os.cpu_count() or 1) - 1))


class ShuffledByEpoch(Sampler[int]):
    """A permutation that depends on seed and epoch only, so that a resumed run gets the same.

    Indices count on from epoch to epoch: index modulo n is the item, the quotient its epoch.
    """

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.n)
        return iter((order + self.epoch * self.n).tolist())

    def __len__(self) -> int:
        return self.n


def loader(
    dataset: TensorDataset, batch_size: int, seed: int, processes: int, *, shuffle: bool
) -> DataLoader[tuple[Tensor, ...]]:
    """Return the batches of a process; Lightning assigns the sampler's indices to the processes in turn."""
    n, workers = len(dataset), workers_for(dataset)  # type: ignore[arg-type]
    return DataLoader(
        dataset,
        num_workers=workers,
        persistent_workers=workers > 0,
        batch_size=min(batch_size, -(-n // processes)),
        sampler=ShuffledByEpoch(n, seed) if shuffle else None,
        drop_last=shuffle,
    )
