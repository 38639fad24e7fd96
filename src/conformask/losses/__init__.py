"""Losses: the quantity a promise is about, as a function of a mask and images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from torch import Tensor

from conformask.arrays import Distance, ErrorMap
from conformask.errors import InvalidArgumentError, MismatchError, chosen
from conformask.losses.base import Loss
from conformask.losses.clean import CleanLocal, CleanMean
from conformask.losses.distances import CHOICES, distance, installed
from conformask.losses.maps import MAPS, error_map, is_built_in, is_map, map_instead
from conformask.losses.masked_distance import MaskedDistance
from conformask.losses.means import FalseOmissionRate, Mean, MeanShown, MissRate
from conformask.losses.objects import Objects
from conformask.losses.window import Local, LocalShare, MaskedWindow
from conformask.records.fingerprints import fingerprint_of
from conformask.records.loss import LossTerms
from conformask.records.names import OfObjects

AnyLoss = str | Distance | ErrorMap | Loss | Callable[[Tensor, Tensor], Tensor]
"""A choice of a loss: a loss, the name or object of a distance or error map, or a callable (a, b) -> (N,)."""
AGGREGATES: Mapping[str, Callable[..., Loss]] = {
    "image": Mean,
    "local": Local,
    "local_share": LocalShare,
    "trusted": MeanShown,
    "window": MaskedWindow,
    "missed": MissRate,
    "wrong": FalseOmissionRate,
    "clean": CleanMean,
    "clean_local": CleanLocal,
}
"""Aggregates of an error map under a mask, by name."""
TAKES: Mapping[str, tuple[str, ...]] = {
    "local": ("window",),
    "local_share": ("window", "tolerance"),
    "window": ("window",),
    "missed": ("tolerance",),
    "wrong": ("tolerance",),
    "clean": ("allowance", "eta", "reach"),
    "clean_local": ("window", "allowance", "eta", "reach"),
}
"""The numbers that each aggregate takes, by name."""
EXAMPLES = {"window": "9 (pixels) or 5mm", "tolerance": "0.1"}
"""Examples of the numbers that an aggregate needs where it takes them; others have a default."""


def loss(choice: AnyLoss, weights_path: str | Path | None = None) -> Loss:
    """Return the loss itself, or the mean of an error map, or a distance between the masked images.

    Args:
        choice: a loss such as `Local("l1", 9)`; the name of an error map ("l1" and other lp, "ssim_map",
            "lpips_map", ...), whose mean over the image is meant; the name of a distance ("ssim", "lpips",
            ...), which compares the masked images as the paper does; an object such as a `CustomErrorMap`; or
            a callable (a, b) -> (N,), which is a distance; the name of one that an installed package adds.
        weights_path: see `distances.distance`.
    """
    choice = installed(choice)
    if isinstance(choice, Loss):
        return choice
    if is_map(choice) or (isinstance(choice, str) and (choice in MAPS or not is_built_in(choice))):
        return Mean(error_map(choice, weights_path))
    compared = distance(choice, weights_path)  # type: ignore[arg-type]
    return Mean(compared) if is_map(compared) else MaskedDistance(compared)


def loss_of_terms(
    terms: LossTerms, part: Distance | ErrorMap | str | None = None, weights_path: str | Path | None = None
) -> Loss:
    """Return the loss with these terms, as the command line and run folders state them.

    Args:
        terms: names and numbers of the loss.
        part: the distance or error map, where it is not named in the terms but a user's own.
        weights_path: see `distances.distance`.
    """
    if terms.iou is not None:
        return Objects(cast("OfObjects", terms.over), terms.iou)
    used = terms.distance if part is None else part
    plain = loss(used, weights_path)
    numbers = {
        "window": terms.length if terms.window is None else terms.window, "tolerance": terms.tolerance,
        "allowance": terms.allowance, "eta": terms.eta, "reach": terms.reach,
    }  # fmt: skip
    if plain.errors is None:
        if terms.over is not None:
            raise InvalidArgumentError(
                f"over {terms.over!r} takes an error map, but distance {terms.distance!r} compares whole "
                f"images: {map_instead(terms.distance)}"
            )
        _refuse_numbers(numbers, f"distance {terms.distance!r}")
        return plain.in_regions(True) if terms.region else plain
    aggregate, over = chosen(AGGREGATES, terms.over or "image", "over"), terms.over or "image"
    taken = TAKES.get(over, ())
    _refuse_numbers(numbers, f"over {over!r}", taken)
    needed = [number for number in taken if number in EXAMPLES]
    for number in needed:
        if numbers[number] is None:
            raise InvalidArgumentError(f"over {over!r} needs a {number}, such as {EXAMPLES[number]}")
    lengths = {"length": terms.length} if "window" in taken else {}
    arguments = [terms.window if number == "window" else numbers[number] for number in needed]
    others = {name: numbers[name] for name in taken if name not in needed and numbers[name] is not None}
    return aggregate(plain.errors, *arguments, regional=terms.region, **lengths, **others)


def stored_loss(terms: LossTerms, given: AnyLoss | None = None, code: str | None = None) -> Loss:
    """Return the loss that a run folder names; a user's own is passed as an argument, never imported."""
    built_in = terms.iou is not None or is_built_in(terms.distance)
    if given is None and not (built_in or terms.distance in CHOICES):
        raise MismatchError(
            f"this was made for your own distance {terms.distance!r}: pass it again with loss=, or "
            "install the package that adds it"
        )
    used = loss(given).in_regions(terms.region) if given is not None else loss_of_terms(terms)
    if used.terms.over != terms.over and used.errors is not None:
        used = loss_of_terms(terms, used.errors)
    if used.terms != terms:
        raise MismatchError(f"this was made for {terms.name!r}, not {used.terms.name!r}")
    if code is not None and code_of(used) != code:
        raise MismatchError(
            f"the code of distance {terms.distance!r} has changed since this was made: pass the original "
            "code, or train or calibrate again"
        )
    return used


def code_of(used: Loss) -> str | None:
    """Return a hash of a user's own distance, map or loss; None for built-in ones, which have names."""
    function = getattr(used.part, "function", used.part)
    own = type(function).__module__.split(".")[0] != __package__.split(".")[0]
    return fingerprint_of(function) if own else None


def paper_distance(used: Loss) -> Distance | None:
    """Return the distance d if the loss is the paper's d(m*y, m*y_hat), else None."""
    if used.terms.over is not None or used.terms.region:
        return None
    return used.part if isinstance(used.part, Distance) else None


def _refuse_numbers(numbers: Mapping[str, object], what: str, taken: Sequence[str] = ()) -> None:
    for name, value in numbers.items():
        if value is not None and name not in taken:
            raise InvalidArgumentError(f"{what} takes no {name}, but {value} was given: leave it out")
