"""Devices, precision, seeds and layout for scores and distances: the same in calibration and in use."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BACKENDS: Any = torch.backends
SHORTENED = (
    BACKENDS.cudnn.conv,
    BACKENDS.cudnn.rnn,
    BACKENDS.cuda.matmul,
    BACKENDS.mkldnn.conv,
    BACKENDS.mkldnn.matmul,
    BACKENDS.mkldnn.rnn,
)
"""Operations that torch may compute with fewer bits than float32 has (TF32, bfloat16), cuDNN's first."""

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Memory layouts of weights, by their number of axes."""


class _Full:
    """Precision settings shared by all threads: the first user sets them, the last restores them."""

    def __init__(self) -> None:
        self.lock, self.threads, self.before = Lock(), 0, [""]

    def __enter__(self) -> None:
        with self.lock:
            if self.threads == 0:
                self.before = [operation.fp32_precision for operation in SHORTENED]
                self._set(["ieee"] * len(SHORTENED))
            self.threads += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.threads -= 1
            if self.threads == 0:
                self._set(self.before)

    def _set(self, precisions: list[str]) -> None:
        # The older flag as well: where the two disagree, torch refuses exports in other threads.
        BACKENDS.cudnn.allow_tf32 = "tf32" in precisions[:2]
        for operation, precision in zip(SHORTENED, precisions, strict=True):
            operation.fp32_precision = precision


_FULL = _Full()


@contextmanager
def full_precision(images: Tensor) -> Iterator[None]:
    """Compute in IEEE float32 inside the context: no autocast on the images' device, no TF32 or bfloat16."""
    with torch.autocast(images.device.type, enabled=False), _FULL:
        yield


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the context, and restore its state after."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def best_device() -> torch.device:
    """Return the accelerator if one is available (a CUDA build of torch alone is not one), else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def image_means(values: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return the mean over channels and pixels of each image, (N, C, *space) -> (N,); summed in dtype."""
    return values.mean(dim=tuple(range(1, values.ndim)), dtype=dtype)


def resized(images: Tensor, like: Tensor) -> Tensor:
    """Resize images (N, C, *space) to the size of others, linearly along each axis."""
    size = like.shape[2:]
    if images.shape[2:] == size:
        return images
    mode = {2: "bilinear", 3: "trilinear"}[len(size)]
    return F.interpolate(images, size=size, mode=mode, antialias=False)


def to_channels_last(network: nn.Module) -> nn.Module:
    """Store the weights of a network channels last, which convolutions are faster with."""
    for weights in network.parameters():
        if weights.ndim in LAYOUTS:
            weights.data = weights.data.contiguous(memory_format=LAYOUTS[weights.ndim])
    return network


def window_index(places: tuple[slice, ...]) -> Any:
    """Return the index of a window along the last axes of a tensor or array."""
    return (..., *places)


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """Reshape one value per image, (N,), to broadcast against the images, (N, 1, ..., 1)."""
    return values.reshape(-1, *[1] * (images.ndim - 1))
