"""Promises about groups: every patient, most of a patient's slices, a slice of a new patient."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from conformask.errors import InvalidArgumentError, MismatchError
from conformask.promises import procedures as risk_control
from conformask.promises.axes import (
    Group,
    Image,
    ImageOfNewGroup,
    Marginal,
    group_means,
    kth_largest,
    kth_smallest,
)
from conformask.promises.order import CalibrationData, largest_lambda
from conformask.promises.procedures import SplitConformal, hashed_order
from conformask.promises.promise import Promise
from conformask.promises.rules import BoundedRisk, ConstantLambda, Rule
from promised import CONFIDENCE, falls_short, goes_beyond, simulated, too_often
from worlds import RANDOM, THRESHOLD, Fields, evidence_of

DELTA = 0.1
K = 80
Deploy = Callable[[CalibrationData], Rule]
WORLDS = ["heavy_tailed", "flat", "non_monotone"]


def mixed(world):
    """Groups of 1 to 40 images that are alike, each with some images from elsewhere."""
    fields = Fields.of(RANDOM[world]())
    generator = np.random.default_rng(7)
    moved = generator.random(len(fields.group)) < 0.3
    group = fields.group.copy()
    group[moved] = generator.permutation(group[moved])
    return Fields(fields.world, group)


def fine(fields, lam, share):
    """The share of all groups of which at least this share of the images pass."""
    everywhere = np.arange(len(fields.group))
    passing = np.bincount(fields.group, fields.world.passing(everywhere, np.full(len(everywhere), lam)))
    return float((passing >= share * np.bincount(fields.group) - 1e-9).mean())


def over_sets(fields, deploy, measure, draws, k=K):
    generator = np.random.default_rng(k)
    return np.array([measure(deploy(fields.evidence(generator, k)).lam) for _ in simulated(draws)])


def of_groups(name, share, delta=None):
    return Promise(name, CONFIDENCE, delta, unit="group", share=share)


def group_mean(evidence):
    """The mean of a group's critical lambdas for the smallest."""
    means = group_means(evidence.critical_lambdas.clip(max=1e9), evidence.column("group"))
    return SplitConformal(CONFIDENCE, Marginal()).rule(evidence_of(means))


def off_by_one(evidence):
    """One image fewer of each group than the share says."""
    groups = evidence.column("group")
    values = []
    for each in np.unique(groups):
        own = np.sort(evidence.critical_lambdas[groups == each])[::-1]
        values.append(own[max(math.ceil(0.8 * len(own)) - 2, 0)])
    return SplitConformal(CONFIDENCE, Marginal()).rule(evidence_of(np.array(values)))


@pytest.mark.quick(1)
@pytest.mark.parametrize("share", [1.0, 0.8, 0.5])
@pytest.mark.parametrize("world", WORLDS)
def test_a_share_of_each_group_on_average(world, share):
    fields = mixed(world)
    values = over_sets(fields, of_groups("marginal", share).rule, lambda lam: fine(fields, lam, share), 300)
    assert not falls_short(values, CONFIDENCE)
    if world == "heavy_tailed":
        assert not goes_beyond(values, CONFIDENCE + 2 / (K + 1)), "and masks are no larger than that takes"


@pytest.mark.parametrize(
    ("broken", "share"),
    [(Promise("marginal", CONFIDENCE).rule, 1.0), (group_mean, 1.0), (off_by_one, 0.8)],
    ids=["images", "mean for smallest", "k off by one"],
)
def test_the_judge_notices_broken_units(broken, share):
    fields = mixed("heavy_tailed")
    assert falls_short(over_sets(fields, broken, lambda lam: fine(fields, lam, share), 300), CONFIDENCE)


@pytest.mark.quick(1)
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", ["pac", "ltt", "simultaneous"])
def test_a_share_of_each_group_for_most_sets(world, name):
    fields, promise = mixed(world), of_groups(name, 0.8, DELTA)
    values = over_sets(fields, promise.rule, lambda lam: fine(fields, lam, 0.8), 300, 120)
    assert not too_often(values < CONFIDENCE - 1e-9, DELTA)
    if name == "pac":
        images = over_sets(
            fields, Promise("pac", CONFIDENCE, DELTA).rule, lambda lam: fine(fields, lam, 1.0), 100, 120
        )
        assert too_often(images < CONFIDENCE - 1e-9, DELTA), "images do not protect groups"


