"""What distances ask of their images: a size, three channels, full precision."""

from torch import Tensor

from conformask.errors import InvalidArgumentError
from conformask.types import Images


def check_size(name: str, images: Images, smallest_side: int) -> None:
    """Refuse images below a distance's smallest side.

    Raises:
        InvalidArgumentError: a side is shorter; says what was needed and found.
    """
    if min(images.shape[2:]) < smallest_side:
        raise InvalidArgumentError(
            f"{name} needs images of at least {smallest_side} pixels a side, "
            f"these have {tuple(images.shape[2:])}"
        )


def three_channels(name: str, images: Images) -> Images:
    """(N, 3, *space) in float32: colour as it is, grey repeated.

    Raises:
        InvalidArgumentError: neither 1 nor 3 channels.
    """
    if images.shape[1] not in (1, 3):
        raise InvalidArgumentError(
            f"{name} needs grey or colour images (1 or 3 channels), these have {images.shape[1]}"
        )
    return images.float().expand(-1, 3, *images.shape[2:])


def slices_of(images: Images) -> Tensor:
    """The slices of volumes as images, (N, C, D, H, W) -> (N D, C, H, W); planes as they are."""
    return images if images.ndim == 4 else images.transpose(1, 2).flatten(0, 1)


def volumes_of(slices: Tensor, images: Images) -> Images:
    """The inverse: slices (N D, C, H, W) of these volumes as volumes; planes as they are."""
    if images.ndim == 4:
        return slices
    return slices.reshape(len(images), images.shape[2], *slices.shape[1:]).transpose(1, 2)


def means_over_slices(values: Tensor, n: int) -> Tensor:
    """The mean over the slices of each of n volumes, (N D,) -> (N,)."""
    return values.reshape(n, -1).mean(dim=1)
