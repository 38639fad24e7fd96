"""The discriminator of a conditional GAN, which judges patches (Isola et al. 2017)."""

from itertools import pairwise

from torch import nn

from conformask.networks.unet import Down, padded
from conformask.types import Images

HALVINGS = 3
"""Number of halvings of the image before a patch is judged."""


class PatchGAN(nn.Module):
    """Four convolutions, as in the paper: images (N, in_channels, H, W) of any size to a logit per patch.

    Three 4x4 convolutions halve the side, of width, 2 width and 4 width channels; a 3x3 convolution gives
    the logits (N, 1, ceil(H/8), ceil(W/8)), each of which sees 38 x 38 pixels.
    """

    def __init__(self, in_channels: int, *, width: int = 64) -> None:
        super().__init__()
        widths = [in_channels, *(width * 2**level for level in range(HALVINGS))]
        self.down = nn.Sequential(
            *(Down(narrow, wide, norm=level > 0) for level, (narrow, wide) in enumerate(pairwise(widths)))
        )
        self.out = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, image: Images) -> Images:
        """Return the logit of each patch; positive where it looks real."""
        logits: Images = self.out(self.down(padded(image, (2**HALVINGS,) * 2)))
        return logits
