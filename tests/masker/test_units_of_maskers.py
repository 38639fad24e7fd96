"""Promises about groups on the masks themselves: calibrated, saved, recalibrated, evaluated, in words."""

import json
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import conformask as cm
from conformask.cli.output import json_alone, show_calibration
from conformask.errors import CalibrationError, InvalidArgumentError
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.masker.evaluate import evaluate
from conformask.masker.load import load
from conformask.masker.validation import measurement_of
from conformask.masks.critical import loss_under
from conformask.masks.families import family as family_by_name
from conformask.promises.axes import members
from conformask.promises.promise import Promise
from conformask.records.evaluation import Evaluation
from conformask.records.words import meaning_of, measurement_text
from conformask.scores.scorer import Heuristic
from conformask.scores.scoring import selection_record
from made_maskers import calibrated
from synthetic_triplets import arrays, scale_of, triplets

SELECTION = triplets(60, 1, groups=[f"chosen {k // 3}" for k in range(60)])
SCORER = Heuristic(scale_of, channels=1)
KNOWING = replace(
    SCORER, selection=selection_record(SCORER, SELECTION, loss("l1"), [family_by_name("binary")])
)
THRESHOLD = 0.03
ASKED = [
    {"guarantee": "marginal", "unit": "group"},
    {"guarantee": "marginal", "unit": "group", "share": 0.7},
    {"guarantee": "pac", "unit": "group", "share": 0.7},
    {"guarantee": "pac", "unit": "image_of_new_group"},
    {"guarantee": "ltt", "unit": "group"},
    {"guarantee": "simultaneous", "unit": "group", "share": 0.7},
    {"guarantee": "expected", "unit": "image_of_new_group", "confidence": None},
    {"guarantee": "rcps", "unit": "group", "confidence": None},
    {"guarantee": "groups", "per_category": True},
    {"guarantee": "pac", "unit": "group", "per_category": True},
    {"guarantee": "weighted", "unit": "group"},
]


def patients(count, seed, each=4):
    """Images of patients, some patients harder than others."""
    patient = np.repeat(np.arange(count), each)
    columns = {
        "groups": [f"patient {seed}-{k}" for k in patient],
        "categories": ["clinic A" if k % 2 else "clinic B" for k in patient],
        "weights": [1.0 + k % 2 for k in patient],
    }
    return triplets(count * each, seed, **columns)


CALIBRATION, TEST, FEW = patients(150, 3), patients(60, 4), patients(40, 3)


def made(asked, images=CALIBRATION):
    given = {"confidence": 0.8, "threshold": THRESHOLD, "distance": "l1", **asked}
    return calibrated(KNOWING, images, **given)


@pytest.fixture(scope="module", params=ASKED, ids=lambda asked: "-".join(map(str, asked.values())))
def asked(request):
    return request.param


@pytest.fixture(scope="module")
def masker(asked):
    return made(asked)


def distances_of(masker, images):
    found = []
    for batch in images.batches():
        mask = masker(
            batch.x, batch.y_hat, weight=batch.facts.get("weight"), category=batch.facts.get("category")
        )
        assert isinstance(mask, Tensor)
        found.append(loss_under(masker.loss, mask, batch).numpy())
    return np.concatenate(found)


@pytest.mark.quick(2)
def test_it_counts_groups(masker):
    assert masker.card.n_groups == masker.card.n_units == 150
    assert "150 calibration groups" in masker.formula or "in 150 groups" in masker.formula
    assert "of a new group" in masker.card.claim or "in a new group" in masker.card.claim
    assert float(distances_of(masker, TEST).mean()) > 0


@pytest.mark.quick(2)
def test_saved_loaded_and_recalibrated(masker, tmp_path):
    masker.save(tmp_path)
    again = load(tmp_path, scorer=KNOWING)
    assert (again.formula, again.card.promise, again.fingerprint) == (
        *(masker.formula, masker.card.promise),
        masker.fingerprint,
    )
    wider = again.recalibrate(threshold=1.3 * THRESHOLD)
    assert wider.card.promise.axes.unit == masker.card.promise.axes.unit
    assert wider.card.promise.axes.population == masker.card.promise.axes.population
    assert again.recalibrate() is again


@pytest.mark.thorough
@pytest.mark.leaf("view")
def test_evaluated_and_reported(masker, tmp_path):
    from conformask.extras.view.page import render

    evaluation = evaluate(masker, TEST, out=tmp_path)
    assert evaluation.n_groups == 60
    again = Evaluation.load(tmp_path)
    assert again.card.promise == evaluation.card.promise
    page = render(again)
    assert again.card.sentence in page
    assert "new group" in meaning_of(masker.card).holds + masker.sentence
    low, high = evaluation.coverage_interval
    assert low <= evaluation.coverage <= high


