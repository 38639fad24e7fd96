"""The distance and the family that go with a scorer, and the promises that go with them."""

from collections.abc import Callable, Mapping

from torch import Tensor

from conformask.conformal.promise import Promise
from conformask.distances import code_of, stored_distance
from conformask.distances import distance as distance_by_name
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.masks import family as family_by_name
from conformask.storage.as_json import Json
from conformask.types import Distance, Family, Scorer


def family_for(
    scorer: Scorer, distance: Distance, choice: str | Mapping[str, Json] | Family | None
) -> Family:
    """The chosen family (by name or settings) for this distance, or the one that suits the scorer."""
    if choice is None or isinstance(choice, str | Mapping):
        return family_by_name(choice or scorer.family, distance.exponent or 1.0)
    return choice


def distance_for(
    scorer: Scorer, choice: str | Distance | Callable[[Tensor, Tensor], Tensor] | None
) -> Distance:
    """The distance that the scorer was fitted for; where for none the given one, or its selection images'."""
    if choice is None:
        if scorer.distance is None and scorer.selection is None:
            raise InvalidArgumentError("this scorer was fitted for no distance: pass distance=")
        return scorer.distance or stored_distance(scorer.selection.of)  # type: ignore[union-attr]
    used = distance_by_name(choice)
    if scorer.distance is not None and scorer.distance.name != used.name:
        raise MismatchError(
            f"this scorer was fitted for distance {scorer.distance.name!r}, not {used.name!r}: train another"
        )
    if scorer.distance is not None:
        stored_distance(used.name, used, code_of(scorer.distance))
    return used


def refuse_unbounded(promise: Promise, distance: Distance) -> None:
    """Refuse a mean of a distance that can be arbitrarily large.

    Raises:
        InvalidArgumentError: it is one.
    """
    if promise.statement.bounds_a_mean and distance.upper_bound is None:
        raise InvalidArgumentError(
            f"the {promise.name} guarantee bounds a mean and needs a distance with an upper bound, "
            f"{distance.name!r} declares none: choose one about a share of images, such as marginal"
        )
