"""Pairs (x, y) that a task makes from true images, as they will be stored on disk."""

from dataclasses import dataclass

import torch
from torch import Tensor

from conformask.data.sources import Source, TrueImages
from conformask.training.memory import CachedReader
from conformask.types import Images, Task


@dataclass(frozen=True)
class Pairs:
    """Source, x and y of each true image, both (1, C, H, W), rounded to the image's bit depth."""

    images: TrueImages
    task: Task

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Source, Images, Images]:
        source, image = self.images[index]
        y = round_to_bits(self.task.truth(torch.from_numpy(image)[None]), self.images.bits)
        return source, round_to_bits(self.task.degrade(y), self.images.bits), y


class PairDataset(torch.utils.data.Dataset[tuple[Tensor, ...]]):
    """Pairs for training: (x, y) without batch axis; an index counts modulo their number."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self._read = CachedReader(self._pair)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return self._read(index % len(self))

    def _pair(self, index: int) -> tuple[Tensor, ...]:
        _, x, y = self.pairs[index]
        return x[0], y[0]


def round_to_bits(image: Images, bits: int) -> Images:
    """Round to the nearest values that integers of this many bits can hold."""
    highest = 2.0**bits - 1
    return (image * highest).round() / highest