@pytest.mark.quick(1)
@pytest.mark.parametrize("world", WORLDS)
def test_an_image_of_a_new_group_for_most_sets(world):
    fields = mixed(world)
    promise = Promise("pac", CONFIDENCE, DELTA, unit="image_of_new_group")
    values = over_sets(fields, promise.rule, fields.coverage_of_all, 300)
    assert not too_often(values < CONFIDENCE - 1e-9, DELTA)
    if world == "heavy_tailed":
        pooled = over_sets(fields, Promise("pac", CONFIDENCE, DELTA).rule, fields.coverage_of_all, 300)
        assert too_often(pooled < CONFIDENCE - 1e-9, DELTA)


@pytest.mark.quick(1)
@pytest.mark.parametrize("unit", ["group", "image_of_new_group"])
@pytest.mark.parametrize("name", ["expected", "rcps", "rcps_hb"])
@pytest.mark.parametrize("world", ["heavy_tailed", "non_monotone"])
def test_means_over_groups(world, name, unit):
    fields = mixed(world)
    promise = Promise(name, delta=None if name == "expected" else DELTA, unit=unit)
    everywhere = np.arange(len(fields.group))

    def risk(lam):
        losses = fields.world.risk(everywhere, np.full(len(everywhere), lam))
        return float(promise.axes.unit.losses(losses, fields.group).mean())

    values = over_sets(fields, promise.rule, risk, 60)
    if name == "expected":
        assert not goes_beyond(values, THRESHOLD)
    else:
        assert not too_often(values > THRESHOLD + 1e-9, DELTA)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["marginal", "pac", "groups"])
def test_in_each_category_by_itself(name):
    """Groups of easy and of hard images: each category keeps what is promised for groups of it."""
    fields = mixed("heavy_tailed")
    promise = Promise(
        name,
        CONFIDENCE,
        DELTA if name == "pac" else None,
        per_category=True,
        **({} if name == "groups" else {"unit": "group"}),
    )
    generator, values = np.random.default_rng(3), {"easy": [], "hard": []}
    for _ in simulated(100):
        lambdas = promise.rule(fields.evidence(generator, 250)).lambdas
        for category in values:
            own = fields.world.category == category
            part = np.flatnonzero(own)
            met = fields.world.passing(part, np.full(len(part), lambdas[category]))
            losses = promise.axes.unit.losses((~met).astype(float), fields.group[part])
            values[category].append(1 - losses.mean())
    for category in values:
        if name == "pac":
            assert not too_often(np.array(values[category]) < CONFIDENCE - 1e-9, DELTA)
        else:
            assert not falls_short(np.array(values[category]), CONFIDENCE)


def test_order_statistics_of_groups_against_their_definition():
    generator = np.random.default_rng(5)
    for _ in range(300):
        k = int(generator.integers(1, 8))
        groups = generator.permutation(np.repeat(np.arange(k), generator.integers(1, 9, k)))
        values = generator.choice([0.0, 0.5, 1.0, 2.0, math.inf], len(groups))
        share = float(generator.choice([0.1, 0.5, 0.7, 0.9, 1.0]))
        largest, smallest = kth_largest(values, groups, share), kth_smallest(values, groups, share)
        for place, each in enumerate(np.unique(groups)):
            own = values[groups == each]
            passing = [lam for lam in own if (own >= lam).mean() >= share - 1e-9]
            assert largest[place] == max(passing)
            assert smallest[place] == min(v for v in own if (own <= v).mean() >= share - 1e-9)


def test_groups_of_one_image_are_images():
    generator = np.random.default_rng(6)
    for name in ("marginal", "pac"):
        for n in (9, 29, 100):
            evidence = evidence_of(generator.random(n), group=generator.permutation(n).astype(str))
            for share in (0.3, 1.0):
                assert of_groups(name, share).rule(evidence) == Promise(name, CONFIDENCE).rule(evidence)


def test_of_independent_images_the_first_of_each_group_counts():
    losses, groups = np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0], [4.0, 8.0]]), np.array(list("baab"))
    assert Image().losses(losses[:, 0], groups).tolist() == [1, 2]
    assert Image().losses(losses, groups).tolist() == [[1, 5], [2, 6]]


@pytest.mark.parametrize("unit", [ImageOfNewGroup(), Group()], ids=lambda unit: type(unit).__name__)
def test_facts_of_a_group_are_those_of_its_first_image(unit):
    """Groups go in the order of their labels, as their means do, not in that of the images."""
    group, category = np.array(list("bcaabc")), np.array(["B", "C", "A", "no", "no", "no"])
    images = evidence_of(
        np.array([2.0, 3.0, 1.0, 9.0, 9.0, 9.0]),
        group=group,
        category=category,
        weight=np.array([0.2, 0.3, 0.1, 9.0, 9.0, 9.0]),
    )
    reduced = unit.reduce(images)
    assert reduced.curves.names.tolist() == ["a", "b", "c"]
    assert reduced.curves.category.tolist() == ["A", "B", "C"]
    assert reduced.curves.weight.tolist() == [0.1, 0.2, 0.3]
    assert reduced.critical_lambdas.tolist() == [1, 2, 3]


