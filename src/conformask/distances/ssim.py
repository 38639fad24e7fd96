"""1 - SSIM (Wang et al. 2004) as in torchmetrics, with settings that do not depend on the batch."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from conformask.arithmetic import full_precision, image_means
from conformask.distances.inputs import check_size
from conformask.names import DISTANCES
from conformask.types import Images, PerImage

SMALLEST_SIDE = 11
"""Side of the Gaussian window in pixels, and the shortest side of an image."""
SIGMA = 1.5
"""Standard deviation of the Gaussian window, in pixels."""
C1, C2 = 0.01**2, 0.03**2
"""Constants added to numerators and denominators, as published."""
LARGEST_DENSE = 512
"""Longest side, in pixels, along which the window is applied as a dense matrix."""


@dataclass(frozen=True)
class Ssim:
    """The distance 1 - SSIM with a Gaussian window, data_range 1; not monotone under nested masks.

    The window has 11 pixels along each axis, sigma 1.5.
    """

    name = "ssim"
    monotone = False
    exponent = None
    upper_bound = DISTANCES["ssim"].upper_bound

    def __call__(self, a: Images, b: Images) -> PerImage:
        """Compute 1 - SSIM(a, b) of each image, float32, shape (N,), in [0, 2].

        Raises:
            InvalidArgumentError: an image is smaller than the window.
        """
        return 1 - _similarity(a, b)[0]

    def error_map(self, y: Images, y_hat: Images) -> Images:
        """Return 1 - SSIM at each pixel, whose mean is the distance.

        Raises:
            InvalidArgumentError: an image is smaller than the window.
        """
        return 1 - _similarity(y, y_hat)[1]


def _similarity(a: Images, b: Images) -> tuple[Tensor, Tensor]:
    check_size("ssim", a, SMALLEST_SIDE)
    dense = max(a.shape[2:]) <= LARGEST_DENSE
    with full_precision(a):
        value, full = (_by_matrices if dense else _by_torchmetrics)(a.float(), b.float())
    return value.reshape(len(a)), full.reshape(a.shape)


def _by_torchmetrics(a: Images, b: Images) -> tuple[Tensor, Tensor]:
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes seconds

    value, full = structural_similarity_index_measure(
        a, b, sigma=SIGMA, reduction="none", data_range=1.0, return_full_image=True
    )
    return value, full


def _by_matrices(a: Images, b: Images) -> tuple[Tensor, Tensor]:
    """Compute the numbers of _by_torchmetrics much faster, as matrix products of a separable window."""
    smooth = torch.cat((a, b, a * a, b * b, a * b))
    for axis, side in enumerate(a.shape[2:], start=2):
        smooth = (smooth.movedim(axis, -1) @ _window(side, a.device).T).movedim(-1, axis)
    mean_a, mean_b, aa, bb, ab = smooth.chunk(5)
    variances = (aa - mean_a**2).clamp(min=0) + (bb - mean_b**2).clamp(min=0)
    covariance = ab - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    full = luminance * (2 * covariance + C2) / (variances + C2)
    return image_means(full), full


@cache
def _window(side: int, device: torch.device) -> Tensor:
    """Return the Gaussian window along a side, reflected at its ends, as a matrix (side, side)."""
    with torch.inference_mode(False):
        offsets = torch.arange(SMALLEST_SIDE) - SMALLEST_SIDE // 2
        weights = torch.exp(-((offsets / SIGMA) ** 2) / 2)
        places = (torch.arange(side)[:, None] + offsets).abs()
        places = side - 1 - (side - 1 - places).abs()
        matrix = torch.zeros(side, side)
        return matrix.scatter_add_(1, places, (weights / weights.sum()).expand(side, -1)).to(device)
