"""Losses: the quantity a promise is about, as a function of a mask and images."""

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, cast

from conformask.errors import InvalidArgumentError, MismatchError, chosen
from conformask.losses.base import CHOICES, Loss, MapLoss
from conformask.losses.masked_distance import MaskedDistance, code_of
from conformask.losses.means import FalseOmissionRate, Mean
from conformask.records.extent import REGION
from conformask.records.loss import LOSSES, OwnLoss, StatedLoss, is_built_in, is_same
from conformask.records.names import DISTANCES
from conformask.records.record import Json

if TYPE_CHECKING:
    from torch import Tensor

    from conformask.arrays import Distance, ErrorMap

    AnyLoss = str | Distance | ErrorMap | Loss | Callable[[Tensor, Tensor], Tensor]
else:
    AnyLoss = object
"""A choice of a loss: a loss, the name or object of a distance or error map, or a callable (a, b) -> (N,)."""


def loss(choice: AnyLoss, weights_path: str | Path | None = None) -> Loss:
    """Return the loss itself, or the mean of an error map, or a distance between the masked images.

    Args:
        choice: a loss such as `Local("l1", 9)`; the name of an error map ("l1" and other lp, "ssim_map",
            "lpips_map", ...), whose mean over the image is meant; the name of a distance ("ssim", "lpips",
            ...), which compares the masked images as the paper does; an object such as a `CustomErrorMap`; or
            a callable (a, b) -> (N,), which is a distance; the name of one that an installed package adds.
        weights_path: see `distances.distance`.
    """
    from conformask.losses.distances import MAPS, distance, error_map, installed, is_map

    choice = installed(choice)
    if isinstance(choice, Loss):
        return choice
    if is_map(choice) or (isinstance(choice, str) and (choice in MAPS or not is_built_in(choice))):
        return Mean(choice if weights_path is None else error_map(choice, weights_path))
    compared = distance(choice, weights_path)  # type: ignore[arg-type]
    if is_map(compared):
        return Mean(compared)
    return MaskedDistance(choice if weights_path is None else compared)  # type: ignore[arg-type]


def loss_over(
    choice: AnyLoss, over: str | None, numbers: Mapping[str, Json], weights_path: str | Path | None = None
) -> Loss:
    """Return the loss of an error map or distance, as the command line states it.

    Args:
        choice: what `loss` takes.
        over: how the error map becomes one number, one of `LOSSES`; its mean over the image if None.
        numbers: numbers of the loss by the names of its fields; None stands for one that is not given.
        weights_path: see `distances.distance`.
    """
    given = {name: value for name, value in numbers.items() if value is not None}
    plain = loss(choice, weights_path)
    if not isinstance(plain, MapLoss):
        if over is not None:
            from conformask.losses.distances import map_instead

            raise InvalidArgumentError(
                f"over {over!r} takes an error map, but loss {plain.of!r} compares whole images: "
                f"{map_instead(plain.of)}"
            )
        _refuse_numbers(given, f"loss {plain.of!r}", ())
        return plain
    over = over or "image"
    kinds = {name: kind for name, kind in LOSSES.usable().items() if issubclass(kind, MapLoss)}
    kind: type[MapLoss] = chosen(kinds, over, "over")
    _refuse_numbers(given, f"over {over!r}", signature(kind).parameters)
    for name, option in kind.form.numbers.items():
        if option.example is not None and name not in given:
            raise InvalidArgumentError(f"over {over!r} needs a {name}, such as {option.example}")
    return kind(plain.loss, **given)


def _refuse_numbers(given: Mapping[str, Json], what: str, taken: Container[str]) -> None:
    for name, value in given.items():
        if name not in taken:
            raise InvalidArgumentError(f"{what} takes no {name}, but {value} was given: leave it out")


def planned_loss(name: str, *, is_share: bool) -> Loss:
    """Return a loss of a distance as plans state it; for a share of pixels, one that stands for all."""
    if is_share:
        return FalseOmissionRate(name, 0.0)
    return Mean(name) if DISTANCES[name].is_map else MaskedDistance(name)


def stored_loss(stored: StatedLoss, given: AnyLoss | None = None, code: str | None = None) -> Loss:
    """Return the loss that a run folder names; a user's own is passed as an argument, never imported."""
    is_own = isinstance(stored, OwnLoss) or isinstance(vars(stored).get("loss"), OwnLoss)
    if given is None and not is_own:
        return cast("Loss", stored)
    if given is None and stored.of not in CHOICES:
        raise MismatchError(
            f"this was made for your own loss {stored.of!r}: pass it again with loss=, or "
            "install the package that adds it"
        )
    used = loss(stored.of if given is None else given).in_regions(stored.extent == REGION)
    if isinstance(used, MapLoss) and isinstance(stored, MapLoss) and used.over != stored.over:
        used = replace(stored, loss=used.loss)
    if not is_same(used, stored):
        raise MismatchError(f"this was made for {stored.name!r}, not {used.name!r}")
    if code is not None and code_of(used) != code:
        raise MismatchError(
            f"the code of distance {stored.of!r} has changed since this was made: pass the original "
            "code, or train or calibrate again"
        )
    return used


def with_weights(stored: StatedLoss, weights_path: str | Path) -> Loss:
    """Return a stored loss whose distance has its weights here, see `distances.distance`."""
    used = loss(stored.of, weights_path)
    if isinstance(used, MapLoss) and isinstance(stored, MapLoss):
        return replace(stored, loss=used.loss)
    return used