@pytest.mark.thorough
@pytest.mark.leaf("view")
def test_a_share_of_each_patient_is_measured_as_it_is_promised():
    from conformask.extras.view.facts import facts

    masker = made({"unit": "group", "share": 0.7})
    distances, groups = distances_of(masker, TEST), np.array(TEST.groups)
    fine = [np.mean(distances[groups == each] <= THRESHOLD * (1 + 1e-6)) >= 0.7 for each in np.unique(groups)]
    found = measurement_of(masker, distances, groups)
    assert (found.n, found.coverage) == (60, np.mean(fine))
    assert evaluate(masker, TEST).coverage == np.mean(fine)
    law = stats.betabinom(60, 150 + 1 - 30, 30)
    assert found.p_worse == pytest.approx(law.cdf(np.sum(fine))), "groups count, not their 600 images"
    text = measurement_text(masker.card, found)
    assert f"{np.sum(fine)} of 60 groups kept it in at least 70 % of the images (" in text
    assert any(
        "groups within the threshold in at least 70 %" in fact.label for fact in facts(evaluate(masker, TEST))
    )


def test_what_is_said_of_patients():
    every = made({"unit": "group"}, FEW)
    assert every.sentence.startswith(
        "For at least 80 % of new groups, in every image, what stays visible is "
    )
    assert meaning_of(every.card).holds.startswith(
        "Draw calibration groups and a new group from the same source, again and again: in at least "
        "80\N{NO-BREAK SPACE}% of these draws every image of the new group meets the threshold."
    )
    sure = made({"guarantee": "pac", "unit": "group", "share": 0.7, "per_category": True}, FEW)
    assert (
        "For each category by itself, except for a small share of calibration sets (delta), the following "
        "holds for this calibration: in at least 80\N{NO-BREAK SPACE}% of new groups, at least 70"
        in meaning_of(sure.card).holds
    )
    assert sure.card.claim.startswith(
        "for each category by itself, with probability 0.95 over calibration sets"
    )
    assert sure.card.sentence.startswith(
        "For each category by itself, with 95 % certainty about these calibration images, for at least 80 % "
        "of new groups"
    )
    assert "for each group of a category or for all categories at once" in meaning_of(sure.card).silent


@pytest.mark.thorough
@pytest.mark.leaf("view")
@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: "-".join(map(str, asked.values())))
def test_groups_are_called_what_the_user_calls_them(asked, tmp_path, capsys):
    """A word is no term of the promise: masks and fingerprint are the same, and it can be changed later."""
    from conformask.extras.view.facts import facts
    from conformask.extras.view.page import methods_text

    plain = made(asked)
    named = plain.recalibrate(promise=plain.card.promise.changed(group_name="biopsy"))
    assert named.fingerprint == plain.fingerprint
    assert named.card.rule == plain.card.rule
    assert not named.card.exploratory
    named.save(tmp_path)
    again, evaluation = load(tmp_path, scorer=KNOWING), evaluate(named, TEST)
    meaning = meaning_of(again.card)
    columns = np.array(TEST.groups), np.array(TEST.categories)
    measured = measurement_of(again, distances_of(again, TEST), *columns)
    found = measurement_text(again.card, measured)
    told = [again.sentence, again.formula, meaning.holds, meaning.silent, found, methods_text(evaluation)]
    told += [text for fact in facts(evaluation) for text in (fact.label, fact.value, *(fact.short or ()))]
    with json_alone():
        show_calibration(tmp_path, again, as_json=True)
    told += [json.loads(capsys.readouterr().out)["claim"], (tmp_path / "CARD.md").read_text()]
    for text in told:
        without_its_name = re.sub(r"guarantee (\| )?groups|\(groups\)|^groups, ", "", text)
        assert not re.search(r"\bgroups?\b", without_its_name), text
    assert "biops" in again.sentence + meaning.holds


@pytest.mark.thorough
@pytest.mark.leaf("view")
def test_the_methods_paragraph_counts_patients():
    from conformask.extras.view.page import methods_text

    masker = made({"unit": "group", "group_name": "patient"})
    evaluation = evaluate(masker, TEST)
    met = round(60 * evaluation.coverage)
    assert f"On 60 test patients, separate from all of these, {met} of 60 (" in methods_text(evaluation)
    assert "150 calibration patients of 600 images" in methods_text(evaluation)


