"""A clip of outputs to [0, 1] from which networks still learn."""

from typing import Any

import torch
from torch import Tensor


class _InwardClip(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        context.save_for_backward(value)
        return value.clamp(0, 1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (value,) = context.saved_tensors
        inward = torch.where(value > 1, gradient.clamp(min=0), gradient)
        return torch.where(value < 0, inward.clamp(max=0), inward)


def straight_through_clip(value: Tensor) -> Tensor:
    """Return clip(value, 0, 1) with the identity's gradient, without steps further outside.

    So clipped pixels still learn to come back, and none drifts away for ever: where a pixel is open, SSIM and
    LPIPS may gain by opening it further (docs/results/smaller-masks.md).
    """
    clipped: Tensor = _InwardClip.apply(value)  # type: ignore[no-untyped-call]
    return clipped
