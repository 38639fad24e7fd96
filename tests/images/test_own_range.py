"""Each image in its own range: what is read, what is masked, and what is promised."""

import json
import warnings

import numpy as np
import pytest
import torch

import conformask as cm
from conformask.errors import InvalidArgumentError
from conformask.images.check import check_triplets
from conformask.images.read import open_raster
from conformask.records.reading import Reading

OWN = Reading("image")


def images(n, seed, side=24, kind=np.float32):
    """Images whose brightness differs up to fifty times, with noise and a blur that go with it."""
    generator = np.random.default_rng(seed)
    bright = np.exp(generator.uniform(np.log(0.02), 0, (n, 1, 1)))
    y = bright * generator.random((n, side, side)) ** 2
    y_hat = 0.7 * y + 0.15 * (np.roll(y, 1, 1) + np.roll(y, 1, 2))
    x = y + 0.1 * bright * generator.standard_normal(y.shape)
    return [(1000 * each).astype(kind) if kind != np.float32 else each.astype(kind) for each in (x, y_hat, y)]


def by_hand(x, y_hat, y):
    """The three in the range of x, by numpy alone."""
    low, high = np.percentile(x.astype(np.float64), [0.1, 99.9])
    return [((each.astype(np.float64) - low) / (high - low)).clip(0, 1) for each in (x, y_hat, y)]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_all_three_are_read_in_the_range_of_x(kind):
    arrays = images(3, 0, kind=kind)
    triplets = cm.Triplets.from_arrays(*arrays, reading=OWN)
    for triplet, *given in zip(triplets, *arrays, strict=True):
        for read, expected in zip((triplet.x, triplet.y_hat, triplet.y), by_hand(*given), strict=True):
            np.testing.assert_allclose(read[0], expected, atol=1e-6)


def test_files_and_windows_are_read_alike(tmp_path):
    arrays = images(2, 1)
    for role, of_role in zip(("x", "y_hat", "y"), arrays, strict=True):
        (tmp_path / role).mkdir()
        for index, array in enumerate(of_role):
            np.save(tmp_path / role / f"{index}.npy", array)
    triplets = cm.Triplets.from_folder(tmp_path, reading=OWN)
    expected = cm.Triplets.from_arrays(*arrays, reading=OWN)
    corner = (slice(3, 9), slice(0, 24))
    for index in range(2):
        np.testing.assert_array_equal(triplets[index].y_hat, expected[index].y_hat)
        opened = triplets.opened(index)
        for raster, image in ((opened.x, triplets[index].x), (opened.y_hat, triplets[index].y_hat)):
            np.testing.assert_array_equal(raster.read(corner), image[:, 3:9])


def test_where_x_has_a_range_of_its_own_it_is_that_of_y_hat():
    x, y_hat, y = images(1, 2)
    (triplet,) = cm.Triplets.from_arrays(x * 0 + 7, y_hat, y, reading=Reading("image", x_range=(0, 14)))
    low, high = np.percentile(y_hat.astype(np.float64), [0.1, 99.9])
    assert triplet.x == pytest.approx(0.5)
    np.testing.assert_allclose(triplet.y[0], ((y[0] - low) / (high - low)).clip(0, 1), atol=1e-6)


def test_the_truth_has_no_part_in_it():
    x, y_hat, y = images(1, 3)
    (one,), (other,) = (cm.Triplets.from_arrays(x, y_hat, each, reading=OWN) for each in (y, 50 * y))
    np.testing.assert_array_equal(one.y_hat, other.y_hat)
    low, high = np.percentile(x.astype(np.float64), [0.1, 99.9])
    np.testing.assert_allclose(other.y, ((50 * y - low) / (high - low)).clip(0, 1), atol=1e-5)


@pytest.mark.parametrize("value", [0, 7, -3.0, 1e6])
def test_images_with_hardly_any_range_are_read(value):
    flat = np.full((2, 32, 32), value, np.float64)
    flat[1, 0, 0] += 5
    constant, speck = cm.Triplets.from_arrays(flat, flat, flat + 1, reading=OWN)
    assert constant.y_hat.max() == constant.y_hat.min() == 0
    assert constant.y.min() == 1, "an error without any range to compare it with is the largest"
    assert speck.y_hat.max() == 1
    assert speck.y.min() == pytest.approx(0.2)


def test_a_large_image_is_sampled_on_a_grid():
    array = np.random.default_rng(0).random((2100, 2100)).astype(np.float32)
    expected = np.percentile(array[::3, ::3].astype(np.float64), [0.1, 99.9])
    assert open_raster(array, OWN, "x").own_range() == pytest.approx(tuple(expected))


def test_what_cannot_be_meant_together_is_refused():
    for more in ({"units": "m"}, {"clip": "x"}):
        with pytest.raises(InvalidArgumentError, match="own range"):
            Reading("image", **more)


