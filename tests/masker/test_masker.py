import hashlib
import json
import math
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.ndimage import gaussian_filter
from torch import Tensor

from conformask.arrays import Score
from conformask.errors import (
    CalibrationError,
    ImageError,
    InvalidArgumentError,
    MismatchError,
    MissingFileError,
)
from conformask.images.check import check_triplets
from conformask.images.read import pixel_hash
from conformask.images.rows import Provenance
from conformask.images.scan import scan
from conformask.images.triplets import Triplets, hash_of_group
from conformask.losses import loss as loss_by_name
from conformask.masker.calibrate import calibrate
from conformask.masker.card import card_text
from conformask.masker.load import load
from conformask.masker.thresholds import threshold_choices
from conformask.masks.critical import loss_under
from conformask.masks.families import Reciprocal, family as family_by_name
from conformask.promises.promise import Promise
from conformask.records.reading import Reading
from conformask.records.record import read_arrays, write_arrays
from conformask.scores.scorer import Heuristic, score_of
from conformask.scores.scoring import selection_record
from made_maskers import calibrated
from promised import simulated
from synthetic_triplets import arrays, scale_of, signed, triplets
from untyped import UNTYPED

SCORER = Heuristic(scale_of, channels=1)
CALIBRATION, SELECTION = triplets(40, 0), triplets(30, 1)
TEST = next(triplets(12, 2).batches(12))
KEPT = selection_record(
    SCORER,
    SELECTION,
    loss_by_name("l1"),
    [family_by_name(name) for name in ("binary", "reciprocal", "water_filling")],
)
KNOWING = replace(SCORER, selection=KEPT)


def made(scorer=KNOWING, calibration=CALIBRATION, threshold=0.03, distance="l1", **more):
    more = {"level": "one"} | more
    return calibrated(scorer, calibration, threshold=threshold, distance=distance, **more)


def far(a, b):
    """1 where anything that is shown differs."""
    return (a - b).abs().mean((1, 2, 3)).gt(0).float()


def distances(masker, batch=TEST):
    mask = masker(batch.x, batch.y_hat)
    return loss_under(masker.loss, mask, batch)


def test_the_promise():
    assert made().formula == "P(l1 <= 0.03) >= 0.90 for new images like the 40 calibration images (marginal)"
    told = CALIBRATION.described(Provenance(population="new tiles of these files"))
    assert made(calibration=told, confidence=0.8).formula == (
        "P(l1 <= 0.03) >= 0.80 for new tiles of these files, like the 40 calibration images (marginal)"
    )


def test_the_card_says_what_was_calibrated():
    masker = made(family="water_filling")
    card = masker.card
    assert (card.n_calibration, card.channels, card.sizes) == (40, 1, ((8, 8),))
    assert card.calibrated_on == tuple(sorted(pixel_hash(t.truth()) for t in CALIBRATION))
    assert card.exact
    assert card.family == {"name": "water_filling", "exponent": 1.0, "kappa": -0.25}
    assert card.lam == np.sort(masker.critical_lambdas)[3]
    assert made(distance=signed, selection=SELECTION).card.exact is False


@pytest.mark.parametrize("chosen", ["reciprocal", "water_filling"])
@pytest.mark.parametrize("wanted", ["l1", "l2"])
def test_calibration_images_but_three_keep_an_exact_threshold(wanted, chosen):
    threshold = 0.03 if wanted == "l1" else 0.002
    masker = made(threshold=threshold, distance=wanted, family=chosen, selection=SELECTION)
    own = next(CALIBRATION.batches(40))
    met = distances(masker, own) <= threshold * (1 + 1e-6)
    assert int((~met).sum()) == 3, "the fourth smallest critical lambda of 40 is deployed"
    mask = masker(own.x, own.y_hat)
    assert 0 < float(mask.mean()) < 1


def test_masks_are_the_family_at_lambda():
    masker = made(family="reciprocal")
    lam = masker.card.rule.lam
    expected = (lam / (Reciprocal().epsilon + TEST.x)).clamp(max=1)
    torch.testing.assert_close(masker(TEST.x, TEST.y_hat), expected, rtol=1e-5, atol=1e-6)


def test_other_promises_move_the_masks_as_they_should():
    size = {
        key: float(1 - made(threshold=key[0], confidence=key[1])(TEST.x, TEST.y_hat).mean())
        for key in ((0.03, 0.9), (0.05, 0.9), (0.03, 0.7))
    }
    assert size[0.05, 0.9] < size[0.03, 0.9]
    assert size[0.03, 0.7] < size[0.03, 0.9]


def test_nothing_is_masked_where_all_pass():
    masker = made(threshold=1.0)
    assert masker.card.rule.lam == math.inf
    assert (masker(TEST.x, TEST.y_hat) == 1).all()


def photographs(count, seed, size=40):
    """Images that look like something, (N, H, W): blurred noise, seen through noise and denoised."""
    generator = np.random.default_rng(seed)
    y = 0.5 + gaussian_filter(generator.normal(0, 0.6, (count, size, size)), (0, 2, 2))
    noise = generator.normal(0, 0.05, y.shape)
    return [image.clip(0, 1).astype(np.float32) for image in (y + noise, y + 0.3 * noise, y)]


def told(images, **more):
    """What a calibration on these warns of."""
    scorer = Heuristic(lambda x, y_hat: (x - y_hat).abs(), channels=1)
    asked = {name: more.pop(name) for name in ("selection", "guarantee") if name in more}
    with warnings.catch_warnings(record=True, action="always") as said:
        made(scorer, Triplets.from_arrays(*images, **more), **asked)
    return [str(each.message) for each in said]


def test_copies_within_the_calibration_set_are_warned_of():
    images = photographs(20, 0)
    assert told(images) == []
    turned = [np.concatenate([each, np.rot90(each[:3], 1, (1, 2))]) for each in images]
    (text,) = told(turned)
    assert text.startswith(
        "6 of 23 calibration images look like copies (saved again, rotated, scaled or slightly cropped) of"
    )
    brighter = [np.concatenate([each, (each[:1] + 0.01).clip(0, 1)]) for each in images]
    assert told(brighter)[0].startswith("2 of 21 calibration images look like copies")


