"""The two compiled kernels behind every exact level and critical lambda, and the checks before them.

Both take one image's pixels, flat float32, and run on one thread; sums are float64.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from conformask.errors import InvalidArgumentError
from conformask.storage.as_arrays import Array as Array

try:
    import numba
except ValueError as error:
    raise InvalidArgumentError(
        f"the environment variable NUMBA_NUM_THREADS is not valid ({error}): unset it, or give at least 1"
    ) from error

Function = TypeVar("Function", bound=Callable[..., Any])

NOISE = 1e-12
"""Relative rounding noise of a float64 sum over an image, below which two totals count as equal."""
NEGLIGIBLE = 1e-200
"""Powers of scores below this count as 0, so that no slope overflows."""
LARGEST = np.float32(np.finfo(np.float32).max).view(np.uint32)
DIGITS = ((20, 11), (9, 11), (0, 9))
"""Radix digits of a non-negative float32, as (shift, bits)."""
STREAMS = 4
"""Number of distant places that `histogram` reads in turn."""
THIN = 16
"""Step between the runs of pixels that are used for a guess; larger for a large image."""
NEAR = 1e-6
"""Relative length of a Newton step that may be the last, so that `crossed` looks for pixels within it."""
LARGE = 2**25
"""Number of pixels above which an image is read again rather than copied in part, to save memory."""


def compiled(function: Function) -> Function:
    """Compile for one thread; sums may be reordered (hence vectorised), inf and NaN keep their meaning.

    Compiled code is cached beside this file or in the user's cache, and not at all if neither is writable:
    code must not be loaded from a folder that others can write to.
    """
    settings = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract"}}
    plain = inspect.unwrap(function)
    try:
        return cast(Function, numba.njit(cache=True, **settings)(plain))
    except RuntimeError:  # no folder for a cache is writable
        return cast(Function, numba.njit(**settings)(plain))


@compiled
def sides(limit: Array, weight: Array, offset: float, squared: bool, u: float) -> tuple[float, float, float]:
    """Return the weight of pixels with a <= u; of the others, weight and slope w / a. See `saturation`."""
    full, rest, slope = 0.0, 0.0, 0.0
    for i in range(weight.size):
        a = limit[i] + offset
        a = a * a if squared else a
        full += 0.0 if a > u else weight[i]
        rest += weight[i] if a > u else 0.0
        slope += weight[i] / a if a > u else 0.0
    return full, rest, slope


@compiled
def crossed(limit: Array, offset: float, squared: bool, u: float, step: float) -> bool:
    """Return whether a pixel may lie between u and the step; if not, the sum is linear there."""
    if abs(step - u) > NEAR * u:
        return True
    low, high, count = min(u, step), max(u, step), 0
    for i in range(limit.size):
        a = limit[i] + offset
        a = a * a if squared else a
        count += 1 if low < a <= high else 0
    return count > 0


@compiled
def saturation(
    limit: Array, weight: Array, offset: float, squared: bool, goals: Array, start: float
) -> Array:
    """Return sup{u : sum_i w_i min(1, u / a_i) <= goal} for each goal, exact; a = offset + limit, or a^2.

    Newton's method: the sum is concave and piecewise linear in u, so a step from anywhere lands left of the
    solution, each further step moves right, and finitely many reach it. limit (n,) float32 or float64 and
    weight (n,) float32, all >= 0; goals (G,) float64 ascending; start any guess. If `squared`, a is the
    square of offset + limit. Returns (G,): inf where the whole weight is within the goal, 0 where the pixels
    with a = 0 alone exceed it.
    """
    u, guessed = start, True
    full, rest, slope = sides(limit, weight, offset, squared, u)
    total = full + rest
    levels = np.full(goals.size, np.inf)
    for g in range(goals.size):
        if total > goals[g] * (1 + NOISE):
            step = max(0.0, (goals[g] - full) / slope)
            while (step > u or guessed) and crossed(limit, offset, squared, u, step):
                u, guessed = step, False
                full, rest, slope = sides(limit, weight, offset, squared, u)
                step = max(0.0, (goals[g] - full) / slope)
            u = levels[g] = step if step > u or guessed else u
            guessed = False
    return levels


def full_below(score: Array, weight: Array, offset: float, power: float, goals: Array) -> Array:
    """Return sup{l : sum_i w_i min(1, l / (offset + s_i))^power <= goal} for each goal, exact.

    See `saturation`. The initial guess is found on a sixteenth of the pixels, or fewer of a large image.
    """
    scale, limit = 1.0, score
    if power not in (1, 2):
        # powers once, not in every pass; relative to the largest score they stay within float64
        scale = float(score.max()) + offset or 1.0
        limit = np.divide(np.add(score, offset, dtype=np.float64), scale) ** power
        limit[limit < NEGLIGIBLE] = 0
        offset = 0.0
    squared = power == 2
    few = saturation(thinned(limit), thinned(weight), offset, squared, goals[:1] / thinning(limit.size), 0.0)
    start = float(few[0]) if few.size and np.isfinite(few[0]) else 0.0
    return scale * saturation(limit, weight, offset, squared, goals, start) ** (1 / power)


def thinning(size: int) -> int:
    """Return the step between the runs of pixels that are used for a guess."""
    return THIN * max(1, size // LARGE)


def thinned(pixels: Array) -> Array:
    """Copy every sixteenth run of 64 pixels, or fewer of a large image."""
    run, every = 64, 64 * thinning(pixels.size)
    length = pixels.size // every * every
    return np.ascontiguousarray(pixels[:length].reshape(-1, every)[:, :run]).reshape(-1)


@compiled
def filled(score: Array, power: float, level: float) -> float:
    """Return sum_i s_i min(1, level / s_i)^power, for a level above 0."""
    total = 0.0
    if power == 2:
        for i in range(score.size):
            share = min(1.0, level / score[i])
            total += score[i] * share * share
    else:
        for i in range(score.size):
            total += score[i] * min(1.0, level / score[i]) ** power
    return total


@compiled
def histogram(keys: Array, weight: Array, shift: int, bits: int) -> Array:
    """Sum weights by the digit (shift, bits) of the key; (2^bits,) float64.

    Neighbouring pixels often fall into one bin; reading from distant streams in turn avoids waiting for it.
    """
    sums = np.zeros(1 << bits)
    stride = (keys.size + STREAMS - 1) // STREAMS
    for start in range(stride):
        for i in range(start, keys.size, stride):
            sums[(keys[i] >> np.uint32(shift)) & np.uint32((1 << bits) - 1)] += weight[i]
    return sums


@compiled
def crossing(sums: Array, below: float, goal: float) -> tuple[int, float]:
    """Return the first bin at which below + cumulative sum exceeds the goal, and the sum before it.

    If rounding hides the crossing, it is the last bin with a weight.
    """
    place, before = 0, below
    for digit in range(sums.size):
        if sums[digit] > 0:
            place, before = digit, below
            below += sums[digit]
            if below > goal:
                break
    return place, before


@compiled
def members(keys: Array, weight: Array, shift: int, bits: int, digit: int) -> tuple[Array, Array]:
    """Copy keys and weights of the bin `digit`; always writes and then advances or not, without branches."""
    member_keys, member_weights = np.empty_like(keys), np.empty_like(weight)
    count = 0
    for i in range(keys.size):
        member_keys[count], member_weights[count] = keys[i], weight[i]
        count += (keys[i] >> np.uint32(shift)) & np.uint32((1 << bits) - 1) == np.uint32(digit)
    return member_keys[:count], member_weights[:count]


@compiled
def sum_below(score: Array, pivot: float) -> float:
    """Sum the values below the pivot, float64."""
    total = 0.0
    for i in range(score.size):
        total += float(score[i]) if score[i] < pivot else 0.0
    return total


@compiled
def histogram_within(keys: Array, weight: Array, shift: int, bits: int, prefix: int) -> Array:
    """Compute the histogram of the keys whose higher digits are the prefix; see `histogram`."""
    sums = np.zeros(1 << bits)
    for i in range(keys.size):
        if keys[i] >> np.uint32(shift + bits) == np.uint32(prefix):
            sums[(keys[i] >> np.uint32(shift)) & np.uint32((1 << bits) - 1)] += weight[i]
    return sums


@compiled
def saturating_within(
    keys: Array, score: Array, shift: int, bits: int, prefix: int, tops: Array, power: float
) -> Array:
    """Sum s (top / s)^power by digit of the keys with the prefix, top the digit's largest score."""
    sums = np.zeros(1 << bits)
    for i in range(keys.size):
        if keys[i] >> np.uint32(shift + bits) == np.uint32(prefix) and score[i] > 0:
            digit = (keys[i] >> np.uint32(shift)) & np.uint32((1 << bits) - 1)
            sums[digit] += score[i] * (tops[digit] / score[i]) ** power
    return sums


