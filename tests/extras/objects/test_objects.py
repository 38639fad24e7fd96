"""Promises about objects, checked on deployed masks by code that knows only their sentences."""

import csv
import json
import math
import warnings
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow
from scipy.ndimage import label
from skimage.measure import points_in_poly

import conformask as cm
from conformask.cli import main
from conformask.errors import (
    CalibrationError,
    ImageError,
    InvalidArgumentError,
    MismatchError,
    MissingFileError,
    OutputError,
)
from conformask.extras.objects.labels import ObjectFiles, read_labels
from conformask.extras.objects.loss import LabelledObjects
from conformask.extras.objects.scorer import ObjectScorer
from conformask.images.formats import SourceImage
from conformask.images.read import read_image
from conformask.losses import stored_loss
from conformask.masks.critical import batch_curves, lambda_grid, measured_curves, measures
from conformask.masks.families import family
from conformask.promises.order import first_crossing
from conformask.records.loss import read_loss
from conformask.records.numbers import rounded_share
from conformask.records.reading import PLAIN, Geometry
from conformask.scores.scoring import scored_batches, selection_record
from object_worlds import SCORER, objects, triplets
from promised import simulated
from untyped import UNTYPED

ANY, MISSED, WRONG = (cm.Objects(over) for over in ("any", "missed", "wrong"))
THRESHOLDS = {ANY: 0.5, MISSED: 0.3, WRONG: 0.25}
LOSSES = pytest.mark.parametrize("loss", [ANY, MISSED, WRONG], ids=["any", "missed", "wrong"])
SELECTION = triplets(60, 999)


def sets(labels):
    """The pixels of each object."""
    return [set(zip(*np.nonzero(labels == each), strict=True)) for each in np.unique(labels) if each]


def loss_of(loss, mask, labels, y_labels):
    """The loss by its sentence, from sets of pixels and fractions."""
    assert set(np.unique(mask)) <= {0.0, 1.0}
    shown, wrong = [], []
    for pixels in sets(labels):
        values = {float(mask[pixel]) for pixel in pixels}
        assert len(values) == 1  # whole
        overlaps = [Fraction(len(pixels & true), len(pixels | true)) for true in sets(y_labels)]
        shown.append(values == {1.0})
        wrong.append(not any(overlap >= Fraction(loss.iou) for overlap in overlaps))
    both = sum(a and b for a, b in zip(shown, wrong, strict=True))
    whole = {"any": 1, "missed": sum(wrong), "wrong": sum(shown)}[loss.over]
    return min(both, 1) if loss is ANY else both / whole if whole else 0.0


