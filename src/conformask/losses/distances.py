"""Distances and error maps by name: lp, the perceptual ones, a user's own, and those of other packages."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from conformask.arrays import Distance, ErrorMap, Images, PerImage, full_precision, image_means
from conformask.errors import InvalidArgumentError, MismatchError, chosen
from conformask.losses.base import CHOICES
from conformask.losses.perceptual import Lpips, Ssim
from conformask.records.fingerprints import name_of
from conformask.records.loss import LP, is_built_in
from conformask.records.names import DISTANCES

ROUNDING = 1e-5
"""How far values may lie above their upper bound."""


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
        return one_per_image(value, len(a), f"distance {self.name!r}", self.upper_bound)


def one_per_image(value: object, n: int, what: str, bound: float | None) -> PerImage:
    """Check and return the value of a user's callable for n images; `what` names the callable."""
    if not isinstance(value, Tensor) or value.shape != (n,):
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InvalidArgumentError(
            f"{what} returned {got} for {n} images; expected a tensor of shape ({n},): do not reduce over "
            "the batch"
        )
    if not bool(torch.isfinite(value).all()):
        raise InvalidArgumentError(f"{what} returned NaN or infinity")
    refuse_above(bound, value, what)
    return value


def refuse_above(bound: float | None, values: Tensor, what: str) -> None:
    """Refuse values of a user's callable above the bound that was declared, on which promises may rest."""
    if bound is not None and float(values.max()) > bound + ROUNDING:
        raise InvalidArgumentError(
            f"{what} returned {float(values.max()):.4g}, above its upper_bound {bound:g}: declare the "
            "largest value that it can take"
        )


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
        if isinstance(choice, str) and choice in PERCEPTUAL:
            return PERCEPTUAL[choice](weights_path=weights_path)
        raise InvalidArgumentError(
            f"weights_path= applies only to the distances {list(PERCEPTUAL)}, not to "
            f"{distance(choice).name!r}"
        )
    choice = installed(choice)
    if isinstance(choice, str):
        power = LP.fullmatch(choice)
        if power and choice not in BUILT_IN:
            return Lp(float(power[1]))
        return chosen(BUILT_IN, choice, "distance")()
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


def _own(function: Callable[[Tensor, Tensor], Tensor]) -> CustomDistance:
    """Wrap a user's callable; refuse built-in names, since a run folder keeps only the name."""
    own = CustomDistance(function)
    try:
        with suppress(ValueError):  # of what is compiled, whose arguments are not known
            signature(function).bind(None, None)
    except TypeError as error:
        raise InvalidArgumentError(
            f"{own.name!r} takes no (a, b), as a distance does: if it is a loss of (mask, y, y_hat, region), "
            f"give CustomLoss({own.name})"
        ) from error
    if is_built_in(own.name):
        raise InvalidArgumentError(
            f"your distance has the name of a built-in one, {own.name!r}, but a run folder keeps only "
            f"names: rename the function, or pass {own.name!r} for the built-in one"
        )
    return own


@dataclass(frozen=True)
class MapOf:
    """A distance's own error map, whose mean over the pixels approximates the distance."""

    distance: Ssim | Lpips
    exponent = 1.0

    @property
    def name(self) -> str:
        """The name, such as ssim_map or lpips_map."""
        return f"{self.distance.name}_map"

    @property
    def upper_bound(self) -> float | None:
        """The largest value of the distance, if it has one."""
        return self.distance.upper_bound

    def error_map(self, y: Images, y_hat: Images) -> Images:
        """Return the map, >= 0; values below 0 by rounding are clipped."""
        return self.distance.error_map(y, y_hat).clamp(min=0)


@dataclass(frozen=True)
class CustomErrorMap:
    """An error map from a callable (y, y_hat) -> errors >= 0 of shape (N, 1 or C, *space).

    The callable receives float32 tensors (N, C, *space) in [0, 1], where 0 and 1 are the ends of the range of
    the images, not in their units. With `Reading(nan="outside")`, 0 stands where an image was NaN. Errors
    outside the region do not count, but have to be finite there too: a relative error divides by, say,
    `y.clamp(min=0.01)`.

    Examples:
        >>> import conformask as cm
        >>> def squared(y, y_hat):
        ...     return (y - y_hat).square()
        >>> cm.MaskedWindow(cm.CustomErrorMap(squared, upper_bound=1.0), 9).name
        'masked_window(squared, 9 px)'
    """

    function: Callable[[Tensor, Tensor], Tensor]
    upper_bound: float | None = None
    """The largest error on images in [0, 1], where there is one."""
    exponent = 1.0

    @property
    def name(self) -> str:
        """The callable's own name."""
        return name_of(self.function)

    def error_map(self, y: Images, y_hat: Images) -> Images:
        """Check and return the callable's map.

        Raises:
            InvalidArgumentError: another shape than that of the images, or a value that is negative, NaN or
                infinite.
        """
        with full_precision(y):
            errors = self.function(y, y_hat)
        shapes = [(*y.shape[:1], channels, *y.shape[2:]) for channels in (1, y.shape[1])]
        if not isinstance(errors, Tensor) or tuple(errors.shape) not in shapes:
            got = tuple(errors.shape) if isinstance(errors, Tensor) else type(errors).__name__
            raise InvalidArgumentError(f"error map {self.name!r} returned {got}; expected {shapes[-1]}")
        if not bool((torch.isfinite(errors) & (errors >= 0)).all()):
            raise InvalidArgumentError(
                f"error map {self.name!r} has values that are negative, NaN or infinite"
            )
        refuse_above(self.upper_bound, errors, f"error map {self.name!r}")
        return errors.float()


MAPS: Mapping[str, Callable[..., ErrorMap]] = {
    "ssim_map": lambda: MapOf(Ssim()),
    "lpips_map": lambda **weights: MapOf(Lpips("squeeze", **weights)),
    "lpips_alex_map": lambda **weights: MapOf(Lpips("alex", **weights)),
    "lpips_vgg_map": lambda **weights: MapOf(Lpips("vgg", **weights)),
}
"""Error maps of distances by name, in addition to lp."""


def error_map(choice: object, weights_path: str | Path | None = None) -> ErrorMap:
    """Return the error map with this name, or the given object."""
    asked, choice = choice, installed(choice)
    if is_map(choice):
        if isinstance(choice, CustomErrorMap) and is_built_in(choice.name):
            raise InvalidArgumentError(
                f"your error map has the name of a built-in one, {choice.name!r}, but a run folder keeps "
                "only names: rename the function"
            )
        return choice
    if isinstance(choice, str) and choice in MAPS:
        takes_weights = choice.removesuffix("_map") in PERCEPTUAL
        return MAPS[choice](**({"weights_path": weights_path} if takes_weights else {}))
    if isinstance(choice, str):
        if not is_built_in(choice):
            chosen(CHOICES, choice, "distance")
        named = distance(choice, weights_path)
        if isinstance(named, Lp):
            return named
    name = asked if isinstance(asked, str) else getattr(choice, "name", None) or repr(choice)
    raise InvalidArgumentError(
        f"{name!r} is not an error map but compares whole images: {map_instead(str(name))}"
    )


def is_map(choice: object) -> TypeGuard[ErrorMap]:
    """Return whether this is an error map; an object of a distance with a map but no exponent is not."""
    return isinstance(choice, ErrorMap) and choice.exponent is not None


def map_instead(name: str) -> str:
    """Return advice on the error map to use instead of a distance between whole images."""
    return f"use {name}_map" if f"{name}_map" in MAPS else "use l1, ssim_map, lpips_map or a CustomErrorMap"