def test_selection_images_that_are_nearly_calibration_images_are_warned_of():
    images, nearly = photographs(20, 0), photographs(20, 1)
    assert told(images, selection=Triplets.from_arrays(*nearly)) == []
    nearly = [
        np.concatenate([other, (own[:2] + 0.01).clip(0, 1)])
        for own, other in zip(images, nearly, strict=True)
    ]
    (text,) = told(images, selection=Triplets.from_arrays(*nearly))
    assert text.startswith(
        "2 of 20 calibration images, such as '00000', look like copies (saved again, rotated, scaled or "
        "slightly cropped) of images that are used for choices"
    )


def test_swapped_folders_are_asked_about_as_by_check():
    x, y_hat, y = photographs(20, 0)
    for roles in ([y_hat, x, y], [x, y, y_hat], [x, y_hat, y]):
        warned = check_triplets(Triplets.from_arrays(*roles), 9).warnings
        checked = [text for text in warned if "swapped?" in text]
        assert [text for text in told(roles) if "swapped?" in text] == checked
        assert len(checked) == (roles[2] is not y or roles[0] is not x)


def test_categories_that_are_spelt_in_two_ways_are_warned_of():
    (text,) = told(photographs(40, 0), categories=["a"] * 20 + ["A "] * 20, guarantee="categories")
    assert (
        text
        == "categories 'A ' and 'a' differ only in case or spaces: if they are the same category, spell them "
        "alike"
    )


def test_weights_on_another_scale_are_warned_of():
    weights = [0.5, 2.0] * 20
    labelled = Triplets.from_arrays(*arrays(40, 0), weights=weights)
    masker = made(SCORER, labelled, guarantee="weighted")
    assert masker.card.weights == (0.5, 2.0)
    with warnings.catch_warnings(action="error"):
        masker(TEST.x, TEST.y_hat, weight=[0.5, 2.0] * 6)
    with pytest.warns(
        UserWarning, match=r"a weight of 0\.05 is outside the range of the calibration weights, 0\.5 to 2"
    ):
        masker(TEST.x, TEST.y_hat, weight=[0.05, 0.2] * 6)


# arrays and tensors


def twelve_bits(count, seed, top=4095):
    return [np.round(image * top).astype(np.uint16) for image in arrays(count, seed)]


@pytest.mark.parametrize("channels", [1, 3])
def test_masks_have_no_axis_for_one_channel(channels):
    """Those of arrays and of triplets, so that numpy broadcasts them over the images of either alike."""
    images = triplets(40, 0, (8, 8), channels)
    of_all = Heuristic(lambda x, y_hat: x.mean(dim=1, keepdim=True), channels=channels)
    masker = calibrate(of_all, images, threshold=0.03, loss="l1")
    triplet = images[0]
    mask = masker(triplet)
    assert mask.shape == triplet.y_hat.shape[1:]
    np.testing.assert_array_equal(mask, masker(*(np.moveaxis(i, 0, -1) for i in (triplet.x, triplet.y_hat))))
    each = Heuristic(lambda x, y_hat: (x - y_hat).abs(), channels=channels, per_channel=True)
    of_channels = calibrate(each, images, threshold=0.03, loss="l1")(triplet)
    assert of_channels.shape == (triplet.y_hat.shape if channels > 1 else triplet.y_hat.shape[1:])


def test_arrays_are_read_in_the_range_of_the_calibration():
    """Whoever stated it: a uint16 array of 12 bits is not one of 16."""
    images = Triplets.from_arrays(*twelve_bits(40, 0), reading=Reading((0, 4095)))
    stated = made(SCORER, images)
    of_files = replace(stated, card=replace(stated.card, read=Reading()))
    assert of_files.card.range_of_x == of_files.card.range_of_y_hat == (0, 4095)
    x, y_hat, _ = twelve_bits(12, 2)
    expected = np.stack([stated(*pair) for pair in zip(x[..., 0], y_hat[..., 0], strict=True)])
    found = np.stack([of_files(*pair) for pair in zip(x[..., 0], y_hat[..., 0], strict=True)])
    np.testing.assert_array_equal(found, expected)
    unit = [of_files(*pair) for pair in zip(x[..., 0] / 4095, y_hat[..., 0] / 4095, strict=True)]
    np.testing.assert_allclose(np.stack(unit), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("top", "dtype", "refused"),
    [
        (4095, np.uint8, True),
        (4095, np.uint16, False),
        (4095, np.int16, False),
        (4095, np.int32, True),
        (255, np.uint16, True),
        (65535, np.uint16, False),
        (65535, np.int16, True),
    ],
)
def test_integers_of_another_type_are_refused(top, dtype, refused):
    masker = made(SCORER)
    masker = replace(masker, card=replace(masker.card, range_of_x=(0, top), range_of_y_hat=(0, top)))
    image = np.full((8, 8), 100, dtype)
    if refused:
        with pytest.raises(
            MismatchError, match=f"x contains {np.dtype(dtype)}, but .* 0 to {top}: give arrays"
        ):
            masker(image, image)
    else:
        assert masker(image, image).shape == (8, 8)


def test_integers_for_a_calibration_on_floats():
    masker, image = made(SCORER), np.full((8, 8), 100, np.uint8)
    assert masker(image, image).shape == (8, 8)
    with pytest.raises(MismatchError, match=r"x contains uint16, .* values from 0 to 1: give arrays"):
        masker(image.astype(np.uint16), image)


def test_arrays_in_arrays_out():
    masker = made()
    x, y_hat = TEST.x[0, 0].numpy(), TEST.y_hat[0, 0].numpy()
    expected = masker(TEST.x, TEST.y_hat)
    assert isinstance(expected, Tensor)
    assert expected.shape == (12, 1, 8, 8)
    for given in ((x, y_hat), (x[..., None], y_hat[..., None])):
        mask = masker(*given)
        assert isinstance(mask, np.ndarray)
        assert mask.shape == (8, 8)
        np.testing.assert_allclose(mask, expected[0, 0].numpy(), rtol=1e-6)
    with pytest.raises(InvalidArgumentError, match="both be tensors or both be arrays"):
        masker(TEST.x, y_hat)
    with pytest.raises(ImageError):
        masker(x, np.full_like(y_hat, np.nan))


