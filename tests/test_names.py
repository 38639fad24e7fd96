"""The lists of choices against what goes by those names."""

from typing import Any, get_args

import pytest

from conformask import names
from conformask.conformal.presets import GUARANTEES, UNITS
from conformask.distances import DISTANCES, distance
from conformask.masks import FAMILIES
from conformask.predictors.regressor import KINDS
from conformask.scorers.heads import HEADS
from conformask.tasks import TASKS


@pytest.mark.parametrize(
    ("listed", "made"),
    [
        (names.Guarantee, GUARANTEES),
        (names.Unit, UNITS),
        (names.Family, FAMILIES),
        (names.Scorer, HEADS),
        (names.Task, TASKS),
        (names.Predictor, KINDS),
    ],
    ids=["guarantees", "units", "families", "scorers", "tasks", "predictors"],
)
def test_what_is_listed_is_what_there_is(listed: Any, made: dict[str, object]) -> None:
    assert set(get_args(listed)) == set(made)


def test_distances_are_listed_with_what_bounds_them() -> None:
    assert set(names.DISTANCES) == set(DISTANCES)
    for name, known in names.DISTANCES.items():
        made = distance(name)
        assert (made.upper_bound, made.exponent is not None) == (known.upper_bound, known.by_image)
