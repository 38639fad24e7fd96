"""The formula beside a promise, evaluated on deployed masks by code that knows only the formula."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

import conformask as cm
from synthetic_triplets import arrays, scale_of

N, TESTED, SIDE = 40, 10, 3
AROUND = "ē_j the mean of e over the 3 x 3 pixels around j"
L1 = "e = |y − ŷ|"
WRONG = "[e > 0.05] 1 where e > 0.05, else 0"
Array = np.ndarray


def around(e: Array, region: Array) -> Array:
    """ē: the mean of e over the pixels around each one that lie in the image and the region."""
    found = np.zeros(e.shape)
    for row, column in np.argwhere(region):
        near = np.s_[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        found[row, column] = e[near][region[near]].mean()
    return found


def largest_around_shown(m: Array, e: Array, region: Array) -> float:
    return float(around(e, region)[(m > 0) & region].max(initial=0))


def share_around_shown(m: Array, e: Array, region: Array) -> float:
    shown = around(e, region)[(m > 0) & region]
    return float((shown > 0.07).mean()) if shown.size else 0.0


def largest_window(m: Array, e: Array, region: Array) -> float:
    masked = m * e * region
    places = range(e.shape[0] - SIDE + 1), range(e.shape[1] - SIDE + 1)
    return max(float(masked[i : i + SIDE, j : j + SIDE].mean()) for i in places[0] for j in places[1])


def ratio(above: float, below: float) -> float:
    return float(above) / float(below) if below else 0.0


CASES = {
    f"Σ m e / n, with {L1}, sums over the n pixels WHERE": (
        cm.Mean("l1"),
        lambda m, e, r: ratio((m * e)[r].sum(), r.sum()),
    ),
    "Σ m^2 e / n, with e = |y − ŷ|^2, sums over the n pixels WHERE": (
        cm.Mean("l2"),
        lambda m, e, r: ratio((m**2 * e**2)[r].sum(), r.sum()),
    ),
    f"Σ m e / Σ m, with {L1}, sums over all pixels ONLY; 0 if nothing is shown": (
        cm.MeanShown("l1"),
        lambda m, e, r: ratio((m * e)[r].sum(), m[r].sum()),
    ),
    f"Σ m [e > 0.05] / Σ [e > 0.05], with {L1}, {WRONG}, sums over all pixels ONLY": (
        cm.MissRate("l1", 0.05),
        lambda m, e, r: ratio(m[r & (e > 0.05)].sum(), (r & (e > 0.05)).sum()),
    ),
    f"Σ m [e > 0.05] / Σ m, with {L1}, {WRONG}, sums over all pixels ONLY; 0 if nothing is shown": (
        cm.FalseOmissionRate("l1", 0.05),
        lambda m, e, r: ratio(m[r & (e > 0.05)].sum(), m[r].sum()),
    ),
    f"max {{ē_j : m_j > 0}}, with {L1}, {AROUND} INSIDE, j the pixels ONLY; 0 if nothing is shown": (
        cm.Local("l1", SIDE),
        largest_around_shown,
    ),
    "#{j : m_j > 0, ē_j > 0.07} / #{j : m_j > 0}, "
    f"with {L1}, {AROUND} INSIDE, j the pixels ONLY; 0 if nothing is shown": (
        cm.LocalShare("l1", SIDE, 0.07),
        share_around_shown,
    ),
    f"max Σ m e / n, with {L1}, sums over the n pixels of each window of 3 x 3 pixels OUTSIDE": (
        cm.MaskedWindow("l1", SIDE),
        largest_window,
    ),
}
"""Losses and code, by their formulas; words in capitals stand for what differs with regions."""
IN_REGIONS = {
    "WHERE": ("of the image", "in the region"),
    " INSIDE": ("", " that lie in the region"),
    " ONLY": ("", " in the region"),
    " OUTSIDE": ("", ", e = 0 outside the region"),
}


@pytest.mark.quick(8)
@pytest.mark.parametrize("grey", [False, True], ids=["default", "grey"])
@pytest.mark.parametrize("regional", [False, True], ids=["whole", "regions"])
@pytest.mark.parametrize("text", CASES)
def test_the_measured_loss_is_that_of_the_formula(text: str, regional: bool, grey: bool) -> None:
    loss, formula = CASES[text]
    if grey and (loss.family or {}).get("bounds") == "largest":
        pytest.skip("there are no grey masks for this loss, as another test asserts")
    for word, texts in IN_REGIONS.items():
        text = text.replace(word, texts[regional])
    assert loss.in_regions(regional).formula == text

    x, y_hat, y = arrays(2 * N + TESTED, 3)
    inside = np.random.default_rng(0).random(y.shape[:3]) < (0.6 if regional else 2)
    parts = [np.s_[:N], np.s_[N : 2 * N], np.s_[2 * N :]]
    calibration, selection, new = (
        cm.Triplets.from_arrays(
            x[part], y_hat[part], y[part], **({"regions": inside[part]} if regional else {})
        )
        for part in parts
    )
    scorer = cm.Heuristic(scale_of, channels=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that masks of some sets hide nearly everything
        masker = cm.calibrate(
            scorer,
            calibration,
            threshold=0.04,
            loss=loss,
            selection=selection,
            family="grey" if grey else None,
        )
    assert masker.card.loss.formula == text
    if isinstance(loss, cm.LocalShare):  # images of 64 pixels are too small for a promise that shows some
        masker = replace(masker, rule=replace(masker.rule, lam=0.06))
    measured = cm.evaluate(masker, new).images
    expected, values = [], set()
    for index in range(TESTED):
        mask = masker(new[index]).squeeze().astype(np.float64)
        values |= set(np.unique(mask))
        error = np.abs(y[2 * N + index] - y_hat[2 * N + index]).squeeze().astype(np.float64)
        expected.append(formula(mask, error, inside[2 * N + index]))
    np.testing.assert_allclose(measured.loss, expected, rtol=1e-5, atol=1e-7)
    assert max(expected) > 0, "something is shown"
    assert masker.card.is_grey == (grey or isinstance(loss, cm.MaskedWindow))
    assert masker.card.is_grey or values <= {0.0, 1.0}


def test_distances_between_masked_images_say_so() -> None:
    assert cm.MaskedDistance("ssim").formula == (
        "1 − SSIM of m y and m ŷ, the masked truth and the masked output"
    )
