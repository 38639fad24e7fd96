import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from conformask.masks.threshold import Threshold
from conformask.testing.families import FamilyContract

THRESHOLD = Threshold()
FLOATS = st.floats(0, float(np.finfo(np.float32).max), width=32)


def images(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


def mask(score: Tensor, lam: float) -> Tensor:
    return THRESHOLD.apply(score, THRESHOLD.level(score, torch.full((len(score),), lam, dtype=torch.float64)))


def by_definition(score: np.ndarray, error: np.ndarray, threshold: float) -> float:
    """The smallest score value with too much error up to and with it."""
    for value in np.unique(score):
        if error[score <= value].sum() > threshold * score.size * (1 + 1e-12):
            return float(value)
    return math.inf


@given(FLOATS, FLOATS, st.floats(-2, 2))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_masks_are_those_of_the_float64_lambda(value: float, other: float, steps: float) -> None:
    near = max(0.0, value * (1 + steps * 2.0**-24))
    score = images(value, other, 0.0)
    for lam in (near, float(np.nextafter(value, 0)), float(np.nextafter(value, math.inf)), value, 1e300):
        expected = score.double() < lam
        assert torch.equal(mask(score, lam), expected.float())


@given(
    arrays(np.int64, 24, elements=st.integers(0, 7)),
    arrays(np.int64, 24, elements=st.integers(0, 5)),
    st.integers(0, 60),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_critical_lambda_of_tied_scores_is_the_definition(levels, errors, budget) -> None:  # type: ignore[no-untyped-def]
    score, error = levels / 8, errors / 4
    found = THRESHOLD.critical_lambda(images(*score), images(*error), 1.0, budget / 4 / 24)
    assert float(found[0]) == by_definition(score, error, budget / 4 / 24)


@pytest.mark.parametrize("distinct", [2, 8, 5000])
def test_critical_lambda_of_an_image_is_the_definition(distinct: int) -> None:
    generator = np.random.default_rng(distinct)
    score = (generator.integers(0, distinct, 5000) / distinct).astype(np.float32)
    error = generator.exponential(size=5000).astype(np.float32) * (generator.random(5000) < 0.5)
    for share in (0.0, 1e-4, 0.1, 0.5, 0.9, 0.9999, 1.0):
        threshold = share * float(error.astype(float).mean())
        found = THRESHOLD.critical_lambda(images(*score), images(*error), 1.0, threshold)
        assert float(found[0]) == by_definition(score.astype(float), error.astype(float), threshold)


def test_a_sum_on_the_budget_passes() -> None:
    error = images(*np.full(30, 0.1))
    score = images(*(np.arange(30) // 3))
    for kept in range(9):
        threshold = 3 * (kept + 1) * float(np.float32(0.1)) / 30
        for noise in (1 - 1e-14, 1, 1 + 1e-14):
            assert THRESHOLD.critical_lambda(score, error, 1.0, threshold * noise) == kept + 1


def test_where_the_smallest_score_fails_all_is_masked() -> None:
    score, error = images(0.25, 0.25, 0.5), images(1, 1, 0)
    found = THRESHOLD.critical_lambda(score, error, 1.0, 0.1)
    assert found == 0.25
    assert (mask(score, float(found)) == 0).all()
    assert THRESHOLD.critical_lambda(images(0, 0, 0.5), error, 1.0, 0.1) == 0


def test_a_score_that_is_not_finite_is_masked() -> None:
    assert mask(images(math.nan, math.inf, 1), 1e30).flatten().tolist() == [0, 0, 1]


@dataclass(frozen=True)
class Inclusive:
    """The wrong family: 1 where score <= lam. Its critical lambda is a supremum that does not pass."""

    name = "inclusive"

    def level(self, score: Tensor, lam: Tensor) -> Tensor:
        return THRESHOLD.level(score, lam)

    def apply(self, score: Tensor, level: Tensor) -> Tensor:
        lam = level[:, 0, None, None, None]
        return ((score <= lam) & (lam > 0)).float()

    def critical_lambda(self, score: Tensor, error: Tensor, exponent: float, threshold: float) -> Tensor:
        return THRESHOLD.critical_lambda(score, error, exponent, threshold)


def test_the_contract_sees_the_wrong_comparison() -> None:
    contract = FamilyContract()
    contract.family = Inclusive()  # type: ignore[assignment]
    with pytest.raises(AssertionError, match="jumps from the left"):
        contract.test_left_continuous()
    with pytest.raises(AssertionError, match="critical lambda"):
        contract.test_critical_lambda_is_the_last_to_pass()


REPEATS = 1000


def coverage(family: Threshold | Inclusive, repeats: int = REPEATS, n: int = 29) -> float:
    """How often a test image passes at the marginal lambda of n calibration images, 8 score levels."""
    generator = torch.Generator().manual_seed(0)
    shape = (repeats * (n + 1), 1, 6, 6)
    score = torch.randint(1, 9, shape, generator=generator) / 8
    hardness = 0.9 + 0.2 * torch.rand(shape[0], 1, 1, 1, generator=generator)
    error = hardness * score * torch.rand(shape, generator=generator)
    threshold, confidence = 0.15, 0.9
    critical = family.critical_lambda(score, error, 1.0, threshold).reshape(repeats, n + 1)
    rank = math.floor((1 - confidence) * (n + 1) + 1e-9)
    lam = critical[:, :n].sort(dim=1).values[:, rank - 1]
    score, error = (images.reshape(repeats, n + 1, 1, 6, 6)[:, n] for images in (score, error))
    opened = family.apply(score, family.level(score, lam)).double()
    return float(((opened * error.double()).mean((1, 2, 3)) <= threshold * (1 + 1e-6)).double().mean())


def test_the_promise_holds_with_ties_and_breaks_with_the_wrong_comparison() -> None:
    assert coverage(THRESHOLD) >= 0.9 - 3 * math.sqrt(0.9 * 0.1 / REPEATS)
    assert coverage(Inclusive()) <= 0.75 - 3 * math.sqrt(0.75 * 0.25 / REPEATS)
