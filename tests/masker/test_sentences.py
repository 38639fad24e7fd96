"""The English sentence of a promise: what it says of every loss, to whom, and that it is what is computed."""

import re
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

import conformask as cm
from conformask.errors import InvalidArgumentError
from conformask.losses import loss as loss_from
from conformask.masker.resolve import family_for
from conformask.promises.promise import plural_of
from conformask.records.card import hidden_text, kept_text
from conformask.scores.scoring import selection_record
from leaves import asking
from synthetic_card import card
from synthetic_triplets import arrays, scale_of

OF_10, ON_AVERAGE = "In at least 9 of 10 new images, ", "On average over new images, "
VISIBLE, ZERO = "what stays visible", "(hidden pixels count as no error)"
WHOLE = f"averaged over the whole image {ZERO}"
BINARY, GREY = {"name": "binary"}, {"name": "reciprocal"}
BYTES = {"range_of_y_hat": [0, 255]}
CLEAN = {"distance": "l2", "threshold": 0.0004, "eta": 0.002, "reach": 1.0, "repeats": 2, **BYTES}
RMS = "2 % of the range (5.1 of 255)"
LOSSES: dict[str, tuple[dict[str, Any], str, str]] = {
    "l1": (
        {"threshold": 0.03, **BYTES},
        f"{VISIBLE} is off by at most 3 % of the range (7.65 of 255), {WHOLE}",
        f"the error of {VISIBLE}, {WHOLE}, is at most 3 % of the range (7.65 of 255)",
    ),
    "l2": (
        {"distance": "l2", "threshold": 0.0004, **BYTES},
        f"{VISIBLE} is off by at most {RMS}, as a root mean square over the whole image {ZERO}",
        f"the squared error of {VISIBLE}, {WHOLE}, is at most the square of {RMS}",
    ),
    "l1.5 of a region": (
        {"distance": "l1.5", "over": "image", "region": True, "threshold": 0.001},
        f"{VISIBLE} is off by at most 1 % of the range, as a power mean of exponent 1.5 over the region "
        f"{ZERO}",
        f"the error to the power 1.5 of {VISIBLE}, averaged over the region {ZERO}, is at most 1 % of the "
        "range to the power 1.5",
    ),
    "grey masks": (
        {"family": GREY},
        f"{VISIBLE} is off by at most 2 % of the range, averaged over the whole image (each error is "
        "multiplied by the mask: hidden pixels count as no error)",
        f"the error of {VISIBLE}, averaged over the whole image (each error is multiplied by the mask: "
        "hidden "
        "pixels count as no error), is at most 2 % of the range",
    ),
    "trusted": (
        {"over": "trusted", "threshold": 0.0300001},
        "the pixels shown are off by at most 3.01 % of the range on average",
        "the mean error of the pixels shown (0 where none is shown) is at most 3.01 % of the range",
    ),
    "local": (
        {"over": "local", "window": [9, 9], "length": "5mm", "region": True},
        "around every pixel shown in the region the output is off by at most 2 % of the range, averaged over "
        "those of 9 x 9 pixels (5 x 5 mm) that lie in the region",
        "the largest error around a pixel shown in the region, averaged over those of 9 x 9 pixels (5 x "
        "5 mm) "
        "that lie in the region (0 where none is shown), is at most 2 % of the range",
    ),
    "local_share of volumes": (
        {"over": "local_share", "window": 5, "tolerance": 0.1, "threshold": 0.05, "sizes": [[4, 8, 8]]},
        "around at most 5 % of the pixels shown the output is off by more than 10 % of the range, averaged "
        "over 5 x 5 x 5 pixels",
        "the share of the pixels shown around which the output is off by more than 10 % of the range, "
        "averaged "
        "over 5 x 5 x 5 pixels, is at most 5 %",
    ),
    "window": (
        {"over": "window", "window": 9, "distance": "l2", "threshold": 0.0004, **BYTES},
        f"in any 9 x 9 pixels {VISIBLE} is off by at most {RMS}, as a root mean square {ZERO}",
        f"the largest squared error of {VISIBLE} in any 9 x 9 pixels, averaged over them {ZERO}, is at most "
        f"the square of {RMS}",
    ),
    "missed": (
        {"over": "missed", "tolerance": 0.12345, "threshold": 0.05},
        "at most 5 % of the pixels that are off by more than 12.345 % of the range are shown",
        "of the pixels that are off by more than 12.345 % of the range, the share that is shown is at "
        "most 5 %",
    ),
    "wrong": (
        {"over": "wrong", "tolerance": 0.1, "threshold": 0.05, **BYTES},
        "at most 5 % of the pixels shown are off by more than 10 % of the range (25.5 of 255)",
        "the share of the pixels shown that are off by more than 10 % of the range (25.5 of 255) is at "
        "most 5 %",
    ),
    "any object": (
        {"distance": "objects", "over": "any", "iou": 0.5, "threshold": 0.1},
        "no wrong object is shown (IoU below 0.5)",
        "the chance that a wrong object is shown (IoU below 0.5) is at most a tenth",
    ),
    "missed objects": (
        {"distance": "objects", "over": "missed", "iou": 0.75, "threshold": 0.05},
        "at most 5 % of the wrong objects are shown (IoU below 0.75)",
        "of the wrong objects (IoU below 0.75), the share that is shown is at most 5 %",
    ),
    "wrong objects": (
        {"distance": "objects", "over": "wrong", "iou": 0.5, "threshold": 0.1},
        "at most a tenth of the objects shown is wrong (IoU below 0.5)",
        "the share of the objects shown that are wrong (IoU below 0.5) is at most a tenth",
    ),
    "ssim": (
        {"distance": "ssim", "threshold": 0.1866, "family": GREY},
        f"{VISIBLE} is at least as similar to the truth as SSIM 0.813 (1 is equal; both are multiplied by "
        "the "
        "mask)",
        f"the similarity of {VISIBLE} to the truth (1 is equal; both are multiplied by the mask) is at least "
        "SSIM 0.813",
    ),
    "lpips": (
        {"distance": "lpips", "threshold": 0.1},
        f"{VISIBLE} differs from the truth by at most 0.1 in LPIPS (hidden pixels are equal)",
        "the loss LPIPS is at most 0.1",
    ),
    "a map": (
        {"distance": "lpips_map", "over": "image", "threshold": 0.1},
        f"{VISIBLE} is off by at most 0.1 in the LPIPS map, {WHOLE}",
        f"the error of {VISIBLE}, {WHOLE}, is at most 0.1 in the LPIPS map",
    ),
    "a map with a minus": (
        {"distance": "ssim_map", "over": "image", "threshold": 0.1},
        f"{VISIBLE} is off by at most 0.1 in the 1 - SSIM map, {WHOLE}",
        f"the error of {VISIBLE}, {WHOLE}, is at most 0.1 in the 1 - SSIM map",
    ),
    "a loss of yours": (
        {"distance": "worst", "threshold": 0.1, "region": True},
        "the loss worst in the region is at most 0.1",
        "the loss worst in the region is at most 0.1",
    ),
    "clean": (
        {"over": "clean", "allowance": "clt", **CLEAN},
        f"{VISIBLE} is off by at most {RMS} from the clean image behind the noise, as a root mean square "
        "over "
        f"the whole image {ZERO}, by the central limit theorem for about all but 0.2 % of images",
        f"the squared error of {VISIBLE} against the clean image behind the noise, {WHOLE}"
        f", is at most the square of {RMS}",
    ),
    "clean_local": (
        {"over": "clean_local", "allowance": "exact", "window": 200, **CLEAN},
        f"around every pixel shown the output is off by at most {RMS} from the clean image behind the "
        "noise, as "
        "a root mean square over 200 x 200 pixels, by an exact bound for all but 0.2 % of images",
        "the largest squared error around a pixel shown, averaged over 200 x 200 pixels (0 where none is "
        f"shown), is at most the square of {RMS}",
    ),
    "clean, with the truth": (
        {"over": "clean", "allowance": "clt", **CLEAN, "repeats": 0},
        f"{VISIBLE} is off by at most {RMS}, as a root mean square over the whole image {ZERO}",
        f"the squared error of {VISIBLE}, {WHOLE}, is at most the square of {RMS}",
    ),
    "a noisy reference": (
        {"repeats": 1},
        f"{VISIBLE} is off by at most 2 % of the range from the noisy reference, {WHOLE}",
        f"the error of {VISIBLE} against the noisy reference, {WHOLE}, is at most 2 % of the range",
    ),
    "units": (
        {"threshold": 0.1, "units": "m", "data_range": [0, 22], "range_of_y_hat": [0, 22]},
        f"{VISIBLE} is off by at most 10 % of the range (2.2 m of 0 to 22 m), {WHOLE}",
        f"the error of {VISIBLE}, {WHOLE}, is at most 10 % of the range (2.2 m of 0 to 22 m)",
    ),
    "a stated range": (
        {"threshold": 0.1, "data_range": [-1000, 3000], "range_of_y_hat": [-1000, 3000]},
        f"{VISIBLE} is off by at most 10 % of the range (400 of -1000 to 3000), {WHOLE}",
        f"the error of {VISIBLE}, {WHOLE}, is at most 10 % of the range (400 of -1000 to 3000)",
    ),
}