def calibrated(arrays, **terms):
    triplets = cm.Triplets.from_arrays(*arrays, reading=OWN)
    scorer = cm.Heuristic(cm.residual, channels=1)
    return cm.calibrate(scorer, triplets, loss="l1", **{"threshold": 0.05, **terms})


def test_arrays_tensors_and_triplets_get_one_mask(tmp_path):
    masker = calibrated(images(40, 4))
    assert masker.sentence == (
        "In at least 9 of 10 new images, what stays visible is off by at most 5 % of each image's own range, "
        "averaged over the whole image (hidden pixels count as no error)."
    )
    masker.save(tmp_path)
    loaded = cm.load(tmp_path, scorer=masker.scorer)
    x, y_hat, y = images(5, 5)
    triplets = cm.Triplets.from_arrays(x, y_hat, y, reading=OWN)
    of_tensors = loaded(*(torch.from_numpy(each)[:, None] for each in (x, y_hat)))
    for index, triplet in enumerate(triplets):
        mask = loaded(x[index], y_hat[index])
        np.testing.assert_array_equal(mask, loaded(triplet))
        np.testing.assert_array_equal(mask, of_tensors[index, 0].numpy())
        np.testing.assert_array_equal(mask, loaded(30 * x[index] - 2, 30 * y_hat[index] - 2))
    strip = cm.show(loaded, x[0], y_hat[0], y[0])
    loss = np.abs(by_hand(x[0], y_hat[0], y[0])[2] - by_hand(x[0], y_hat[0], y[0])[1])
    assert strip.rows[0].met == (np.mean(loss * loaded(x[0], y_hat[0])) <= 0.05)


@pytest.mark.leaf("watch")
def test_a_stream_remembers_the_range_until_the_truth_comes():
    masker, (x, y_hat, y) = calibrated(images(40, 6)), images(1, 7)
    online = cm.OnlineMasker(masker)
    mask = online.mask("monday", x[0], y_hat[0])
    _, output, truth = by_hand(x[0], y_hat[0], y[0])
    assert online.learn("monday", y[0]) == (np.mean(mask * np.abs(truth - output)) <= 0.05)


@pytest.mark.leaf("export")
def test_an_exported_file_says_how_to_scale():
    from conformask.extras.export.onnx import metadata

    entries = metadata(calibrated(images(20, 8)), None)
    assert entries["range"] == "x and y_hat are clipped to the 0.1 and 99.9 percentile of x, 0 and 1"
    assert json.loads(entries["calibration"])["data_range"] == "image"
    assert "of each image's own range" in entries["promise"]


def test_no_promise_changes_its_truth():
    """Losses by code that knows only the sentence, of masks as they are issued, over calibration sets."""
    kept = []
    for seed in range(60):
        masker = calibrated(images(19, 2 * seed, side=12), threshold=0.02)
        for x, y_hat, y in zip(*images(10, 2 * seed + 1, side=12), strict=True):
            _, output, truth = by_hand(x, y_hat, y)
            with warnings.catch_warnings(action="ignore"):
                kept.append(np.mean(masker(x, y_hat) * np.abs(truth - output)) <= 0.02 + 1e-6)
    error = np.std([np.mean(kept[start : start + 10]) for start in range(0, 600, 10)]) / 60**0.5
    assert abs(np.mean(kept) - 0.9) < 3.5 * error, "19 images and 0.9: the second smallest, exactly 0.9"


def test_brightness_that_varies_is_said():
    arrays = images(40, 9)
    plain = cm.Triplets.from_arrays(*(each.clip(0, 1) for each in arrays))
    (text,) = [text for text in check_triplets(plain, 9).warnings if "brightness" in text]
    assert "--data-range image" in text
    own = cm.Triplets.from_arrays(*arrays, reading=OWN)
    alike = cm.Triplets.from_arrays(*(each.clip(0, 1) ** 0.01 for each in arrays))
    for triplets in (own, alike):
        assert not any("brightness" in text for text in check_triplets(triplets, 9).warnings)


def test_on_the_command_line(conformask, tmp_path):
    for role, of_role in zip(("x", "y_hat", "y"), images(40, 10, kind=np.int32), strict=True):
        (tmp_path / role).mkdir()
        for index, array in enumerate(of_role):
            np.save(tmp_path / role / f"{index:02d}.npy", array)
    terms = ("--scorer", "spread", "--threshold", "5%", "--data-range", "image", "--out", tmp_path / "run")
    answer = conformask("calibrate", tmp_path, *terms)
    assert answer.status == 0, answer.err
    assert "at most 5 % of each image's own range" in answer.out
    answer = conformask("mask", tmp_path / "run", tmp_path, tmp_path / "masks")
    assert answer.status == 0, "new images are read as the run says: " + answer.err
    assert "own range" in json.loads((tmp_path / "masks" / "masks.json").read_text())["sentence"]
    assert "own range" in (tmp_path / "run" / "CARD.md").read_text()