def calibrated(loss, images, promise="marginal", level=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of masks that hide nearly everything, and of copies
        return cm.calibrate(
            with_selection(loss), images, threshold=THRESHOLDS[loss], loss=loss, promise=promise, level=level
        )


@cache
def with_selection(loss):
    """The scorer with what the selection images say, measured once for all calibrations."""
    record = selection_record(ObjectScorer(SCORER), SELECTION, loss, [family(loss.traits.family)])
    return replace(SCORER, selection=record)


def coverage(loss, draws, n, *world, cheat=1.0, confidence=0.9):
    """How often the sentence is true, over calibration sets of n and 20 new images each; and sigma."""
    tested, met = 20, []
    for draw in simulated(draws):
        masker = calibrated(loss, triplets(n, 5000 + draw, *world), cm.Promise(confidence=confidence))
        masker = replace(masker, rule=replace(masker.rule, lam=cheat * masker.rule.lam))
        new = objects(tested, 9000 + draw, *world)
        x, y_hat, labels = (torch.from_numpy(new[role][:, None]) for role in ("x", "y_hat", "labels"))
        masks = masker.masks(x, y_hat, labels=labels)[:, 0].numpy()
        images = zip(masks, new["labels"], new["y_labels"], strict=True)
        losses = np.array([loss_of(loss, *image) for image in images])
        met.append(np.mean(losses <= THRESHOLDS[loss] * (1 + 1e-6)))
    return float(np.mean(met)), float(np.std(met) / math.sqrt(draws))


@pytest.mark.thorough
@LOSSES
@pytest.mark.parametrize(("n", "levels"), [(9, 6), (29, 2)], ids=["few", "ties"])
def test_the_sentence_is_true_as_often_as_promised(loss, n, levels):
    mean, sigma = coverage(loss, 40, n, levels)
    assert mean >= 0.9 - 4 * sigma


@pytest.mark.thorough
def test_every_wrong_object_counts_for_missed():
    # most sensitive: nine objects in each image, scores without ties, and a confidence of one half
    mean, sigma = coverage(MISSED, 30, 39, 1000, (9,), confidence=0.5)
    assert abs(mean - 0.5) <= 1 / 40 + 4 * sigma


@pytest.mark.quick(1)
@LOSSES
def test_the_next_level_of_the_score_would_break_it(loss):
    mean, sigma = coverage(loss, 15, 29, cheat=2.5)
    assert mean < 0.9 - 4 * sigma


# the loss and the score


def scored(count, seed, *world):
    (item,) = scored_batches(ObjectScorer(SCORER), triplets(count, seed, *world), count)
    return item


@LOSSES
def test_a_loss_is_what_its_sentence_says_at_every_level(loss):
    item, images = scored(16, 3), objects(16, 3)
    grid = np.array([0.0, 0.01, *(level / 12 + 0.01 for level in range(1, 7)), np.inf])
    losses, sizes = batch_curves(item, family(loss.traits.family), loss, grid)
    slow, slow_sizes = measured_curves(item, family(loss.traits.family), loss, grid)
    assert np.allclose(losses, slow, atol=1e-7)
    assert np.allclose(sizes, slow_sizes)
    for place, lam in enumerate(grid):
        masks = (item.score.map[:, 0].numpy() < lam).astype(float)
        expected = [
            loss_of(loss, *image) for image in zip(masks, images["labels"], images["y_labels"], strict=True)
        ]
        assert losses[:, place] == pytest.approx(expected, abs=1e-6)
        assert (losses[:, place] <= np.array(expected) * (1 + 1e-6)).all()


@pytest.mark.parametrize("loss", [ANY, MISSED], ids=["any", "missed"])
def test_critical_lambdas_are_exact_by_sorting_wrong_objects(loss):
    images, threshold = objects(40, 4), 0.5
    columns = measures(scored(40, 4), family(loss.traits.family), loss, np.array([0, 1.0, np.inf]), threshold)
    found = columns["critical_lambda"]
    for place in range(40):
        x, labels, y_labels = (images[role][place] for role in ("x", "labels", "y_labels"))
        wrong = sorted(
            float(x[min(pixels)])
            for pixels in sets(labels)
            if not any(2 * len(pixels & true) >= len(pixels | true) for true in sets(y_labels))
        )
        allowed = 0 if loss is ANY else math.floor(threshold * len(wrong))
        at_it = (x < found[place]).astype(float)
        assert loss_of(loss, at_it, labels, y_labels) <= threshold
        masks = family(loss.traits.family)
        level = masks.level(torch.from_numpy(x)[None, None], torch.from_numpy(found[place : place + 1]))
        assert np.array_equal(masks.apply(torch.from_numpy(x)[None, None], level)[0, 0].numpy(), at_it)
        assert found[place] == pytest.approx(wrong[allowed] if allowed < len(wrong) else math.inf, rel=1e-6)
    assert np.isinf(found).any()
    assert np.isfinite(found).any()


def test_the_critical_lambda_of_wrong_lies_before_the_first_failure():
    world, threshold = (40, 4, 12, (9,)), 0.25
    images, item = objects(*world), scored(*world)
    grid = np.array([0.0, *(level / 24 + 0.01 for level in range(13)), np.inf])
    found = first_crossing(
        grid, measures(item, family(WRONG.traits.family), WRONG, grid)["distance"], threshold
    )
    later = 0
    for place, image in enumerate(zip(images["x"], images["labels"], images["y_labels"], strict=True)):
        x, *labels = image
        meets = [loss_of(WRONG, (x < lam).astype(float), *labels) <= threshold for lam in grid]
        first = meets.index(False) if False in meets else len(grid)
        assert found[place] == grid[first - 1]
        later += any(meets[first:])
    assert later >= 3


@pytest.mark.parametrize(("iou", "is_wrong"), [(0.5, False), (0.51, True), (0.7, True), (0.05, False)])
def test_an_overlap_of_exactly_the_iou_is_right(iou, is_wrong):
    y_hat, y = np.zeros((2, 1, 1, 4, 4), np.float32)
    y_hat[..., :2, :], y[..., :1, :] = 3, 7
    loss = cm.Objects("any", iou).on(torch.from_numpy(y), torch.from_numpy(y_hat), None, 1)
    assert bool(loss.of(torch.ones(1, 1, 4, 4))) is is_wrong


def test_an_overlap_of_seven_percent_is_right_in_floats():
    own, true = LabelledObjects.of(np.ones(100)), LabelledObjects.of(np.array([1] * 7 + [0] * 93))
    assert own.met_by(true, 0.07).tolist() == [True]
    assert own.met_by(true, 0.071).tolist() == [False]


def test_the_best_masks_where_no_wrong_object_may_be_shown_hide_them_whole():
    images = triplets(20, 7)
    for batch in images.batches(1):
        own, true = sets(batch.layers["labels"][0, 0].numpy()), sets(batch.layers["y_labels"][0, 0].numpy())
        wrong = {pixel for a in own for pixel in a if all(2 * len(a & b) < len(a | b) for b in true)}
        best = ANY.of_batch(batch, 1).oracle(0.5)
        assert set(zip(*np.nonzero(best[0, 0].numpy() == 0), strict=True)) == wrong


def test_a_score_is_the_mean_over_an_object_and_its_channels_and_0_elsewhere():
    labels = torch.tensor([[[[0.0, 5, 5, 2]]]])
    maps = torch.tensor([[[[9.0, 1, 2, 4]], [[9.0, 3, 4, 8]]]])
    scorer = ObjectScorer(cm.Heuristic(lambda x, y_hat: maps, channels=2, per_channel=True))
    score = scorer(maps, maps, labels)
    assert score.map.tolist() == [[[[0.0, 2.5, 2.5, 6.0]]]]
    assert not scorer.per_channel
    with pytest.raises(MismatchError, match="exported"):
        scorer.score_map(maps, maps, labels)


def test_an_image_without_objects_hides_nothing_and_has_no_loss():
    images = objects(60, 5)
    empty = [place for place in range(60) if not images["labels"][place].any()]
    masker = calibrated(WRONG, triplets(40, 6))
    evaluation = cm.evaluate(masker, triplets(60, 5))
    assert empty
    assert (evaluation.images.loss[empty] == 0).all()
    assert (evaluation.images.size[empty] == 0).all()


@LOSSES
def test_an_evaluation_counts_objects(loss):
    masker, images = calibrated(loss, triplets(40, 6), level="one"), objects(60, 7)
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        counts = cm.evaluate(masker, triplets(60, 7)).objects
    expected = np.zeros(6, int)
    for x, labels, y_labels in zip(images["x"], images["labels"], images["y_labels"], strict=True):
        own, true = sets(labels), sets(y_labels)
        right = [any(2 * len(a & b) >= len(a | b) for b in true) for a in own]
        lacking = [not any(2 * len(a & b) >= len(a | b) for a in own) for b in true]
        shown = [float(np.float32(x[min(pixels)])) < masker.rule.lam for pixels in own]
        both = [a and b for a, b in zip(shown, right, strict=True)]
        expected += [len(own), sum(right), sum(shown), sum(both), len(true), sum(lacking)]
    assert counts is not None
    assert list(vars(counts).values()) == expected.tolist()
    assert f"of {expected[2]:,} objects shown {expected[3]:,} (" in counts.shown_text
    assert 0 < expected[2] < expected[0]
    assert 0 < expected[5] < expected[4]


# the promise


@pytest.mark.parametrize("loss", [ANY, MISSED, cm.Objects("wrong", 0.75)], ids=str)
def test_terms_name_the_loss(loss):
    assert stored_loss(read_loss(loss.to_json(), Path())) == loss
    assert loss.name == f"{loss.over}(objects, IoU < {loss.iou:g})"


@pytest.mark.parametrize(
    ("loss", "promise", "sentence"),
    [
        (ANY, "marginal", "In at least 9 of 10 new images, no wrong object is shown (IoU below 0.5)."),
        (ANY, "expected", "the chance that a wrong object is shown (IoU below 0.5) is at most 50 %."),
        (MISSED, "pac", "at most 30 % of the wrong objects are shown (IoU below 0.5)."),
        (WRONG, "ltt", "at most 25 % of the objects shown are wrong (IoU below 0.5)."),
        (WRONG, "rcps", "the share of the objects shown that are wrong (IoU below 0.5) is at most 25 %."),
        (MISSED, "adaptive", "at most 30 % of the wrong objects are shown (IoU below 0.5)."),
    ],
)
def test_guarantees_apply_to_objects(loss, promise, sentence):
    masker = calibrated(loss, triplets(60, 8), promise)
    assert masker.sentence.endswith(sentence)
    assert "no object of the reference meets it with an IoU of 0.5 or more" in masker.card.loss.words.label
    assert "lacks" in (masker.card.loss.words.caveat or "")


def test_groups_and_categories_are_promised_objects():
    groups, categories = [f"slide {place // 2}" for place in range(60)], ["a", "b"] * 30
    by_slide = cm.Promise(unit="group", group_name="slide")
    masker = calibrated(MISSED, triplets(60, 8, groups=groups), by_slide)
    assert masker.sentence.startswith("For at least 9 of 10 new slides, in every image, ")
    of_each = cm.Promise(per_category=True)
    masker = calibrated(MISSED, triplets(60, 8, categories=categories), of_each)
    assert masker.rule.kind == "categories"


def test_a_masker_is_saved_and_read(tmp_path):
    masker = calibrated(WRONG, triplets(40, 6)).save(tmp_path / "run")
    loaded, new = cm.load(tmp_path / "run", scorer=SCORER), objects(4, 11)
    assert loaded.loss == WRONG
    for x, y_hat, labels in zip(new["x"], new["y_hat"], new["labels"], strict=True):
        assert np.array_equal(loaded(x, y_hat, labels=labels), masker(x, y_hat, labels=labels))


@pytest.mark.leaf("train")
def test_training_ignores_objects(tmp_path):
    images = triplets(40, 12)
    scorer = cm.fit_scorer(images, out=tmp_path / "run", scorer="residual", loss="l1")
    masker = cm.calibrate(scorer, triplets(40, 13), threshold=0.5, loss=ANY)
    assert masker.scorer.name == "residual"
    with pytest.raises(InvalidArgumentError, match="calibrate"):
        cm.fit_scorer(images, out=tmp_path / "other", loss=ANY)


def test_components_are_objects():
    images = objects(40, 6)
    arrays = {role: images[role] for role in ("x", "y_hat", "y")}
    by_threshold = cm.Triplets.from_arrays(**arrays, reading=cm.Reading(objects="components:0.5"))
    masker = cm.calibrate(SCORER, by_threshold, threshold=0.5, loss=ANY)
    assert masker.critical_lambdas == pytest.approx(
        cm.calibrate(SCORER, triplets(40, 6), threshold=0.5, loss=ANY).critical_lambdas
    )
    assert all(map(by_threshold.has, cm.Objects().extent.layers))
    assert "with objects" in repr(by_threshold)


def test_a_function_labels_both_images():
    arrays = {role: images for role, images in objects(3, 6).items() if role in ("x", "y_hat", "y")}
    made = cm.Triplets.from_arrays(**arrays, labels=lambda image: label(image > 0.5)[0])
    given = cm.Triplets.from_arrays(**arrays, reading=cm.Reading(objects="components:0.5"))
    for one, other in zip(made, given, strict=True):
        np.testing.assert_array_equal(one.layers["labels"], other.layers["labels"])
        np.testing.assert_array_equal(one.layers["y_labels"], other.layers["y_labels"])


# what is refused


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((6, 6), 0.5), "labels of y_hat of triplet '00000' holds labels that are not whole numbers"),
        (np.full((6, 6), 70000), "from 0 to 65535"),
        (np.full((6, 6), -1), "from 0 to 65535"),
        (np.full((6, 6), np.nan), "not whole numbers"),
        (np.ones((5, 6), int), "has shape \\(5, 6\\)"),
    ],
    ids=["half", "large", "negative", "nan", "shape"],
)
def test_bad_labels_are_refused(labels, message):
    image = np.full((1, 6, 6), 0.5, np.float32)
    images = cm.Triplets.from_arrays(image, image, image, labels=[labels], y_labels=[labels])
    with pytest.raises(ImageError, match=message):
        images[0]


