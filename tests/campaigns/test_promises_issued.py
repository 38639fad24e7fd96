"""A sample of the campaign on promises that are issued; promises_issued.py runs it whole."""

import pytest
from promises_issued import combinations, measured

SETS = 3
WITHIN = ("marginal, in category 0", "pac, in category 1", "marginal, group, in category 0")
SAMPLE = [each for each in combinations() if "category" not in each.name or each.name in WITHIN]


@pytest.mark.quick(2)
@pytest.mark.parametrize("combination", SAMPLE, ids=lambda each: each.name)
def test_a_promise_is_kept_where_it_is_issued(combination):
    found = measured(combination, SETS)
    assert found["refused"] == 0, "whether one is given must not depend on what the images show"
    assert found["z"] > -4.5


@pytest.mark.thorough
def test_closed_masks_are_part_of_what_is_kept():
    """Sixty sets of the plainest promise: with open masks where closed ones are due, z is below -4."""
    marginal = next(each for each in SAMPLE if each.name == "marginal")
    found = measured(marginal, 60)
    assert found["hides"] > 5
    assert found["z"] > -3
