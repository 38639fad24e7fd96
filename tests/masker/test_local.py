"""The local promises, checked on deployed masks by code that knows only their sentences."""

import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, avg_pool3d, pad

import conformask as cm
from conformask.scores.steps import Smoothed, averaged
from synthetic_triplets import arrays, scale_of

SIDE, THRESHOLD = 3, 0.05
SCORER = cm.Heuristic(scale_of, channels=1)
LOCAL = cm.Local("l1", SIDE)
SHARE = cm.LocalShare("l1", SIDE, 0.07)


def local_errors(y: np.ndarray, y_hat: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The mean of |y - y_hat| over the pixels around each one that lie in image and region."""
    height, width = y.shape
    found = np.zeros(y.shape)
    for i in range(height):
        for j in range(width):
            near = [
                abs(float(y[row, column]) - float(y_hat[row, column]))
                for row in range(i - SIDE // 2, i + SIDE // 2 + 1)
                for column in range(j - SIDE // 2, j + SIDE // 2 + 1)
                if 0 <= row < height and 0 <= column < width and region[row, column]
            ]
            found[i, j] = sum(near) / len(near) if near else 0.0
    return found


def keeps(loss: object, mask: np.ndarray, y: np.ndarray, y_hat: np.ndarray, region: np.ndarray) -> bool:
    """Whether the sentence is true of this mask."""
    assert set(np.unique(mask)) <= {0.0, 1.0}
    around_shown = local_errors(y, y_hat, region)[(mask == 1) & region]
    if loss is LOCAL:
        return not around_shown.size or around_shown.max() <= THRESHOLD * (1 + 1e-6)
    return not around_shown.size or np.mean(around_shown > SHARE.tolerance * (1 + 1e-6)) <= THRESHOLD


def coverage(loss: object, draws: int, *, regional: bool = False, cheat: float = 1.0) -> tuple[float, float]:
    """How often the sentence is true, over calibration sets of 20 and 8 new images each; and sigma."""
    n, tested, met = 20, 8, []
    selection = cm.Triplets.from_arrays(*arrays(40, 999))
    for draw in range(draws):
        x, y_hat, y = arrays(n + tested, 5000 + draw)
        inside = np.random.default_rng(draw).random(y.shape[:3]) < (0.6 if regional else 2)
        regions = {"regions": inside[:n]} if regional else {}
        images = cm.Triplets.from_arrays(x[:n], y_hat[:n], y[:n], **regions)
        how = {"threshold": THRESHOLD, "loss": loss, "promise": "marginal"}
        chosen_on = {} if loss is LOCAL else {"selection": selection}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that masks of some sets hide nearly everything
            masker = cm.calibrate(SCORER, images, **how, **chosen_on)
        masker = replace(masker, rule=replace(masker.rule, lam=cheat * masker.rule.lam))
        met.append(
            np.mean(
                [
                    keeps(loss, masker(x[k], y_hat[k]), y[k, ..., 0], y_hat[k, ..., 0], inside[k])
                    for k in range(n, n + tested)
                ]
            )
        )
    return float(np.mean(met)), float(np.std(met) / math.sqrt(draws))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("loss", "regional"), [(LOCAL, False), (LOCAL, True), (SHARE, False)], ids=["local", "region", "share"]
)
def test_the_sentence_is_true_as_often_as_promised(loss: object, regional: bool) -> None:
    mean, sigma = coverage(loss, 60, regional=regional)
    assert mean >= 0.9 - 4 * sigma


@pytest.mark.thorough
@pytest.mark.parametrize("loss", [LOCAL, SHARE], ids=["local", "share"])
def test_the_simulation_tells_a_lambda_that_is_too_large(loss: object) -> None:
    mean, sigma = coverage(loss, 60, cheat=3.0)
    assert mean < 0.9 - 4 * sigma


def test_what_is_hidden_does_not_count_as_right() -> None:
    """A window that is half hidden: its shown pixels are as wrong as they are."""
    y, y_hat = np.zeros((1, 8, 8), np.float32), np.zeros((1, 8, 8), np.float32)
    y_hat[:, 2:5, 2:5] = 0.12
    mask = np.ones((1, 1, 8, 8), np.float32)
    mask[..., 2:5, 3:5] = 0
    import torch

    images = [torch.from_numpy(each)[:, None] for each in (y, y_hat)]
    masked, local = (
        float(loss.on(*images, None, 1).of(torch.from_numpy(mask))[0])
        for loss in (cm.MaskedWindow("l1", SIDE), LOCAL)
    )
    assert masked == pytest.approx(0.04)
    assert local == pytest.approx(0.08)


@pytest.mark.parametrize("side", [3, 4, 9, 40])
def test_means_around_pixels_are_bit_for_bit_those_of_pooling(side: int) -> None:
    """An exported graph pools, a processor adds shifted images: both give the same masks."""
    generator, ends = torch.Generator().manual_seed(0), (side // 2, (side - 1) // 2)
    plane = torch.rand(2, 3, 30, 41, generator=generator) ** 6
    sums, counts = (avg_pool2d(pad(each, ends * 2), side, 1) for each in (plane, torch.ones_like(plane)))
    assert torch.equal(averaged(plane, (side, side)), sums / counts)
    volume, sides = torch.rand(1, 1, 9, 20, 21, generator=generator) ** 6, (3, side, side)
    sums, counts = (
        avg_pool3d(pad(each, (*ends, *ends, 1, 1)), sides, 1) for each in (volume, torch.ones_like(volume))
    )
    assert torch.equal(averaged(volume, sides), sums / counts)


def test_a_masker_is_stored_with_its_window(tmp_path: Path) -> None:
    masker = cm.calibrate(SCORER, cm.Triplets.from_arrays(*arrays(40, 0)), threshold=THRESHOLD, loss=LOCAL)
    assert isinstance(masker.scorer, Smoothed)
    masker.save(tmp_path)
    again = cm.load(tmp_path, scorer=SCORER)
    x, y_hat, _ = arrays(1, 7)
    np.testing.assert_array_equal(again(x[0], y_hat[0]), masker(x[0], y_hat[0]))
    assert again.fingerprint == masker.fingerprint
    assert again.family.settings() == {"name": "binary", "bounds": "largest", "kappa": 0.0}


def test_the_best_masks_hide_what_is_wrong_and_no_more() -> None:
    x, y_hat, y = arrays(30, 3)
    masker = cm.calibrate(SCORER, cm.Triplets.from_arrays(x, y_hat, y), threshold=THRESHOLD, loss=LOCAL)
    x, y_hat, y = arrays(10, 4)
    found = cm.evaluate(masker, cm.Triplets.from_arrays(x, y_hat, y))
    everywhere = np.ones((8, 8), bool)
    wrong = [
        local_errors(a[..., 0], b[..., 0], everywhere) > THRESHOLD for a, b in zip(y, y_hat, strict=True)
    ]
    assert found.mask_size_oracle == pytest.approx(np.mean(wrong))
    assert found.mask_size >= found.mask_size_oracle
