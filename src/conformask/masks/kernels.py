"""The two compiled kernels that every exact level and critical lambda comes from, and the edge before them.

Both take one image's pixels, flat float32, and run on one thread; sums are float64.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import numba
import numpy as np
import torch
from torch import Tensor

from conformask.errors import InvalidArgumentError

Array = np.ndarray[Any, np.dtype[Any]]
Function = TypeVar("Function", bound=Callable[..., Any])

NOISE = 1e-12
"""Relative rounding noise of a float64 sum over an image, below which two totals count as equal."""
TINY = np.finfo(np.float64).tiny
LARGEST = np.float32(np.finfo(np.float32).max).view(np.uint32)
DIGITS = ((20, 11), (9, 11), (0, 9))
"""(shift, bits) of the radix digits of a non-negative float32."""
STREAMS = 4


def compiled(function: Function) -> Function:
    """Compile for one thread; sums may be reordered (hence vectorised), inf and NaN keep their meaning."""
    settings = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract"}}
    return cast(Function, numba.njit(**settings)(inspect.unwrap(function)))


@compiled
def raise_to(base: Array, power: float) -> None:
    """base **= power, with vectorised loops for the common powers."""
    if power == 2:
        for i in range(base.size):
            base[i] *= base[i]
    elif power != 1:
        for i in range(base.size):
            base[i] **= power


@compiled
def sides(score: Array, weight: Array, slopes: Array, cut: float) -> tuple[float, float]:
    """The weight of the pixels up to the cut, and the slopes of those beyond it."""
    full, slope = 0.0, 0.0
    for i in range(score.size):
        rising = score[i] > cut
        full += 0.0 if rising else weight[i]
        slope += slopes[i] if rising else 0.0
    return full, slope


@compiled
def saturation(score: Array, weight: Array, offset: float, scale: float, power: float, goals: Array) -> Array:
    """sup{level : sum_i w_i min(1, (level / (offset + s_i))^power) <= goal} for each goal, exact.

    Newton from the left in u = (level / scale)^power, in which the sum is concave and piecewise linear: each
    step stays left of the answer, and finitely many reach it. score and weight (n,) float32 >= 0, goals (G,)
    float64 ascending; a scale near the largest offset + s keeps powers in range. Returns (G,): inf where the
    whole weight is within the goal, 0 where the pixels with offset + s = 0 alone exceed it.
    """
    slopes = (score + offset) * (1 / scale)
    raise_to(slopes, power)
    total, full, slope, u = 0.0, 0.0, 0.0, 0.0
    for i in range(score.size):
        rising = slopes[i] > TINY
        slopes[i] = weight[i] / slopes[i] if rising else 0.0
        slope += slopes[i]
        full += 0.0 if rising else weight[i]
        total += weight[i]
    levels = np.full(goals.size, np.inf)
    for g in range(goals.size):
        if total > goals[g] * (1 + NOISE):
            step = (goals[g] - full) / slope
            while step > u:
                u = step
                full, slope = sides(score, weight, slopes, scale * u ** (1 / power) - offset)
                step = (goals[g] - full) / slope
            levels[g] = scale * u ** (1 / power)
    return levels


@compiled
def filled(score: Array, power: float, level: float) -> float:
    """sum_i s_i min(1, level / s_i)^power, for a level above 0."""
    share = np.minimum(1.0, level / score)
    raise_to(share, power)
    total = 0.0
    for i in range(score.size):
        total += score[i] * share[i]
    return total


@compiled
def histogram(keys: Array, weight: Array, shift: int, bits: int) -> Array:
    """Weight by the digit (shift, bits) of the key; (2^bits,) float64.

    Neighbouring pixels fall into one bin; reading from distant streams in turn avoids waiting for it.
    """
    sums = np.zeros(1 << bits)
    stride = (keys.size + STREAMS - 1) // STREAMS
    for start in range(stride):
        for i in range(start, keys.size, stride):
            sums[(keys[i] >> np.uint32(shift)) & np.uint32((1 << bits) - 1)] += weight[i]
    return sums


@compiled
def crossing(sums: Array, below: float, goal: float) -> tuple[int, float]:
    """The first bin at which below + cumulative sum exceeds the goal, and the sum before it.

    Where rounding hides the crossing, the last bin that weighs anything.
    """
    chosen, before = 0, below
    for digit in range(sums.size):
        if sums[digit] > 0:
            chosen, before = digit, below
            below += sums[digit]
            if below > goal:
                break
    return chosen, before


@compiled
def members(keys: Array, weight: Array, shift: int, bits: int, digit: int) -> tuple[Array, Array]:
    """Keys and weights of the bin `digit`; always writes, and moves on where it should, so never branches."""
    kept, kept_weight = np.empty_like(keys), np.empty_like(weight)
    count = 0
    for i in range(keys.size):
        kept[count], kept_weight[count] = keys[i], weight[i]
        count += (keys[i] >> np.uint32(shift)) & np.uint32((1 << bits) - 1) == np.uint32(digit)
    return kept[:count], kept_weight[:count]


@compiled
def sum_below(score: Array, pivot: float) -> float:
    """The sum of the values below the pivot, float64."""
    total = 0.0
    for i in range(score.size):
        total += float(score[i]) if score[i] < pivot else 0.0
    return total


@compiled
def selection(score: Array, weight: Array, goals: Array) -> Array:
    """Fill pixels in order of score until their weight is the goal; by radix selection, without a sort.

    score and weight (n,) float32 >= 0, goals (G,) float64; returns (G, 4): the smallest score s* at which the
    cumulative weight exceeds the goal (inf if none does), the fraction of the weight at s* that fits, and the
    sums of the scores below and at s*.
    """
    bits_of_score = score.view(np.uint32)
    coarse = histogram(bits_of_score, weight, *DIGITS[0])
    total = coarse.sum()
    found = np.empty((goals.size, 4))
    for g in range(goals.size):
        if total <= goals[g] * (1 + NOISE):
            found[g] = np.array([np.inf, 0.0, sum_below(score, np.inf), 0.0])
            continue
        digit, below = crossing(coarse, 0.0, goals[g])
        keys, kept = members(bits_of_score, weight, *DIGITS[0], digit)
        for shift, bits in DIGITS[1:]:
            digit, below = crossing(histogram(keys, kept, shift, bits), below, goals[g])
            keys, kept = members(keys, kept, shift, bits, digit)
        pivot = np.float64(keys[:1].view(np.float32)[0])
        fraction = min(1.0, max(0.0, (goals[g] - below) / sum_below(kept, np.inf)))
        found[g] = np.array([pivot, fraction, sum_below(score, pivot), pivot * keys.size])
    return found


def images(batch: Tensor, name: str) -> Iterator[Array]:
    """Each image's pixels, flat float32 on the CPU, checked; memory of one image at a time.

    Raises:
        InvalidArgumentError: a value is negative, NaN or infinite.
    """
    for index, image in enumerate(batch.detach()):
        pixels: Array = image.to("cpu", torch.float32).contiguous().view(-1).numpy()
        if pixels.size and pixels.view(np.uint32).max() > LARGEST:
            pixels = pixels + np.float32(0)  # turns -0.0 into 0.0
            _check(pixels, name, index)
        yield pixels


def _check(pixels: Array, name: str, index: int) -> None:
    wrong = pixels[~((pixels >= 0) & np.isfinite(pixels))]
    if wrong.size:
        raise InvalidArgumentError(
            f"{name}: image {index} holds {wrong[0]}; every value must be finite and at least 0. "
            f"Clip it or mend what made it"
        )


def pairs(score: Tensor, error: Tensor, threshold: float) -> Iterator[tuple[Array, Array]]:
    """Each image's score and error, as `images` gives them.

    Raises:
        InvalidArgumentError: the shapes differ, the threshold is negative or NaN, or a value is not allowed.
    """
    if score.shape != error.shape:
        raise InvalidArgumentError(
            f"error: shape {tuple(error.shape)} is not that of the score, {tuple(score.shape)}; average it "
            "over channels for a one-channel score"
        )
    if not threshold >= 0:
        raise InvalidArgumentError(f"threshold: {threshold}; it must be at least 0")
    yield from zip(images(score, "score"), images(error, "error"), strict=True)


def lambdas(lam: Tensor, n: int) -> Array:
    """lam as float64 (N, G), G = 1 for shape (N,).

    Raises:
        InvalidArgumentError: there are not n rows, or a lambda is negative or NaN.
    """
    values: Array = lam.detach().to("cpu", torch.float64).numpy()
    if len(values) != n:
        raise InvalidArgumentError(f"lam: {len(values)} rows for {n} images; give (N,) or (N, G)")
    if not (values >= 0).all():
        raise InvalidArgumentError(f"lam: {values[~(values >= 0)][0]}; every lambda must be at least 0")
    return values.reshape(n, math.prod(values.shape[1:]))


def rounded_down(values: Array) -> Array:
    """As float32, never above the float64 value, so that a mask never spends more than its lambda."""
    with np.errstate(over="ignore"):
        rounded: Array = values.astype(np.float32)
    return np.where(rounded > values, np.nextafter(rounded, np.float32(0)), rounded)
