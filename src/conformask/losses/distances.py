"""Distances between images by name: lp, the perceptual ones, a user's own, and those of other packages."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conformask import extensions
from conformask.arithmetic import full_precision, image_means
from conformask.arrays import Distance, Images, PerImage
from conformask.errors import InvalidArgumentError, MismatchError, chosen
from conformask.extensions import Extensions
from conformask.losses.perceptual import Lpips, Ssim
from conformask.records import names
from conformask.records.fingerprints import name_of
from conformask.records.names import DISTANCES


@dataclass(frozen=True)
class CustomDistance:
    """Wraps a callable on two (N, C, H, W) tensors; treated as not monotone unless declared monotone."""

    function: Callable[[Tensor, Tensor], Tensor]
    monotone: bool = False
    upper_bound: float | None = None
    exponent = None

    @property
    def name(self) -> str:
        """The callable's own name."""
        return name_of(self.function)

    def __call__(self, a: Images, b: Images) -> PerImage:
        """Return the callable's value."""
        with full_precision(a):
            value = self.function(a, b)
        return one_per_image(value, len(a), f"distance {self.name!r}")


def one_per_image(value: object, n: int, what: str) -> PerImage:
    """Check and return the value of a user's callable for n images; `what` names the callable."""
    if not isinstance(value, Tensor) or value.shape != (n,):
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InvalidArgumentError(
            f"{what} returned {got} for {n} images; expected a tensor of shape ({n},): do not reduce over "
            "the batch"
        )
    if not bool(torch.isfinite(value).all()):
        raise InvalidArgumentError(f"{what} returned NaN or infinity")
    return value


@dataclass(frozen=True)
class Lp:
    """The paper's p-norm to the power p, divided by the number of values; summed in float64.

    Images in [0, 1] are at most 1 apart. Monotone: the smaller the mask, the smaller the distance.
    """

    p: float
    monotone = True
    upper_bound = DISTANCES["l1"].upper_bound

    def __post_init__(self) -> None:
        if not 1 <= self.p < math.inf:
            raise InvalidArgumentError(f"p = {self.p}: an lp distance needs p >= 1, and finite")

    @property
    def name(self) -> str:
        """The name: l1, l2, or l with the whole exponent, as `distance` reads it."""
        return f"l{float(self.p)!r}".removesuffix(".0")

    @property
    def exponent(self) -> float:
        """The exponent p."""
        return self.p

    def __call__(self, a: Images, b: Images) -> PerImage:
        """Compute mean |a - b|^p, float64, shape (N,); its gradient is finite where a = b."""
        return image_means(self.error_map(a, b), torch.float64)

    def furthest(self, y_hat: Images) -> Images:
        """Return the largest error that any y in [0, 1] could give, max(y_hat, 1 - y_hat)^p."""
        return torch.maximum(y_hat, 1 - y_hat).clamp(0, 1).pow(self.p)

    def error_map(self, y: Images, y_hat: Images) -> Images:
        """Return |y - y_hat|^p."""
        return (y - y_hat).abs().pow(self.p)


PERCEPTUAL: Mapping[str, Callable[..., Distance]] = {
    "lpips": partial(Lpips, "squeeze"),
    "lpips_alex": partial(Lpips, "alex"),
    "lpips_vgg": partial(Lpips, "vgg"),
}
"""Distances with a network, which need torchvision and its weights; each maker takes weights_path=."""

BUILT_IN: Mapping[str, Callable[[], Distance]] = {
    "l1": partial(Lp, 1.0),
    "l2": partial(Lp, 2.0),
    "ssim": Ssim,
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
        choice: "l1", "l2", `l` with any other exponent >= 1 as in "l1.5", "ssim", "lpips", "lpips_alex",
            "lpips_vgg", or your own object or callable.
        weights_path: where the weights of a named distance's network are: torchvision's file, or its folder;
            by default torch hub's. It is looked for at the first call.
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
    """Return the distance, error map or loss that an installed package adds by this name; else the choice."""
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
    return name in BUILT_IN or POWER.fullmatch(name) is not None


def _maker(name: str) -> Callable[[], Distance]:
    power = POWER.fullmatch(name)
    if power and name not in BUILT_IN:
        return partial(Lp, float(power[1]))
    return chosen(BUILT_IN, name, "distance")


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
