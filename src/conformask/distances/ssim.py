"""1 - SSIM (Wang et al. 2004), by torchmetrics, with the settings that do not depend on the batch."""

from dataclasses import dataclass

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from conformask.distances.inputs import check_size, without_autocast
from conformask.types import Images, PerImage

SMALLEST_SIDE = 11
"""Of the Gaussian window, in pixels."""


@dataclass(frozen=True)
class Ssim:
    """1 - SSIM with a Gaussian 11x11 window, sigma 1.5, data_range 1; not monotone under nested masks."""

    name = "ssim"
    monotone = False
    exponent = None
    upper_bound = 2.0

    def __call__(self, a: Images, b: Images) -> PerImage:
        """1 - SSIM(a, b) of each image, float32, shape (N,), in [0, 2].

        Raises:
            InvalidArgumentError: an image is smaller than the window.
        """
        return 1 - _similarity(a, b)[0]

    def error_map(self, y: Images, y_hat: Images) -> Images:
        """1 - SSIM at each pixel, whose mean is the distance.

        Raises:
            InvalidArgumentError: an image is smaller than the window.
        """
        return 1 - _similarity(y, y_hat)[1]


def _similarity(a: Images, b: Images) -> tuple[Tensor, Tensor]:
    check_size("ssim", a, SMALLEST_SIDE)
    with without_autocast(a):
        value, full = structural_similarity_index_measure(
            a.float(), b.float(), sigma=1.5, reduction="none", data_range=1.0, return_full_image=True
        )
    return value.reshape(len(a)), full.reshape(a.shape)
