"""Distances between images, one file each: one number an image, never a mean over the batch."""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from conformask.distances.custom import Custom
from conformask.distances.lp import Lp
from conformask.distances.ssim import Ssim
from conformask.errors import InvalidArgumentError, MismatchError, chosen
from conformask.types import Distance

DISTANCES: Mapping[str, Callable[[], Distance]] = {
    "l1": partial(Lp, 1.0),
    "l2": partial(Lp, 2.0),
    "ssim": Ssim,
}


def distance(choice: str | Distance | Callable[[Tensor, Tensor], Tensor]) -> Distance:
    """The distance of that name, or the given object, or a wrapped callable (a, b) -> (N,).

    Raises:
        InvalidArgumentError: an unknown name, or something that cannot be called.
    """
    if isinstance(choice, str):
        return chosen(DISTANCES, choice, "distance")()
    if isinstance(choice, Distance):
        return choice
    if callable(choice):
        return Custom(choice)
    raise InvalidArgumentError(
        f"distance must be a name, an object or a callable (a, b) -> (N,), not {choice!r}"
    )


def stored_distance(
    name: str, given: str | Distance | Callable[[Tensor, Tensor], Tensor] | None = None
) -> Distance:
    """The distance that a run folder names; a user's own is handed in, never imported from a file.

    Raises:
        MismatchError: another distance was given, or none where it is a user's own.
    """
    if given is None and name not in DISTANCES:
        raise MismatchError(f"this was made for your own distance {name!r}: hand it in again with distance=")
    used = distance(name if given is None else given)
    if used.name != name:
        raise MismatchError(f"this was made for distance {name!r}, not {used.name!r}")
    return used
