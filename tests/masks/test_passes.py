"""Levels by sums over the parts of a score against those of the kernels."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from conformask.errors import MismatchError
from conformask.masks.families import Binary, Power, TrustedMean, WaterFilling
from conformask.masks.family import Family
from conformask.records.record import Array

GENERATOR = np.random.default_rng(0)
LAMBDAS = (0.0, 1e-30, 1e-4, 0.02, 0.1, 0.25, 0.7, 1.0, 3.0, 1e30, np.inf)


def scores() -> list[Array]:
    heavy = np.exp(6 * GENERATOR.standard_normal(500)).astype(np.float32)
    ties = (GENERATOR.integers(0, 4, 400) / 8).astype(np.float32)
    holes = np.where(GENERATOR.random(300) < 0.5, 0, GENERATOR.random(300)).astype(np.float32)
    narrow = (1 + 1e-3 * GENERATOR.random(200)).astype(np.float32)
    flat = np.full(8, 0.25, np.float32)
    return [heavy, ties, holes, narrow, np.zeros(9, np.float32), flat, np.float32([0.3])]


def level_in_passes(family: Family, score: Array, lam: float) -> Array:
    known = family.streaming_level(lam, score.size)
    for _ in range(known.count):
        known = known.after(sum(known.sums_of(part) for part in np.array_split(score, 3)))
    assert known.level is not None
    return known.level


def levels(family: Family) -> Iterator[tuple[Array, Array, Array, str]]:
    """Score, the kernel's level, that in passes, and what to call them."""
    for score in scores():
        for lam in LAMBDAS:
            lams = torch.tensor([lam], dtype=torch.float64)
            level = family.level(torch.from_numpy(score)[None, None, None], lams)[0].numpy()
            yield score, level, level_in_passes(family, score, lam), f"{lam} {score[:4]}"


def opened(family: Family, score: Array, level: Array) -> Array:
    mask: Array = family.apply(torch.from_numpy(score)[None, None], torch.from_numpy(level)[None]).numpy()
    return mask


@pytest.mark.parametrize(
    "family",
    [
        Binary("largest"),
        Power(),
        Power(gamma=1.0, kappa=0.0),
        WaterFilling(),
        WaterFilling(kappa=0.0),
        WaterFilling(kappa=0.7),
        WaterFilling(exponent=2.0),
        WaterFilling(exponent=1.5, kappa=0.0),
        WaterFilling(exponent=1.1, kappa=0.7),
    ],
    ids=repr,
)
def test_levels_are_those_of_the_kernels_bit_for_bit(family: Family) -> None:
    for _, expected, level, called in levels(family):
        np.testing.assert_array_equal(level, expected, err_msg=called)


@pytest.mark.parametrize(
    "family",
    [
        TrustedMean(),
        TrustedMean(kappa=0.0),
        TrustedMean(kappa=1.0),
        Binary(),
        Binary(kappa=0.0),
        Binary("mean"),
        Binary("mean", kappa=0.0),
    ],
    ids=repr,
)
def test_masks_are_those_of_sorted_scores(family: Family) -> None:
    for score, expected, level, called in levels(family):
        mask, sorted_mask = opened(family, score, level), opened(family, score, expected)
        np.testing.assert_allclose(mask, sorted_mask, rtol=0, atol=1e-6, err_msg=called)


def test_a_family_without_passes_is_refused() -> None:
    class Plain(Family):
        name = "plain"
        level, apply = Power.level, Power.apply

    with pytest.raises(MismatchError, match="your own family 'plain' needs a method streaming_level"):
        Plain().streaming_level(0.1, 10)