LEAF_OF = {name: "noise" for name in LOSSES if "clean" in name} | {
    name: "objects" for name, (terms, *_) in LOSSES.items() if terms.get("distance") == "objects"
}


@pytest.mark.parametrize(
    "name", [asking(LEAF_OF[name], name) if name in LEAF_OF else name for name in LOSSES]
)
def test_what_is_said_of_each_loss(name):
    terms, event, mean = LOSSES[name]
    terms = {"family": BINARY, **terms}
    assert card(**terms).sentence == f"{OF_10}{event}."
    assert card(**terms, guarantee="expected").sentence == f"{ON_AVERAGE}{mean}."


SURE = "With 95 % certainty about these calibration images, "
EVENT, MEAN = LOSSES["trusted"][1:]
PROMISES: dict[str, tuple[dict[str, Any], str]] = {
    "9 of 10": ({}, OF_10),
    "19 of 20": ({"confidence": 0.95}, "In at least 19 of 20 new images, "),
    "99 of 100": ({"confidence": 0.99}, "In at least 99 of 100 new images, "),
    "percent": ({"confidence": 0.925}, "In at least 92.5 % of new images, "),
    "nearly all": ({"confidence": 0.99999}, "In at least 99.999 % of new images, "),
    "pac": ({"guarantee": "pac", "delta": 0.05}, f"{SURE}in at least 9 of 10 new images, "),
    "ltt": (
        {"guarantee": "ltt", "delta": 0.001},
        "With 99.9 % certainty about these calibration images, in at least 9 of 10 new images, ",
    ),
    "simultaneous": (
        {"guarantee": "simultaneous", "delta": 0.05},
        f"{SURE}whichever of the declared thresholds and whichever confidence is chosen, in at least 9 of 10 "
        "new images, ",
    ),
    "expected": ({"guarantee": "expected"}, ON_AVERAGE),
    "rcps": ({"guarantee": "rcps", "delta": 0.05}, f"{SURE}on average over new images, "),
    "conditional_mean": (
        {"guarantee": "conditional_mean"},
        "For at least 9 of 10 new inputs, on average over the truths that an input leaves possible, ",
    ),
    "group": ({"unit": "group"}, "For at least 9 of 10 new groups, in every image, "),
    "share of a group": (
        {"unit": "group", "share": 0.9, "group_name": "biopsy"},
        "For at least 9 of 10 new biopsies, in at least 90 % of the images, ",
    ),
    "mean of groups": (
        {"unit": "group", "share": 0.9, "guarantee": "expected"},
        "On average over new groups, in the worst image of each, leaving out up to 10 % of its images, ",
    ),
    "image of a new group": (
        {"unit": "image_of_new_group", "group_name": "patient"},
        "In at least 9 of 10 new images, each drawn from a new patient, ",
    ),
    "mean of images of new groups": (
        {"unit": "image_of_new_group", "guarantee": "expected"},
        "On average over new groups, and over the images of each, ",
    ),
    "categories": ({"guarantee": "categories"}, f"For each category by itself, i{OF_10[1:]}"),
    "pac within": (
        {"guarantee": "pac", "delta": 0.05, "per_category": True},
        f"For each category by itself, w{SURE[1:]}in at least 9 of 10 new images, ",
    ),
    "weighted": (
        {"guarantee": "weighted"},
        "In at least 9 of 10 new images from the population that the weights describe, ",
    ),
    "weighted groups": (
        {"guarantee": "weighted", "unit": "group", "group_name": "scanner"},
        "For at least 9 of 10 new scanners from the population that the weights describe, in every image, ",
    ),
    "adaptive": (
        {"guarantee": "adaptive"},
        f"Under masks that follow how hard each image looks, i{OF_10[1:]}",
    ),
}


