"""Super-resolution: recover an image from a quarter of its sides, as in the paper."""

import torch.nn.functional as F

from conformask.errors import ImageError
from conformask.types import Images


class SuperResolution:
    """Task whose x is y made four times smaller along each side, by averaging 4x4 pixels."""

    name = "super_resolution"
    scale = 4

    def truth(self, image: Images) -> Images:
        """Return the image itself.

        Raises:
            ImageError: a side that is not divisible by 4.
        """
        height, width = image.shape[-2:]
        if height % self.scale or width % self.scale:
            divisible = max(self.scale, min(height, width) // self.scale * self.scale)
            raise ImageError(
                f"images are {height} x {width} pixels; super_resolution needs sides that are divisible by "
                f"{self.scale}: use --size {divisible}"
            )
        return image

    def degrade(self, y: Images) -> Images:
        """Return the mean of each 4x4 pixels of y, (N, C, H/4, W/4).

        Raises:
            ImageError: a side that is not divisible by 4.
        """
        return F.avg_pool2d(self.truth(y), self.scale)

    def enlarge(self, x: Images) -> Images:
        """Return the input four times larger, by bicubic interpolation, clipped to [0, 1]."""
        return F.interpolate(x, scale_factor=self.scale, mode="bicubic", align_corners=False).clamp(0, 1)

    def compose(self, x: Images, output: Images) -> Images:
        """Return the output clipped to [0, 1]; no pixel of y is known from x."""
        return output.clamp(0, 1)