def test_groups_of_one_image_each_are_asked_about():
    """As where groups were meant and not stated."""
    with pytest.warns(UserWarning, match="each of the 40 calibration images is one by itself: state groups"):
        masker = made({"unit": "group"}, triplets(40, 3))
    with pytest.warns(UserWarning, match="each of the 20 images is one by itself"):
        evaluate(masker, triplets(20, 5))


@pytest.mark.parametrize(
    ("high", "told"),
    [(4095, "at most 3 % of the range (123 of 0 to 4095), av"), (1, "at most 3 % of the range, averaged")],
)
def test_a_threshold_is_told_in_the_values_of_the_files_too(high, told):
    x, y_hat, y = arrays(40, 3)
    scaled = [(high * image).astype(np.float32) for image in (x, y_hat, y)]
    masker = made({"guarantee": "marginal"}, Triplets.from_arrays(*scaled, data_range=(0, high)))
    assert told in masker.sentence


@pytest.mark.parametrize("name", ["", "two words", "group_1"])
def test_a_name_is_one_word(name):
    with pytest.raises(InvalidArgumentError, match="give one word in the singular, such as patient"):
        Promise(group_name=name)


def test_a_name_for_groups_without_a_promise_about_them_is_refused():
    with pytest.raises(InvalidArgumentError, match=r"'slide' is the word for a group, .*--unit group"):
        made({"guarantee": "marginal", "group_name": "slide"}, triplets(20, 3))
    with pytest.raises(InvalidArgumentError, match=r"'slide' is the word for a group, .*--unit group"):
        Promise().changed(group_name="slide")
    assert Promise().changed(unit="group", group_name="slide").group_name == "slide"


def test_a_changed_unit_is_another_promise(tmp_path):
    made({"unit": "group"}, FEW).save(tmp_path)
    assert made({"unit": "group", "share": 0.5}, FEW).save(tmp_path).card.exploratory
    assert (
        made({"unit": "group"}, FEW)
        .recalibrate(promise=Promise(confidence=0.8, unit="group", share=0.5))
        .card.exploratory
    )
    other = made({"unit": "group", "share": 0.5}, FEW).recalibrate(
        promise=Promise(confidence=0.8, unit="image_of_new_group")
    )
    assert (other.card.promise.unit, other.card.promise.share) == ("image_of_new_group", None)
    assert other.card.claim == "P(l1 <= 0.03 in a new group) >= 0.80"


def test_too_few_groups_whatever_their_images():
    few = patients(8, 5, each=40)
    with pytest.raises(CalibrationError, match=r"8 groups are too few .* at least 9 calibration groups"):
        made({"unit": "group", "confidence": 0.9}, few)
    with pytest.raises(CalibrationError, match=r"8 patients are too few .* at least 9 calibration patients"):
        made({"unit": "group", "confidence": 0.9, "group_name": "patient"}, few)
    with pytest.raises(InvalidArgumentError, match="no theorem is known"):
        made({"guarantee": "adaptive", "unit": "group"})
    uneven = triplets(40, 6, groups=[f"{k // 2}" for k in range(40)], weights=[1.0 + k for k in range(40)])
    with pytest.raises(InvalidArgumentError, match="different weights"):
        made({"guarantee": "weighted", "unit": "group"}, uneven)


@pytest.mark.thorough
def test_the_promise_is_kept_on_new_patients():
    """Deployed masks of 24 calibration sets of 30 patients; 4 sigma are allowed."""
    kept = []
    for draw in range(24):
        masker = made({"unit": "group", "share": 0.7}, patients(30, 100 + draw))
        new = patients(20, 5000 + draw)
        kept.append(measurement_of(masker, distances_of(masker, new), np.array(new.groups)).coverage)
    assert np.mean(kept) >= 0.8 - 4 * np.std(kept) / np.sqrt(len(kept))
    assert np.mean(kept) <= 0.8 + 1 / 31 + 4 * np.std(kept) / np.sqrt(len(kept))


@pytest.mark.thorough
@pytest.mark.leaf("watch")
def test_new_images_are_watched_as_before():
    from conformask.extras.watch.monitor import monitor

    found = monitor(made({"unit": "group", "share": 0.7}), TEST)
    assert not found.shifted
    assert found.measurement is not None
    assert found.measurement.n == 60


K, N, NEW, SETS, CONFIDENCE, LARGEST_LOSS, SIGMAS = 3, 29, 24, 24, 0.8, 0.02, 4