@pytest.mark.parametrize("name", PROMISES)
def test_to_whom_it_is_said(name):
    terms, beginning = PROMISES[name]
    promise = cm.Promise(**{"guarantee": "marginal", **terms})
    made = replace(card(over="trusted", threshold=0.0300001, family=BINARY), promise=promise)
    mean = promise.axes.statement.bounds_a_mean
    assert made.sentence == f"{beginning}{MEAN if mean else EVENT}."


def test_what_else_a_sentence_says():
    made = card(over="trusted", threshold=0.0300001, family=BINARY)
    for changes, sentence in (
        ({"exploratory": True}, f"If this had been fixed beforehand: i{OF_10[1:]}{EVENT}."),
        ({"hides": "every image"}, f"{OF_10}{EVENT}; this is kept only by hiding every image completely."),
        (
            {"population": "new crops of these groups"},
            f"In at least 9 of 10 new crops of these groups, {EVENT}.",
        ),
        ({"population": "whole images"}, f"In at least 9 of 10 new whole images, {EVENT}."),
    ):
        named = replace(made, promise=cm.Promise(group_name="patient"), **changes)
        assert named.sentence == sentence, "a word of the user's stays as it is"


@pytest.mark.leaf("objects")
def test_the_names_of_objects():
    of_objects = card(distance="objects", over="missed", iou=0.5, threshold=0.1, family=BINARY)
    of_objects = replace(of_objects, promise=cm.Promise(object_name="nucleus"))
    assert of_objects.sentence == f"{OF_10}at most a tenth of the wrong nuclei is shown (IoU below 0.5)."
    any_object = replace(of_objects, loss=replace(of_objects.loss, over="any"))
    assert any_object.sentence == f"{OF_10}no wrong nucleus is shown (IoU below 0.5)."
    objects = card(distance="objects", over="any", iou=0.5, object_name="nucleus")
    assert hidden_text(objects, 0.5, 0.0) == "50 % of the nuclei of an image are hidden (best possible: 0 %)"


