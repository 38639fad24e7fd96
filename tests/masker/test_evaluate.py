"""Evaluations: what is measured and resumed, and the range of coverage that a kept promise measures."""

import json
import math
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy import stats

import conformask as cm
from conformask.background import Compute
from conformask.errors import CalibrationError, InvalidArgumentError, MismatchError, MissingFileError
from conformask.images.read import pixel_hash
from conformask.images.rows import Provenance
from conformask.images.triplets import Triplets
from conformask.masker import validation as agreement
from conformask.masker.calibrate import calibrate
from conformask.masker.evaluate import evaluate, gain_of, measures_of, provenance_of_evaluation as made_by
from conformask.masker.load import load
from conformask.masker.measure import SHARES, risk_curves
from conformask.promises import coverage_test as law
from conformask.promises.intervals import bootstrap, clopper_pearson
from conformask.promises.promise import Promise
from conformask.records.evaluation import Evaluation, ImageRecords
from conformask.records.numbers import figure
from conformask.records.record import read_json, to_jsonable, write_arrays
from conformask.records.selection import ScoreComparison
from conformask.records.words import measurement_text
from conformask.scores.scorer import Heuristic
from conformask.scores.scoring import scored_batches
from leaves import asking
from made_maskers import calibrated
from promised import simulated
from synthetic_triplets import scale_of, signed, triplets

KEYS = (
    "coverage", "coverage_interval", "mask_size", "mask_size_interval", "mask_size_oracle",
    "mask_size_paper_oracle", "correlation_size_loss", "correlation_size_oracle",
    "spearman_size_loss", "spearman_size_oracle", "ratio_to_oracle", "coverage_by_difficulty",
    "card", "fingerprint", "n_test",
)  # fmt: skip
THRESHOLD = 0.03
ROLES = "x", "y_hat", "y"


class StoppedError(Exception):
    """Stands for a kill."""


def killed_after_a_part(out, run):
    def write_and_stop(path, arrays):
        write_arrays(path, arrays)
        raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("conformask.scores.scoring.write_arrays", write_and_stop)
        with pytest.raises(StoppedError):
            run()
    assert len(list(out.rglob("part-*"))) == 1


def measured_by(run, masker, images, **more):
    found = getattr(cm, run)(masker, images, **more)
    return found.images.columns() if isinstance(found, Evaluation) else repr(found)


@pytest.mark.quick(2)
@pytest.mark.parametrize("run", ["evaluate", asking("watch", "monitor")])
@pytest.mark.parametrize("other", ["images", "categories", "masker"])
def test_nothing_is_resumed_of_another_run(run, other, tmp_path, monkeypatch):
    """Parts of a killed run do not count for other images of the same names, nor for another masker."""
    monkeypatch.setattr("conformask.scores.scoring.PART", 16)
    categories = {"categories": ["a", "b"] * 20}
    calibration = world(40, 0, **categories)
    masker = calibrate(
        SCORER, calibration, threshold=THRESHOLD, loss="l1", promise="categories", selection=world(30, 1)
    )
    images, after, resumed_by = world(40, 5, **categories), world(40, 5, **categories), masker
    if other == "images":
        after = world(40, 6, **categories)
    elif other == "categories":
        after = world(40, 5, categories=["b", "a"] * 20)
    else:
        resumed_by = masker.recalibrate(threshold=2 * THRESHOLD)
    out = tmp_path / "out"
    compute = Compute(parts=out)
    killed_after_a_part(out, lambda: getattr(cm, run)(masker, images, compute=compute))
    resumed = measured_by(run, resumed_by, after, compute=compute)
    anew = measured_by(run, resumed_by, after)
    np.testing.assert_equal(resumed, anew)
    assert measured_by(run, masker, images) != anew


@pytest.mark.parametrize("run", ["evaluate", asking("watch", "monitor")])
def test_a_killed_run_resumes(run, tmp_path, monkeypatch):
    monkeypatch.setattr("conformask.scores.scoring.PART", 16)
    masker = calibrate(SCORER, world(40, 0), threshold=THRESHOLD, loss="l1", selection=world(30, 1))
    out, scored_names = tmp_path / "out", []
    compute = Compute(parts=out)
    killed_after_a_part(out, lambda: getattr(cm, run)(masker, world(40, 5), compute=compute))

    def noted(scorer, part, batch_size):
        scored_names.extend(part.names)
        return scored_batches(scorer, part, batch_size)

    monkeypatch.setattr("conformask.scores.scoring.scored_batches", noted)
    resumed = measured_by(run, masker, world(40, 5), compute=compute)
    assert scored_names == list(world(40, 5).names[16:])
    np.testing.assert_equal(resumed, measured_by(run, masker, world(40, 5)))


