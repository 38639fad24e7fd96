"""Images that are far outside of the calibration's, values that were clipped, and arrays of other axes."""

import csv
import warnings
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import torch

import conformask as cm
from conformask.errors import MismatchError
from conformask.masker.admission import outliers
from conformask.masker.write import write_masks
from conformask.promises.order import Curves
from conformask.records.extent import REGION
from conformask.testing import small_masker, small_triplets

FAR = "far outside of the calibration images"


def images(count, seed, gain=1.0, noise=0.08, side=24, **more):
    """Smooth scenes of various brightness, with noise, and their mean over three rows."""
    generator = np.random.default_rng(seed)
    waves = np.sin(np.arange(side) / 4 + generator.uniform(0, 6, (count, side, 1)))
    y = generator.lognormal(-1.5, 0.3, (count, 1, 1)) * (1 + 0.5 * waves)
    x = y + noise * generator.standard_normal(y.shape)
    y_hat = (x + np.roll(x, 1, axis=1) + np.roll(x, -1, axis=1)) / 3
    stored = [(gain * image).clip(0, 1).astype(np.float32) for image in (x, y_hat, y)]
    return cm.Triplets.from_arrays(*stored, **more)


@pytest.fixture(scope="module")
def masker():
    return cm.calibrate(cm.Heuristic(cm.residual, channels=1), images(100, 0), threshold=0.03, loss="l1")


def warned(mask, *given):
    with warnings.catch_warnings(record=True, action="always") as caught:
        mask(*given)
    inside = Path(cm.__file__).parent
    assert not [each for each in caught if FAR in str(each.message) and inside in Path(each.filename).parents]
    return [str(warning.message) for warning in caught]


@pytest.mark.thorough
def test_images_like_the_calibration_images_are_hardly_ever_called_far(masker):
    called = [bool(warned(masker, triplet.x[0], triplet.y_hat[0])) for triplet in images(300, 1)]
    assert np.mean(called) <= 0.02


@pytest.mark.parametrize(("width", "margin"), [(0.0, np.log(2) / 2), (0.2, np.log(2) / 2), (4.0, 2.0)])
@pytest.mark.parametrize("end", ["low", "high"])
def test_far_is_half_of_the_range_and_at_least_a_factor_of_the_root_of_two(width, margin, end):
    """Features are logarithms; narrow ranges count as a factor of two, since all may be equally bright."""
    past = np.zeros((2, 3))
    past[1] = width
    beyond = np.full((2, 3), width / 2)
    distances = np.array([0.99, 1.01]) * margin
    beyond[:, 1] = -distances if end == "low" else width + distances
    none = np.zeros((2, 2))
    curves = Curves(np.array(["a", "b"]), np.array([0, np.inf]), none, none, past)
    near, far = outliers(curves, np.zeros((2, 2, 4)), beyond)
    assert near == ""
    assert far.startswith("spread / mean score")


@pytest.mark.parametrize(
    ("gain", "noise", "how"), [(1 / 255, 0.08, "x: darker"), (1, 0.6, "x: noisier"), (4, 0.08, "x: brighter")]
)
def test_a_single_image_of_another_kind_is_told(masker, gain, noise, how):
    told = [warned(masker, other.x[0], other.y_hat[0]) for other in images(20, 2, gain, noise)]
    assert sum(bool(each) for each in told) >= 19
    texts = [text for each in told for text in each]
    assert all(text.startswith(f"this image is {FAR}") for text in texts)
    assert any(how in text for text in texts)