@pytest.mark.parametrize(
    ("noun", "plural"),
    [("patient", "patients"), ("biopsy", "biopsies"), ("day", "days"), ("mass", "masses"), ("fish", "fishes"),
     ("nucleus", "nuclei"), ("mitosis", "mitoses"), ("series", "series")],
)  # fmt: skip
def test_plurals(noun, plural):
    assert plural_of(noun) == plural


def test_measured_and_hidden():
    marginal, few = cm.Promise(), (0.661, 0.9982)
    assert kept_text(marginal, "14 test images", 14, 13 / 14, few) == (
        "13 of 14 test images kept it (95 % interval 66 to 99.8 %)"
    )
    assert kept_text(marginal, "10 test images", 10, 0.7, (0.348, 0.933), expected=(0.6, 1.0)) == (
        "7 of 10 test images kept it (6 to 10 would if the promise holds; 10 images show only that 35 to "
        "93 % of new ones do)"
    )
    assert kept_text(marginal, "1,000 images", 1000, 0.9, (0.88, 0.918), expected=(0.874, 0.925)) == (
        "900 of 1,000 images kept it (874 to 925 would if the promise holds)"
    )
    of_groups = cm.Promise(unit="group", share=0.9, group_name="patient")
    assert kept_text(of_groups, "14 groups", 14, 1.0, (0.8, 1.0)) == (
        "14 of 14 patients kept it in at least 90 % of the images (95 % interval 80 to 100 %)"
    )
    alike = cm.Promise(unit="image_of_new_group")
    assert kept_text(alike, "20 images", 20, 0.931, (0.85, 0.99)) == (
        "93 % of 20 images kept it, each group counting alike (95 % interval 85 to 99 %)"
    )
    assert hidden_text(card(), 0.112, 0.06) == "11 % of an image is hidden (best possible: 6 %)"
    regional = card(region=True, over="image")
    assert hidden_text(regional, 0.0612) == "6 % of the region of an image is hidden"


# what is said is what is computed

SIDE = 12
REGION = np.zeros((SIDE, SIDE), np.float32)
REGION[2:, 3:] = 1