def world(count, seed, size=(8, 9), **more):
    generator = np.random.default_rng(seed)
    scale = generator.uniform(0.01, 0.1, (count, *size)) * generator.uniform(0.5, 1.5, (count, 1, 1))
    factor = generator.lognormal(0, 0.5, (count, 1, 1))
    y = generator.uniform(0.2, 0.8, (count, *size))
    y_hat = (y + factor * scale * generator.standard_normal(y.shape)).clip(0, 1)
    return Triplets.from_arrays(*(image.astype(np.float32) for image in (scale, y_hat, y)), **more)


SCORER = Heuristic(scale_of, channels=1)
CALIBRATION, SELECTION, TEST = world(60, 0), world(20, 1), world(45, 2)


def made(distance="l1", threshold=THRESHOLD, **more):
    return calibrate(SCORER, CALIBRATION, threshold=threshold, loss=distance, selection=SELECTION, **more)


@pytest.fixture(scope="module", params=["reciprocal", "water_filling"])
def masker(request):
    return made(family=request.param)


@pytest.fixture(scope="module")
def found(masker):
    return evaluate(masker, TEST)


def greedy(error, threshold):
    """Mask size of the exact oracle for l1: keep the smallest errors while the budget lasts."""
    budget, kept = threshold * error.size, 0.0
    for value in np.sort(error.astype(np.float64).ravel()):
        share = 1.0 if value <= budget else budget / value
        kept, budget = kept + share, budget - share * value
        if share < 1:
            break
    return 1 - kept / error.size


def paper(error, threshold):
    """Mask size of m = max(0, 1 - c e) with c such that mean(m e) = threshold, by bisection."""
    if error.mean() <= threshold:
        return 0.0
    low, high = 0.0, 1e9
    for _ in range(200):
        c = (low + high) / 2
        low, high = (c, high) if (np.maximum(0, 1 - c * error) * error).mean() > threshold else (low, c)
    return float(1 - np.maximum(0, 1 - high * error).mean())


def test_every_image_against_numpy(masker, found):
    images = found.images
    assert images.name.tolist() == list(TEST.names)
    for k, triplet in enumerate(TEST):
        mask = masker(triplet.x[0], triplet.y_hat[0]).astype(np.float64)
        error = np.abs(triplet.truth()[0] - triplet.y_hat[0]).astype(np.float64)
        assert images.loss[k] == pytest.approx((mask * error).mean(), rel=1e-4)
        assert images.unmasked_loss[k] == pytest.approx(error.mean(), rel=1e-5)
        assert images.size[k] == pytest.approx(1 - mask.mean(), abs=1e-6)
        assert images.oracle_size[k] == pytest.approx(greedy(error, THRESHOLD), abs=1e-5)
        assert images.paper_oracle_size[k] == pytest.approx(paper(error, THRESHOLD), abs=1e-4)
        assert images.difficulty[k] == pytest.approx(triplet.x.mean(), rel=1e-5)
        for weight, measured in ((1 - mask, images.hidden_error[k]), (mask, images.shown_error[k])):
            mean = (weight * error).sum() / weight.sum() if weight.sum() else np.nan
            assert measured == pytest.approx(mean, rel=1e-4, nan_ok=True)
        assert math.isinf(images.critical_lambda[k]) == (error.mean() <= THRESHOLD)
    met = images.loss <= THRESHOLD * (1 + 1e-6)
    np.testing.assert_array_equal(met, images.critical_lambda >= masker.card.rule.lam)
    assert 0 < met.sum() < 45


