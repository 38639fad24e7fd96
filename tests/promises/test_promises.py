"""Every guarantee in every world and for every size of the calibration set keeps its promise.

That each of these judges notices broken rules is shown in the tests of the guarantees, by the same functions.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
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
from conformask.promises.promise import DEFAULTS, GUARANTEES, SIZES, Promise, plan, takes
from conformask.records.words import meaning
from promised import (
    CONFIDENCE,
    DELTA,
    Deploy,
    breaks_coverage,
    breaks_mean,
    breaks_pac,
    breaks_rcps,
    coverage,
    falls_short,
    risk,
    simulated,
)
from untyped import UNTYPED
from worlds import CERTAIN, GRID, RANDOM, THRESHOLD, Fields, World

DRAWS = {5: 2000, 9: 2000, 20: 2000, 100: 1000, 1000: 250}
Judge = Callable[[World, Deploy, int, int], bool]


def deployed(name, own_bound=False):
    """The rule of a guarantee, choices made on 200 selection images of that world."""
    wanted = {"confidence": CONFIDENCE, "delta": DELTA}
    bare = Promise(name, **{key: value for key, value in wanted.items() if key in takes(name)})

    def prepared(world):
        selection = world.evidence(world.draw(np.random.default_rng(99), 200))
        fixed = bare.fit_on_selection(replace(selection, own_bound=own_bound), 100)
        return lambda evidence: fixed.rule(replace(evidence, own_bound=own_bound))

    return prepared


def breaks_tilted(world, deploy, n, draws):
    return breaks_coverage(world, deploy, n, draws, tilted=True)


def breaks_groups(world, deploy, n, draws):
    fields, generator = Fields.of(world), np.random.default_rng(n)
    draws = draws // 3
    found = [fields.coverage_of_all(deploy(fields.evidence(generator, n)).lam) for _ in simulated(draws)]
    return falls_short(np.array(found), CONFIDENCE)


def breaks_categories(world, deploy, n, draws):
    """n images of the first category, three halves as many of the second; in each the promise holds."""
    generator = np.random.default_rng(n)
    members = {c: np.flatnonzero(world.category == c) for c in np.unique(world.category)}
    found: dict[str, list[float]] = {c: [] for c in members}
    for _ in simulated(draws):
        drawn = [generator.choice(images, n + k * n // 2) for k, images in enumerate(members.values())]
        rule = deploy(world.evidence(np.concatenate(drawn)))
        for category, images in members.items():
            tested = generator.choice(images, 20)
            found[category].append(world.passing(tested, rule(world.facts(tested))).mean())
    return any(falls_short(np.array(values), CONFIDENCE) for values in found.values())


def breaks_conditional(world, deploy, n, draws):
    """What it implies of the mean: E d <= threshold; the promise itself is judged in its own tests."""
    return breaks_mean(world, deploy, n, draws)


JUDGES: dict[str, Judge] = {
    "marginal": breaks_coverage,
    "pac": breaks_pac,
    "expected": breaks_mean,
    "conditional_mean": breaks_conditional,
    "rcps": breaks_rcps,
    "rcps_hb": breaks_rcps,
    "ltt": breaks_pac,
    "groups": breaks_groups,
    "categories": breaks_categories,
    "weighted": breaks_tilted,
    "adaptive": breaks_coverage,
    "simultaneous": breaks_pac,
}
RULES = {name: deployed(name) for name in JUDGES}
OWN = {f"{name}, own bounds": deployed(name, own_bound=True) for name in ("expected", "conditional_mean")}
ALL = [(name, JUDGES[name.split(",")[0]], rule) for name, rule in (RULES | OWN).items()]


def test_every_guarantee_has_a_judge():
    assert JUDGES.keys() == GUARANTEES.keys()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("world", "n"),
    [
        pytest.param(world, n, marks=() if (i + j) % 2 == 0 else pytest.mark.slow)
        for i, world in enumerate(RANDOM)
        for j, n in enumerate(DRAWS)
    ],
)
@pytest.mark.parametrize(("name", "judge", "rule"), ALL, ids=[name for name, _, _ in ALL])
def test_the_promise_is_kept(name, judge, rule, world, n):
    drawn = RANDOM[world]()
    draws = DRAWS[n] // 2 if name.startswith("rcps") else DRAWS[n]
    assert not judge(drawn, rule(drawn), n, draws)


@pytest.mark.parametrize("n", [1, 5, 100])
@pytest.mark.parametrize("world", CERTAIN)
@pytest.mark.parametrize(("name", "judge", "rule"), ALL, ids=[name for name, _, _ in ALL])
def test_all_or_nothing(name, judge, rule, world, n):
    drawn = CERTAIN[world]()
    assert not judge(drawn, rule(drawn), n, 5)


MOST = 1000
"""With so many images without error every guarantee opens the masks wholly."""


@pytest.mark.parametrize(("name", "judge", "rule"), ALL, ids=[name for name, _, _ in ALL])
def test_lambda_is_the_largest_without_error_and_0_where_nothing_is_feasible(name, judge, rule):
    for world, lam in ((CERTAIN["without_error"](), np.inf), (CERTAIN["hopeless"](), 0.0)):
        images = np.arange(MOST)
        evidence = world.evidence(images, group=images.astype(str))
        found = rule(world)(evidence)(world.facts(images[:3]))
        largest = GRID[-2] if name == "adaptive" and lam else lam
        np.testing.assert_allclose(found, [largest] * 3)
        assert rule(world)(evidence).is_vacuous == (lam == 0)


@pytest.mark.thorough
@pytest.mark.parametrize("n", [20, 100, 1000])
def test_promises_are_not_kept_by_closing_all_masks(n):
    """What is left over is what the theory allows."""
    world = RANDOM["heavy_tailed"]()
    marginal = coverage(world, RULES["marginal"](world), n, DRAWS[n])
    adaptive = coverage(world, RULES["adaptive"](world), n, DRAWS[n])
    for values, left_over in ((marginal, 1), (adaptive, 1 + world.features.shape[1])):
        noise = 4 * values.std() / len(values) ** 0.5
        assert values.mean() <= CONFIDENCE + left_over / (n + 1) + noise
    expected = risk(world, RULES["expected"](world), n, DRAWS[n])
    steps = np.diff(world.mean_risk[world.mean_risk < 2 * THRESHOLD]).max()
    noise = 4 * expected.std() / len(expected) ** 0.5
    assert expected.mean() >= THRESHOLD - 2 / (n + 1) - steps - noise
    assert len(GRID) == world.distance.shape[1]


@pytest.mark.parametrize("name", GUARANTEES)
def test_they_are_values_with_axes(name):
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
def test_values_that_are_given_are_kept_and_others_refused(name):
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
def test_an_unknown_name_is_corrected():
    with pytest.raises(InvalidArgumentError, match="did you mean 'marginal'"):
        Promise("margnal", 0.9)
    with pytest.raises(InvalidArgumentError, match="choose from"):
        takes("xyz")


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999, 0.9999])
def test_claims_do_not_round_levels(confidence):
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


def test_every_combination_has_a_theorem_or_is_refused_with_the_nearest():
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


def _differences(a, b):
    return sum(left != right for left, right in zip(a, b, strict=True))


def test_a_refusal_names_what_can_be_promised():
    with pytest.raises(InvalidArgumentError, match="with an adaptive lambda: use a share, on average"):
        procedure_for(Axes(Coverage(0.9), unit=Group(), lam=Adaptive()))


def test_meanings_follow_from_the_axes():
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


def test_the_smallest_sets_of_the_literature():
    assert plan(Promise("marginal", 0.95)).n_calibration == 19
    assert plan(Promise("pac", 0.95, 0.05)).n_calibration == 59
    assert plan(Promise("ltt", 0.9, 0.1)).n_calibration == 22
    assert plan(Promise("expected"), 0.02, 1.0).n_calibration == 49
    assert plan(Promise("groups", 0.9)).n_calibration == 9


def test_units():
    units = {name: Promise(name).plural for name in GUARANTEES}
    assert units["groups"] == "groups"
    assert units["categories"] == "images of each category"
    assert units["weighted"] == "effective images"
    assert units["marginal"] == units["rcps"] == "images"


@pytest.mark.parametrize(
    ("name", "sizes"), [("marginal", (9, 19, 49, 99, 199, 499)), ("pac", (29, 46, 89, 154))]
)
def test_coverage_narrows_with_more_images(name, sizes):
    """At the smallest sizes of each rank (of pac those of Wilks, 1941).

    Of 9, 18 and 45 images the lower end fell from the second to the third.
    """
    made = plan(Promise(name, 0.9))
    assert tuple(prospect.n for prospect in made.prospects[: len(sizes)]) == sizes
    lows, highs = zip(*(prospect.coverage for prospect in made.prospects), strict=True)
    assert len(lows) == len(SIZES)
    assert list(highs) == sorted(highs, reverse=True)
    if name == "pac":
        assert min(lows) >= 0.9
    else:
        assert list(lows) == sorted(lows)


def test_a_size_of_ones_own():
    (only,) = plan(Promise("marginal", 0.9), n=1000).prospects
    assert only.n == 1000
    assert only.coverage == pytest.approx((0.884, 0.915), abs=0.002)
    assert plan(Promise("rcps"), 0.1, 1.0, n=50).prospects[0].coverage is None


@pytest.mark.parametrize("name", ["expected", "conditional_mean", "rcps", "rcps_hb"])
def test_a_promise_about_a_mean_asks_for_the_threshold(name):
    with pytest.raises(InvalidArgumentError, match="give one"):
        plan(Promise(name), None, 1.0)
    assert plan(Promise(name), 0.1, 1.0).n_calibration > 1
