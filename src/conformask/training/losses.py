"""Losses of score networks, one number per image, in float32."""

from typing import Any

import torch
from torch import Tensor

from conformask.arithmetic import image_means
from conformask.types import Images, Loss, PerImage


def mask_loss(mask: Images, y: Images, y_hat: Images, loss: Loss, mu: float = 2.0) -> PerImage:
    """Compute equation (6): mean (m - 1)^2 + mu * loss(m, y, y_hat), over whole images."""
    opened = image_means((mask - 1).square())
    return opened + mu * loss.on(y, y_hat, None, mask.shape[1]).of(mask).float()


def pinball(bound: Images, y: Images, level: float) -> PerImage:
    """Compute mean max(level * (y - bound), (level - 1) * (y - bound)).

    Its minimiser is the quantile: y < bound with probability level.
    """
    excess = y - bound
    return image_means(torch.maximum(level * excess, (level - 1) * excess))


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
