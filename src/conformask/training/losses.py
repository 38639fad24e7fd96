"""Losses of score networks, one number an image, in float32."""

import torch
from torch import Tensor

from conformask.types import Distance, Images, PerImage


def mask_loss(mask: Images, y: Images, y_hat: Images, distance: Distance, mu: float = 2.0) -> PerImage:
    """Equation (6): mean (m - 1)^2 + mu * d(m*y, m*y_hat)."""
    opened = (mask - 1).square().mean(dim=(1, 2, 3))
    return opened + mu * distance(mask * y, mask * y_hat).float()


def pinball(bound: Images, y: Images, level: float) -> PerImage:
    """mean max(level * (y - bound), (level - 1) * (y - bound)).

    Its minimiser is the quantile: y < bound with probability level.
    """
    excess = y - bound
    return torch.maximum(level * excess, (level - 1) * excess).mean(dim=(1, 2, 3))


def straight_through_clip(value: Tensor) -> Tensor:
    """clip(value, 0, 1) whose gradient is that of the identity, so that clipped pixels still learn."""
    return value + (value.clamp(0, 1) - value).detach()


def without_autocast(tensor: Tensor) -> torch.autocast:
    """A context in which losses are computed in float32."""
    return torch.autocast(tensor.device.type, enabled=False)
