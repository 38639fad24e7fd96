"""Streams: false alarms over a whole stream, by simulation, and how soon a change is seen."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import conformask as cm
from conformask.errors import InvalidArgumentError, MismatchError, MissingFileError, OutputError
from conformask.extras.watch.stream import (
    ExchangeabilityMartingale,
    FailureMartingale,
    StreamTest,
    stream_text,
)
from conformask.losses import loss
from conformask.masks.families import family
from conformask.promises.coverage_test import largest_failing_share
from conformask.promises.promise import Promise
from conformask.records.record import from_dict, to_jsonable
from conformask.scores.scoring import selection_record
from made_maskers import calibrated
from promised import simulated, too_often
from synthetic_triplets import arrays, scale_of, triplets

LEVEL = 0.05
IMAGES = 400


def peeking(self, value, chance):
    """The bet is chosen after the p-value is seen."""
    before = self.wealth
    ExchangeabilityMartingale.add(self, value, chance)
    best = max(new / old for new, old in zip(self.wealth, before, strict=True))
    self.wealth = [old * best for old in before]


def without_chance(self, value, chance):
    """Equal values all count as smaller."""
    ExchangeabilityMartingale.add(self, value, 0.0)


def peaks(draw, add, n=60, streams=300):
    generator, highest = np.random.default_rng(n), np.ones(streams)
    for stream in simulated(streams):
        watched = ExchangeabilityMartingale(sorted(draw(generator, n).tolist()))
        for value, chance in zip(draw(generator, IMAGES).tolist(), generator.random(IMAGES), strict=True):
            add(watched, value, chance)
            highest[stream] = max(highest[stream], watched.value)
    return highest


def normal(generator, n):
    return generator.normal(size=n)


def tied(generator, n):
    return generator.integers(0, 3, n).astype(float)


def constant(generator, n):
    return np.zeros(n)


@pytest.mark.quick(2)
@pytest.mark.parametrize("n", [1, 10, 60])
@pytest.mark.parametrize("draw", [normal, tied, constant])
def test_a_stream_like_its_past_is_rarely_called_shifted(draw, n):
    assert not too_often(peaks(draw, ExchangeabilityMartingale.add, n) >= 1 / LEVEL, LEVEL)


@pytest.mark.parametrize(("broken", "draw"), [(peeking, normal), (without_chance, constant)])
def test_the_judge_notices_broken_bets(broken, draw):
    assert too_often(peaks(draw, broken, streams=60) >= 1 / LEVEL, LEVEL)


def test_a_shift_of_half_a_standard_deviation_is_seen_soon():
    generator, delays = np.random.default_rng(0), []
    for _ in simulated(100):
        watched = ExchangeabilityMartingale(sorted(generator.normal(size=400).tolist()))
        values = iter(generator.normal(0.5, size=2000).tolist())
        while watched.value < 100:
            watched.add(next(values), generator.random())
        delays.append(len(watched.past) - 400)
    assert 40 < np.median(delays) < 110


@pytest.mark.quick(1)
@pytest.mark.parametrize("allowed", [0.05, 0.1, 0.5])
def test_failures_as_often_as_allowed_are_rarely_called_too_many(allowed):
    generator, alarms = np.random.default_rng(1), []
    for _ in simulated(400):
        bets, highest = FailureMartingale(allowed), 0.0
        for failed in generator.random(IMAGES) < allowed:
            bets.add(float(failed))
            highest = max(highest, bets.value)
        alarms.append(highest >= 1 / LEVEL)
    assert not too_often(np.array(alarms), LEVEL)


def test_a_rule_that_waits_for_the_right_moment_gains_nothing():
    """Failures that depend on the past, but never with more than the allowed probability."""
    generator, alarms = np.random.default_rng(2), []
    for _ in simulated(300):
        bets, highest = FailureMartingale(0.1), 0.0
        for _ in range(IMAGES):
            bets.add(float(generator.random() < (0.1 if bets.value < 1 else 0.05)))
            highest = max(highest, bets.value)
        alarms.append(highest >= 1 / LEVEL)
    assert not too_often(np.array(alarms), LEVEL)


def test_twice_as_many_failures_are_seen():
    generator, seen = np.random.default_rng(3), 0
    for _ in simulated(100):
        bets = FailureMartingale(0.1)
        peak = 0.0
        for failed in generator.random(300) < 0.2:
            bets.add(float(failed))
            peak = max(peak, bets.value)
        seen += peak >= 1 / LEVEL
    assert seen > 90


def test_a_p_value_counts_the_new_value_among_all():
    """Of 4 values 3 are greater, and half of itself: (3 + 1/2) / 4; of ties as many as chance says."""
    watched = ExchangeabilityMartingale([1.0, 2.0, 3.0])
    watched.add(0.0, 0.5)
    assert watched.wealth == pytest.approx([(1 + rate * (3.5 / 4 - 0.5)) / 3 for rate in (-1, 0, 1)])
    tied = ExchangeabilityMartingale([1.0, 2.0, 2.0, 3.0])
    tied.add(2.0, 0.25)
    assert tied.wealth == pytest.approx([(1 + rate * (1.75 / 5 - 0.5)) / 3 for rate in (-1, 0, 1)])


def test_the_evidence_of_measures_is_their_mean():
    """The largest of several martingales is none: it would raise more false alarms."""
    measures = {
        name: ExchangeabilityMartingale([], [0.5 * wealth] * 2) for name, wealth in (("a", 1.0), ("b", 7.0))
    }
    assert StreamTest(measures, None).value == 4


def stream():
    generator = np.random.default_rng(4)
    return StreamTest(
        {name: ExchangeabilityMartingale(sorted(generator.random(20).tolist())) for name in "ab"},
        FailureMartingale(0.1),
    )


def test_an_image_enters_once():
    watched, values = stream(), {"a": 0.3, "b": 0.7}
    assert watched.add("first", values, 1.0, (0.5, 0.5))
    before = to_jsonable(watched)
    assert not watched.add("first", values, 1.0, (0.5, 0.5))
    assert to_jsonable(watched) == before
    assert watched.failures is not None
    assert (watched.failures.images, watched.failures.failed) == (1, 1)


def test_state_survives_json_and_goes_on_alike():
    generator, whole, first = np.random.default_rng(5), stream(), stream()
    for image in range(60):
        values = {"a": float(generator.random()), "b": float(generator.normal())}
        chances, failed = generator.random(2).tolist(), float(generator.random() < 0.3)
        whole.add(f"{image}", values, failed, chances)
        first.add(f"{image}", values, failed, chances)
        first = from_dict(StreamTest, json.loads(json.dumps(to_jsonable(first))), "a stream")
    assert to_jsonable(first) == to_jsonable(whole)
    assert whole.failure_peak > 1
    assert whole.peak >= whole.value


SCORER = cm.Heuristic(scale_of, channels=1)
KNOWING = replace(SCORER, selection=selection_record(SCORER, triplets(40, 1), loss("l1"), [family("binary")]))


def made(images, **more):
    given = {"threshold": 0.03, "confidence": 0.8, "distance": "l1", **more}
    return calibrated(KNOWING, images, **{"level": "one"} | given)


@pytest.fixture(scope="module")
def masker():
    return made(triplets(200, 2))


def harder(count, seed):
    """Images whose y_hat is further from the truth, and looks it."""
    images = [triplets(count, seed)[k] for k in range(count)]
    y = np.stack([t.truth()[0] for t in images])
    y_hat = np.stack([t.y_hat[0] for t in images])
    x = np.stack([t.x[0] for t in images])
    return cm.Triplets.from_arrays(np.clip(1.6 * x, 0, 1), np.clip(y + 4 * (y_hat - y), 0, 1), y)


@pytest.mark.thorough
def test_weeks_like_the_calibration_raise_no_alarm(masker):
    alarms = []
    for stream in range(20):
        watch = cm.StreamMonitor(masker, level=0.1)
        for week in range(4):
            watched = watch.add(triplets(25, 10_000 + 10 * stream + week))
        alarms.append(watched.shifted)
        assert watched.n_seen == watched.n_judged == 100
    assert np.mean(alarms) <= 0.1 + 4 * np.sqrt(0.09 / len(alarms))


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("n", "guarantee"), [(9, "marginal"), (30, "marginal"), (100, "marginal"), (100, "pac")]
)
def test_an_unlucky_calibration_is_not_called_failing(n, guarantee):
    """Failure rates by the law of coverage of a promise that is kept exactly: 1 % may be called failing.

    By the promised share alone about a quarter of those of 9 or 30 images were.
    """
    generator = np.random.default_rng(0)
    rank = Promise(guarantee).rank(n)
    alarms = {largest_failing_share(n, rank, 0.005): [], 0.1: []}
    for _ in range(300):
        failed = generator.random(1000) < generator.beta(rank, n + 1 - rank)
        for allowed, called in alarms.items():
            bets = FailureMartingale(allowed)
            called.append(any(bets.add(float(each)) or bets.value >= 200 for each in failed))
    kept, naive = (float(np.mean(called)) for called in alarms.values())
    assert kept <= 0.01 + 4 * np.sqrt(0.01 * 0.99 / 300)
    if guarantee == "marginal":
        assert naive > 0.05


@pytest.mark.thorough
def test_a_broken_promise_is_called_failing_for_what_chance_does_not_explain():
    small = made(triplets(30, 2))
    watched = cm.StreamMonitor(small).add(triplets(30, 70))
    rank = small.card.promise.rank(30)
    assert watched.most_failing == pytest.approx(stats.beta.ppf(0.995, rank, 31 - rank))
    said = stream_text(small.card, watched)[0]
    share = f"{100 * watched.most_failing:.1f}\N{NO-BREAK SPACE}%"
    assert f"that more than {share} fail, which happens by chance under 0.5" in said
    grouped = made(triplets(100, 3, groups=[f"patient {k // 2}" for k in range(100)]), guarantee="groups")
    assert cm.StreamMonitor(grouped).add(triplets(10, 71)).most_failing > 0.2, "by the bootstrap"
    within = made(triplets(100, 3, categories=["a", "b"] * 50), per_category=True)
    labelled = triplets(10, 71, categories=["a", "b"] * 5)
    assert cm.StreamMonitor(within).add(labelled).most_failing == pytest.approx(
        stats.beta.ppf(0.9975, 10, 41)
    )


@pytest.mark.thorough
def test_equal_images_all_enter():
    """A quarter of the images is blank, in the calibration as afterwards: nothing has changed."""

    def blank(count, seed):
        empty = np.random.default_rng(seed).random(count) < 0.25
        x, y_hat, y = (np.where(empty[:, None, None, None], 0, each) for each in arrays(count, seed))
        names = [f"{seed} {k}" for k in range(count)]
        return cm.Triplets.from_arrays(x, y_hat, y, names=names)

    alarms = 0
    for seed in range(10):
        watch = cm.StreamMonitor(made(blank(100, 1000 + seed)))
        watch.add(blank(60, 2000 + seed))
        assert watch.add(blank(60, 2000 + seed)).n_new == 0
        watched = watch.add(blank(120, 3000 + seed))
        assert watched.n_seen == 180
        alarms += watched.shifted
    assert alarms <= 1


@pytest.mark.parametrize("masks", ["reciprocal", "water_filling", "power", "trusted_mean"])
def test_equal_scores_have_equal_sizes(masks):
    """Of constant scores all masks are equal, of the calibration and of what follows, to the last bit."""
    flat = cm.Heuristic(lambda x, y_hat: torch.ones_like(y_hat), channels=1)
    masker = cm.calibrate(
        flat, triplets(60, 2), level="one", threshold=0.03, loss="l1", family=masks, selection=triplets(40, 1)
    )
    comparisons = cm.monitor(masker, triplets(60, 4)).comparisons
    assert {each.p_value for each in comparisons} == {1.0}


@pytest.mark.thorough
def test_a_shift_is_seen_and_said(masker):
    watch = cm.StreamMonitor(masker)
    quiet = watch.add(triplets(30, 50))
    assert not quiet.shifted
    assert stream_text(masker.card, quiet)[-1].startswith("No shift is seen")
    loud = watch.add(harder(300, 51))
    assert loud.shifted
    assert loud.failing
    broken, shifted, changed = stream_text(masker.card, loud)
    assert broken.startswith("BROKEN: ")
    assert shifted.startswith("SHIFTED: the images (of 330 so far, 300 new)")
    assert changed.startswith("What changed in the latest 300 images: x brighter by 60\N{NO-BREAK SPACE}%")
    assert watch.add(triplets(30, 52)).shifted, "an alarm stays"


def test_an_image_enters_once_and_a_group_once(masker):
    watch = cm.StreamMonitor(masker)
    assert watch.add(triplets(20, 60)).n_new == 20
    again = watch.add(triplets(20, 60))
    assert (again.n_new, again.n_seen) == (0, 20)
    grouped = triplets(20, 61, groups=[f"patient {k // 5}" for k in range(20)])
    assert watch.add(grouped).n_new == 4


def test_groups_are_judged_as_they_are_promised():
    patients = triplets(200, 2, groups=[f"patient {k // 4}" for k in range(200)])
    masker = made(patients, unit="group", share=0.75)
    new = triplets(40, 70, groups=[f"new {k // 4}" for k in range(40)])
    watched = cm.StreamMonitor(masker).add(new)
    assert watched.n_judged == 10
    assert watched.n_failed == round(10 * (1 - cm.evaluate(masker, new).coverage))
    mean = made(triplets(200, 2), guarantee="expected", confidence=None)
    assert cm.StreamMonitor(mean).add(triplets(10, 71)).failure_evidence is None


def test_state_on_disk(masker, tmp_path):
    path, whole = tmp_path / "state.json", cm.StreamMonitor(masker)
    for week in range(3):
        watch = cm.StreamMonitor.load(masker, path) if week else cm.StreamMonitor(masker)
        stored = watch.add(triplets(15, 80 + week))
        watch.save(path)
        assert stored == whole.add(triplets(15, 80 + week))
    assert json.loads(path.read_text())["stream"] == to_jsonable(whole.stream)
    with pytest.raises(MismatchError, match="is the state of the masker"):
        cm.StreamMonitor.load(masker.recalibrate(threshold=0.05), path)
    path.write_text(path.read_text().replace('"wealth"', '"health"', 1))
    with pytest.raises(MismatchError, match="is damaged"):
        cm.StreamMonitor.load(masker, path)
    with pytest.raises(MissingFileError):
        cm.StreamMonitor.load(masker, tmp_path / "nothing.json")
    masker.save(tmp_path / "masker")
    with pytest.raises(MismatchError, match=r"calibration\.json is not a state of conformask monitor"):
        cm.StreamMonitor.load(masker, tmp_path / "masker" / "calibration.json")


def without_truth(images):
    shown = list(images)
    x, y_hat = (np.stack([np.moveaxis(getattr(t, role), 0, -1) for t in shown]) for role in ("x", "y_hat"))
    return cm.Triplets.from_arrays(x, y_hat)


def test_a_truth_that_comes_later_is_judged_once(masker):
    at_once, later = cm.StreamMonitor(masker), cm.StreamMonitor(masker)
    expected = at_once.add(triplets(20, 60))
    assert later.add(without_truth(triplets(20, 60))).n_judged == 0
    judged = later.add(triplets(20, 60))
    assert (judged.n_new, judged.n_judged) == (0, 20)
    assert (judged.n_failed, judged.failure_evidence) == (expected.n_failed, expected.failure_evidence)
    assert later.add(triplets(20, 60)).n_judged == 20


def test_what_another_process_has_seen_is_not_lost(masker, tmp_path):
    path, first = tmp_path / "state.json", cm.StreamMonitor(masker)
    first.add(triplets(5, 80))
    first.save(path)
    second = cm.StreamMonitor.load(masker, path)
    for watch in (first, second):
        watch.add(triplets(5, 81 if watch is first else 82))
    first.save(path)
    with pytest.raises(OutputError, match="is not the state that this one continues"):
        second.save(path)
    again = cm.StreamMonitor.load(masker, path)
    assert again.add(triplets(5, 82)).n_seen == 15
    again.save(path)


def test_a_damaged_state_is_refused(masker, tmp_path):
    path, watch = tmp_path / "state.json", cm.StreamMonitor(masker)
    watch.add(triplets(15, 80))
    watch.save(path)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        damaged, place = bytearray(content), int(rng.integers(len(content)))
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            again = cm.StreamMonitor.load(masker, path)
        except MismatchError:
            continue
        assert again.stream == watch.stream, f"byte {place}"


def test_what_is_refused(masker, tmp_path):
    with pytest.raises(InvalidArgumentError, match="between 0 and 1"):
        cm.StreamMonitor(masker, level=0)
    with pytest.raises(InvalidArgumentError, match="nothing was added"):
        cm.StreamMonitor(masker).save(tmp_path / "state.json")
    weighted = made(triplets(200, 2, weights=[1.0] * 200), guarantee="weighted")
    with pytest.raises(InvalidArgumentError, match="weighted promise"):
        cm.StreamMonitor(weighted).add(triplets(5, 90, weights=[1.0] * 5))
