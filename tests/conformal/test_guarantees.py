import math

import pytest

from conformask.conformal.guarantees import CONFIDENCE, DELTA, GUARANTEES, Guarantee, guarantee, takes
from conformask.errors import InvalidArgumentError


@pytest.mark.parametrize("name", GUARANTEES)
def test_they_keep_to_the_protocol(name: str) -> None:
    made = guarantee(name)
    assert isinstance(made, Guarantee)
    assert made.name == name
    assert made.confidence == (CONFIDENCE if "confidence" in takes(name) else None)
    assert made.delta == (DELTA if "delta" in takes(name) else None)
    assert "l1" in made.claim("l1", 0.02)
    assert "0.02" in made.claim("l1", 0.02)
    assert made.smallest_calibration_set(0.1, 1.0) >= 1
    assert made.rank(200) is None or 1 <= made.rank(200) <= 20


@pytest.mark.parametrize("name", GUARANTEES)
def test_values_that_are_given_are_kept_and_others_refused(name: str) -> None:
    for key in ("confidence", "delta"):
        if key in takes(name):
            assert getattr(guarantee(name, **{key: 0.8}), key) == 0.8
            for value in (0.0, 1.0, -0.1, math.nan):
                with pytest.raises(InvalidArgumentError, match="between 0 and 1"):
                    guarantee(name, **{key: value})
        else:
            with pytest.raises(InvalidArgumentError, match=f"takes no {key}"):
                guarantee(name, **{key: 0.8})


def test_an_unknown_name_is_corrected() -> None:
    with pytest.raises(InvalidArgumentError, match="did you mean 'marginal'"):
        guarantee("margnal", 0.9)
    with pytest.raises(InvalidArgumentError, match="choose from"):
        takes("xyz")


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999, 0.9999])
def test_claims_do_not_round_levels(confidence: float) -> None:
    for name in GUARANTEES:
        if "confidence" in takes(name):
            shown = guarantee(name, confidence).claim("l1", 0.02)
            assert f">= {confidence:.2f}" in shown if confidence < 0.99 else f">= {confidence}" in shown