def test_noise_in_the_place_of_labels_is_refused():
    masker, images = calibrated(ANY, triplets(20, 1)), objects(1, 2)
    noise = np.random.default_rng(0).random(images["labels"][0].shape, np.float32)
    with pytest.raises(ImageError, match="holds labels that are not whole numbers"):
        masker(images["x"][0], images["y_hat"][0], labels=noise)


def test_labels_of_two_values_are_not_inverted(tmp_path):
    values = np.zeros((6, 7), bool)
    values[2:4, 3:] = True
    tifffile.imwrite(tmp_path / "bool.tif", values)
    tifffile.imwrite(tmp_path / "white.tif", 3 * values.astype(np.uint8), photometric="miniswhite")
    for path, value in (("bool.tif", 1), ("white.tif", 3)):
        read = read_labels(tmp_path / path, values.shape, PLAIN, "labels")
        np.testing.assert_array_equal(read[0], value * values)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_labels_that_jpeg_has_changed_are_refused(tmp_path, name):
    labels = np.zeros((32, 32), np.uint8)
    labels[3:9, 3:9], labels[15:25, 10:20] = 40, 90
    kind = "TIFF" if name == "a.tif" else "JPEG"  # whatever the suffix
    Pillow.fromarray(labels).save(
        tmp_path / name, kind, **({"compression": "jpeg"} if kind == "TIFF" else {})
    )
    with pytest.raises(ImageError, match=rf"{name} is compressed as JPEG.* save them as PNG or TIFF"):
        read_labels(tmp_path / name, (32, 32), PLAIN, "labels")


