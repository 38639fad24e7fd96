"""Losses, one file each: the quantity a promise is about, as a function of a mask and images."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from conformask.distances import DISTANCES, PERCEPTUAL, distance
from conformask.distances import taken as taken_by_a_distance
from conformask.distances.lp import Lp
from conformask.distances.lpips import Lpips
from conformask.distances.ssim import Ssim
from conformask.errors import InvalidArgumentError, MismatchError, chosen
from conformask.fingerprints import fingerprint_of
from conformask.losses.image import OverImage
from conformask.losses.maps import CustomErrorMap, MapOf
from conformask.losses.masked import Masked
from conformask.losses.missed import Missed
from conformask.losses.trusted import Trusted
from conformask.losses.window import Window
from conformask.losses.wrong import Wrong
from conformask.records.geometry import PhysicalWindow
from conformask.records.loss import LossTerms
from conformask.types import Distance, ErrorMap, Loss

Chosen = str | Distance | ErrorMap | Loss | Callable[[Tensor, Tensor], Tensor]
"""A choice of a loss: a name, an object, or a callable (a, b) -> (N,)."""
MAPS: Mapping[str, Callable[..., ErrorMap]] = {
    "ssim_map": lambda: MapOf(Ssim()),
    "lpips_map": lambda **weights: MapOf(Lpips("squeeze", **weights)),
    "lpips_alex_map": lambda **weights: MapOf(Lpips("alex", **weights)),
    "lpips_vgg_map": lambda **weights: MapOf(Lpips("vgg", **weights)),
}
"""Error maps of distances by name, in addition to lp."""
AGGREGATES: Mapping[str, Callable[..., Loss]] = {
    "image": OverImage,
    "trusted": Trusted,
    "window": Window,
    "missed": Missed,
    "wrong": Wrong,
}
"""Aggregates of an error map under a mask, by name."""
TAKES: Mapping[str, str] = {"window": "window", "missed": "tolerance", "wrong": "tolerance"}
"""The number that each aggregate takes, by name."""


def loss(
    choice: Chosen,
    over: str | None = None,
    window: int | PhysicalWindow | None = None,
    tolerance: float | None = None,
    *,
    weights_path: str | Path | None = None,
) -> Loss:
    """Return the loss for a distance or error map, with the aggregate asked for.

    Args:
        choice: a distance's name ("l1", "ssim", ...), which compares the masked images as the paper does; an
            error map's ("l1" and other lp, "ssim_map", "lpips_map", ...); an object, such as `CustomErrorMap`
            or `CustomLoss`; or a callable (a, b) -> (N,).
        over: "image" (the mean over the image), "trusted" (the mean of what is shown), "window" (the largest
            local mean of what is shown), "missed" (the share of the wrong pixels that is shown) or "wrong"
            (the share of what is shown that is wrong); takes an error map. "image" for a map if None.
        window: for "window", its side in pixels, or a length converted to pixels by `Triplets.window`.
        tolerance: for "missed" and "wrong", the error above which a pixel is wrong.
        weights_path: see `distances.distance`.

    Raises:
        InvalidArgumentError: an unknown name, a distance without a map where one is needed, a number that is
            missing, not allowed, or given where it means nothing.
    """
    numbers: dict[str, Any] = {"window": window, "tolerance": tolerance}
    if isinstance(choice, Loss):
        _refuse_numbers({**numbers, "over": over}, f"the loss {choice.terms.loss_name!r}")
        return choice
    errors = _map_of(choice, weights_path)
    if errors is None:
        used = distance(choice, weights_path)  # type: ignore[arg-type]
        _refuse_mapless(used, over)
        _refuse_numbers(numbers, f"distance {used.name!r}")
        return Masked(used)
    aggregate = chosen(AGGREGATES, over or "image", "over")
    taken = TAKES.get(over or "image")
    _refuse_numbers(numbers, f"over {over or 'image'!r}", taken)
    if over == "window" and isinstance(window, PhysicalWindow):
        return Window(errors, window.sides, length=window.length)
    return aggregate(errors) if taken is None else aggregate(errors, _checked(taken, numbers[taken], over))


def stored_loss(terms: LossTerms, given: Chosen | None = None, code: str | None = None) -> Loss:
    """Return the loss that a run folder names; a user's own is passed as an argument, never imported.

    Raises:
        MismatchError: another one was given, or none where it is a user's own; or its code does not match the
        stored hash.
    """
    if given is None and not _taken(terms.distance):
        raise MismatchError(
            f"this was made for your own distance {terms.distance!r}: pass it again with distance="
        )
    used = _as_stored(terms.distance if given is None else given, terms)
    if used.terms != terms:
        raise MismatchError(f"this was made for {terms.loss_name!r}, not {used.terms.loss_name!r}")
    if code is not None and code_of(used) != code:
        raise MismatchError(
            f"the code of distance {terms.distance!r} has changed since this was made: pass the original "
            "code, or train or calibrate again"
        )
    return used


def stored_window(terms: LossTerms) -> int | PhysicalWindow | None:
    """Return the window of a record, as `loss` takes it."""
    if isinstance(terms.window, tuple):
        return PhysicalWindow(terms.window, terms.length or "")
    return terms.window


def where(used: Loss, regions: bool) -> Loss:
    """Return the loss over the region of each image, or over whole images.

    Raises:
        InvalidArgumentError: `regions` is true, and the loss compares whole masked images.
    """
    if regions:
        return in_region(used)
    return replace(used, regional=False) if used.terms.region else used  # type: ignore[type-var]


def in_region(used: Loss) -> Loss:
    """Return the loss over the region of each image.

    Raises:
        InvalidArgumentError: the loss compares whole masked images.
    """
    if isinstance(used, Masked):
        raise InvalidArgumentError(
            f"distance {used.distance.name!r} compares whole images and cannot use a region: "
            f"{_instead(used.distance.name)}, or leave out region/"
        )
    return replace(used, regional=True)  # type: ignore[type-var]


def code_of(used: Loss) -> str | None:
    """Return a hash of a user's own distance, map or loss; None for built-in ones, which have names."""
    part = part_of(used)
    function = getattr(part, "function", part)
    own = type(function).__module__.split(".")[0] != __package__.split(".")[0]
    return fingerprint_of(function) if own else None