def windows(values, side, *, whole):
    """The values in the window around each pixel, or in each window inside the image; NaN outside of it."""
    before, after = side // 2, (side - 1) // 2
    padded = np.pad(values, ((before, after), (before, after)), constant_values=np.nan)
    found = np.lib.stride_tricks.sliding_window_view(values if whole else padded, (side, side))
    return found.reshape(*found.shape[:2], -1)


def is_true(sentence, m, y, y_hat, region):
    """Whether a sentence is true of one image under its mask, by its words alone."""
    event = sentence.split(" new images, ")[1]
    shares = [float(number) / 100 for number in re.findall(r"([\d.]+) %", event)]
    error, inside = np.abs(y - y_hat), (region > 0) | ("region" not in event)
    shown = inside & (m > 0)
    p = 2.0 if "root mean square" in event else 1.5 if "power mean of exponent 1.5" in event else 1.0
    pixels = re.search(r"(\d+) x \d+ pixels", event)
    if "SSIM" in event:
        pair = (torch.from_numpy(m * image)[None, None] for image in (y_hat, y))
        similarity = structural_similarity_index_measure(*pair, data_range=1.0)
        return float(similarity) >= float(re.search(r"SSIM ([\d.]+)", event)[1])
    if pixels and event.startswith("in any"):
        squared = windows(m * error**p, int(pixels[1]), whole=True)
        return bool((squared.mean(axis=2) ** (1 / p)).max() <= shares[0])
    if pixels:
        around = windows(np.where(inside, error**p, np.nan), int(pixels[1]), whole=False)
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # windows outside the region
            local = np.nanmean(around, axis=2)[shown] ** (1 / p)
        if event.startswith("around every"):
            return bool((local <= shares[0]).all())
        return not local.size or bool(np.mean(local > shares[1]) <= shares[0])
    if "are shown" in event:
        wrong = inside & (error > shares[1])
        return not wrong.any() or bool(m[wrong].mean() <= shares[0])
    if "more than" in event:
        return not shown.any() or bool(np.mean(error[shown] > shares[1]) <= shares[0])
    if event.startswith("the pixels shown"):
        weights = m[inside]
        mean = (weights * error[inside] ** p).sum() / max(weights.sum(), 1e-9)
        return bool(mean ** (1 / p) <= shares[0])
    return bool(((m * error)[inside] ** p).mean() ** (1 / p) <= shares[0])