def test_what_cannot_be_promised_of_objects_is_refused():
    images = objects(20, 1)
    plain = cm.Triplets.from_arrays(images["x"], images["y_hat"], images["y"])
    with pytest.raises(InvalidArgumentError, match="--objects"):
        cm.calibrate(SCORER, plain, threshold=0.5, loss=ANY)
    with pytest.raises(InvalidArgumentError, match="not by tiles"):
        cm.calibrate(cm.Tiled(SCORER), triplets(20, 1), threshold=0.5, loss=ANY)
    with pytest.raises(InvalidArgumentError, match="label 0"):
        cm.calibrate(SCORER, triplets(20, 1, regions=np.ones((20, 15, 15))), threshold=0.5, loss=ANY)
    with pytest.raises(CalibrationError, match="at least 9"):
        cm.calibrate(SCORER, triplets(5, 1), threshold=0.5, loss=ANY)
    with pytest.raises(InvalidArgumentError, match="no object"):
        lambda_grid(
            family(WRONG.traits.family), WRONG, [scored(2, 1).with_score(cm.Score(torch.zeros(2, 1, 15, 15)))]
        )
    with pytest.raises(InvalidArgumentError, match="above 0 and at most 1"):
        cm.Objects("any", 1.5)
    with pytest.raises(InvalidArgumentError, match=r"components:0\.5"):
        cm.Reading(objects="components:x")
    masker = calibrated(ANY, triplets(20, 1))
    with pytest.raises(MismatchError, match="--objects"):
        masker(images["x"][0], images["y_hat"][0])