def test_summaries_against_numpy(masker, found):
    images = found.images
    met = images.loss <= THRESHOLD * (1 + 1e-6)
    assert found.coverage == met.mean()
    exact = stats.binomtest(int(met.sum()), 45).proportion_ci(method="exact")
    assert found.coverage_interval == pytest.approx((exact.low, exact.high))
    law = stats.betabinom(45, 55, 6)  # of the sixth of 60 critical lambdas
    assert found.expected == pytest.approx(law.ppf([0.025, 0.975]) / 45)
    assert found.mask_size == images.size.mean()
    assert found.mask_size_interval == bootstrap(images.size)
    assert found.mask_size_interval[0] < found.mask_size < found.mask_size_interval[1]
    assert found.mask_size_oracle == images.oracle_size.mean()
    assert found.mask_size_paper_oracle == images.paper_oracle_size.mean()
    assert found.mask_size_oracle < found.mask_size_paper_oracle
    assert found.n_paper_oracle == 45
    assert found.ratio_to_oracle == found.mask_size / found.mask_size_oracle
    assert found.ratio_to_oracle > 1
    pairs = {
        "size_loss": (images.size, images.unmasked_loss),
        "size_oracle": (images.size, images.paper_oracle_size),
    }
    for name, (a, b) in pairs.items():
        assert getattr(found, f"correlation_{name}") == pytest.approx(np.corrcoef(a, b)[0, 1])
        ranks = np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1]
        assert getattr(found, f"spearman_{name}") == pytest.approx(ranks)


def upside_down(x, y_hat):
    return (0.3 - x).clamp(min=0)


@pytest.mark.leaf("view")
def test_a_score_that_hides_the_better_pixels_is_doubted():
    """It keeps the promise all the same."""
    from conformask.extras.view.facts import caveats, doubts

    wrong = calibrate(Heuristic(upside_down, 1), CALIBRATION, threshold=THRESHOLD, loss="l1")
    measured, right = evaluate(wrong, TEST), evaluate(made(family="binary"), TEST)
    assert measured.coverage > 0.75
    (doubt,) = doubts(measured)
    hidden, shown, count = measured.images.hidden_and_shown_error
    assert hidden < shown
    assert f"where they hide and {figure(shown)} where they show ({count} images with both)" in doubt
    assert doubt in caveats(measured)
    hidden, shown, _ = right.images.hidden_and_shown_error
    assert hidden > shown
    assert not list(doubts(right))
    constant = ScoreComparison(20, THRESHOLD, 0.5, {"constant": 0.4}, None, None)
    (doubt,) = doubts(replace(right, comparison=constant))
    assert "one value everywhere, which on 20 selection images would hide 0.8 times as much. Train" in doubt


def test_deciles_by_difficulty(found):
    order = np.argsort(found.images.difficulty)
    met = found.images.loss <= THRESHOLD * (1 + 1e-6)
    parts = np.array_split(order, 10)
    assert found.coverage_by_difficulty == tuple(met[part].mean() for part in parts)
    assert found.size_by_difficulty == pytest.approx([found.images.size[part].mean() for part in parts])
    assert found.size_by_difficulty[0] < found.size_by_difficulty[-1], "the hardest are masked most"


def test_what_was_evaluated(masker, found):
    assert found.card.sentence == masker.card.sentence
    assert (found.card.threshold, found.card.promise.confidence, found.card.promise.guarantee) == (
        THRESHOLD,
        0.9,
        "marginal",
    )
    assert (found.card.loss.of, found.card.family["name"], found.scorer) == (
        "l1",
        masker.family.name,
        "scale_of",
    )
    assert (found.card.n_calibration, found.n_test) == (60, 45)


def test_sizes_against_thresholds(masker, found):
    thresholds, sizes = np.array(found.size_by_threshold).T
    assert (np.diff(thresholds) > 0).all()
    assert (np.diff(sizes) <= 1e-12).all()
    assert sizes[-1] == 0
    assert thresholds[0] < THRESHOLD < thresholds[-1]
    again = masker.recalibrate(threshold=float(thresholds[15]))
    curves = masker.stored_curves()
    assert sizes[15] == pytest.approx(curves.size[:, curves.grid == again.card.rule.lam].mean())


def test_the_gallery(found):
    by_kind = {kind: [e for e in found.examples if e.kind == kind] for kind in ("best", "typical", "worst")}
    assert {kind: len(examples) for kind, examples in by_kind.items()} == {
        "best": 3,
        "typical": 3,
        "worst": 3,
    }
    assert by_kind["worst"][0].loss == found.images.loss.max()
    images = found.images
    removed = (1 - images.size) * images.unmasked_loss - images.loss
    best = images.name[images.passed][removed[images.passed].argmax()]
    assert by_kind["best"][0].name == best
    for example in found.examples:
        k = found.images.name.tolist().index(example.name)
        assert example.size == found.images.size[k]
        assert example.mask.dtype == np.uint8
        assert example.mask.mean() / 255 == pytest.approx(1 - example.size, abs=0.005)
        error = np.abs(TEST[k].truth() - TEST[k].y_hat)[0]
        shown = example.error / 255 * example.error_scale
        assert np.abs(shown - error.clip(max=example.error_scale)).max() < 0.01