@pytest.mark.parametrize("per_channel", [False, True])
def test_colour_arrays(per_channel):
    def of_colour(x, y_hat):
        return x.expand(-1, 3, -1, -1) * torch.tensor([0.5, 1, 2]).view(3, 1, 1) if per_channel else x

    scorer = Heuristic(of_colour, channels=3, per_channel=per_channel)
    masker = made(scorer, triplets(20, 3, (8, 9), 3), selection=triplets(10, 4, (8, 9), 3))
    x, y_hat, _ = arrays(1, 5, (8, 9), 3)
    mask = masker(x[0], y_hat[0])
    assert mask.shape == ((8, 9, 3) if per_channel else (8, 9))
    tensors = [torch.from_numpy(image[0].transpose(2, 0, 1))[None] for image in (x, y_hat)]
    expected = masker(*tensors)
    assert expected.shape == (1, 3 if per_channel else 1, 8, 9)
    np.testing.assert_allclose(np.atleast_3d(mask).transpose(2, 0, 1), expected[0].numpy(), rtol=1e-6)


def test_integers_are_mapped_by_their_type():
    masker = made()
    x, y_hat = ((TEST.x[0, 0] * 255).byte().numpy(), (TEST.y_hat[0, 0] * 255).byte().numpy())
    np.testing.assert_allclose(
        masker(x, y_hat), masker(x / np.float32(255), y_hat / np.float32(255)), rtol=1e-5
    )


def test_arrays_are_mapped_by_the_range_of_the_calibration(tmp_path):
    x, y_hat, y = ((image * 4095).round().astype(np.uint16) for image in arrays(20, 0))
    stated = Triplets.from_arrays(x, y_hat, y, data_range=(0, 4095))
    masker = made(SCORER, stated, selection=SELECTION)
    batch = next(stated.batches(20))
    expected = masker.masks(batch.x, batch.y_hat)[0, 0].numpy()
    np.testing.assert_allclose(masker(x[0], y_hat[0]), expected, rtol=1e-6)
    masker.save(tmp_path)
    np.testing.assert_allclose(load(tmp_path, scorer=SCORER)(x[0], y_hat[0]), expected, rtol=1e-6)


def test_tensors_and_arrays_follow_one_convention():
    x, y_hat, y = (2 * image - 1 for image in arrays(20, 0))
    masker = made(SCORER, Triplets.from_arrays(x, y_hat, y, data_range=(-1, 1)), selection=SELECTION)
    given = [torch.from_numpy(image[:1, None, ..., 0]) for image in (x, y_hat)]
    of_arrays = masker(x[0], y_hat[0])
    assert 0 < of_arrays.mean() < 1
    np.testing.assert_allclose(masker(*given)[0, 0].numpy(), of_arrays, rtol=1e-6)
    half = masker(*(image.half() for image in given))
    assert half.dtype == torch.float32
    np.testing.assert_allclose(half[0, 0].numpy(), of_arrays, atol=0.02)
    with pytest.raises(ImageError, match=r"y_hat has values outside \[-1, 1\]"):
        masker(given[0], given[1] - 1.5)
    with pytest.raises(ImageError, match=r"x is a tensor of torch.uint8: give floats"):
        masker(*(image.byte() for image in given))


@pytest.mark.parametrize(
    ("threshold", "over", "asked"),
    [
        (1.0, "wrong", r"threshold 1: wrong\(l1 > 0.1\) .* never exceeds it, so nothing is hidden$"),
        (1e-9, None, "threshold 1e-09: l1 .* less than 1e-06 only where pixels are equal"),
    ],
)
def test_thresholds_that_cannot_be_meant_are_asked_about(threshold, over, asked):
    tolerance = None if over is None else 0.1
    with pytest.warns(UserWarning, match=asked):
        masker = made(threshold=threshold, over=over, tolerance=tolerance, selection=SELECTION)
    if over is None:
        sane = made(threshold=0.03)
        with pytest.warns(UserWarning, match=asked):
            sane.recalibrate(threshold=threshold)
    assert masker.card.threshold == threshold


@pytest.mark.parametrize(
    ("threshold", "values", "said"),
    [
        (5, None, "nothing would be hidden: give a share, such as 0.05 or 5%; 5 of 255 is 0.0196"),
        (682, (0, 65535), "5%; 682 of 65535 is 0.0104"),
        (70000, (0, 65535), "such as 0.05 or 5%"),
    ],
)
def test_a_threshold_that_no_loss_reaches_is_refused_before_anything_is_scored(threshold, values, said):
    def never(x, y_hat):
        raise AssertionError("scored")

    x, y_hat, y = (image * (1 if values is None else values[1]) for image in arrays(20, 0))
    images = Triplets.from_arrays(x, y_hat, y, data_range=values)
    with pytest.raises(InvalidArgumentError, match=f"threshold {threshold:g}: .*{re.escape(said)}$"):
        made(Heuristic(never, 1), images, threshold=threshold)
    with pytest.raises(InvalidArgumentError, match=f"threshold {threshold:g}: .*{re.escape(said)}$"):
        made(SCORER, images).recalibrate(threshold=threshold)


def test_thresholds_that_can_be_meant_are_not():
    with warnings.catch_warnings(action="error"):
        made(threshold=0.03)
        made(threshold=0.9)


@pytest.mark.parametrize("scorer", [SCORER, KNOWING])
@pytest.mark.parametrize("threshold", [0.03, 0.9])
def test_the_hidden_share_is_that_of_the_calibration_images(scorer, threshold):
    """To the next point of the grid of curves."""
    masker = made(scorer, triplets(32, 0), threshold)
    for each in (masker, masker.recalibrate(threshold=min(2 * threshold, 1))):
        hidden = np.mean([1 - each(image).mean() for image in triplets(32, 0)])
        assert each.card.hidden == pytest.approx(hidden, abs=0.02)


def test_a_triplet_has_its_weight_and_category():
    x, y_hat, y = arrays(40, 0)
    known = Triplets.from_arrays(x, y_hat, y, categories=["a", "b"] * 20)
    masker = made(SCORER, known, guarantee="categories", confidence=0.8, selection=SELECTION)
    expected = masker(x[1], y_hat[1], category=["b"])
    np.testing.assert_array_equal(masker(known[1]), expected)


