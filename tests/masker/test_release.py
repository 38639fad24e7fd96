"""Releases of deployed masks: the promise by simulation, units, reasons, and what is refused."""

import csv
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

import conformask as cm
from conformask.errors import CalibrationError, InvalidArgumentError, MismatchError
from conformask.images.read import pixel_hash
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.masker.release import RECORD, candidates, release, release_once, remember
from conformask.masks.families import family as family_by_name
from conformask.promises.axes import members
from conformask.promises.order import Curves, smallest
from conformask.promises.rules import ConstantLambda
from conformask.promises.selection import benjamini_hochberg
from conformask.records.evaluation import Evaluation
from conformask.records.numbers import share as percentage
from conformask.records.record import read_json, write_json
from conformask.scores.scorer import Heuristic
from conformask.scores.scoring import selection_record
from promised import simulated
from synthetic_triplets import scale_of

SCORER = Heuristic(scale_of, channels=1)


def world(generator, count, levels=None, group=1):
    """Images whose score says how hard they are, but for an unknown factor, which may be that of a group.

    With levels, hard images and factors come in few kinds, so that risks and critical lambdas tie.
    """
    hardness, factor = generator.normal(size=count), np.repeat(generator.normal(size=count // group), group)
    if levels is not None:
        hardness, factor = (np.round(each * levels) / levels for each in (hardness, factor))
    scale = 0.02 * np.exp(0.5 * hardness)[:, None, None, None] * np.ones((1, 4, 4, 1))
    signs = generator.choice([-1.0, 1.0], (count, 4, 4, 1))
    error = np.exp(0.5 * factor)[:, None, None, None] * scale * signs
    y = generator.uniform(0.4, 0.6, (count, 4, 4, 1))
    x, y_hat, y = (each.clip(0, 1).astype(np.float32) for each in (scale, y + error, y))
    patients = [f"patient {number}" for number in generator.random(count // group).repeat(group)]
    return Triplets.from_arrays(x, y_hat, y, groups=None if group == 1 else patients)


def knowing(scorer=SCORER):
    """The scorer with selection images, which risks are fitted on."""
    selection = world(np.random.default_rng(8), 60)
    record = selection_record(scorer, selection, loss("l1"), [family_by_name("binary")])
    return replace(scorer, selection=record)


def uneven(x, y_hat):
    """The scale, and some of the content: its features differ in more than their mean."""
    return x + (y_hat - 0.5).abs() / 5


def calibrated(images, confidence=0.9, scorer=SCORER, **promise):
    return cm.calibrate(
        scorer, images, threshold=0.03, loss="l1", promise=cm.Promise(confidence=confidence, **promise)
    )


BATCH, BATCHES = 20, 8


def units_of(released, images):
    """The p-value of each unit, and whether an image of it misses the threshold, in the order of units."""
    by_name = {image.name: image for image in released.images}
    places = sorted(members(np.array(images.groups)), key=lambda of_unit: int(of_unit[0]))
    of_units = [[by_name[images.names[place]] for place in of_unit] for of_unit in places]
    for images_of_unit in of_units:
        assert len({image.p_value for image in images_of_unit}) == 1
    fails = [any(not image.within for image in images_of_unit) for images_of_unit in of_units]
    return np.array([each[0].p_value for each in of_units]), np.array(fails)


@pytest.mark.thorough
@pytest.mark.parametrize("sets", [40, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("n", "confidence", "share", "levels", "group", "scorer"),
    [
        (60, 0.9, 0.05, None, 1, SCORER),
        (40, 0.7, 0.1, 1, 1, SCORER),
        (40, 0.7, 0.1, None, 1, knowing()),
        (40, 0.7, 0.15, None, 2, SCORER),
    ],
    ids=["tenth-fails", "ties", "risk-of-selection-images", "groups"],
)
def test_of_what_is_released_at_most_the_share_misses_the_threshold(
    n, confidence, share, levels, group, scorer, sets
):
    """Deployed masks on new images, in batches; lambda comes from the images that p-values are counted on."""
    generator, shares, alone, good = np.random.default_rng(3), [], [], []
    promise = {} if group == 1 else {"unit": "group"}
    for _ in simulated(sets):
        masker = calibrated(world(generator, n * group, levels, group), confidence, scorer, **promise)
        new = world(generator, BATCH * BATCHES * group, levels, group)
        p, fails = units_of(release(masker, new, share, each=True), new)
        released = np.concatenate([benjamini_hochberg(batch, share) for batch in np.split(p, BATCHES)])
        failing = (released & fails).reshape(BATCHES, BATCH).sum(axis=1)
        shares.append((failing / released.reshape(BATCHES, BATCH).sum(axis=1).clip(1)).mean())
        alone.append(((p <= share) & fails).mean())
        good.append(released[~fails].mean())
    for measured in (shares, alone):
        assert np.mean(measured) <= share + 3 * np.std(measured) / sets**0.5
    assert np.mean(good) > 0.15, "not by holding everything back"


SIDE, MEASURES = 16, 6
PATTERNS = np.random.default_rng(5).normal(size=(2, SIDE, SIDE)), np.sin(np.indices((SIDE, SIDE)) / 2).sum(0)
"""Those of noise, of x and y_hat, and of contrast."""


def kinds(generator, count, centres):
    """Images that pass and look extreme in one of twelve ways, and a share of centres, which look like all.

    Brightness, noise or contrast of x or y_hat are far below or above those of all others. The score of
    centres is the lowest, so that they are the least risky, and fail unless lower ones were calibrated.
    """
    is_centre = generator.random(count) < centres
    is_extreme = generator.integers(MEASURES, size=count)[:, None] == np.arange(MEASURES)
    ends = np.repeat([(0.4, 2.2), (0.08, 12.0), (0.25, 3.5)], 2, axis=0)
    end = np.where(generator.random((count, 1)) < 0.5, *ends.T)
    factors = np.where(is_extreme & ~is_centre[:, None], end, 1.0)
    brightness, noise, contrast = factors.T.reshape(3, 2, count, 1, 1)
    speckle, waves = PATTERNS
    images = brightness * (0.25 + 0.02 * contrast * waves) + 0.005 * noise * speckle[:, None]
    x, y_hat = (images + 1e-3 * generator.random(images.shape)).clip(0, 1)
    y = y_hat + 0.2 * np.sign(0.5 - y_hat)
    score = np.exp(0.1 + 0.05 * generator.random(count)) * np.where(is_centre, 0.85, 1)
    maps = score[:, None, None] * np.ones(y.shape)
    x, y_hat, y, maps = (each.astype(np.float32) for each in (x, y_hat, y, maps))
    return Triplets.from_arrays(x, y_hat, y, cues=maps)


def of_given(images, confidence):
    return cm.calibrate(
        cm.Given(), images, threshold=0.1, loss="l1", promise=cm.Promise(confidence=confidence)
    )


HOLDING_BACK = pytest.mark.parametrize(
    ("n", "confidence", "share"), [(9, 0.9, 0.1), (19, 0.95, 0.05)], ids=["n=9", "n=19"]
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@HOLDING_BACK
def test_the_share_is_kept_where_passing_images_are_held_back(n, confidence, share):
    """Deployed masks: what is held back leaves the released, but not the batch."""
    generator, shares, released = np.random.default_rng(4), [], []
    for _ in simulated(300):
        masker, of_set = of_given(kinds(generator, n, 0.2), confidence), []
        for _ in range(12):
            judged = release(masker, kinds(generator, 4, 0.2), share).images
            out, within = ([getattr(image, name) for image in judged] for name in ("released", "within"))
            of_set.append((np.array(out) & ~np.array(within)).sum() / max(sum(out), 1))
            released.append(np.mean(out))
        shares.append(np.mean(of_set))
    assert np.mean(shares) <= share + 3 * np.std(shares) / len(shares) ** 0.5
    assert np.mean(released) > 0.02, "not by holding everything back"


@HOLDING_BACK
def test_it_is_kept_by_the_same_rule_for_known_critical_lambdas(n, confidence, share):
    """As above with more draws and without masks: images are known by critical lambda, features and looks."""
    generator, shares, released = np.random.default_rng(6), [], []
    masker, grid = calibrated(world(generator, 19), 0.9), np.array([0, np.inf])

    def drawn(count):
        critical, looks, features = (
            np.exp(generator.random(count)),
            np.zeros((count, 8)),
            np.zeros((count, 3)),
        )
        is_centre = generator.random(count) < 0.2
        looks[np.arange(count), generator.integers(8, size=count)] = generator.choice([-5.0, 5.0], count)
        looks[is_centre], critical[is_centre] = 0, critical[is_centre] / 3
        features[:, 0] = np.log(critical)
        return critical, {"features": features, "appearance": looks.reshape(count, 2, 4)}

    for _ in simulated(1500):
        critical, facts = drawn(n)
        lam, none = smallest(critical, int((1 - confidence) * (n + 1) + 1e-9)), np.zeros((n, 2))
        curves = Curves(np.arange(n).astype(str), grid, none, none, **facts)
        deployed = replace(masker, critical_lambdas=critical, curves=curves, rule=ConstantLambda(lam))
        critical, facts = drawn(4)
        measured = facts | {"unknown_size": np.full(4, ""), "hidden": np.zeros(4)}
        out = candidates(deployed, "abcd", measured).released(share)
        shares.append((out & (critical < lam)).sum() / max(out.sum(), 1))
        released.append(out.mean())
    assert np.mean(shares) <= share + 3 * np.std(shares) / len(shares) ** 0.5
    assert np.mean(released) > 0.02, "not by holding everything back"


def test_a_batch_is_released_by_benjamini_and_hochberg_in_its_order():
    generator = np.random.default_rng(4)
    masker, new = calibrated(world(generator, 80), 0.7), world(generator, 30)
    found = release(masker, new, 0.1)
    assert tuple(image.name for image in found.images) == new.names
    p, fails = units_of(found, new)
    expected = benjamini_hochberg(p, 0.1)
    names = np.array(new.names)
    assert {image.name for image in found.images if image.released} == set(names[expected].tolist())
    assert 0 < found.n_released < 30
    risks = [image.risk for image in found.riskiest_first]
    assert risks == sorted((image.risk for image in found.images), reverse=True)
    for image in found.images:
        assert bool(image.reasons) != image.released
    (tenth,) = [power for power in found.power if power.share == 0.1]
    assert (tenth.released, tenth.failing) == (expected.sum(), (expected & fails).sum())
    assert tenth.of_good == pytest.approx(expected[~fails].mean())
    assert "riskier than" in " ".join(found.riskiest_first[0].reasons)


def test_p_values_count_calibration_images_that_miss_the_threshold_under_deployed_masks():
    """Not the one on the threshold, whose critical lambda is the deployed one; risks are mean scores."""
    generator = np.random.default_rng(16)
    images, new = world(generator, 80), world(generator, 30)
    masker = calibrated(images, 0.8)
    losses = [np.mean(masker(each) * np.abs(each.y - each.y_hat)) for each in images]
    failing = np.array([each.x.mean() for each in images])[np.array(losses) > 0.03 * (1 + 1e-6)]
    assert len(failing) == 15, "one fewer than the order statistic that is deployed"
    expected = [(1 + np.sum(failing <= each.x.mean())) / 81 for each in new]
    assert [image.p_value for image in release(masker, new, 0.1).images] == pytest.approx(expected)


def test_risks_that_differ_in_their_last_bits_tie():
    """As those of one image may, in batches of different sizes: the calibration images are judged again."""
    masker = calibrated(world(np.random.default_rng(16), 80), 0.7)
    features = masker.evidence().column("features")
    facts = {"appearance": masker.curves.appearance, "unknown_size": np.full(80, ""), "hidden": np.zeros(80)}
    same, lower = (
        candidates(masker, [""] * 80, facts | {"features": each}) for each in (features, features - 1e-13)
    )
    assert same.p_values.tolist() == lower.p_values.tolist()


def test_without_truth_nothing_is_measured_and_the_same_is_released():
    generator = np.random.default_rng(5)
    masker, new = calibrated(world(generator, 80), 0.7), world(generator, 30)
    blind = Triplets.from_arrays([t.x[0] for t in new], [t.y_hat[0] for t in new])
    found, measured = release(masker, blind, 0.1), release(masker, new, 0.1)
    assert found.power == ()
    assert {image.within for image in found.images} == {None}
    assert [replace(image, within=None) for image in measured.images] == list(found.images)


def dark(images, *places, y_too=False):
    """These images, some of them very dark: y_hat of all is far from 0."""
    arrays = [[getattr(each, role)[0].copy() for each in images] for role in ("x", "y_hat", "y")]
    for place in places:
        arrays[1][place] *= 0.01
        arrays[2][place] *= 0.01 if y_too else 1
    is_grouped = len(set(images.groups)) < len(images)
    return Triplets.from_arrays(*arrays, groups=images.groups if is_grouped else None)


def test_an_image_unlike_all_others_is_held_back_with_its_reason_and_counts_in_the_batch():
    generator = np.random.default_rng(6)
    masker, new = calibrated(world(generator, 80), 0.7), world(generator, 12)
    found = release(masker, dark(new, 3), 0.3).images
    assert [image.p_value for image in found][3] == 1
    assert not found[3].released
    assert found[3].reasons[0].startswith("unlike the calibration images that meet the threshold: y_hat: ")
    p = np.array([image.p_value for image in found])
    assert [image.released for image in found] == benjamini_hochberg(p, 0.3).tolist()
    assert sum(image.released for image in found) > 6


@pytest.mark.parametrize("fails", [True, False])
def test_images_are_compared_with_calibration_images_that_meet_the_threshold(fails):
    """A failing one may be new in the next draw: ranges must not depend on which of those that fail is."""
    generator = np.random.default_rng(6)
    masker = calibrated(dark(world(generator, 80), 5, y_too=not fails), 0.7)
    found = release(masker, dark(world(generator, 12), 3), 0.3).images
    assert ("unlike" in " ".join(found[3].reasons)) == fails
    assert (found[3].p_value == 1) == fails


@pytest.mark.parametrize("of_images", [None, 0.5])
def test_a_group_is_held_back_for_one_image(of_images):
    """Also where half of its images would be enough for the promise."""
    generator, of_groups = np.random.default_rng(17), {"unit": "group", "group_name": "patient"}
    masker = calibrated(world(generator, 160, group=2), 0.7, **of_groups, share=of_images)
    found = release(masker, dark(world(generator, 24, group=2), 3), 0.3).images
    assert [image.p_value == 1 for image in found] == [place in (2, 3) for place in range(24)]
    assert found[3].reasons[0].startswith("unlike")
    assert found[2].reasons[0] == "other images of its patient"
    assert sum(image.released for image in found) > 12


@pytest.mark.parametrize(
    ("sides", "side", "held_back"),
    [((4, 8), 8, False), ((4, 8), 6, True), ((4, 5, 7, 8), 6, False), ((4, 5, 7, 8), 9, True)],
)
def test_images_of_other_sizes_are_held_back(sides, side, held_back):
    """Without the margin of what a promise covers, which depends on the most extreme calibration image."""
    generator = np.random.default_rng(18)

    def cut(images, sides):
        wide = [[np.tile(getattr(each, role)[0], (1, 3)) for each in images] for role in ("x", "y_hat", "y")]
        return Triplets.from_arrays(
            *[[image[:, : sides[place % len(sides)]] for place, image in enumerate(role)] for role in wide]
        )

    masker = calibrated(cut(world(generator, 80), sides), 0.7)
    (image,) = release(masker, cut(world(generator, 1), (side,)), 0.3).images
    assert (image.p_value == 1) == held_back
    assert ("its size" in " ".join(image.reasons)) == held_back


def test_no_reason_is_that_as_much_is_hidden_of_others():
    generator = np.random.default_rng(15)
    masker, new = calibrated(world(generator, 80), 0.7), world(generator, 12)
    held_back = [image for image in release(masker, new, 0.1).images if not image.released]
    assert any(image.hidden == 0 for image in held_back), "as in most calibration images"
    for image in held_back:
        assert image.hidden > 0 or not any("hidden, more than" in reason for reason in image.reasons)


def risks_of(masker, new):
    """The rank of each new image's risk, which the calibration images only divide into steps."""
    return np.array([image.risk for image in release(masker, new, 0.1).images])


def disagree(a, b):
    """Whether some two images are in one order by the one, and in the other by the other."""
    return bool((np.sign(np.subtract.outer(a, a)) * np.sign(np.subtract.outer(b, b)) < 0).any())


def test_calibration_images_have_no_say_in_the_order():
    generator, mean = np.random.default_rng(12), Heuristic(uneven, channels=1)
    scorer, new = knowing(mean), world(generator, 40)
    of_selection, again, of_mean = (
        risks_of(calibrated(world(generator, 60), 0.9, used), new) for used in (scorer, scorer, mean)
    )
    assert not disagree(of_selection, again)
    assert disagree(of_selection, of_mean), "the selection images have one"


def test_selection_images_scored_for_another_loss_have_no_say_in_the_order():
    generator, mean = np.random.default_rng(12), Heuristic(uneven, channels=1)
    images, new = world(generator, 60), world(generator, 40)
    known, unknown = (
        cm.calibrate(scorer, images, threshold=0.001, loss="l2") for scorer in (knowing(mean), mean)
    )
    np.testing.assert_array_equal(risks_of(known, new), risks_of(unknown, new))


@pytest.mark.parametrize(
    ("promise", "text"),
    [
        ({}, "Of the images released under their masks, at most 10 % miss the threshold"),
        (
            {"unit": "group"},
            "Of the patients released under their masks, at most 10 % miss the threshold on some",
        ),
        (
            {"unit": "group", "share": 0.5},
            "at most 10 % do not keep the threshold on at least 50 % of the images",
        ),
    ],
)
def test_the_sentence_says_what_is_counted(promise, text):
    generator, group = np.random.default_rng(7), 2 if promise else 1
    name = {"group_name": "patient"} if promise else {}
    masker = calibrated(world(generator, 80, None, group), 0.7, **name, **promise)
    found = release(masker, world(generator, 8, None, group), 0.1)
    assert text in found.sentence.replace("\N{NO-BREAK SPACE}", " ")
    assert "in expectation over calibration" in found.sentence
    assert found.formula.endswith("<= 0.1")
    assert found.n_units == 8 // group
    assert found.n_calibration == 80 // group
    again = release(masker.recalibrate(confidence=0.6), world(generator, 8, None, group), 0.1)
    assert again.sentence.startswith("If this had been fixed beforehand: of the ")
    alone = release(masker, world(generator, 8, None, group), 0.1, each=True)
    assert alone.sentence.startswith("Of all new ")
    assert alone.formula.startswith("P(released, ")


def test_what_no_theorem_covers_is_refused():
    generator = np.random.default_rng(9)
    images, new = world(generator, 60), world(generator, 5)
    masker = calibrated(images)
    for share in (0, 1, -0.1):
        with pytest.raises(InvalidArgumentError, match="share"):
            release(masker, new, share)
    with pytest.raises(CalibrationError, match=r"60 calibration images cannot reach 1 %: .* at least 99"):
        release(masker, new, 0.01)
    with pytest.raises(InvalidArgumentError, match="6 new images in 3 groups depend on each other"):
        release(masker, world(generator, 6, None, 2), 0.1)
    assert len(release(masker, world(generator, 6, None, 2), 0.1, each=True).images) == 6
    for promise in ("expected", "ltt", cm.Promise("simultaneous", confidence=0.6)):
        other = cm.calibrate(knowing(), images, threshold=0.05, loss="l1", promise=promise)
        with pytest.raises(InvalidArgumentError, match="no theorem"):
            release(other, new, 0.1)


@pytest.mark.quick(1)
@pytest.mark.parametrize("part", ["calibration", "selection"])
def test_images_that_calibration_has_seen_are_refused(part):
    """By their truth or, without it, by y_hat; by their group where both are new."""
    generator = np.random.default_rng(20)
    seen, other = world(generator, 60, group=1), world(generator, 60)
    named = Triplets.from_arrays(*parts(seen), groups=[f"patient {place}" for place in range(60)])
    images = {"calibration": other, "selection": other} | {part: named}
    masker = cm.calibrate(
        SCORER, images["calibration"], threshold=0.03, loss="l1", selection=images["selection"]
    )
    x, y_hat, y = parts(seen)
    new = parts(world(generator, 60))
    groups = [f"patient {place if place == 7 else -place - 1}" for place in range(60)]
    for known in ((x, y_hat, y), (x, y_hat), (x, y_hat / 2, y)):
        with pytest.raises(CalibrationError, match="60 of 60 new images were used"):
            release(masker, Triplets.from_arrays(*known), 0.1)
    with pytest.raises(CalibrationError, match=r"1 of 60 new images was used.*is '00007'"):
        release(masker, Triplets.from_arrays(*new, groups=groups), 0.1)
    alone = Triplets.from_arrays(*new, names=groups, groups=groups)  # groups of one image with its name
    assert alone.used(masker.seen, [""] * 60).tolist() == [place == 7 for place in range(60)]
    with pytest.raises(CalibrationError, match="60 of 60 test images were used"):
        cm.evaluate(masker, Triplets.from_arrays(x, y_hat, y))
    assert release(masker, Triplets.from_arrays(*new), 0.1)


def parts(images):
    return [np.stack([getattr(each, role)[0] for each in images]) for role in ("x", "y_hat", "y")]


def test_outputs_for_empty_fields_are_alike_and_are_not_recognised():
    """A network makes the same pattern of each empty field."""
    generator = np.random.default_rng(21)
    x, y_hat, y = parts(world(generator, 60))
    x[0], y[0] = 0.01, 0.5
    masker = calibrated(Triplets.from_arrays(x, y_hat, y))
    assert release(masker, Triplets.from_arrays(x[:1], y_hat[:1]), 0.1)


def test_a_batch_that_was_looked_at_is_not_judged_otherwise(tmp_path):
    generator = np.random.default_rng(10)
    masker, new = calibrated(world(generator, 60)), world(generator, 10)
    release_once(tmp_path, masker, new, 0.1)
    release_once(tmp_path, masker, new, 0.1)
    release_once(tmp_path, masker, new.select(reversed(range(10))), 0.1)
    release_once(tmp_path, masker, world(generator, 10), 0.05)
    record = (tmp_path / RECORD).read_text(encoding="utf-8")
    never = replace(masker, scorer=replace(SCORER, function=lambda x, y_hat: pytest.fail("scored")))
    for batch, share, each in ((new, 0.2, False), (new.select(range(5)), 0.1, False), (new, 0.1, True)):
        with pytest.raises(MismatchError, match="were judged before"):
            release_once(tmp_path, never, batch, share, each=each)
        with pytest.raises(MismatchError, match="were judged before"):
            remember(tmp_path, release(masker, batch, share, each=each))
    with pytest.raises(MismatchError, match="were judged before"):
        release_once(tmp_path, masker.recalibrate(threshold=0.05), new, 0.1)
    assert (tmp_path / RECORD).read_text(encoding="utf-8") == record
    stream = world(generator, 10)
    release_once(tmp_path, masker, stream, 0.1, each=True)
    release_once(tmp_path, masker, stream.select(range(3)), 0.1, each=True)


def given(images, factor=1, **more):
    """These images with maps, which are the score."""
    x, y_hat, y = parts(images)
    return Triplets.from_arrays(x, y_hat, y, cues=factor * x, **more)


@pytest.mark.quick(4)
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("changed", ["x", "maps", "regions", "blanks", "groups"])
def test_nothing_beside_the_outputs_is_changed_after_looking(tmp_path, changed, each):
    generator = np.random.default_rng(22)
    promise = {"unit": "group"} if changed == "groups" else {}
    groups = [str(place // 2) for place in range(60)] if promise else None
    masker = cm.calibrate(
        cm.Given(), given(world(generator, 60), groups=groups), threshold=0.03, loss="l1",
        promise=cm.Promise(confidence=0.7, **promise),
    )  # fmt: skip
    world_of_new = world(generator, 12)
    x, y_hat, y = parts(world_of_new)
    new = given(world_of_new, groups=[f"new {place // 2}" for place in range(12)] if promise else None)
    regions = np.ones((12, 4, 4), np.uint8)
    regions[:, 0] = 0
    blanks = np.full((3, 4, 4), 0.5, np.float32)
    other = {
        "x": Triplets.from_arrays(x / 2, y_hat, y, cues=x),
        "maps": given(world_of_new, 2),
        "regions": given(world_of_new, regions=regions),
        "blanks": Triplets.from_arrays(
            *(np.concatenate([each, blanks]) for each in (x, y_hat, y)), cues=np.concatenate([x, blanks])
        ),
        "groups": given(world_of_new, groups=[f"new {place // 3}" for place in range(12)]),
    }[changed]
    release_once(tmp_path, masker, new, 0.1, each=each)
    release_once(tmp_path, masker, new, 0.1, each=each)
    if each and changed == "blanks":
        release_once(tmp_path, masker, other, 0.1, each=each)
        return
    with pytest.raises(MismatchError, match=r"12 of these .* were judged before"):
        release_once(tmp_path, masker, other, 0.1, each=each)


def test_a_constant_output_is_recognised_by_its_input_and_an_empty_field_is_not(tmp_path):
    generator = np.random.default_rng(23)
    masker, (x, y_hat, y) = calibrated(world(generator, 60)), parts(world(generator, 4))
    y_hat[:] = 0.5
    release_once(tmp_path, masker, Triplets.from_arrays(x * y, y_hat), 0.1)
    with pytest.raises(MismatchError, match="4 of these 4 images were judged before"):
        release_once(tmp_path, masker, Triplets.from_arrays(x * y, y_hat), 0.2)
    x[:] = 0.02
    for share in (0.1, 0.2):
        release_once(tmp_path, masker, Triplets.from_arrays(x, y_hat), share)


def test_records_of_earlier_versions_refuse_what_they_refused(tmp_path):
    """They hold y_hat alone, of images that are not constant."""
    generator = np.random.default_rng(24)
    masker, new = calibrated(world(generator, 60)), world(generator, 10)
    pixels = sorted(pixel_hash(image.y_hat) for image in new)
    batch = {"share": 0.1, "each": False, "fingerprint": masker.fingerprint, "pixels": pixels}
    write_json(tmp_path / RECORD, {"batches": [batch]})
    for images, share in ((new, 0.2), (new.select(range(5)), 0.1)):
        with pytest.raises(MismatchError, match="were judged before"):
            release_once(tmp_path, masker, images, share)
    release_once(tmp_path, masker, new, 0.1)
    assert read_json(tmp_path / RECORD)["batches"][0] == batch | {"units": None}


@pytest.mark.parametrize(
    "content",
    ["{", '{"schema": 2}', '{"schema": 2, "batches": 3}', '{"schema": 2, "batches": [{"share": 0.05}]}'],
)
def test_a_damaged_record_is_said_to_be_damaged(tmp_path, content):
    generator = np.random.default_rng(25)
    masker, new = calibrated(world(generator, 60)), world(generator, 10)
    (tmp_path / RECORD).write_text(content.replace("2,", '2, "conformask": "0.2.0",'), encoding="utf-8")
    with pytest.raises(
        MismatchError, match=rf"{RECORD}.*If that is impossible, move it away and release only"
    ):
        release_once(tmp_path, masker, new, 0.1)


def test_masks_are_written_with_what_is_released(tmp_path):
    generator = np.random.default_rng(11)
    masker, new = calibrated(world(generator, 80), 0.7), world(generator, 30)
    found = release(masker, new, 0.1)
    cm.write_masks(masker, new, tmp_path, released=found)
    with (tmp_path / "sizes.csv").open(encoding="utf-8") as file:
        rows = {row["name"]: (row["released"], float(row["p_value"])) for row in csv.DictReader(file)}
    assert rows == {image.name: (str(image.released), image.p_value) for image in found.images}
    assert read_json(tmp_path / "masks.json")["release"] == found.sentence
    cm.write_masks(masker, new, tmp_path)
    assert read_json(tmp_path / "masks.json")["release"] is None
    assert "released" not in (tmp_path / "sizes.csv").read_text(encoding="utf-8")
    with pytest.raises(MismatchError, match="about other images"):
        cm.write_masks(masker, new.select(range(5)), tmp_path / "fewer", released=found)


@pytest.mark.leaf("view")
def test_an_evaluation_and_its_report_say_what_would_be_released(tmp_path):
    from conformask.extras.view.page import render

    generator = np.random.default_rng(13)
    masker, new = calibrated(world(generator, 400), 0.7), world(generator, 30)
    found = release(masker, new)
    cm.evaluate(masker, new, out=tmp_path)
    evaluation = Evaluation.load(tmp_path)
    assert evaluation.power == found.power
    assert evaluation.release_share == found.share
    verdicts = {image.name: image.verdict for image in found.images}
    assert {each.release for each in evaluation.examples} - {"released"}, "with the reason"
    text = unescape(render(evaluation))
    for each in evaluation.examples:
        assert each.release == verdicts[each.name]
        assert f"would be {each.release}<" in text
    for words in ("<h2>Which images</h2>", found.sentence, found.formula, "released of 30 test images"):
        assert words in text
    (row,) = [power for power in found.power if power.share == 0.1]
    cells = "10\N{NO-BREAK SPACE}%", f"{row.released}", f"{row.failing}", percentage(row.of_good)
    assert "".join(f"<td>{cell}</td>" for cell in cells) in text


@pytest.mark.leaf("view")
def test_the_share_of_an_evaluation_is_one_that_the_calibration_set_allows():
    from conformask.extras.view.page import render

    generator = np.random.default_rng(14)
    few, new = calibrated(world(generator, 19), 0.7), world(generator, 12)
    assert cm.evaluate(few, new).release_share == 0.05
    mean = cm.calibrate(knowing(), world(generator, 60), threshold=0.05, loss="l1", promise="expected")
    tiny, patients = calibrated(world(generator, 8), 0.7), world(generator, 12, group=2)
    for masker, images in ((mean, new), (tiny, new), (few, patients)):
        evaluation = cm.evaluate(masker, images)
        assert evaluation.release_share is None
        assert evaluation.power == ()
        assert {each.release for each in evaluation.examples} == {""}
        assert "<h2>Which images</h2>" not in render(evaluation)


@pytest.mark.leaf("view")
def test_why_nothing_is_released_is_said_first():
    from conformask.extras.view.page import render

    generator = np.random.default_rng(0)
    masker = calibrated(world(generator, 4 * 60, group=4), unit="group", group_name="patient")
    new = world(generator, 4 * 88, group=4)
    x, y_hat, y = (np.stack([getattr(each, role)[0] for each in new]) for role in ("x", "y_hat", "y"))
    bad = Triplets.from_arrays(0 * x + 1, y_hat, y, groups=new.groups)
    nothing = release(masker, bad, 0.02)
    assert nothing.n_released == 0
    assert nothing.counts == (
        "Nothing is released: with 60 calibration patients and a share of 0.02, at least 73 of 88 patients "
        "have to be released together, and not that many are likely to meet the threshold; allow a larger "
        "share, or calibrate with more."
    )
    assert nothing.summary == f"{nothing.counts} {nothing.sentence}"
    assert release(masker, bad, 0.02, each=True).counts.startswith(
        "Nothing is released: no patient of 88 has a p"
    )
    shown = unescape(render(cm.evaluate(masker, bad)))
    assert "Of the test images: Nothing is released: with 60 calibration patients" in shown
    assert "of the good, released" not in shown
    with pytest.raises(CalibrationError, match="60 calibration patients cannot reach 1 %"):
        release(masker, bad, 0.01)