def test_saved_and_loaded(found, tmp_path):
    found.save(tmp_path)
    names = {path.name.split("-")[0] for path in tmp_path.glob("[!.]*")}
    assert names == {"evaluation.json", "evaluation", "examples"}
    written = read_json(tmp_path / "evaluation.json")
    assert set(KEYS) <= set(written)
    assert {"schema", "conformask"} <= set(written)
    again = Evaluation.load(str(tmp_path))
    assert again.summary() == found.summary()
    for field in fields(ImageRecords):
        np.testing.assert_array_equal(getattr(again.images, field.name), getattr(found.images, field.name))
    assert len(again.examples) == len(found.examples)
    for one, other in zip(again.examples, found.examples, strict=True):
        for field in fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
    with pytest.raises(MissingFileError):
        Evaluation.load(tmp_path / "none")


def test_recalibrated_on_the_same_images(masker, found, tmp_path):
    threshold = 0.7 * masker.card.threshold
    again, by_hand = found.recalibrate(threshold=threshold), masker.recalibrate(threshold=threshold)
    assert again.card.exploratory
    assert again.card.threshold == threshold
    np.testing.assert_array_equal(again.images.size, evaluate(by_hand, TEST).images.size)
    assert again.mask_size > found.mask_size
    found.save(tmp_path)
    with pytest.raises(MismatchError, match=r"masker\.recalibrate"):
        Evaluation.load(tmp_path).recalibrate(threshold=threshold)


def test_out_receives_the_files(masker, tmp_path):
    evaluate(masker, TEST.select(range(5)), out=tmp_path / "run")
    assert read_json(tmp_path / "run" / "evaluation.json")["n_test"] == 5


def test_nothing_is_made_up_for_a_distance_of_ones_own(tmp_path):
    found = evaluate(made(signed, 0.004), TEST, out=tmp_path, opt_images=2)
    text = json.loads((tmp_path / "evaluation.json").read_text())
    assert text["mask_size_oracle"] is None
    assert text["ratio_to_oracle"] is None
    assert text["correlation_size_oracle"] is None, "two images are too few"
    assert np.isnan(found.images.oracle_size).all()
    assert np.isnan(found.images.paper_oracle_size[2:]).all()
    assert found.n_paper_oracle == np.isfinite(found.images.paper_oracle_size[:2]).sum()
    assert all(example.oracle_size is None for example in found.examples)
    again = Evaluation.load(tmp_path)
    assert again.summary() == found.summary()
    assert all(example.oracle_size is None for example in again.examples)


def test_everything_passes_unmasked(tmp_path):
    found = evaluate(made(threshold=1.0), TEST, out=tmp_path)
    assert (found.coverage, found.mask_size, found.mask_size_oracle) == (1.0, 0.0, 0.0)
    assert found.ratio_to_oracle is None
    assert found.correlation_size_loss is None
    again = Evaluation.load(tmp_path)
    assert to_jsonable(again.summary()) == to_jsonable(found.summary())
    assert np.isinf(again.images.critical_lambda).all()


def test_groups_widen_the_interval():
    """Nine slides of five almost equal images each."""
    few = TEST.select(range(9))
    x, y_hat, y = (np.repeat([getattr(t, role)[0] for t in few], 5, axis=0) for role in ("x", "y_hat", "y"))
    y = (y + np.random.default_rng(0).uniform(0, 1e-4, y.shape).astype(np.float32)).clip(0, 1)
    masker = made()
    grouped, alone = (
        evaluate(masker, Triplets.from_arrays(x, y_hat, y, groups=groups))
        for groups in ([f"slide {k // 5}" for k in range(45)], None)
    )
    assert grouped.mask_size == alone.mask_size
    for interval in ("mask_size_interval", "coverage_interval", "mean_loss_interval"):
        assert np.ptp(getattr(grouped, interval)) > 1.5 * np.ptp(getattr(alone, interval)), interval


