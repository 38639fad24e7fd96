"""Checks and conversions of images for distances: size, three channels, slices of volumes."""

from torch import Tensor

from conformask.errors import InvalidArgumentError
from conformask.types import Images


def check_size(name: str, images: Images, smallest_side: int) -> None:
    """Refuse images smaller than a distance's smallest side.

    Raises:
        InvalidArgumentError: a side is shorter; says the sides needed and found.
    """
    if min(images.shape[2:]) < smallest_side:
        raise InvalidArgumentError(
            f"{name} needs images of at least {smallest_side} pixels per side, but these have "
            f"{tuple(images.shape[2:])}"
        )


def three_channels(name: str, images: Images) -> Images:
    """Return (N, 3, *space) in float32: colour unchanged, grey repeated.

    Raises:
        InvalidArgumentError: neither 1 nor 3 channels.
    """
    if images.shape[1] not in (1, 3):
        raise InvalidArgumentError(
            f"{name} needs grey or colour images (1 or 3 channels), but these have {images.shape[1]}"
        )
    return images.float().expand(-1, 3, *images.shape[2:])


def slices_of(images: Images) -> Tensor:
    """Return the slices of volumes as images, (N, C, D, H, W) -> (N D, C, H, W); planes unchanged."""
    return images if images.ndim == 4 else images.transpose(1, 2).flatten(0, 1)


def volumes_of(slices: Tensor, images: Images) -> Images:
    """Return slices (N D, C, H, W) as volumes like `images`, the inverse of slices_of; planes unchanged."""
    if images.ndim == 4:
        return slices
    return slices.reshape(len(images), images.shape[2], *slices.shape[1:]).transpose(1, 2)


def means_over_slices(values: Tensor, n: int) -> Tensor:
    """Return the mean over the slices of each of n volumes, (N D,) -> (N,)."""
    return values.reshape(n, -1).mean(dim=1)