@UNTYPED
def test_an_unknown_loss_of_objects_is_refused():
    with pytest.raises(InvalidArgumentError, match="choose from"):
        cm.Objects("local")


# Labels, tables and outlines of the objects that masks show, read back by other code


UNDER = SourceImage(None, Geometry((0.5, 0.25), "µm"), PLAIN)


def write_folder(folder, count, seed, suffix=".tif"):
    images = objects(count, seed)
    folders = {
        "x": "x", "y_hat": "y_hat", "y": "y", "labels": "cells/y_hat", "y_labels": "cells/y",
    }  # fmt: skip
    for role, name in folders.items():
        (folder / name).mkdir(parents=True)
        for place, image in enumerate(images[role]):
            stored = image.astype(np.uint16) if "labels" in role else image
            tifffile.imwrite(folder / name / f"f{place:02d}{suffix}", stored)
    return images


def calibrated_by(folder, loss):
    images = cm.Triplets.from_folder(folder, reading=cm.Reading(objects="cells"))
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        return cm.calibrate(SCORER, images, threshold=0.5, loss=loss)


def covered(feature, shape):
    """The pixels whose centres lie in the polygons of a feature, holes left out."""
    centres = np.indices(shape).reshape(2, -1).T + 0.5
    inside = np.zeros(len(centres), bool)
    for outline, *holes in feature["geometry"]["coordinates"]:
        part = points_in_poly(centres[:, ::-1], outline)
        for hole in holes:
            part &= ~points_in_poly(centres[:, ::-1], hole)
        inside |= part
    return inside.reshape(shape)