def test_groups_count_alike_where_the_promise_is_about_them():
    groups = [f"slide {k}" for k in range(30) for _ in range(1 + k % 3)]
    calibration, test = (
        world(len(groups), 7, groups=groups),
        world(len(groups), 8, groups=[f"t{g}" for g in groups]),
    )
    masker = calibrate(
        SCORER, calibration, threshold=THRESHOLD, loss="l1", promise=Promise("groups", confidence=0.8)
    )
    found = evaluate(masker, test)
    met = found.images.loss <= THRESHOLD * (1 + 1e-6)
    shares = [met[[g == group for g in test.groups]].mean() for group in sorted(set(test.groups))]
    assert found.coverage == pytest.approx(np.mean(shares))
    assert found.coverage != met.mean()


def test_each_category_is_measured_where_the_promise_is_for_each(tmp_path):
    stains = ["H&E" if k % 3 else "IHC" for k in range(60)]
    calibration, test = world(60, 7, categories=stains), world(60, 8, categories=stains)
    masker = calibrate(
        SCORER,
        calibration,
        threshold=THRESHOLD,
        loss="l1",
        promise=Promise("categories", confidence=0.8),
        selection=SELECTION,
    )
    found = evaluate(masker, test, out=tmp_path)
    met = found.images.loss <= THRESHOLD * (1 + 1e-6)
    assert [(each.category, each.n) for each in found.coverage_by_category] == [("H&E", 40), ("IHC", 20)]
    for each in found.coverage_by_category:
        own = np.array(stains) == each.category
        assert each.coverage == met[own].mean()
        assert each.interval == clopper_pearson(int(met[own].sum()), int(own.sum()))
    assert Evaluation.load(tmp_path).coverage_by_category == found.coverage_by_category
    x, y_hat, y = (np.stack([getattr(t, role)[0] for t in test]) for role in ("x", "y_hat", "y"))
    bad = np.array(stains)[:, None, None] == "IHC"
    worse = np.where(bad, y + 4 * (y_hat - y), y_hat).clip(0, 1).astype(np.float32)
    broken = evaluate(masker, Triplets.from_arrays(x, worse, y, categories=stains))
    assert broken.p_worse is not None
    assert broken.p_worse < 1e-4, "the worst category counts"
    assert found.p_worse is not None
    assert found.p_worse > 0.01


@pytest.mark.thorough
@pytest.mark.leaf("view", "watch")
@pytest.mark.parametrize("guarantee", ["marginal", "expected"])
def test_the_worst_category_is_judged_and_named(guarantee, tmp_path):
    """Of many good images in one category and a few bad ones in another, all together keep the promise."""
    from conformask.extras.view import facts
    from conformask.extras.view.figures import gauge
    from conformask.extras.view.page import methods_text
    from conformask.extras.watch.monitor import monitor

    stains = ["H&E"] * 60 + ["IHC"] * 60
    masker = calibrate(
        SCORER,
        world(120, 7, categories=stains),
        threshold=THRESHOLD,
        loss="l1",
        promise=Promise(guarantee, per_category=True),
        selection=SELECTION,
    )
    good, bad = world(280, 8), world(20, 9)
    x, y_hat, y = (np.stack([getattr(t, role)[0] for part in (good, bad) for t in part]) for role in ROLES)
    far = np.repeat([0.5, 5.0], [280, 20])[:, None, None]
    worse = (y + far * (y_hat - y)).clip(0, 1).astype(np.float32)
    test = Triplets.from_arrays(x, worse, y, categories=["H&E"] * 280 + ["IHC"] * 20)
    found = evaluate(masker, test, out=tmp_path)
    bounds_a_mean = masker.card.promise.axes.statement.bounds_a_mean
    kept = found.mean_loss <= THRESHOLD if bounds_a_mean else found.coverage >= 0.9
    assert kept, "all together"
    assert found.worst == found.coverage_by_category[1] == Evaluation.load(tmp_path).worst
    assert found.worst.mean_loss == found.images.loss[280:].mean()
    measured = agreement.measurement_of(
        masker, found.images.loss, np.array(test.groups), np.array(test.categories)
    )
    texts = [facts.verdict(found).text, measurement_text(masker.card, measured), methods_text(found)]
    assert facts.verdict(found).status == "below"
    assert measured.broken
    assert all("worst category, IHC" in text for text in texts)
    if not bounds_a_mean:
        assert "in the worst category, IHC, 0 % of 20" in repr(found)
        assert "of IHC, the worst category" in str(gauge(found))
    assert "worst category, IHC" in repr(monitor(masker, test))