@pytest.mark.parametrize("call", ["__call__", "masks"])
def test_in_a_batch_each_of_them_is_named(masker, call):
    batch, dark = (next(iter(images(3, seed, gain).batches())) for seed, gain in ((3, 1), (4, 1 / 255)))
    mixed = [torch.cat([getattr(batch, role), getattr(dark, role)[:2]]) for role in ("x", "y_hat")]
    (text,) = warned(getattr(masker, call), *mixed)
    assert text.startswith(f"2 of 5 images are {FAR}: image 3 (x: darker")
    assert "of 100), image 4 (x: darker" in text
    reasons = masker.check(*mixed)
    assert reasons[:3] == ("", "", "")
    assert all(f"({reason})" in text for reason in reasons[3:])
    many = [image[[3] * 12] for image in mixed]
    assert ", image 9 (x: darker" in (text := warned(getattr(masker, call), *many)[0])
    assert "of 100), and 2 others. The promise" in text


def test_a_triplet_is_called_by_its_name(masker):
    dark = images(1, 4, 1 / 255, names=["lamp off"])[0]
    (text,) = warned(masker, dark)
    (reason,) = masker.check(dark)
    assert text.startswith(f"lamp off is {FAR} ({reason}). The promise")
    assert masker.check(images(1, 4)[0]) == ("",)


def test_a_check_says_that_no_promise_covers_a_size(masker):
    small = images(1, 4, side=16)[0]
    (reason,) = masker.check(small)
    assert reason.startswith("images of 16 x 16 pixels: the promise covers only images of 24 x 24 pixels")


def test_arrays_without_their_region_are_not_compared_with_what_was_in_regions():
    """Outside of the regions all is black, so that whole images are darker than what was calibrated."""
    region = np.zeros((24, 24), np.float32)
    region[8:16, 8:16] = 1
    seen, new = (images(100, seed, region, regions=[region] * 100) for seed in (0, 1))
    masker = cm.calibrate(cm.Heuristic(cm.residual, channels=1), seen, threshold=0.03, loss="l1")
    assert masker.card.loss.extent == REGION
    assert sum(bool(warned(masker, triplet.x[0], triplet.y_hat[0])) for triplet in new) <= 2
    dark = replace(new[0], x=new[0].x / 255)
    assert masker.check(dark)[0].startswith("x: darker")


