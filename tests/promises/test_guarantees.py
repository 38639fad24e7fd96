import math
from itertools import product

import pytest

from conformask.errors import InvalidArgumentError
from conformask.promises.axes import (
    Adaptive,
    ConditionalExpectedLoss,
    Constant,
    Coverage,
    EachCategory,
    ExpectedLoss,
    Group,
    Image,
    ImageOfNewGroup,
    Marginal,
    SamePopulation,
    Simultaneous,
    TrainingConditional,
    Weighted,
)
from conformask.promises.procedures import Axes, Procedure, procedure_for, words
from conformask.promises.promise import DEFAULTS, GUARANTEES, Promise, takes
from conformask.records.words import meaning
from untyped import UNTYPED


@pytest.mark.parametrize("name", GUARANTEES)
def test_they_are_values_with_axes(name: str) -> None:
    made = Promise(name)
    assert isinstance(made.procedure, Procedure)
    assert made.guarantee == name
    assert made.confidence == (DEFAULTS["confidence"] if "confidence" in takes(name) else None)
    assert made.delta == (DEFAULTS["delta"] if "delta" in takes(name) else None)
    assert "l1" in made.claim("l1", 0.02)
    assert "0.02" in made.claim("l1", 0.02)
    assert made.smallest_calibration_set(0.1, 1.0) >= 1
    assert made.rank(200) is None or 1 <= made.rank(200) <= 20


@pytest.mark.parametrize("name", GUARANTEES)
def test_values_that_are_given_are_kept_and_others_refused(name: str) -> None:
    for key in ("confidence", "delta"):
        if key in takes(name):
            assert getattr(Promise(name, **{key: 0.8}), key) == 0.8
            for value in (0.0, 1.0, -0.1, math.nan):
                with pytest.raises(InvalidArgumentError, match="between 0 and 1"):
                    Promise(name, **{key: value})
        else:
            with pytest.raises(InvalidArgumentError, match=f"takes no {key}"):
                Promise(name, **{key: 0.8})


@UNTYPED
def test_an_unknown_name_is_corrected() -> None:
    with pytest.raises(InvalidArgumentError, match="did you mean 'marginal'"):
        Promise("margnal", 0.9)
    with pytest.raises(InvalidArgumentError, match="choose from"):
        takes("xyz")


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999, 0.9999])
def test_claims_do_not_round_levels(confidence: float) -> None:
    for name in GUARANTEES:
        if "confidence" in takes(name):
            shown = Promise(name, confidence).claim("l1", 0.02)
            assert f">= {confidence:.2f}" in shown if confidence < 0.99 else f">= {confidence}" in shown


STATEMENTS = (Coverage(0.9), ExpectedLoss(), ConditionalExpectedLoss(0.9))
CERTAINTIES = (
    Marginal(),
    TrainingConditional(0.05),
    TrainingConditional(0.05, "fixed_sequence"),
    TrainingConditional(0.05, "hoeffding_bentkus"),
    Simultaneous(0.05),
)
UNITS, POPULATIONS = (Image(), ImageOfNewGroup(), Group()), (SamePopulation(), EachCategory(), Weighted())
LAMBDAS = (Constant(), Adaptive())
COMBINATIONS = [Axes(*axes) for axes in product(STATEMENTS, CERTAINTIES, UNITS, POPULATIONS, LAMBDAS)]


def test_every_combination_has_a_theorem_or_is_refused_with_the_nearest() -> None:
    known, refused = [], {}
    for axes in COMBINATIONS:
        try:
            procedure_for(axes)
            known.append(axes)
        except InvalidArgumentError as error:
            refused[axes] = str(error)
    assert {Promise(name).axes for name in GUARANTEES} < set(known)
    for axes, message in refused.items():
        start, instead = message.removesuffix(" instead").split(": use ")
        assert start == f"no theorem is known for {words(axes)}"
        named = [each for each in known if words(each) == instead]
        nearest = min(_differences(axes, each) for each in known)
        assert nearest == min(_differences(axes, each) for each in named)


def _differences(a: Axes, b: Axes) -> int:
    return sum(left != right for left, right in zip(a, b, strict=True))


def test_a_refusal_names_what_can_be_promised() -> None:
    with pytest.raises(InvalidArgumentError, match="with an adaptive lambda: use a share, on average"):
        procedure_for(Axes(Coverage(0.9), unit=Group(), lam=Adaptive()))


def test_meanings_follow_from_the_axes() -> None:
    assert meaning(Promise("weighted")).holds.startswith(
        "Draw calibration images, and one of the population that the weights describe, again and again: in "
        "at least {c} of these draws the new image meets the threshold, if the weights are its likelihood "
        "ratios."
    )
    assert meaning(Promise("groups")).silent.startswith(
        "Not {c} for each group, of the images of all groups taken together or for this one calibration set; "
    )
    assert "Not {c} for each group or of the" in meaning(Promise("pac", unit="image_of_new_group")).silent
    assert "in every category, the mean" in meaning(Promise("expected", per_category=True)).holds
    assert (
        "For each category by itself, except for a small share"
        in meaning(Promise("rcps", per_category=True)).holds
    )
    assert meaning(Promise("expected")).silent.startswith(
        "Not a limit for any single image or for this one calibration set; "
    )
    assert meaning(Promise("rcps", per_category=True)).silent.startswith(
        "Not a limit for any single image or for all categories at once"
    )
    holds = {name: meaning(Promise(name)).holds for name in GUARANTEES}
    same = [("pac", "ltt"), ("rcps", "rcps_hb")]
    assert len(set(holds.values())) == len(holds) - len(same)
    assert all(holds[a] == holds[b] for a, b in same)
