"""Masks that open the pixels with the smallest scores, up to a boundary score that is partly open."""

import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arithmetic import per_image
from conformask.types import Images


def up_to(score: Images, level: Float[Tensor, "n 2"]) -> Images:
    """Return 1 below the boundary score, the fraction at it, 0 above; the level holds both."""
    s = score.float()
    boundary, fraction = (per_image(part, s) for part in level.to(s.device, torch.float32).unbind(1))
    return torch.where(s < boundary, 1.0, torch.where(s == boundary, fraction, 0.0))