def test_a_folder_of_masks_says_it_too_also_when_it_is_resumed(masker, tmp_path):
    assert write_masks(masker, images(30, 5), tmp_path / "alike").outliers == {}
    for _ in range(2):
        written = write_masks(masker, images(30, 5, 1 / 255), tmp_path / "dark")
        assert len(written.outliers) == 30
    with (tmp_path / "dark" / "sizes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["name"]: row["outlier"] for row in rows} == written.outliers
    assert rows[0]["outlier"].startswith("x: darker (0.00")


@pytest.mark.parametrize("channels", [1, 3])
def test_masks_are_of_32_bits(channels):
    y = np.random.default_rng(0).random((20, 8, 8, channels))
    known = cm.Triplets.from_arrays(y, y**1.1, y)
    masker = cm.calibrate(cm.Heuristic(cm.residual, channels=channels), known, threshold=0.5, loss="l1")
    pairs = [(y[0], y[0] ** 1.1), ((255 * y[0]).astype(np.uint8),) * 2, (known[0],)]
    assert [masker(*pair).dtype for pair in pairs] == [np.float32] * 3
    tensors = torch.from_numpy(y).movedim(-1, 1), torch.from_numpy(y**1.1).movedim(-1, 1)
    assert masker(*tensors).dtype == masker.masks(*tensors).dtype == torch.float32
    annotated = {name: get_type_hints(getattr(cm.Masker, name))["return"] for name in ("masks", "__call__")}
    assert "Float32" in str(annotated["masks"])
    assert "float32" in str(annotated["__call__"])


def test_the_small_masker_for_tests_is_always_the_same():
    one, again = small_masker(), small_masker()
    assert one.fingerprint == again.fingerprint
    new = small_triplets(100, seed=1)
    masks = [one(triplet) for triplet in new]
    assert all(0 < mask.mean() < 1 for mask in masks)
    assert sum(bool(one.check(triplet)[0]) for triplet in new) <= 2
    assert cm.evaluate(one, new).coverage > 0.8


def test_weighted_promises_are_about_other_images(masker):
    promise = cm.Promise("weighted", confidence=0.8)
    weighted = cm.calibrate(
        cm.Heuristic(cm.residual, channels=1),
        images(60, 0, weights=np.ones(60)),
        threshold=0.03, loss="l1", promise=promise,
    )  # fmt: skip
    dark = images(1, 6, 1 / 255)[0]
    with warnings.catch_warnings(action="error"):
        weighted(dark.x[0], dark.y_hat[0], weight=[1.0])


def test_clipped_values_are_told_where_the_calibration_had_few(tmp_path):
    reading = cm.Reading((0, 0.6), clip="all")
    masker = cm.calibrate(
        cm.Heuristic(cm.residual, channels=1), images(60, 0, reading=reading), threshold=0.05, loss="l1"
    )
    assert 0 < masker.card.clipped < 0.02
    brighter = images(30, 1, 1.7, reading=reading)
    share = float(np.mean([triplet.clipped for triplet in brighter]))
    assert share > 0.03
    written = write_masks(masker, brighter, tmp_path / "masks")
    assert np.mean(list(written.clipped.values())) == pytest.approx(share)
    x = np.full((24, 24), 0.3, np.float32)
    x[:6] = 0.7
    arrays, share_text = (
        warned(masker, x, x.clip(0, 0.5)),
        "25.0\N{NO-BREAK SPACE}% of the values lay outside",
    )
    assert [text[:2] for text in arrays if share_text in text] == ["x:"]
    tensors = (torch.from_numpy(image)[None, None] for image in (x, x))
    assert sum(share_text in text for text in warned(masker, *tensors)) == 2


def test_volumes_given_to_a_masker_of_planes_and_the_reverse(masker):
    volume = np.zeros((20, 24, 24), np.float32)
    for array in (volume, volume[None]):
        with pytest.raises(MismatchError, match="give the planes of a volume one by one"):
            masker(array, array)
    voxels = torch.zeros(1, 1, 8, 24, 24)
    with pytest.raises(MismatchError, match="about planes, but these are volumes of 8 x 24 x 24 pixels"):
        masker(voxels, voxels)
    generator = np.random.default_rng(0)
    volumes = cm.Triplets.from_arrays(
        *generator.random((3, 20, 4, 8, 8), np.float32), reading=cm.Reading(axes="ZYX")
    )
    of_volumes = cm.calibrate(
        cm.Heuristic(cm.residual, channels=1), volumes, threshold=0.5, loss=cm.Mean("l1")
    )
    with pytest.raises(MismatchError, match="about volumes: arrays with the axes ZYX"):
        of_volumes(volume[0], volume[0])


@pytest.mark.quick(1)
@pytest.mark.parametrize("most", [2**22, 100 * 100], ids=["all", "the middle"])
def test_whole_images_masked_by_tiles_are_told_too(tmp_path, monkeypatch, most):
    monkeypatch.setattr("conformask.masker.whole.MIDDLE", most)
    scorer = cm.Tiled(cm.Heuristic(cm.residual, channels=1), 128, 32)
    reading = cm.Reading(data_range=(0, 0.9), clip="all")
    masker = cm.calibrate(scorer, images(100, 0, side=128, reading=reading), threshold=0.03, loss="l1")
    alike, dark, bright = (images(3, 1, gain, side=200, reading=reading) for gain in (1, 1 / 255, 3))
    written = write_masks(masker, alike, tmp_path / "alike")
    assert (written.outliers, set(written.clipped)) == ({}, set(alike.names))
    written = write_masks(masker, dark, tmp_path / "dark")
    assert set(written.outliers) == set(dark.names)
    assert all("darker" in text for text in written.outliers.values())
    written = write_masks(masker, bright, tmp_path / "bright")
    for name, stored in zip(bright.names, images(3, 1, 3, side=200), strict=True):
        assert written.clipped[name] == max((image > 0.9).mean() for image in (stored.x, stored.y_hat))
        assert written.clipped[name] > 0