@pytest.mark.parametrize(("density", "count"), [(0.3, 3), (0.9, 3), (0.8, 1)])
def test_outlines_hold_exactly_the_pixels_of_their_objects(density, count, tmp_path):
    generator = np.random.default_rng(int(100 * density))
    # speckle has single pixels, parts that touch by corners, and, where it is one object, holes
    labels = generator.integers(1, count + 1, (12, 17)) * (generator.random((12, 17)) < density)
    score = labels / 10
    files = ObjectFiles.of(tmp_path, "a", Path("a.png"), 2)
    (tmp_path / "objects").mkdir()
    (tmp_path / "labels").mkdir()
    files.write("a", "slide", labels, score, (score < 0.25).astype(float), UNDER)
    assert files.outlines is not None
    collection = json.loads(files.outlines.read_text())
    assert collection["type"] == "FeatureCollection"
    assert [feature["properties"]["name"] for feature in collection["features"]] == ["1", "2", "3"][:count]
    for number, feature in enumerate(collection["features"], start=1):
        assert np.array_equal(covered(feature, labels.shape), labels == number)
        kind = "trusted" if number < 3 else "hidden"
        assert feature["properties"]["classification"]["name"] == kind
        assert feature["properties"]["objectType"] == "detection"
        pixels = int((labels == number).sum())
        assert feature["properties"]["measurements"] == {
            "score": number / 10, "pixels": pixels, "area µm²": pixels / 8,
        }  # fmt: skip


