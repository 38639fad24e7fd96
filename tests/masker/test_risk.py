"""The error that is left when a share is hidden, and the range of coverage that a kept promise measures."""

import numpy as np
import pytest
import torch

import conformask as cm
from conformask.masker.evaluate import SHARES, risk_curves
from simulation import simulated
from stated import calibrated
from synthetic_triplets import scale_of, triplets

SCORER = cm.Heuristic(scale_of, channels=1)


def left(order: np.ndarray, errors: np.ndarray, share: float) -> float:
    """The mean error of what is shown, by definition: pixels are hidden from the largest of `order` on."""
    places = sorted(range(len(errors)), key=lambda place: -order[place])[int(share * len(errors)) :]
    return float(np.mean([errors[place] for place in places]))


@pytest.mark.parametrize("with_region", [False, True])
def test_curves_are_what_their_name_says(with_region: bool) -> None:
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


def test_no_score_leaves_less_than_the_best_and_every_curve_starts_alike() -> None:
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
def test_tests_of_a_kept_promise_lie_in_the_expected_range(guarantee: str) -> None:
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
