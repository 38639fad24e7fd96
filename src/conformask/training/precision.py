"""Choice of the numerical precision: bfloat16 where it helps."""

from typing import Literal

import torch

Precision = Literal["bf16-mixed", "32-true"]


def best_precision() -> Precision:
    """Return bf16-mixed where the hardware multiplies bfloat16, else 32-true."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"