def test_masks_come_with_labels_tables_and_outlines(tmp_path):
    images = write_folder(tmp_path / "data", 40, 1)
    masker = calibrated_by(tmp_path / "data", cm.Objects("missed"))
    triplets = cm.Triplets.from_folder(tmp_path / "data", reading=masker.card.reading)
    cm.write_masks(masker, triplets, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "objects.csv").open()))
    trusted = 0
    for place in range(40):
        labels, name = images["labels"][place], f"f{place:02d}"
        own = {int(row["id"]): row for row in rows if row["image"] == name}
        assert sorted(own) == sorted(set(labels.astype(int).ravel()) - {0})
        shown = np.zeros(labels.shape, np.uint16)
        for number, row in own.items():
            pixels = np.argwhere(labels == number)
            score = float(images["x"][place][tuple(pixels[0])])
            assert float(row["score"]) == pytest.approx(score, rel=1e-6)
            assert [float(row[axis]) for axis in "yx"] == pytest.approx(pixels.mean(axis=0), abs=1e-3)
            assert [int(row[f"{axis}_min"]) for axis in "yx"] == pixels.min(axis=0).tolist()
            assert [int(row[f"{axis}_max"]) for axis in "yx"] == (pixels.max(axis=0) + 1).tolist()
            assert (int(row["pixels"]), row["area"], row["unit"]) == (len(pixels), "", "")
            is_trusted = np.float32(score) < np.float32(masker.rule.lam)
            assert row["trusted"] == str(is_trusted)
            shown[labels == number] = number * is_trusted
            trusted += is_trusted
        stored = tifffile.imread(tmp_path / "out" / "labels" / f"{name}.tif")
        assert stored.dtype == np.uint16
        assert np.array_equal(stored, shown)
    assert 0 < trusted < len(rows)


@pytest.mark.thorough
@pytest.mark.leaf("view")
def test_objects_are_spoken_of_in_the_numbers_and_words_of_their_user(tmp_path):
    """Of objects with a confidence, which is 1 in the background; nothing is said of pixels."""
    known, new = tmp_path / "known", tmp_path / "new"
    for folder, seed in ((known, 1), (new, 2)):
        images = write_folder(folder, 40, seed)
        (folder / "confidence").mkdir()
        for place, x in enumerate(images["x"]):
            tifffile.imwrite(folder / "confidence" / f"f{place:02d}.tif", 1 - x)
    reading = cm.Reading(objects="cells", cues="confidence")
    calibration, test = (cm.Triplets.from_folder(folder, reading=reading) for folder in (known, new))
    with warnings.catch_warnings(record=True) as caught:
        masker = cm.calibrate(
            cm.Given("trusted"), calibration, threshold="30%", loss=cm.Objects("missed"),
            promise=cm.Promise(object_name="nucleus"),
        )  # fmt: skip
    assert not [each for each in caught if "pixels" in str(each.message)]
    cut = masker.scorer.shown_text(masker.card.rule.lam)
    assert cut.startswith("Shown are the objects whose mean map is above 0.")
    cm.write_masks(masker, test, tmp_path / "out")
    for row in csv.DictReader((tmp_path / "out" / "objects.csv").open()):
        labels = images["labels"][int(row["image"][1:])]
        confidence = float(1 - images["x"][int(row["image"][1:])][labels == int(row["id"])].mean())
        assert float(row["score"]) == pytest.approx(confidence, abs=1e-6)
        assert row["trusted"] == str(confidence > float(cut.rstrip(".").split()[-1]) + 1e-4)
    evaluation = cm.evaluate(masker, test)
    page = cm.write_report(evaluation, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "at most 30 % of the wrong nuclei are shown (IoU below 0.5)." in page
    assert evaluation.hidden_text.startswith(
        f"{rounded_share(evaluation.mask_size)} of the nuclei of an image"
    )
    for of_pixels in ("better pixels", "onnected parts", "mean |y"):
        assert of_pixels not in page.split("</style>")[1].split("<h3>The numbers")[0]


@pytest.mark.thorough
def test_a_second_run_makes_what_is_missing_and_leaves_what_is_not_ours(tmp_path):
    write_folder(tmp_path / "data", 20, 1)
    masker, out = calibrated_by(tmp_path / "data", cm.Objects("any")), tmp_path / "out"
    triplets = cm.Triplets.from_folder(tmp_path / "data", reading=masker.card.reading)
    cm.write_masks(masker, triplets, out)
    labels = out / "labels" / "f03.tif"
    before, pixels = (
        {path: path.stat().st_mtime_ns for path in out.rglob("*.geojson")},
        tifffile.imread(labels),
    )
    table = (out / "objects.csv").read_text()
    labels.unlink()
    cm.write_masks(masker, triplets, out)
    changed = {path.stem for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"f03"}
    assert np.array_equal(tifffile.imread(labels), pixels)
    assert (out / "objects.csv").read_text() == table
    (tmp_path / "other" / "labels").mkdir(parents=True)
    (tmp_path / "other" / "labels" / "mine.tif").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"mine\.tif"):
        cm.write_masks(masker, triplets, tmp_path / "other")