@compiled
def beyond_tops(sums: Array, tops: Array, power: float, beyond: float) -> Array:
    """Return what a mask spends beyond each digit if it is full below the digit's top; all (digits,).

    `sums` are those of `saturating_within`; `beyond` is what the mask spends beyond all digits if it is full
    below the last.
    """
    spent = np.empty(sums.size)
    spent[-1] = beyond
    for digit in range(sums.size - 2, -1, -1):
        spent[digit] = (spent[digit + 1] + sums[digit + 1]) * (tops[digit] / tops[digit + 1]) ** power
    return spent


@compiled
def sum_at(keys: Array, weight: Array, key: int) -> tuple[float, int]:
    """Return the weight of the pixels with this key, and their number."""
    total, count = 0.0, 0
    for i in range(keys.size):
        if keys[i] == np.uint32(key):
            total += weight[i]
            count += 1
    return total, count


@compiled
def by_digit(keys: Array, weight: Array, shift: int, bits: int) -> tuple[Array, Array, Array]:
    """Return keys and weights bin by bin, in their order within each, and where each bin starts."""
    starts = np.zeros((1 << bits) + 1, np.int64)
    for i in range(keys.size):
        starts[((keys[i] >> np.uint32(shift)) & np.uint32((1 << bits) - 1)) + 1] += 1
    starts = starts.cumsum()
    sorted_keys, sorted_weights, place = np.empty_like(keys), np.empty_like(weight), starts.copy()
    for i in range(keys.size):
        digit = (keys[i] >> np.uint32(shift)) & np.uint32((1 << bits) - 1)
        sorted_keys[place[digit]], sorted_weights[place[digit]] = keys[i], weight[i]
        place[digit] += 1
    return sorted_keys, sorted_weights, starts