def paper_distance(used: Loss) -> Distance | None:
    """Return the distance d if the loss is the paper's d(m*y, m*y_hat), else None."""
    if used.terms.over is not None or used.terms.region:
        return None
    part = part_of(used)
    return part if isinstance(part, Distance) else None


def part_of(used: Loss) -> Chosen:
    """Return the component of a loss, as `loss` takes it: its error map or distance, or the loss itself."""
    return cast(Chosen, getattr(used, "errors", None) or getattr(used, "distance", used))


def _as_stored(given: Chosen, terms: LossTerms) -> Loss:
    used = (
        given if isinstance(given, Loss) else loss(given, terms.over, stored_window(terms), terms.tolerance)
    )
    return in_region(used) if terms.region else used


def _map_of(choice: Chosen, weights_path: str | Path | None) -> ErrorMap | None:
    """Return the error map that is chosen; None where it is a distance."""
    if isinstance(choice, str) and not _taken(choice):
        chosen({**DISTANCES, **MAPS}, choice, "distance")
    if isinstance(choice, str) and choice in MAPS:
        takes_weights = choice.removesuffix("_map") in PERCEPTUAL
        return MAPS[choice](**({"weights_path": weights_path} if takes_weights else {}))
    if isinstance(choice, str) and weights_path is None:
        named = distance(choice)
        return named if isinstance(named, Lp) else None
    is_map = isinstance(choice, ErrorMap) and choice.exponent is not None
    if is_map and isinstance(choice, CustomErrorMap) and _taken(choice.name):
        raise InvalidArgumentError(
            f"your error map has the name of a built-in one, {choice.name!r}, but a run folder keeps only "
            "names: rename the function"
        )
    return choice if is_map else None  # type: ignore[return-value]


def _taken(name: str) -> bool:
    return name in MAPS or taken_by_a_distance(name)


def _refuse_mapless(used: Distance, over: str | None) -> None:
    if over is not None:
        raise InvalidArgumentError(
            f"over {over!r} needs an error map, but distance {used.name!r} compares whole images: "
            f"{_instead(used.name)}"
        )


def _instead(name: str) -> str:
    return f"use {name}_map" if f"{name}_map" in MAPS else "use l1, ssim_map, lpips_map or a CustomErrorMap"


def _refuse_numbers(numbers: Mapping[str, object], what: str, taken: str | None = None) -> None:
    for name, value in numbers.items():
        if value is not None and name != taken:
            raise InvalidArgumentError(f"{what} takes no {name}, but {value} was given: leave it out")


def _checked(name: str, value: float | None, over: str | None) -> float:
    example = {"window": "9 (pixels) or 5mm", "tolerance": "0.1"}[name]
    if value is None:
        raise InvalidArgumentError(f"over {over!r} needs a {name}, such as {example}")
    if name == "window" and (value < 1 or int(value) != value):
        raise InvalidArgumentError(f"window = {value:g}: must be a whole number of pixels, at least 1")
    if name == "tolerance" and not value >= 0:
        raise InvalidArgumentError(f"tolerance = {value:g}: must be an error of at least 0")
    return int(value) if name == "window" else float(value)
