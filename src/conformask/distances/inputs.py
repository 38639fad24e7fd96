"""What distances ask of their images: a size, three channels, full precision."""

from conformask.errors import InvalidArgumentError
from conformask.types import Images


def check_size(name: str, images: Images, smallest_side: int) -> None:
    """Refuse images below a distance's smallest side.

    Raises:
        InvalidArgumentError: a side is shorter; says what was needed and found.
    """
    if min(images.shape[-2:]) < smallest_side:
        raise InvalidArgumentError(
            f"{name} needs images of at least {smallest_side} pixels a side, "
            f"these have {tuple(images.shape[-2:])}"
        )


def three_channels(name: str, images: Images) -> Images:
    """(N, 3, H, W) in float32: colour as it is, grey repeated.

    Raises:
        InvalidArgumentError: neither 1 nor 3 channels.
    """
    if images.shape[1] not in (1, 3):
        raise InvalidArgumentError(
            f"{name} needs grey or colour images (1 or 3 channels), these have {images.shape[1]}"
        )
    return images.float().expand(-1, 3, -1, -1)