@compiled
def boundary_in_place(
    keys: Array, weight: Array, digit: int, below: float, goal: float
) -> tuple[int, float, float, int]:
    """Return the key where the cumulative weight exceeds the goal, the weights below and at it, and a count.

    The search starts at a bin of the first digit, below which the weight is `below`, and copies none, as they
    may be too many. The count is the number of pixels with the key.
    """
    key = digit
    for shift, bits in DIGITS[1:]:
        digit, below = crossing(histogram_within(keys, weight, shift, bits, key), below, goal)
        key = (key << bits) | digit
    at, count = sum_at(keys, weight, key)
    return key, below, at, count


@compiled
def boundaries(score: Array, weight: Array, goals: Array) -> Array:
    """Fill pixels in order of score until their weight is the goal; by radix selection, without a sort.

    score and weight (n,) float32 >= 0, goals (G,) float64; returns (G, 3): the smallest score s* at which the
    cumulative weight exceeds the goal (inf if none does), the fraction of the weight at s* that fits, and the
    number of pixels with this score.
    """
    keys = score.view(np.uint32)  # floats >= 0 have the order of their bits as integers
    coarse, rows, is_large = histogram(keys, weight, *DIGITS[0]), np.empty((goals.size, 3)), keys.size > LARGE
    total, starts = coarse.sum(), np.zeros(1, np.int64)
    if goals.size > 1 and not is_large:
        keys, weight, starts = by_digit(keys, weight, *DIGITS[0])
    first, second = -1, -1  # digits of the last goal, whose bin the next one often falls into
    bin_keys, bin_weights, bin_sums = keys, weight, coarse
    few_keys, few_weights, few_sums = keys, weight, coarse
    for g in range(goals.size):
        if total <= goals[g] * (1 + NOISE):
            rows[g] = np.array([np.inf, 0.0, 0.0])
            continue
        digit, below = crossing(coarse, 0.0, goals[g])
        if is_large:
            key, below, at, count = boundary_in_place(keys, weight, digit, below, goals[g])
        else:
            if digit != first:
                if goals.size > 1:
                    span = slice(starts[digit], starts[digit + 1])
                    bin_keys, bin_weights = keys[span], weight[span]
                else:
                    bin_keys, bin_weights = members(keys, weight, *DIGITS[0], digit)
                first, second, bin_sums = digit, -1, histogram(bin_keys, bin_weights, *DIGITS[1])
            digit, below = crossing(bin_sums, below, goals[g])
            if digit != second:
                few_keys, few_weights = members(bin_keys, bin_weights, *DIGITS[1], digit)
                second, few_sums = digit, histogram(few_keys, few_weights, *DIGITS[2])
            digit, below = crossing(few_sums, below, goals[g])
            same_keys, same_weights = members(few_keys, few_weights, *DIGITS[2], digit)
            key, at, count = int(same_keys[0]), sum_below(same_weights, np.inf), same_keys.size
        pivot = np.float64(np.array([key], dtype=np.uint32).view(np.float32)[0])
        rows[g] = np.array([pivot, min(1.0, max(0.0, (goals[g] - below) / at)), count])
    return rows


