"""Where and how scores and distances are computed: the same in calibration and in use."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BACKENDS: Any = torch.backends
SHORTENED = (
    BACKENDS.cuda.matmul,
    BACKENDS.cudnn.conv,
    BACKENDS.cudnn.rnn,
    BACKENDS.mkldnn.conv,
    BACKENDS.mkldnn.matmul,
    BACKENDS.mkldnn.rnn,
)
"""Operations that torch may compute with fewer bits than float32 has (TF32, bfloat16)."""

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""In which weights lie, by their axes."""

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""Of glibc's mallopt."""
LAYER, KEPT = 2**25, 2**28
"""Bytes up to which a layer that is freed is kept, and all of them together: more would keep whole slabs."""


class _Full:
    """What torch holds for all threads at once: the first that computes sets it, the last puts it back."""

    def __init__(self) -> None:
        self.lock, self.threads, self.before = Lock(), 0, [""]

    def __enter__(self) -> None:
        with self.lock:
            if self.threads == 0:
                self.before = [operation.fp32_precision for operation in SHORTENED]
                for operation in SHORTENED:
                    operation.fp32_precision = "ieee"
            self.threads += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.threads -= 1
            if self.threads == 0:
                for operation, precision in zip(SHORTENED, self.before, strict=True):
                    operation.fp32_precision = precision


_FULL = _Full()


@contextmanager
def full_precision(images: Tensor) -> Iterator[None]:
    """Compute in IEEE float32 inside: no autocast on the images' device, no TF32, no bfloat16."""
    with torch.autocast(images.device.type, enabled=False), _FULL:
        yield


@cache
def keep_memory() -> None:
    """Let this process keep the memory of a network's layers for the next batch, where it runs on glibc.

    Left alone, the system takes them back after every batch and clears them again: up to a fifth of the time.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(MMAP_THRESHOLD, LAYER)
        libc.mallopt(TRIM_THRESHOLD, KEPT)
        libc.mallopt(ARENA_MAX, 1)  # what one thread leaves, others take


def best_device() -> torch.device:
    """The accelerator where there is one; a build of torch for CUDA alone does not make one."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def image_means(values: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The mean over channels and pixels of each image, (N, C, *space) -> (N,); summed in dtype."""
    return values.mean(dim=tuple(range(1, values.ndim)), dtype=dtype)


def resized(images: Tensor, like: Tensor) -> Tensor:
    """Images (N, C, *space) at the size of others, linearly along each axis."""
    size = like.shape[2:]
    if images.shape[2:] == size:
        return images
    mode = {2: "bilinear", 3: "trilinear"}[len(size)]
    return F.interpolate(images, size=size, mode=mode, antialias=False)


def quick_layout(network: nn.Module) -> nn.Module:
    """The network with the channels of its weights last, which convolutions are quicker on."""
    for weights in network.parameters():
        if weights.ndim in LAYOUTS:
            weights.data = weights.data.contiguous(memory_format=LAYOUTS[weights.ndim])
    return network


def at(places: tuple[slice, ...]) -> Any:
    """The index of a window along the last axes of a tensor or array."""
    return (..., *places)


def beside(values: Tensor, images: Tensor) -> Tensor:
    """One value for each image, (N,), in a shape that broadcasts against the images, (N, 1, ..., 1)."""
    return values.reshape(-1, *[1] * (images.ndim - 1))