@pytest.mark.quick(4)
@pytest.mark.parametrize(
    ("loss", "threshold", "how"),
    [
        (cm.Mean("l1"), 0.02, "binary"),
        (cm.Mean("l1"), 0.02, "grey"),
        (cm.Mean("l2"), 0.0016, "binary"),
        (cm.Mean("l2"), 0.0016, "grey"),
        (cm.Mean("l1.5"), 0.027, "region"),
        (cm.MeanShown("l1"), 0.03, "binary"),
        (cm.MeanShown("l2"), 0.0016, "grey"),
        (cm.MeanShown("l1"), 0.03, "region"),
        (cm.Local("l1", 3), 0.07, "binary"),
        (cm.Local("l2", 5), 0.0049, "region"),
        (cm.LocalShare("l1", 3, 0.06), 0.1, "binary"),
        (cm.MaskedWindow("l1", 3), 0.06, "grey"),
        (cm.MaskedWindow("l2", 4), 0.0036, "grey"),
        (cm.MissRate("l1", 0.1), 0.4, "binary"),
        (cm.FalseOmissionRate("l1", 0.1), 0.06, "binary"),
        (cm.FalseOmissionRate("l1", 0.1), 0.06, "region"),
        ("ssim", 0.25, "grey"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:these masks hide")
def test_the_sentence_is_true_where_the_loss_meets_the_threshold(loss, threshold, how):
    """On deployed masks, image by image: what counts as kept is what a reader of the sentence would count."""
    regions = {"regions": [REGION] * 60} if how == "region" else {}

    def images(seed):
        x, y_hat, y = arrays(60, seed, (SIDE, SIDE))
        if regions:
            y_hat = np.where(REGION[..., None] > 0, y_hat, 1 - y)  # wrong outside, which does not count
        return cm.Triplets.from_arrays(x, y_hat, y, **regions)

    known, new, other = map(images, (0, 1, 2))
    used = loss_from(loss).in_regions(bool(regions)) if how == "region" else loss_from(loss)
    scorer = cm.Heuristic(scale_of, channels=1)
    family = family_for(scorer, used, "grey" if how == "grey" else None)
    scorer = replace(scorer, selection=selection_record(scorer, known, used, [family]))
    masker = cm.calibrate(
        scorer, other, threshold=threshold, loss=used, family=family, promise=cm.Promise(confidence=0.8)
    )
    passed = cm.evaluate(masker, new).images.passed
    said = [
        is_true(masker.sentence, masker(each), each.y[0], each.y_hat[0], REGION if regions else np.ones(()))
        for each in new
    ]
    assert passed is not None
    assert said == passed.tolist()
    assert 0 < sum(said) < len(said), "a threshold that all images meet, or none, would test little"


# numbers as people give them


def units(**how):
    depth = [22 * image for image in arrays(40, 0)]
    return cm.Triplets.from_arrays(*depth, reading=cm.Reading((0, 22), **how))


@pytest.mark.parametrize(
    ("loss", "given", "threshold"),
    [
        ("l1", "5%", 0.05), ("l1", "5 %", 0.05), ("l1", "1.1m", 0.05), ("l1", "1.1 m", 0.05),
        ("l1", "5e-2", 0.05), ("l2", "5%", 0.0025), ("l2", "1.1m", 0.0025), (cm.Local("l1", 3), "1.1m", 0.05),
        (cm.MissRate("l1", "10%"), "5%", 0.05), (cm.MissRate("l2", "10%"), "5%", 0.05),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:these masks hide")
def test_thresholds_in_percent_and_in_units(loss, given, threshold):
    scorer = cm.Heuristic(scale_of, channels=1)
    masker = cm.calibrate(scorer, units(units="m"), threshold=given, loss=loss)
    assert masker.card.threshold == pytest.approx(threshold, rel=1e-12)
    assert "5 %" in masker.sentence
    assert masker.threshold_of(given) == masker.card.threshold
    assert masker.recalibrate(threshold=given) is masker
    if "m" in given:
        assert "(1.1 m of 0 to 22 m)" in masker.sentence


def test_tolerances_in_percent():
    assert cm.MissRate("l2", "10%").tolerance == pytest.approx(0.01)
    assert cm.LocalShare("l1", 3, "10 %").tolerance == 0.1


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: ("l1", "0.5m", {}), "threshold '0.5m': the unit of the calibration images is not stated"),
        (lambda: ("l1", "50cm", {"units": "m"}), "the values of the images are in m: give it in m"),
        (lambda: (cm.MissRate("l1", 0.1), "0.5m", {"units": "m"}), "is a share, not an error: give 5%"),
        (lambda: ("ssim", "5%", {}), "1 − SSIM is not in the values of the images: give a number"),
        *(
            (
                lambda given=given: ("l1", given, {}),
                f"threshold '{given}': give a distance above 0, such as 0.05 (with a point), a percentage "
                "such as 5%, or a quantile",
            )
            for given in ("much", "0,05", "5/255")
        ),
        (
            lambda: (cm.MissRate("l1", "0.5m"), "5%", {}),
            "tolerance '0.5m': the unit of the calibration images is not",
        ),
        (lambda: (cm.MissRate("l1", "much"), "5%", {}), "tolerance 'much': give an error, such as 0.1"),
        (lambda: ("l1", "5%", {"units": "5m"}), "units '5m': give a unit such as m, HU or µm"),
    ],
)
def test_what_is_wrong_with_a_number_is_said(make, told):
    with pytest.raises(InvalidArgumentError, match=re.escape(told)):  # noqa: PT012
        loss, threshold, how = make()
        cm.calibrate(cm.Heuristic(scale_of, channels=1), units(**how), threshold=threshold, loss=loss)


def test_words_and_units_change_no_fingerprint():
    scorer = cm.Heuristic(scale_of, channels=1)
    plain, named = (
        cm.calibrate(scorer, units(**how), threshold=0.05, loss="l1") for how in ({}, {"units": "m"})
    )
    same = replace(named.card, calibrated=plain.card.calibrated)
    assert same.fingerprint_of("", {}) == plain.card.fingerprint_of("", {})
    again = named.recalibrate(promise=cm.Promise(object_name="nucleus"))
    assert again.fingerprint == named.fingerprint
    assert again.card.promise.object_name == "nucleus"
    assert not again.card.exploratory
