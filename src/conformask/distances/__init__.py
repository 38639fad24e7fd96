"""Distances between images, one file each: one number per image, never a mean over the batch."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from conformask import extensions, names
from conformask.distances.custom import CustomDistance
from conformask.distances.dists import Dists
from conformask.distances.lp import Lp
from conformask.distances.lpips import Lpips
from conformask.distances.ms_ssim import MsSsim
from conformask.distances.ssim import Ssim
from conformask.errors import InvalidArgumentError, MismatchError, chosen
from conformask.extensions import Extensions
from conformask.fingerprints import name_of
from conformask.types import Distance

PERCEPTUAL: Mapping[str, Callable[..., Distance]] = {
    "lpips": partial(Lpips, "squeeze"),
    "lpips_alex": partial(Lpips, "alex"),
    "lpips_vgg": partial(Lpips, "vgg"),
    "dists": Dists,
}
"""Distances with a network, which need torchvision and its weights; each maker takes weights_path=."""

DISTANCES: Mapping[str, Callable[[], Distance]] = {
    "l1": partial(Lp, 1.0),
    "l2": partial(Lp, 2.0),
    "ssim": Ssim,
    "ms_ssim": MsSsim,
    **PERCEPTUAL,
}
"""All distances with a fixed name; `l` with any other exponent >= 1, as in l1.5, exists as well."""

CHOICES: Extensions[object] = Extensions(extensions.LOSSES, object, {name: name for name in names.DISTANCES})
"""All distances, error maps and losses by name: a built-in name stays one, a package gives an object."""

POWER = re.compile(r"l(\d+(?:\.\d+)?(?:e[+-]?\d+)?)")


def distance(
    choice: str | Distance | Callable[[Tensor, Tensor], Tensor], weights_path: str | Path | None = None
) -> Distance:
    """Return the distance with this name, the given object, or a wrapped callable (a, b) -> (N,).

    Args:
        choice: "l1", "l2", `l` with any other exponent >= 1 as in "l1.5", "ssim", "ms_ssim", "lpips",
            "lpips_alex", "lpips_vgg", "dists", or your own object or callable.
        weights_path: where the weights of a named distance's network are: torchvision's file, or its folder;
            by default torch hub's. It is looked for at the first call.

    Raises:
        InvalidArgumentError: an unknown name, an exponent below 1, something that cannot be called, a
            callable with the name of another distance, or weights for a distance that takes none.
    """
    if weights_path is not None:
        return _perceptual(choice)(weights_path=weights_path)
    choice = installed(choice)
    if isinstance(choice, str):
        return _maker(choice)()
    if isinstance(choice, Distance):
        return choice
    if callable(choice):
        return _own(choice)
    raise InvalidArgumentError(
        f"distance must be a name, an object or a callable (a, b) -> (N,), not {choice!r}"
    )


def installed(choice: Any) -> Any:
    """Return the distance, error map or loss that an installed package adds by this name; else the choice.

    Raises:
        MismatchError: the package is broken, several packages add this name, or it gives another name itself.
    """
    added = CHOICES.get(choice, choice) if isinstance(choice, str) else choice
    if added is choice or isinstance(added, str):
        return added
    name = getattr(added, "name", None) or name_of(added)
    if name != choice:
        raise MismatchError(
            f"an installed package adds the loss {choice!r}, which calls itself {name!r}: both names must be "
            "the same, since a run folder keeps only names"
        )
    return added


def taken(name: str) -> bool:
    """Return whether a built-in distance has this name."""
    return name in DISTANCES or POWER.fullmatch(name) is not None


def _maker(name: str) -> Callable[[], Distance]:
    power = POWER.fullmatch(name)
    if power and name not in DISTANCES:
        return partial(Lp, float(power[1]))
    return chosen(DISTANCES, name, "distance")


def _perceptual(choice: str | Distance | Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Distance]:
    if isinstance(choice, str) and choice in PERCEPTUAL:
        return PERCEPTUAL[choice]
    raise InvalidArgumentError(
        f"weights_path= applies only to the distances {list(PERCEPTUAL)}, not to {distance(choice).name!r}"
    )


def _own(function: Callable[[Tensor, Tensor], Tensor]) -> CustomDistance:
    """Wrap a user's callable; refuse built-in names, since a run folder keeps only the name."""
    own = CustomDistance(function)
    if taken(own.name):
        raise InvalidArgumentError(
            f"your distance has the name of a built-in one, {own.name!r}, but a run folder keeps only "
            f"names: rename the function, or pass {own.name!r} for the built-in one"
        )
    return own
