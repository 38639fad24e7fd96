"""1 - MS-SSIM (Wang et al. 2003): SSIM over five scales, each by torchmetrics."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, avg_pool3d

from conformask.arithmetic import full_precision
from conformask.distances.inputs import check_size
from conformask.distances.ssim import SMALLEST_SIDE as WINDOW
from conformask.names import DISTANCES
from conformask.types import Images, PerImage

BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""The published exponents, from the finest scale to the coarsest."""
SMALLEST_SIDE = WINDOW * 2 ** (len(BETAS) - 1)
"""Shortest side, 176 pixels: halved four times, an image must still hold the window."""
POOLED = {4: avg_pool2d, 5: avg_pool3d}
"""Pooling functions by the number of axes of a batch."""
NOTHING_ALIKE = 1e-8
"""Similarities up to this count as 0, so that no gradient of their power overflows."""


@dataclass(frozen=True)
class MsSsim:
    """The distance 1 - prod_j relu(similarity_j)^beta_j: contrast at four scales, SSIM at the fifth.

    The window is SSIM's, data_range 1. Negative similarities count as 0 (torchmetrics' normalize="relu"),
    hence values in [0, 1]: an image with such a scale is at distance 1 and gives gradient 0. Not monotone
    under nested masks.
    """

    name = "ms_ssim"
    monotone = False
    exponent = None
    upper_bound = DISTANCES["ms_ssim"].upper_bound

    def __call__(self, a: Images, b: Images) -> PerImage:
        """Compute 1 - MS-SSIM(a, b) of each image, float32, shape (N,), in [0, 1].

        Raises:
            InvalidArgumentError: a side is shorter than 176 pixels.
        """
        check_size(self.name, a, SMALLEST_SIDE)
        with full_precision(a):
            return 1 - _power(_similarities(a.float(), b.float())).prod(dim=1)


def _similarities(a: Images, b: Images) -> Tensor:
    """Return the similarity at each scale, (N, 5)."""
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes seconds

    similarities = []
    for _ in BETAS:
        similarity, contrast = structural_similarity_index_measure(
            a, b, sigma=1.5, reduction="none", data_range=1.0, return_contrast_sensitivity=True
        )
        similarities.append(contrast)
        a, b = POOLED[a.ndim](a, 2), POOLED[b.ndim](b, 2)
    return torch.stack([*similarities[:-1], similarity], dim=1)


def _power(similarities: Tensor) -> Tensor:
    """Return relu(s)^beta, whose gradient is 0, not infinite, where s is not positive."""
    alike = similarities > NOTHING_ALIKE
    betas = similarities.new_tensor(BETAS)
    return torch.where(alike, similarities, 1.0).pow(betas) * alike