def test_x_is_read_by_its_own_range(tmp_path):
    x, y_hat, y = arrays(20, 0)
    counts = 1000 * x + 100
    stated = Triplets.from_arrays(counts, y_hat, y, reading=Reading(x_range=(100, 1100)))
    made(SCORER, stated, selection=SELECTION).save(tmp_path)
    masker = load(tmp_path, scorer=SCORER)
    expected = made(SCORER, Triplets.from_arrays(x, y_hat, y), selection=SELECTION)(x[0], y_hat[0])
    np.testing.assert_allclose(masker(counts[0], y_hat[0]), expected, rtol=1e-4)
    tensors = [torch.from_numpy(image[:1, None, ..., 0]) for image in (counts, y_hat)]
    np.testing.assert_allclose(masker(*tensors)[0, 0].numpy(), expected, rtol=1e-4)
    with pytest.raises(ImageError, match=r"x has values outside \[100, 1100\]"):
        masker(tensors[0] + 1000, tensors[1])


def test_the_mask_of_an_image_does_not_depend_on_the_others():
    for chosen in ("reciprocal", "water_filling"):
        masker = made(family=chosen)
        alone = torch.cat([masker(TEST.x[k : k + 1], TEST.y_hat[k : k + 1]) for k in range(12)])
        torch.testing.assert_close(masker(TEST.x, TEST.y_hat), alone)


@pytest.mark.parametrize("bad", [math.nan, -0.5, math.inf])
@pytest.mark.parametrize("guarantee", ["marginal", "adaptive"])
def test_an_image_with_one_pixel_that_has_no_score(bad, guarantee):
    def broken(x, y_hat):
        return x.index_put((torch.tensor([5]), *(torch.tensor([0]),) * 3), torch.tensor(bad))

    for chosen in ("reciprocal", "water_filling"):
        masker = replace(made(family=chosen, guarantee=guarantee), scorer=Heuristic(broken, channels=1))
        with pytest.raises(ImageError, match=r"image 5.*negative, NaN or infinite"):
            masker(TEST.x, TEST.y_hat)


def test_a_score_of_another_number_of_images_or_with_features_that_are_none():
    class WithFeatures(Heuristic):
        def __call__(self, x, y_hat):
            return Score(x, x.flatten(1)[:, :2] / 0)

    with pytest.raises(ImageError, match="negative, NaN or infinite"):
        score_of(WithFeatures(scale_of, channels=1), TEST.x, TEST.y_hat)
    with pytest.raises(ImageError, match=r"has shape \(1, 1, 8, 8\)"):
        score_of(Heuristic(lambda x, y_hat: x[:1], channels=1), TEST.x, TEST.y_hat)


def test_another_size_is_warned_about():
    masker = made()
    with pytest.warns(UserWarning, match=r"6 x 7 pixels: the promise covers only images of"):
        mask = masker(torch.rand(1, 1, 6, 7), torch.rand(1, 1, 6, 7))
    assert mask.shape == (1, 1, 6, 7)
    with pytest.raises(MismatchError, match="1 channel, not 3"):
        masker(TEST.x, TEST.y_hat.expand(-1, 3, -1, -1))


# saving, loading, recalibrating


@pytest.mark.parametrize("chosen", ["reciprocal", "water_filling"])
def test_saved_and_loaded(tmp_path, chosen):
    masker = made(family=chosen)
    masker.save(tmp_path / "masker")
    names = {path.name.split("-")[0] for path in (tmp_path / "masker").glob("[!.]*")}
    assert names == {
        "CARD.md",
        "calibration.json",
        "critical",
        "curves",
        "probe",
        "scorer.json",
        "selection.npz",
    }
    again = load(str(tmp_path / "masker"), scorer=SCORER)
    assert torch.equal(again(TEST.x, TEST.y_hat), masker(TEST.x, TEST.y_hat))
    assert again.sentence == masker.sentence
    assert again.card == masker.card
    np.testing.assert_array_equal(again.critical_lambdas, masker.critical_lambdas)
    np.testing.assert_array_equal(again.stored_curves().loss, masker.stored_curves().loss)
    one, other = again.recalibrate(threshold=0.05), masker.recalibrate(threshold=0.05)
    assert torch.equal(one(TEST.x, TEST.y_hat), other(TEST.x, TEST.y_hat))


def test_an_infinite_lambda_survives(tmp_path):
    made(threshold=1.0).save(tmp_path)
    assert json.loads((tmp_path / "calibration.json").read_text())["rule"]["lam"] == "inf"
    assert (load(tmp_path, scorer=SCORER)(TEST.x, TEST.y_hat) == 1).all()


def test_what_load_refuses(tmp_path):
    with pytest.raises(MissingFileError):
        load(tmp_path)
    made().save(tmp_path / "l1")
    with pytest.raises(MismatchError, match="scorer="):
        load(tmp_path / "l1")
    with pytest.raises(MismatchError, match="'l1', not 'ssim'"):
        load(tmp_path / "l1", scorer=SCORER, loss=loss_by_name("ssim"))
    made(distance=signed, selection=SELECTION).save(tmp_path / "own")
    with pytest.raises(MismatchError, match=r"'signed'.*loss="):
        load(tmp_path / "own", scorer=SCORER)
    again = load(tmp_path / "own", scorer=SCORER, loss=signed)
    assert again.loss.loss.name == "signed"


@pytest.mark.parametrize("file", ["calibration.json", "scorer.json"])
def test_a_newer_schema_is_refused(tmp_path, file):
    made().save(tmp_path)
    record = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**record, "schema": 99}))
    read = {
        "calibration.json": lambda: load(tmp_path, scorer=SCORER),
        "scorer.json": lambda: made().save(tmp_path),
    }
    with pytest.raises(MismatchError, match=r"schema 99.*upgrade"):
        read[file]()


@pytest.mark.parametrize("file", ["curves-*.npz", "critical-*.npz", "scorer.json", "selection.npz"])
def test_a_file_of_another_masker_is_refused(tmp_path, file):
    made().save(tmp_path / "own")
    (path,) = (tmp_path / "own").glob(file)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(MismatchError, match=rf"{path.name} is damaged, or is not the file that was written"):
        load(tmp_path / "own", scorer=SCORER)
    path.unlink()
    with pytest.raises(MismatchError, match=rf"{path.name} is damaged, or is not the file"):
        load(tmp_path / "own", scorer=SCORER)


