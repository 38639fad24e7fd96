"""The lists of choices against what goes by those names."""

from typing import Any, get_args

import pytest

from conformask.losses import loss
from conformask.losses.distances import BUILT_IN as DISTANCES
from conformask.losses.distances import MAPS
from conformask.masks.families import FAMILIES
from conformask.promises.promise import GUARANTEES, UNITS
from conformask.records import names
from conformask.scores.network_scorer import HEADS


@pytest.mark.parametrize(
    ("listed", "made"),
    [
        (names.Guarantee, GUARANTEES),
        (names.Unit, UNITS),
        (names.Family, FAMILIES),
        (names.Scorer, HEADS),
    ],
    ids=["guarantees", "units", "families", "scorers"],
)
def test_what_is_listed_is_what_there_is(listed: Any, made: dict[str, object]) -> None:
    assert set(get_args(listed)) == set(made)


def test_distances_are_listed_with_what_bounds_them() -> None:
    assert set(names.DISTANCES) == {*DISTANCES, *MAPS}
    for name, known in names.DISTANCES.items():
        made = loss(name)
        assert (made.upper_bound, made.own_bounds) == (known.upper_bound, name in ("l1", "l2"))
        assert (made.error_map is not None) == known.is_map