@pytest.mark.thorough
@pytest.mark.leaf("view")
@pytest.mark.parametrize(
    ("promise", "threshold", "n"),
    [
        (Promise("expected"), THRESHOLD, 40),
        (Promise("marginal"), THRESHOLD, 40),
        pytest.param(Promise("expected", per_category=True), 2 * THRESHOLD, 80, marks=pytest.mark.slow),
    ],
)
def test_a_masker_that_keeps_its_promise_is_rarely_called_broken(promise, threshold, n, monkeypatch):
    """Without an interval of the mean, seven of 25 were; without the law of both samples, a third."""
    from conformask.extras.view import facts

    monkeypatch.setattr(law, "DRAWS", 59)
    monkeypatch.setattr("conformask.masker.evaluate.examples_of", lambda *_: ())

    def of_two(count, seed):
        return world(count, seed, categories=["a", "b"] * (count // 2))

    below = []
    for run in simulated(25):
        calibration = of_two(n, 100 + run)
        masker = calibrate(
            SCORER, calibration, threshold=threshold, loss="l1", promise=promise, selection=SELECTION
        )
        below.append(facts.verdict(evaluate(masker, of_two(150, 500 + run))).status == "below")
    assert sum(below) <= 3
    x, y_hat, y = (np.stack([getattr(t, role)[0] for t in of_two(150, 9)]) for role in ROLES)
    far = (y + 3 * (y_hat - y)).clip(0, 1)
    worse = Triplets.from_arrays(x, far, y, categories=["a", "b"] * 75)
    assert facts.verdict(evaluate(masker, worse)).status == "below"


def test_leaks_are_refused():
    masker = made()
    with pytest.raises(CalibrationError, match="60 of 60 test images were used"):
        evaluate(masker, CALIBRATION)
    learnt = replace(SCORER, trained_on=frozenset([pixel_hash(TEST[4].truth())]))
    with pytest.raises(CalibrationError, match="1 of 45 test images was used"):
        evaluate(replace(masker, scorer=learnt), TEST)


def test_images_that_the_predictor_learnt_from_are_refused():
    told = Provenance(trained_on=(pixel_hash(TEST[7].truth()),))
    with pytest.raises(CalibrationError, match="1 of 45 test images was used for training"):
        evaluate(made(), TEST.described(told))


@pytest.mark.parametrize(("above", "met"), [(0.9e-6, True), (1.1e-6, False)])
def test_a_distance_on_the_threshold_meets_it(above, met, monkeypatch):
    """Exact solutions lie on the threshold, but for rounding."""
    measured = measures_of

    def on_the_threshold(*arguments):
        columns = measured(*arguments)
        return columns | {"loss": np.full_like(columns["loss"], THRESHOLD * (1 + above))}

    monkeypatch.setattr("conformask.masker.evaluate.measures_of", on_the_threshold)
    masker = made()
    found = evaluate(masker, TEST)
    assert found.coverage == met
    told = agreement.measurement_of(masker, found.images.loss, np.array(TEST.groups))
    assert told.coverage == met
    assert told.broken is not met


def saturated(a, b):
    """Flat where it is large, so that no gradient leads Opt to a mask that meets the threshold."""
    return (60 * (a - b).abs().mean((1, 2, 3))).clamp(max=1)


def test_images_on_which_opt_failed_do_not_count_as_its_masks():
    found = evaluate(made(saturated, threshold=0.5), TEST, opt_images=3)
    assert found.n_paper_oracle == 0
    assert found.mask_size_paper_oracle is None
    assert np.isnan(found.images.paper_oracle_size).all()


def test_groups_of_the_calibration_are_no_new_groups():
    groups = [f"slide {k // 3}" for k in range(60)]
    masker = calibrate(SCORER, world(60, 0, groups=groups), threshold=THRESHOLD, loss="l1", promise="groups")
    with pytest.raises(CalibrationError, match=r"6 of 45 test images .* One of them, .* is '00000'"):
        evaluate(masker, world(45, 2, groups=[f"slide {k // 3 + (18 if k < 6 else 100)}" for k in range(45)]))
    evaluate(masker, world(45, 2, groups=[f"slide {k // 3 + 100}" for k in range(45)]))


def test_copies_of_calibration_images_are_warned_about(tmp_path):
    images = world(60, 0, (32, 32)), world(20, 2, (32, 32))
    x, y_hat, y = (np.stack([getattr(t, role)[0] for t in images[1]]) for role in ("x", "y_hat", "y"))
    y[4] = 0.9 * images[0][7].truth()[0, ::-1] + 0.05
    masker = calibrate(SCORER, images[0], threshold=THRESHOLD, loss="l1")
    masker.save(tmp_path)
    for again in (masker, load(tmp_path, scorer=SCORER)):
        with pytest.warns(UserWarning, match=r"1 of 20 test images, such as '00004', .* was calibrated on"):
            evaluate(again, Triplets.from_arrays(x, y_hat, y))


def test_what_else_is_refused():
    masker = made()
    with pytest.raises(
        MismatchError, match="of 9 x 9 pixels: the promise covers only images of 8 x 9 pixels"
    ):
        evaluate(masker, world(3, 5, (9, 9)))
    colour = [np.random.default_rng(6).random((3, 8, 9, 3)).astype(np.float32)] * 3
    with pytest.raises(MismatchError, match="1 channel, not 3"):
        evaluate(masker, Triplets.from_arrays(*colour))
    with pytest.raises(InvalidArgumentError, match="no y"):
        evaluate(masker, Triplets.from_arrays(*[[t.x[0] for t in TEST]] * 2))


@pytest.mark.leaf("paper")
@pytest.mark.parametrize("chosen", ["reciprocal", "water_filling"])
def test_resplits_follow_the_law(chosen):
    from conformask.extras.paper.resplits import resplit

    masker = made(family=chosen)
    found = resplit(masker, CALIBRATION, TEST, n=400)
    # rank floor(.1 * 61) = 6, so that coverage is 1 - 6/61 on average
    assert found.law_mean == pytest.approx(1 - 6 / 61)
    beta, tested = 6 * 55 / (61**2 * 62), 45
    assert found.law_std == pytest.approx(math.sqrt(beta + (55 / 61 * 6 / 61 - beta) / tested), rel=1e-6)
    assert found.coverage.shape == found.size.shape == (400,)
    assert found.coverage.mean() == pytest.approx(found.law_mean, abs=4 * found.law_std / 20)
    assert found.coverage.std() == pytest.approx(found.law_std, rel=0.2)
    np.testing.assert_allclose(found.measured, found.coverage[:5])
    summary = found.summary()
    assert summary["coverage"] == found.coverage.mean()
    low, high = summary["mask_size_interval"]
    assert low < summary["mask_size"] < high
    other = resplit(masker, CALIBRATION, TEST, n=20, seed=1)
    assert not np.array_equal(other.coverage, found.coverage[:20])


@pytest.mark.leaf("paper")
def test_a_resplit_is_what_calibrating_and_evaluating_anew_gives():
    from conformask.extras.paper.resplits import resplit

    masker = made()
    found = resplit(masker, CALIBRATION, TEST, n=1, seed=3)
    order = np.random.default_rng(3).permutation(105).tolist()
    everything = [*CALIBRATION, *TEST]
    both = Triplets.from_arrays(*[[getattr(t, role)[0] for t in everything] for role in ("x", "y_hat", "y")])
    again = calibrate(SCORER, both.select(order[:60]), threshold=THRESHOLD, loss="l1")
    judged = evaluate(again, both.select(order[60:]))
    assert found.coverage[0] == judged.coverage
    assert found.size[0] == pytest.approx(judged.mask_size, abs=1e-6)


@pytest.mark.leaf("paper")
def test_gridded_resplits_are_at_or_above_the_law():
    from conformask.extras.paper.resplits import resplit

    found = resplit(made(signed, 0.004), CALIBRATION, TEST, n=200)
    assert found.coverage.mean() >= found.law_mean - 4 * found.law_std / math.sqrt(200)


@pytest.mark.leaf("paper")
@pytest.mark.parametrize(("distance", "threshold"), [("l1", THRESHOLD), (signed, 0.004)])
def test_resplits_take_up_what_an_evaluation_measured(distance, threshold):
    from conformask.extras.paper.resplits import resplit

    masker = made(distance, threshold)
    judged = evaluate(masker, TEST)
    found = resplit(masker, CALIBRATION, TEST, n=50, evaluated=judged.images)
    anew = resplit(masker, CALIBRATION, TEST, n=50)
    for name in ("coverage", "size", "measured"):
        np.testing.assert_array_equal(getattr(found, name), getattr(anew, name))


def test_sizes_of_opt_that_are_known_are_taken_as_they_are():
    masker = made()
    judged = evaluate(masker, TEST)
    sizes = judged.images.paper_oracle_size.copy()
    sizes[20:] = np.nan
    known = evaluate(masker, TEST, opt_sizes=sizes)
    np.testing.assert_array_equal(known.images.paper_oracle_size, sizes)
    assert known.n_paper_oracle == np.isfinite(sizes).sum() < judged.n_paper_oracle
    assert evaluate(masker, TEST, opt_sizes=judged.images.paper_oracle_size).summary() == judged.summary()


def test_the_masks_are_torch_free_of_gradients():
    masker = made()
    batch = next(TEST.batches(45))
    assert not masker(batch.x, batch.y_hat).requires_grad
    assert torch.isfinite(masker(batch.x, batch.y_hat)).all()


def test_the_best_masks_are_neither_empty_nor_full_nor_failures():
    measured = {"unmasked_loss": [0.01, 0.9, 0.1, 0.1, 0.5], "size": [0, 1, 0.5, 0.5, 0.1]}
    nothing = np.zeros(5)
    images = ImageRecords(
        name=nothing,
        loss=np.array([0.01, 0.0, 0.01, 0.02, 0.4]),
        **{name: np.array(values) for name, values in measured.items()},
        **dict.fromkeys(("oracle_size", "paper_oracle_size", "critical_lambda", "difficulty"), nothing),
    )
    gain = gain_of(images, images.loss <= 0.02)
    np.testing.assert_allclose(gain, [-np.inf, 0, 0.04, 0.03, -np.inf])


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        (["/usr/bin/conformask", "evaluate", "my run"], "conformask evaluate 'my run'"),
        (["mine.py", "--seed", "1"], "python mine.py --seed 1"),
        (["-c"], None),
        ([""], None),
    ],
)
def test_the_command_that_repeats_it(typed, command, monkeypatch, found, masker):
    monkeypatch.setattr("sys.argv", typed)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    again = made_by(masker.card.calibrated, "f00d")
    assert (again.command, again.images) == (command, "f00d")
    assert found.made is not None
    assert found.made.versions == again.versions