def selection(score: Array, weight: Array, goal: float) -> tuple[float, float, float, float]:
    """Return the boundary score and its fraction for one goal, and the sums of the scores below and at it."""
    ((pivot, fraction, count),) = boundaries(score, weight, np.array([goal]))
    return pivot, fraction, sum_below(score, pivot), pivot * count if count else 0.0


def images(batch: Tensor, name: str) -> Iterator[Array]:
    """Yield each image's pixels, flat float32 on the CPU, checked; memory of one image at a time.

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
            f"{name}: image {index} contains {wrong[0]}; every value must be finite and at least 0. Clip it "
            "or fix its source"
        )


def pairs(score: Tensor, error: Tensor, threshold: float) -> Iterator[tuple[Array, Array]]:
    """Yield each image's score and error, flat and checked as by `images`.

    Raises:
        InvalidArgumentError: the shapes differ, the threshold is negative or NaN, or a value is not allowed.
    """
    if score.shape != error.shape:
        raise InvalidArgumentError(
            f"error: shape {tuple(error.shape)} differs from the shape of the score, {tuple(score.shape)}; "
            "average it over channels for a one-channel score"
        )
    if not threshold >= 0:
        raise InvalidArgumentError(f"threshold: {threshold}; it must be at least 0")
    yield from zip(images(score, "score"), images(error, "error"), strict=True)


def lambdas(lam: Tensor, n: int) -> Array:
    """Return lam as float64 (N, G), G = 1 for shape (N,).

    Raises:
        InvalidArgumentError: the number of rows is not n, or a lambda is negative or NaN.
    """
    values: Array = lam.detach().to("cpu", torch.float64).numpy()
    if len(values) != n:
        raise InvalidArgumentError(f"lam: {len(values)} rows for {n} images; give (N,) or (N, G)")
    if not (values >= 0).all():
        raise InvalidArgumentError(f"lam: {values[~(values >= 0)][0]}; every lambda must be at least 0")
    return values.reshape(n, math.prod(values.shape[1:]))


def rounded_down(values: Array) -> Array:
    """Round to float32, never above the float64 value, so that a mask never exceeds its budget."""
    with np.errstate(over="ignore"):
        rounded: Array = values.astype(np.float32)
    return np.where(rounded > values, np.nextafter(rounded, np.float32(0)), rounded)