def test_the_promise_of_another_masker_is_refused(tmp_path):
    made().save(tmp_path / "own")
    made(calibration=triplets(40, 9)).save(tmp_path / "other")
    path = tmp_path / "own" / "calibration.json"
    text = path.read_text()
    path.write_bytes((tmp_path / "other" / path.name).read_bytes())
    with pytest.raises(MismatchError, match=r"npz is damaged, or is not the file"):
        load(tmp_path / "own", scorer=SCORER)
    path.write_text(text.replace('"threshold": 0.03', '"threshold": 0.02'))
    with pytest.raises(MismatchError, match=r"calibration\.json is damaged, or is not the file"):
        load(tmp_path / "own", scorer=SCORER)


@pytest.mark.parametrize("lost", ["seal", "files"])
def test_a_masker_without_its_seal_is_refused(tmp_path, lost):
    made().save(tmp_path)
    path = tmp_path / "calibration.json"
    record = json.loads(path.read_text())
    del record[lost]
    path.write_text(json.dumps(record))
    with pytest.raises(MismatchError, match=r"calibration\.json is damaged, or is not the file"):
        load(tmp_path, scorer=SCORER)


def as_0_1(folder):
    """Rewrite a saved masker as conformask 0.1 wrote it."""
    path = folder / "calibration.json"
    record = json.loads(path.read_text())
    arrays = {}
    for file in (*folder.glob("curves-*.npz"), *folder.glob("critical-*.npz")):
        arrays |= read_arrays(file)
        file.unlink()
    write_arrays(folder / "curves.npz", arrays)
    later = ("seal", "files", "fingerprint")
    path.write_text(json.dumps({key: v for key, v in record.items() if key not in later} | {"schema": 1}))
    names = ("calibration.json", "curves.npz", "scorer.json")
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / "checksums.json").write_text(json.dumps({"schema": 1, "sha256": sums}))


def test_a_masker_of_0_1(tmp_path):
    masker = made().save(tmp_path)
    as_0_1(tmp_path)
    again = load(tmp_path, scorer=SCORER)
    assert (again.card, again.fingerprint) == (masker.card, masker.fingerprint)
    (tmp_path / "curves.npz").write_bytes((tmp_path / "curves.npz").read_bytes()[:-1] + b"?")
    with pytest.raises(MismatchError, match=r"curves\.npz is damaged, or is not the file"):
        load(tmp_path, scorer=SCORER)


def test_a_masker_of_0_1_without_checksums_says_so_until_it_is_sealed(tmp_path):
    made().save(tmp_path)
    as_0_1(tmp_path)
    (tmp_path / "checksums.json").unlink()
    with pytest.warns(UserWarning, match="without checksums"):
        masker = load(tmp_path, scorer=SCORER)
    masker.save(tmp_path)
    with warnings.catch_warnings(action="error"):
        assert load(tmp_path, scorer=SCORER).fingerprint == masker.fingerprint