def left(order, errors, share):
    """The mean error of what is shown, by definition: pixels are hidden from the largest of `order` on."""
    places = sorted(range(len(errors)), key=lambda place: -order[place])[int(share * len(errors)) :]
    return float(np.mean([errors[place] for place in places]))


@pytest.mark.parametrize("with_region", [False, True])
def test_curves_are_what_their_name_says(with_region):
    generator = np.random.default_rng(0)
    score, y, y_hat = (generator.random((3, channels, 9, 7)) for channels in (1, 3, 3))
    region = generator.random((3, 1, 9, 7)) < 0.5 if with_region else np.ones((3, 1, 9, 7), bool)
    given = torch.from_numpy(region).float() if with_region else None
    curves = risk_curves(*(torch.from_numpy(image).float() for image in (score, y, y_hat)), given)
    for index in range(3):
        here = region[index, 0]
        errors = np.abs(y - y_hat).mean(axis=1)[index][here]
        for row, order in enumerate((score[index, 0][here], errors)):
            expected = [left(order, errors, share) for share in SHARES]
            np.testing.assert_allclose(curves[index, row], expected, rtol=1e-5)


def test_no_score_leaves_less_than_the_best_and_every_curve_starts_alike():
    evaluation = cm.evaluate(
        cm.calibrate(SCORER, triplets(40, 0), threshold=0.03, loss="l1"), triplets(40, 1)
    )
    risk = evaluation.risk
    assert risk.shares == SHARES
    assert risk.by_score[0] == pytest.approx(risk.best[0])
    assert all(ours >= best - 1e-12 for ours, best in zip(risk.by_score, risk.best, strict=True))
    assert risk.by_score[-1] < risk.by_score[0]


@pytest.mark.thorough
@pytest.mark.parametrize("guarantee", ["marginal", "pac"])
def test_tests_of_a_kept_promise_lie_in_the_expected_range(guarantee):
    inside = []
    for k in simulated(120):
        masker = calibrated(
            SCORER,
            triplets(30, 1000 + k, (4, 4)),
            threshold=0.03,
            guarantee=guarantee,
            **({"confidence": 0.8} if guarantee == "pac" else {}),
        )
        evaluation = cm.evaluate(masker, triplets(30, 5000 + k, (4, 4)))
        low, high = evaluation.expected
        inside.append(low - 1e-9 <= evaluation.coverage <= high + 1e-9)
        assert 0 <= low < high <= 1
    assert np.mean(inside) >= 0.9  # 0.95, but for the discreteness of 30 images, and chance
    assert np.mean(inside) < 1 or guarantee == "pac"