@pytest.mark.leaf("formats")
def test_labels_of_a_volume_keep_their_values_in_nifti(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 300, (3, 4, 5)).astype(np.uint16)
    source = tmp_path / "y_hat.nii.gz"
    image = nibabel.Nifti1Image(generator.random((5, 4, 3), np.float32), np.diag([2, 3, 4, 1.0]))
    nibabel.save(image, source)
    files = ObjectFiles.of(tmp_path, "a", Path("a.nii.gz"), 3)
    assert files.outlines is None
    for folder in ("labels", "objects"):
        (tmp_path / folder).mkdir()
    geometry = Geometry((4.0, 3.0, 2.0), "mm")
    under, ones = SourceImage(source, geometry, PLAIN), np.ones(labels.shape)
    files.write("a", "p", labels, 0 * ones, ones, under)
    stored = nibabel.load(files.labels)
    assert np.array_equal(np.asarray(stored.dataobj).T, labels)
    assert np.array_equal(stored.affine, np.diag([2, 3, 4, 1.0]))
    row = next(csv.DictReader(files.table.open()))
    assert (row["volume"], row["unit"]) == (str(24.0 * int(row["pixels"])), "mm³")
    assert np.allclose(read_image(files.labels, cm.Reading((0, 1000)))[0] * 1000, labels)


@pytest.mark.leaf("view")
def test_the_command_line_promises_objects(tmp_path, capfd, conformask):
    write_folder(tmp_path / "data", 40, 1)
    write_folder(tmp_path / "new", 20, 2)
    data, new, run = (tmp_path / name for name in ("data", "new", "run"))
    options = ["--scorer", "residual", "--objects", "cells", "--over", "any", "--iou", "0.6"]
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        assert main(["calibrate", str(data), *options, "--threshold", "0.5", "--out", str(run)]) in (0, None)
        assert "P(any(objects, IoU < 0.6) <= 0.5) >= 0.90" in capfd.readouterr().out
        assert main(["mask", str(run), str(new), str(tmp_path / "out")]) in (0, None)
        assert "of 20 images kept it" in capfd.readouterr().out
        report = tmp_path / "report.html"
        assert main(["evaluate", str(run), str(new), "--report", str(report)]) in (0, None)
    out = capfd.readouterr().out
    assert "objects of the reference the network lacks" in out
    assert "objects of the reference the network lacks" in report.read_text()
    assert "--tolerance is about pixels" in conformask("calibrate", data, *options, "--tolerance", 2).err
    answer = conformask("calibrate", data, "--scorer", "residual", "--iou", 0.6)
    assert "--iou goes with --objects" in answer.err


def test_what_is_missing_is_named(tmp_path):
    write_folder(tmp_path / "data", 20, 1)
    with pytest.raises(MissingFileError, match="components"):
        cm.Triplets.from_folder(tmp_path / "data", reading=cm.Reading(objects="nuclei"))
    (tmp_path / "data" / "cells" / "y" / "f07.tif").unlink()
    with pytest.raises(MissingFileError, match="f07"):
        cm.Triplets.from_folder(tmp_path / "data", reading=cm.Reading(objects="cells"))


def test_new_images_need_labels_of_the_output_alone(tmp_path):
    write_folder(tmp_path / "data", 20, 1)
    masker = calibrated_by(tmp_path / "data", cm.Objects("any"))
    for path in (tmp_path / "data" / "cells" / "y").iterdir():
        path.unlink()
    (tmp_path / "data" / "cells" / "y").rmdir()
    new = cm.Triplets.from_folder(tmp_path / "data", reading=masker.card.reading)
    written = cm.write_masks(masker, new, tmp_path / "out")
    assert written.measurement is None
    assert not new.has("y_labels")
    assert (tmp_path / "out" / "objects.csv").exists()