@pytest.mark.parametrize("unit", ["group", "image_of_new_group"])
def test_a_group_has_no_bound_of_its_own(unit):
    """Though each of its images has one: the mean is promised by the bound of the distance."""
    group = np.repeat(np.arange(20).astype(str), 3)
    images = replace(evidence_of(np.ones(60), group=group), upper_bound=1.0, own_bound=True)
    assert isinstance(Promise("expected").rule(images), BoundedRisk)
    assert Promise("expected", unit=unit).rule(images) == ConstantLambda(math.inf)


def test_a_larger_lambda_that_is_certified_by_luck_does_not_count(monkeypatch):
    """The mean failing share grows with lambda, but a bet on it may win again."""
    images = evidence_of(np.array([1.0, 2.0, 3.0, 4.0]), group=np.array(list("abcd")))
    promise = Promise("pac", CONFIDENCE, DELTA, unit="image_of_new_group")
    monkeypatch.setattr(risk_control, "waudby_smith_ramdas", lambda shares, *_: bool(shares.mean() != 0.25))
    assert promise.rule(images).lam == 1


def test_groups_are_betted_on_in_an_order_that_their_labels_do_not_tell(monkeypatch):
    """Labels may be sorted by hardness; stakes depend on the groups before."""
    labels, betted = np.array(list("abcdefgh")), []
    images = evidence_of(np.arange(8.0), group=labels)
    monkeypatch.setattr(
        risk_control, "waudby_smith_ramdas", lambda shares, *_: betted.append(shares.tolist()) or True
    )
    Promise("pac", CONFIDENCE, DELTA, unit="image_of_new_group").rule(images)
    by_label = (np.arange(8) < 4).astype(float)
    assert betted[4] == by_label[hashed_order(labels)].tolist()
    assert betted[4] != by_label.tolist()


def test_too_few_and_nothing_feasible():
    group = np.repeat(np.arange(20).astype(str), 30)
    void = evidence_of(np.zeros(600), group=group)
    opened = evidence_of(np.full(600, math.inf), group=group)
    for unit in ("group", "image_of_new_group"):
        assert Promise("pac", 0.9, unit=unit).rule(void).is_vacuous
        assert Promise("pac", 0.9, unit=unit).rule(opened).is_vacuous, "20 groups are fewer than 29"
    assert Promise("marginal", 0.9, unit="group").rule(opened).lam == math.inf
    assert Promise("pac", 0.9, unit="group").smallest_calibration_set(None, None) == 29
    assert Promise("pac", 0.9, unit="image_of_new_group").smallest_calibration_set(None, None) > 29
    one = np.where(np.arange(600) % 30 == 0, 0.0, math.inf)
    assert Promise("marginal", 0.9, unit="group").rule(evidence_of(one, group=group)).is_vacuous
    assert (
        Promise("marginal", 0.9, unit="group", share=0.9).rule(evidence_of(one, group=group)).lam == math.inf
    )


def test_what_is_promised_of_groups():
    every, most = of_groups("marginal", None), of_groups("pac", 0.8, 0.05)
    assert every.claim("l1", 0.02) == "P(l1 <= 0.02 on every image of a new group) >= 0.90"
    assert "P(l1 <= 0.02 on at least 0.8 of the images of a new group) >= 0.90" in most.claim("l1", 0.02)
    assert Promise("expected", unit="image_of_new_group").claim("l1", 0.02) == "E[l1 in a new group] <= 0.02"
    worst = Promise("expected", unit="group").claim("l1", 0.02)
    assert worst == "E[largest l1 of a new group] <= 0.02"
    assert (every.plural, every.by_group) == ("groups", True)
    assert Promise("pac", per_category=True).plural == "images of each category"
    assert Promise("groups").axes == Promise("groups", unit="image_of_new_group").axes


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("groups", {"unit": "group"}, "has a unit of its own: leave out the unit"),
        ("groups", {"share": 0.5, "unit": "group"}, "has a unit of its own"),
        ("weighted", {"per_category": True}, "about one other population"),
    ],
)
def test_what_a_guarantee_is_about_is_not_replaced_in_silence(name, arguments, told):
    with pytest.raises(InvalidArgumentError, match=told):
        Promise(name, **arguments)


@pytest.mark.parametrize("arguments", [{"share": 0.5}, {"unit": "image_of_new_group", "share": 0.5}])
def test_a_share_is_of_a_group(arguments):
    with pytest.raises(InvalidArgumentError, match="only the unit group"):
        Promise("marginal", **arguments)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1, math.nan])