@dataclass(frozen=True)
class Inputs:
    """Inputs with scales of error of their own, K draws of an output, each with a shift, and the truth."""

    x: np.ndarray
    draws: np.ndarray
    y: np.ndarray

    @classmethod
    def drawn(cls, count, seed):
        generator = np.random.default_rng(seed)
        scale = generator.uniform(0.005, 0.05, (count, 1, 8, 8))
        x = generator.uniform(0.3, 0.7, (count, 1, 8, 8))
        shift = 0.04 * generator.standard_normal((count, K, 1, 1))
        draws = x + shift + scale * generator.standard_normal((count, K, 8, 8))
        y = x + scale * generator.standard_t(3, x.shape)
        return cls(*(each.clip(0, 1).astype(np.float32) for each in (x, draws, y)))

    def triplets(self, show):
        """As `conformask triplets --cues samples,K --show` writes them."""
        spread = self.draws.std(axis=1)
        if show == "all":
            x, y, spread = (np.repeat(each, K, axis=0) for each in (self.x[:, 0], self.y[:, 0], spread))
            groups = np.repeat(np.arange(len(self.x)), K).tolist()
            return cm.Triplets.from_arrays(x, self.draws.reshape(-1, 8, 8), y, cues=spread, groups=groups)
        y_hat = self.draws[:, 0] if show == "one" else self.draws.mean(axis=1)
        return cm.Triplets.from_arrays(self.x[:, 0], y_hat, self.y[:, 0], cues=spread)


def met(masker, triplets):
    """Whether each image is within the threshold under its mask."""
    found = []
    for batch in triplets.batches():
        mask = masker(batch.x, batch.y_hat, cues=batch.layers["cues"])
        assert isinstance(mask, torch.Tensor)
        found.append(loss_under(masker.loss, mask, batch).numpy() <= LARGEST_LOSS)
    return np.concatenate(found)


def coverage(made, unit, looked_at):
    """Share of new inputs that keep the promise in each of many draws of calibration set and new inputs."""
    shares = []
    for draw in range(SETS):
        promise = cm.Promise(confidence=CONFIDENCE, unit=unit)
        calibration = Inputs.drawn(N, draw).triplets(made)
        masker = cm.calibrate(
            cm.Given(),
            calibration,
            threshold=LARGEST_LOSS,
            loss="l1",
            promise=promise,
            family="binary",
        )
        new = Inputs.drawn(NEW, 10_000 + draw).triplets("all" if looked_at in ("every", "any") else looked_at)
        fine, groups = met(masker, new), np.array(new.groups)
        judge = np.all if looked_at == "every" else np.mean
        shares.append(np.mean([judge(fine[places]) for places in members(groups)]))
    return np.array(shares)


def chance(shares):
    return float(SIGMAS * np.std(shares) / np.sqrt(SETS))


def falls_short(shares):
    """Whether the mean is below the promise, beyond chance."""
    return bool(np.mean(shares) < CONFIDENCE - chance(shares))


@pytest.mark.filterwarnings("ignore:.*far outside of the calibration images")
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("made", "unit", "looked_at"),
    [
        ("one", "image", "one"),
        ("mean", "image", "mean"),
        ("all", "group", "every"),
        ("all", "image_of_new_group", "any"),
    ],
)
def test_each_promise_is_kept_on_deployed_masks(made, unit, looked_at):
    shares = coverage(made, unit, looked_at)
    assert not falls_short(shares)
    assert np.mean(shares) <= CONFIDENCE + 1 / (N + 1) + chance(shares)


@pytest.mark.filterwarnings("ignore:.*far outside of the calibration images")
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("made", "unit", "looked_at"),
    [("mean", "image", "one"), ("one", "image", "every"), ("all", "image_of_new_group", "every")],
)
def test_a_promise_about_something_else_shown_is_seen_to_fail(made, unit, looked_at):
    assert falls_short(coverage(made, unit, looked_at))


@pytest.mark.filterwarnings("ignore:.*far outside of the calibration images")
def test_one_map_gives_all_samples_one_mask():
    inputs = Inputs.drawn(60, 1)
    masker = cm.calibrate(
        cm.Given(), inputs.triplets("all"), threshold=0.05, loss="l1", promise=cm.Promise(unit="group")
    )
    new = Inputs.drawn(5, 2).triplets("all")
    masks = np.array([masker(triplet) for triplet in new]).reshape(5, K, 8, 8)
    assert 0 < masks.mean() < 1
    assert (masks == masks[:, :1]).all()
