"""Where and how scores and distances are computed: the same in calibration and in use."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

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


@contextmanager
def full_precision(images: Tensor) -> Iterator[None]:
    """Compute in IEEE float32 inside: no autocast on the images' device, no TF32, no bfloat16."""
    before = [operation.fp32_precision for operation in SHORTENED]
    with torch.autocast(images.device.type, enabled=False):
        try:
            for operation in SHORTENED:
                operation.fp32_precision = "ieee"
            yield
        finally:
            for operation, precision in zip(SHORTENED, before, strict=True):
                operation.fp32_precision = precision


def best_device() -> torch.device:
    """The accelerator where there is one."""
    return torch.accelerator.current_accelerator() or torch.device("cpu")


def image_means(values: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The mean over channels and pixels of each image, (N, C, *space) -> (N,); summed in dtype."""
    return values.mean(dim=tuple(range(1, values.ndim)), dtype=dtype)


def beside(values: Tensor, images: Tensor) -> Tensor:
    """One value for each image, (N,), in a shape that broadcasts against the images, (N, 1, ..., 1)."""
    return values.reshape(-1, *[1] * (images.ndim - 1))
