"""Colorization: recover the colours of a grey photograph, as in the paper."""

from conformask.errors import ImageError
from conformask.tasks.luma import luma
from conformask.types import Images


class Colorization:
    """Task whose x is the luma of y, one channel; y has three."""

    name = "colorization"

    def truth(self, image: Images) -> Images:
        """Return the image itself.

        Raises:
            ImageError: other than three channels.
        """
        if image.shape[1] != 3:
            raise ImageError(
                f"images have {image.shape[1]} channels; colorization needs colour images, with 3 (RGB)"
            )
        return image

    def degrade(self, y: Images) -> Images:
        """Return the luma of y (ITU-R 601), (N, 1, H, W).

        Raises:
            ImageError: other than three channels.
        """
        return luma(self.truth(y))

    def enlarge(self, x: Images) -> Images:
        """Return the input itself: it has the size of y."""
        return x

    def compose(self, x: Images, output: Images) -> Images:
        """Return the output clipped to [0, 1]."""
        return output.clamp(0, 1)