def test_a_share_outside_its_range(share):
    with pytest.raises(InvalidArgumentError, match="above 0 and at most 1"):
        Promise("marginal", unit="group", share=share)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("adaptive", {"unit": "group"}),
        ("conditional_mean", {"unit": "image_of_new_group"}),
        ("weighted", {"unit": "image_of_new_group"}),
    ],
)
def test_what_has_no_theorem_is_refused(name, arguments):
    with pytest.raises(InvalidArgumentError, match=r"no theorem is known for .* use .* instead"):
        Promise(name, **arguments)


def in_new_groups(fields, deploy, k, draws):
    generator = np.random.default_rng(k)
    found = [fields.coverage_of_all(deploy(fields.evidence(generator, k)).lam) for _ in simulated(draws)]
    return np.array(found)


def without_the_new_group(evidence):
    """Means over K groups, not K + 1."""
    _, group, count = np.unique(evidence.column("group"), return_inverse=True, return_counts=True)
    weights = 1 / len(count) / count[group]
    return ConstantLambda(largest_lambda(evidence.critical_lambdas, weights, 1 - CONFIDENCE))


@pytest.mark.quick(2)
@pytest.mark.parametrize("k", [12, 30, 100])
@pytest.mark.parametrize(
    "broken", [Promise("marginal", CONFIDENCE).rule, without_the_new_group], ids=["pooled", "K for K + 1"]
)
def test_the_judge_notices_broken_rules(broken, k):
    fields = Fields.of(RANDOM["heavy_tailed"]())
    draws = 300 if k == 100 else 600
    if k < 100 or broken != without_the_new_group:
        assert falls_short(in_new_groups(fields, broken, k, draws), CONFIDENCE)
    assert not falls_short(in_new_groups(fields, Promise("groups", CONFIDENCE).rule, k, draws), CONFIDENCE)


def test_it_comes_near_the_confidence_with_many_groups():
    values = in_new_groups(Fields.of(RANDOM["heavy_tailed"]()), Promise("groups", CONFIDENCE).rule, 300, 100)
    assert not goes_beyond(values, CONFIDENCE + 2 / 301)


def test_groups_that_are_copies_count_once():
    """Pooled, n identical tiles of K slides are as if each lambda had n times the evidence."""
    generator = np.random.default_rng(0)
    pooled, grouped = [], []
    for _ in simulated(4000):
        slides = generator.random(15)
        evidence = evidence_of(np.repeat(slides, 10), group=np.repeat(np.arange(15).astype(str), 10))
        pooled.append(1 - Promise("marginal", CONFIDENCE).rule(evidence).lam)
        grouped.append(1 - Promise("groups", CONFIDENCE).rule(evidence).lam)
    assert falls_short(np.array(pooled), CONFIDENCE)
    assert np.mean(grouped) == pytest.approx(15 / 16, abs=0.005)


def test_one_image_a_group_is_marginal():
    generator = np.random.default_rng(1)
    for n in (1, 8, 9, 10, 19, 20, 99, 100, 257):
        names = np.arange(n).astype(str)
        for critical in (generator.random(n), generator.choice([0.0, 1.0, 2.0, np.inf], n)):
            for confidence in (0.5, 0.8, 0.9, 0.95):
                evidence = evidence_of(critical, group=names)
                assert Promise("groups", confidence).rule(evidence) == Promise("marginal", confidence).rule(
                    evidence
                )


def test_against_the_definition():
    generator = np.random.default_rng(2)
    for _ in range(200):
        k = int(generator.integers(5, 30))
        group = np.repeat(np.arange(k), generator.integers(1, 6, k))
        critical = generator.choice(np.linspace(0, 3, 7), len(group))
        count = np.bincount(group)

        def missed(lam, group=group, critical=critical):
            means = np.bincount(group, critical < lam) / np.bincount(group)
            return (means.sum() + 1) / (len(means) + 1)

        found = Promise("groups", 0.8).rule(evidence_of(critical, group=group.astype(str))).lam
        wanted = max((lam for lam in [*critical, np.inf] if missed(lam) <= 0.2 + 1e-9), default=0.0)
        assert found == wanted
        assert len(count) == k


def test_too_few():
    group = np.repeat(np.arange(8).astype(str), 100)
    assert Promise("groups", 0.9).rule(evidence_of(np.full(800, np.inf), group=group)).is_vacuous
    assert Promise("groups", 0.9).smallest_calibration_set(None, None) == 9
    with pytest.raises(MismatchError, match="no group"):
        Promise("groups", 0.9).rule(evidence_of(np.ones(20)))