def test_another_scorer_in_the_folder_is_left_alone(tmp_path):
    def other(x, y_hat):
        return (y_hat - 0.5).abs()

    made().save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(MismatchError, match="another scorer"):
        made(scorer=Heuristic(other, channels=1), distance="l1", threshold=0.03).save(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_second_calibration_on_the_same_images_is_exploratory(tmp_path):
    assert not made().save(tmp_path).card.exploratory
    assert not made().save(tmp_path).card.exploratory
    assert made(threshold=0.04).save(tmp_path).card.exploratory
    assert load(tmp_path, scorer=SCORER).card.exploratory
    assert made().save(tmp_path).card.exploratory
    assert not made(calibration=triplets(40, 9), threshold=0.05).save(tmp_path).card.exploratory


@pytest.mark.parametrize(
    "other",
    [
        {"threshold": 0.04},
        {"confidence": 0.8},
        {"family": "water_filling"},
        {"guarantee": "pac", "confidence": 0.8},
        {"distance": "l2"},
        {"over": "masked_window", "window": 3},
        {"over": "missed", "tolerance": 0.05},
        {"calibration": CALIBRATION.select(range(36))},
    ],
    ids=str,
)
def test_whatever_is_chosen_again_is_exploratory(other, tmp_path):
    made(SCORER).save(tmp_path)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # nearly everything is hidden
        assert made(SCORER, **other).save(tmp_path).card.exploratory


@pytest.mark.parametrize(
    ("over", "term", "values"), [("masked_window", "window", (3, 5)), ("missed", "tolerance", (0.05, 0.1))]
)
def test_another_window_or_tolerance_is_exploratory(over, term, values, tmp_path):
    before, after = (made(SCORER, over=over, **{term: value}) for value in values)
    assert not before.save(tmp_path).card.exploratory
    assert not before.save(tmp_path).card.exploratory
    assert after.save(tmp_path).card.exploratory


def test_another_region_is_exploratory(tmp_path):
    region = np.ones((40, 8, 8), np.float32)
    region[:, :2] = 0
    made(SCORER).save(tmp_path)
    assert made(SCORER, Triplets.from_arrays(*arrays(40, 0), regions=region)).save(tmp_path).card.exploratory


def test_more_images_are_no_choice_of_images(tmp_path):
    made(SCORER, CALIBRATION.select(range(36))).save(tmp_path)
    assert not made(SCORER).save(tmp_path).card.exploratory


def test_the_fingerprint_is_that_of_the_whole_masker(tmp_path):
    masker = made()
    others = [made(threshold=0.04), made(calibration=triplets(40, 9)), made(family="water_filling")]
    assert len({masker.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert re.fullmatch(r"[0-9a-f]{4}(-[0-9a-f]{4}){3}", masker.fingerprint)
    masker.save(tmp_path)
    assert load(tmp_path, scorer=SCORER).fingerprint == masker.fingerprint
    assert masker.fingerprint in (tmp_path / "CARD.md").read_text()


def test_the_card_for_people(tmp_path):
    masker = made(calibration=CALIBRATION.described(Provenance(population="new tiles of these files")))
    masker.save(tmp_path)
    text = (tmp_path / "CARD.md").read_text()
    assert f"**{masker.sentence}**" in text
    for told in (
        "L1, 0.03, that is 3 % of the range, confidence 0.9",
        "| guarantee | marginal |",
        "8 x 8 pixels",
        "40: new tiles",
    ):
        assert told in text
    assert "exploratory" not in text
    masker.recalibrate(threshold=0.05).save(tmp_path)
    assert (
        "after a calibration on the same images, so it is exploratory" in (tmp_path / "CARD.md").read_text()
    )


def test_a_broken_file_is_refused(tmp_path):
    made().save(tmp_path)
    text = (tmp_path / "calibration.json").read_text()
    (tmp_path / "calibration.json").write_text(text[: len(text) // 2])
    with pytest.raises(MismatchError, match=r"calibration\.json is not"):
        load(tmp_path, scorer=SCORER)


@pytest.mark.parametrize("chosen", ["reciprocal", "water_filling"])
def test_recalibration_is_conservative(chosen):
    masker = made(family=chosen)
    for threshold in (0.02, 0.031, 0.06):
        for confidence in (0.7, 0.9):
            exact = made(threshold=threshold, confidence=confidence, family=chosen)
            read = masker.recalibrate(threshold=threshold, confidence=confidence)
            lam, best = read.card.rule.lam, exact.card.rule.lam
            assert not read.card.exact
            step = masker.stored_curves().grid[2] / masker.stored_curves().grid[1]
            assert best / step * (1 - 1e-6) <= lam <= best * (1 + 1e-6) or lam == best == math.inf
            assert (read(TEST.x, TEST.y_hat) <= exact(TEST.x, TEST.y_hat) + 1e-6).all()
            assert (read.card.threshold, read.card.promise.confidence) == (threshold, confidence)
    assert masker.card.threshold == 0.03, "the masker itself changed"


def test_recalibration_on_a_grid_is_what_calibration_gives():
    for wanted in (signed,):
        masker = made(distance=wanted, selection=SELECTION, threshold=0.004)
        other = made(distance=wanted, selection=SELECTION, threshold=0.01, confidence=0.8)
        read = masker.recalibrate(threshold=0.01, confidence=0.8)
        assert read.card.rule == other.card.rule
        assert read.rule.lam in masker.stored_curves().grid


@UNTYPED
def test_what_recalibration_refuses():
    masker = made()
    with pytest.raises(InvalidArgumentError, match="above 0"):
        masker.recalibrate(threshold=0.0)
    with pytest.raises(InvalidArgumentError, match="between 0 and 1"):
        masker.recalibrate(confidence=1.0)
    with pytest.raises(InvalidArgumentError, match="'pacc' is unknown"):
        masker.recalibrate(promise="pacc")
    with pytest.raises(CalibrationError, match=r"40 images are too few for confidence 0\.99.*at least 99"):
        masker.recalibrate(confidence=0.99)
    with pytest.raises(MismatchError, match="an earlier version of conformask"):
        replace(made(SCORER), curves=None).recalibrate(threshold=0.05)


# refusals


def refused(error, message, **settings):
    with pytest.raises(error, match=message):
        made(**settings)


def test_too_few_images():
    refused(
        CalibrationError, "8 images are too few for confidence 0.9.*at least 9", calibration=triplets(8, 0)
    )
    made(calibration=triplets(9, 0))
    refused(CalibrationError, "40 images.*0.99.*at least 99", confidence=0.99)


def test_images_that_were_learnt_from():
    leaked = frozenset([pixel_hash(CALIBRATION[7].truth()), pixel_hash(CALIBRATION[9].truth()), "0"])
    refused(CalibrationError, "2 of 40 calibration images", scorer=replace(KNOWING, trained_on=leaked))
    made(replace(KNOWING, trained_on=frozenset([pixel_hash(SELECTION[0].truth())])))
    refused(CalibrationError, "2 of 40", scorer=SCORER, selection=CALIBRATION.select([3, 5]))


def test_groups_that_were_learnt_from():
    grouped = triplets(20, 0, groups=[f"patient {k}" for k in range(20)])
    learnt = frozenset([hash_of_group("patient 3")])
    refused(
        CalibrationError,
        r"1 of 20 calibration images .* One of them, recognised by its pixels or its group, is '00003'",
        scorer=replace(KNOWING, trained_on=learnt),
        calibration=grouped,
    )
    unnamed = replace(KNOWING, trained_on=frozenset([hash_of_group("00003")]))
    made(unnamed), "names of images are no groups"
    selection = triplets(10, 1, groups=[f"patient {k + 15}" for k in range(10)])
    refused(CalibrationError, "5 of 20", scorer=SCORER, calibration=grouped, selection=selection)


def test_groups_stay_unnamed_on_disk(tmp_path):
    grouped = triplets(20, 0, groups=[f"patient {k}" for k in range(20)])
    made(calibration=grouped).save(tmp_path)
    assert "patient" not in (tmp_path / "calibration.json").read_text()


def test_two_calibration_images_of_one_truth():
    x, y_hat, y = arrays(20, 0)
    y[7], y_hat[7] = y[3], y_hat[3] + np.float32(1e-3)
    twice = Triplets.from_arrays(x, y_hat.clip(0, 1), y)
    refused(CalibrationError, "'00003' and '00007' have the same truth", calibration=twice)
    groups = [f"field {3 if k == 7 else k}" for k in range(20)]
    made(calibration=Triplets.from_arrays(x, y_hat.clip(0, 1), y, groups=groups), guarantee="groups")
    y[7] = y[3] = 0.5
    made(calibration=Triplets.from_arrays(x, y_hat.clip(0, 1), y))


def test_copies_of_training_images_are_warned_about():
    x, y_hat, y = arrays(20, 0, (32, 32))
    learnt = scan(Triplets.from_arrays(x[:5], y_hat[:5], y[:5, ::-1] * 0.9))

    class Trained(Heuristic):
        perceptual_hashes = learnt.perceptual_hashes

    with pytest.warns(UserWarning, match=r"5 of 20 calibration images, such as '00000', look like copies"):
        made(Trained(scale_of, channels=1), Triplets.from_arrays(x, y_hat, y))


def test_images_that_the_predictor_learnt_from():
    told = Provenance(trained_on=(pixel_hash(CALIBRATION[7].truth()),))
    refused(CalibrationError, "1 of 40 calibration images", calibration=CALIBRATION.described(told))


def test_constant_images_are_no_leak():
    x, y_hat, y = arrays(20, 0)
    y[3] = 0.5
    constant = frozenset([pixel_hash(y[3].transpose(2, 0, 1))])
    made(replace(KNOWING, trained_on=constant), Triplets.from_arrays(x, y_hat, y))


def test_groups_of_several_images():
    grouped = triplets(40, 0, groups=[f"patient {k // 2}" for k in range(40)])
    refused(CalibrationError, "40 images in 20 groups are dependent", calibration=grouped)
    made(calibration=triplets(40, 0, groups=[f"patient {k}" for k in range(40)]))


def test_other_channels_or_sizes():
    refused(MismatchError, "y_hat with 1 channels, but these have 3", calibration=triplets(20, 0, (8, 8), 3))

    class Trained(Heuristic):
        sizes = ((16, 16),)

    refused(MismatchError, "trained on images of 16 x 16 pixels", scorer=Trained(scale_of, channels=1))


def test_another_distance():
    class Fitted(Heuristic):
        loss = loss_by_name("l1")

    scorer = Fitted(scale_of, channels=1)
    assert made(scorer, distance="l2", threshold=0.003).card.loss.of == "l2", "any score keeps any promise"
    assert made(scorer, distance=None).card.loss.of == "l1"
    refused(InvalidArgumentError, "fitted for no loss: pass loss=", scorer=SCORER, distance=None)
    assert made(distance=None).card.loss.of == "l1", "that of the selection images which it keeps"
    refused(InvalidArgumentError, "did you mean 'ssim'", distance="sim")


@pytest.mark.parametrize(
    "threshold", [0.0, -0.1, math.nan, math.inf, "0", "-1", "q0", "q1.5", "qq", "soon", ""]
)
def test_thresholds_that_are_none(threshold):
    refused(InvalidArgumentError, "threshold.*distance above 0", threshold=threshold)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.5, 90.0, math.nan])
def test_confidences_that_are_none(confidence):
    refused(InvalidArgumentError, "confidence.*between 0 and 1", confidence=confidence)


@UNTYPED
def test_names_that_are_unknown():
    refused(InvalidArgumentError, "did you mean 'reciprocal'", family="reciprocol")
    refused(InvalidArgumentError, "did you mean 'marginal'", guarantee="margin")


def test_quantile_thresholds():
    refused(InvalidArgumentError, "selection=", scorer=SCORER, threshold="q0.1")
    expected = float(np.quantile([np.abs(t.truth() - t.y_hat).mean() for t in SELECTION], 0.1))
    assert made(threshold="q0.1").card.threshold == pytest.approx(expected, rel=1e-5)
    assert made(SCORER, threshold="q0.1", selection=SELECTION).card.threshold == pytest.approx(
        expected, rel=1e-5
    )
    assert made(threshold="0.05").card.threshold == 0.05


def test_a_quantile_that_is_0_is_no_threshold():
    missed = {"over": "missed", "tolerance": 0.99, "threshold": "q0.1"}
    reason = f"this quantile of the losses without a mask of the {len(SELECTION)} selection images is 0"
    refused(InvalidArgumentError, reason, scorer=SCORER, selection=SELECTION, **missed)


def test_a_grid_is_needed_where_there_is_no_exact_solution():
    refused(
        InvalidArgumentError,
        "'signed' needs selection images .* but there are none: pass selection=",
        scorer=SCORER,
        distance=signed,
    )
    masker = made(SCORER)
    assert masker.card.exact
    assert masker.card.own_grid
    with pytest.raises(InvalidArgumentError, match="'rcps' needs a grid from selection images"):
        masker.recalibrate(promise="rcps", threshold=0.1)
    assert not made().card.own_grid


@pytest.mark.thorough
@pytest.mark.parametrize("guarantee", ["marginal", "pac"])
def test_a_grid_of_a_few_calibration_images_leaves_coverage_as_promised(guarantee):
    """Recalibrated on it: at least the promise, and hardly more than the exact lambda gives."""
    terms = {"guarantee": guarantee, "confidence": 0.8} | ({"delta": 0.1} if guarantee == "pac" else {})
    exact, on_grid = [], []
    new = next(triplets(400, 999).batches(400))
    for seed in range(40):
        first = made(SCORER, triplets(40, seed + 1000), threshold=0.05, **terms)
        direct = made(SCORER, triplets(40, seed + 1000), threshold=0.03, **terms)
        again = first.recalibrate(threshold=0.03)
        assert not again.card.exact
        assert again.card.rule.lam <= direct.card.rule.lam
        for masker, shares in ((direct, exact), (again, on_grid)):
            error = masker.masks(new.x, new.y_hat) * (new.y - new.y_hat).abs()
            shares.append(float((error.mean((1, 2, 3)) <= 0.03 * (1 + 1e-6)).float().mean()))
    if guarantee == "marginal":
        assert np.mean(on_grid) >= 0.8 - 0.02
    else:
        assert np.mean(np.array(on_grid) < 0.8 - 0.04) <= 0.15
    assert np.mean(on_grid) - np.mean(exact) < 0.03


def test_a_threshold_that_no_mask_meets():
    """The theorem hides everything: to refuse would leave the promise to lucky calibration sets."""
    told = "the promise is kept only by hiding every image completely: 100% of the 40 "
    with pytest.warns(UserWarning, match=told):
        masker = made(distance=far, selection=SELECTION, threshold=0.5)
    assert not masker(TEST.x, TEST.y_hat).any()
    assert masker.card.hides == "every image"
    assert masker.formula.endswith("(marginal), kept only by hiding every image completely")
    assert "- Only hiding every image completely" in card_text(masker.card, "scale", "", None)
    assert masker.recalibrate(threshold=2.0).card.hides is None
    assert made().recalibrate(threshold=1e-12).card.hides == "every calibration image"
    assert made(family="reciprocal").recalibrate(threshold=1e-12).card.hides == "every image"


def test_a_category_that_no_mask_saves():
    x, y_hat, y = arrays(40, 0)
    y[:20] = y_hat[:20]
    labelled = Triplets.from_arrays(x, y_hat, y, categories=["easy"] * 20 + ["hard"] * 20)
    with pytest.warns(UserWarning, match="only by hiding every image of category hard completely: 50% of"):
        masker = made(SCORER, labelled, 0.5, far, guarantee="categories", selection=SELECTION)
    assert masker.card.hides == "every image of category hard"
    masks = masker(TEST.x, TEST.y_hat, category=["easy", "hard"] * 6)
    assert masks[::2].all()
    assert not masks[1::2].any()


def test_near_a_threshold_that_no_mask_meets():
    """Of 40 sets of images of which 2 fail, the third smallest but one is deployed: P(Bin(40, .05) >= 4)."""
    x, y_hat, y = arrays(40, 0)
    y[2:] = y_hat[2:]
    chance = stats.binom.sf(3, 40, 0.05)
    assert chance == pytest.approx(0.138, abs=5e-4)
    with pytest.warns(UserWarning, match="5% of the 40 calibration images exceed .* about 14% of such"):
        made(SCORER, Triplets.from_arrays(x, y_hat, y), 0.5, far, selection=SELECTION)
    y[1:] = y_hat[1:]
    with warnings.catch_warnings(action="error"):
        made(SCORER, Triplets.from_arrays(x, y_hat, y), 0.5, far, selection=SELECTION)


def test_unknown_truth():
    x, y_hat, _ = arrays(20, 0)
    refused(InvalidArgumentError, "no y", calibration=Triplets.from_arrays(x, y_hat))


def test_threshold_choices():
    class Fitted(Heuristic):
        loss = loss_by_name("l1")

    with pytest.raises(InvalidArgumentError, match="keeps no selection"):
        threshold_choices(Fitted(scale_of, channels=1))
    choices = threshold_choices(Fitted(scale_of, channels=1, selection=KEPT))
    assert [c.threshold for c in choices] == sorted({c.threshold for c in choices})
    for choice in choices:
        assert choice.pass_rate == pytest.approx(float((KEPT.unmasked_loss <= choice.threshold).mean()))
    sizes = [c.mask_size for c in choices]
    assert sizes == sorted(sizes, reverse=True)
    assert 0 <= sizes[-1] < sizes[0] < 1
    with pytest.raises(CalibrationError, match="30 images are too few"):
        threshold_choices(Fitted(scale_of, channels=1, selection=KEPT), promise=Promise(confidence=0.99))


def test_threshold_choices_of_a_masker_with_few_selection_images():
    """After `look`, which keeps a handful, its calibration images are used, as exploratory."""
    few = selection_record(SCORER, triplets(5, 3), loss_by_name("l1"), [family_by_name("binary")])
    masker = made(replace(SCORER, selection=few), triplets(40, 0), family="binary", confidence=0.9)
    choices = threshold_choices(masker)
    assert {choice.exploratory for choice in choices} == {True}
    recalibrated = masker.recalibrate(threshold=choices[3].threshold)
    assert recalibrated.card.hidden == pytest.approx(choices[3].mask_size)
    unmasked = masker.curves.loss[:, -1]
    assert choices[3].pass_rate == pytest.approx(float((unmasked <= choices[3].threshold).mean()))
    with pytest.raises(InvalidArgumentError, match="leave them out"):
        threshold_choices(masker, loss="l1")
    enough = made(replace(SCORER, selection=KEPT), triplets(40, 0), confidence=0.9)
    assert {choice.exploratory for choice in threshold_choices(enough)} == {False}


# the promise itself


def coarse(used, family):
    """A grid of every eighth point, for speed."""
    kept = selection_record(SCORER, triplets(30, 999), used, [family])
    curves = kept.curves[family.name]
    points = [*range(0, len(curves.grid) - 1, 8), len(curves.grid) - 1]
    fewer = replace(
        curves, grid=curves.grid[points], loss=curves.loss[:, points], size=curves.size[:, points]
    )
    return replace(kept, curves={family.name: fewer})


def coverage(wanted, threshold, family, cheat, draws=300, n=20):
    """P(d_m <= threshold) of deployed maskers, each of its own calibration set; and sigma of the mean.

    cheat multiplies the deployed lambda, to see that the simulation tells.
    """
    used = loss_by_name(wanted)
    tested = 8
    scorer = SCORER if used.traits.exponent is not None else replace(SCORER, selection=coarse(used, family))
    met = []
    for draw in simulated(draws):
        x, y_hat, y = arrays(n + tested, 1000 + draw)
        calibration = Triplets.from_arrays(x[:n], y_hat[:n], y[:n])
        masker = calibrate(scorer, calibration, threshold=threshold, loss=used, family=family)
        masker = replace(masker, rule=replace(masker.rule, lam=cheat * masker.rule.lam))
        new = [torch.from_numpy(image[n:].transpose(0, 3, 1, 2)) for image in (x, y_hat, y)]
        mask = masker(*new[:2])
        losses = used.on(new[2], new[1], None, 1).of(mask)
        met.append(float((losses <= threshold * (1 + 1e-6)).double().mean()))
    return float(np.mean(met)), float(np.std(met) / math.sqrt(draws))


@pytest.mark.thorough
@pytest.mark.parametrize("draws", [60, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("wanted", "threshold", "family"),
    [
        ("l1", 0.03, family_by_name("water_filling")),
        ("l1", 0.03, family_by_name("reciprocal")),
        (signed, 0.005, family_by_name("reciprocal")),
    ],
    ids=["l1 water_filling", "l1 reciprocal", "not monotone"],
)
def test_the_promise_is_kept(wanted, threshold, family, draws):
    """Deployed masks of calibration sets of 20 on 8 new images each; 4 sigma are allowed."""
    mean, sigma = coverage(wanted, threshold, family, cheat=1.0, draws=draws)
    assert sigma < 0.01 * math.sqrt(300 / draws)
    assert mean >= 0.9 - 4 * sigma
    if wanted == "l1":
        assert mean <= 0.9 + 1 / 21 + 4 * sigma


@pytest.mark.thorough
def test_the_simulation_tells_a_lambda_that_is_too_large():
    mean, sigma = coverage("l1", 0.03, family_by_name("reciprocal"), cheat=1.3, draws=60)
    assert mean < 0.9 - 4 * sigma


@pytest.mark.parametrize("bad", [-0.5, 1.5, math.nan])
@pytest.mark.parametrize("role", ["x", "y_hat"])
def test_tensors_outside_the_unit_range_get_no_masks(role, bad):
    """Masker.masks takes them as they are; no range of the calibration maps them."""
    images = {"x": TEST.x, "y_hat": TEST.y_hat}
    images[role] = images[role].clone()
    images[role][3, 0, 2, 5] = bad
    with pytest.raises(ImageError, match=rf"^{role} has values outside \[0, 1\], or NaN"):
        made().masks(**images)
