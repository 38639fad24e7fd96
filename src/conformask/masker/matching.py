"""The distance and the family that go with a scorer."""

from collections.abc import Callable

from torch import Tensor

from conformask.distances import distance as distance_by_name
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.masks import family as family_by_name
from conformask.types import Distance, Family, Scorer


def family_for(scorer: Scorer, distance: Distance, choice: str | Family | None) -> Family:
    """The chosen family for this distance, or the one that suits the scorer."""
    if choice is None or isinstance(choice, str):
        return family_by_name(choice or scorer.family, distance.exponent or 1.0)
    return choice


def distance_for(
    scorer: Scorer, choice: str | Distance | Callable[[Tensor, Tensor], Tensor] | None
) -> Distance:
    """The distance that the scorer was fitted for; the given one where it was fitted for none."""
    if choice is None and scorer.distance is None:
        raise InvalidArgumentError("this scorer was fitted for no distance: pass distance=")
    if choice is None and scorer.distance is not None:
        return scorer.distance
    used = distance_by_name(choice)  # type: ignore[arg-type]
    if scorer.distance is not None and scorer.distance.name != used.name:
        raise MismatchError(
            f"this scorer was fitted for distance {scorer.distance.name!r}, not {used.name!r}: train another"
        )
    return used
