"""The compiled kernels behind levels, critical lambdas and curves.

Both kernels take one image's pixels, flat float32, and run on one thread; sums are float64.

The budget of a level is lambda times a power of the mean score. With one lambda for all images, mostly the
hard ones exceed the threshold. A lambda that falls slowly with the mean score restores their coverage and
costs hardly any mask size (research/results/smaller-masks.md). Any factor that depends on the score alone
keeps masks nested, and so keeps the promise.

An ONNX graph has no compiled kernels, no loops, no branches on values. Sums are float64 and levels are
rounded down to float32, as in the kernels. The exporter writes constants in float32, in which 1e-200 would
become 0 and 1 + 1e-12 would become 1: such bounds are written with constants that float32 can hold.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arrays import Array, Images, PerImage, image_means, per_image
from conformask.errors import InvalidArgumentError

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
LARGEST_KEY = np.float32(np.finfo(np.float32).max).view(np.uint32)
DIGITS = ((20, 11), (9, 11), (0, 9))
"""Radix digits of a non-negative float32, as (shift, bits)."""
BUCKETS = 2**14
"""Number of equal ranges of bits of keys in which `places_of` looks for edges."""
STREAMS = 4
"""Number of distant places that `histogram` reads in turn."""
THIN = 16
"""Step between the runs of pixels that are used for a guess; larger for a large image."""
NEAR = 1e-6
"""Relative length of a Newton step that may be the last, so that `crossed` looks for pixels within it."""
LARGE = 2**25
"""Number of pixels above which fewer of an image are used for a guess."""


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
def radix_sorted(values: Array) -> Array:
    """Return values >= 0, (n,) float32, in ascending order, by radix: several times faster than np.sort."""
    keys = values.view(np.uint32)  # floats >= 0 have the order of their bits as integers
    for shift, bits in DIGITS[::-1]:
        starts, placed = np.zeros((1 << bits) + 1, np.int64), np.empty_like(keys)
        for key in keys:
            starts[((key >> np.uint32(shift)) & np.uint32((1 << bits) - 1)) + 1] += 1
        starts = starts.cumsum()
        for key in keys:
            digit = (key >> np.uint32(shift)) & np.uint32((1 << bits) - 1)
            placed[starts[digit]] = key
            starts[digit] += 1
        keys = placed
    return keys.view(np.float32)


@compiled
def sums_of(values: Array) -> Array:
    """Return the sums of the first 0 to n values (n,), float64 (n + 1,)."""
    sums, total = np.zeros(values.size + 1), 0.0
    for i in range(values.size):
        total += values[i]
        sums[i + 1] = total
    return sums


@compiled
def counts_within(sums: Array, budgets: Array) -> Array:
    """Return for each budget how many of the first values have at most this mean; it grows with the budget.

    The values ascend, so that their running means do; sums are those of `sums_of`.
    """
    counts = np.zeros(budgets.size, np.int64)
    for g in range(budgets.size):
        last = sums.size - 1
        while counts[g] < last:
            half = (counts[g] + last + 1) // 2
            if sums[half] <= budgets[g] * half:
                counts[g] = half
            else:
                last = half - 1
    return counts


def fillings(score: Tensor, budgets: Array, *, of_shown: bool) -> Array:
    """Fill each image up to each of its budgets (N, G); returns (N, G, 3), see `filled_up_to`."""
    rows = zip(images(score, "score"), budgets, strict=True)
    levels = np.empty((*budgets.shape, 3))
    for level, (pixels, of_image) in zip(levels, rows, strict=True):
        level[:] = filled_up_to(pixels, of_image, of_shown=of_shown)
    return levels


def filled_up_to(score: Array, budgets: Array, *, of_shown: bool) -> Array:
    """Show the scores of an image in ascending order until their sum is the budget times all pixels.

    If `of_shown`, until their mean is the budget; nothing is shown where the least score is not below it.
    Returns (G, 3) for budgets (G,): the smallest score that is not shown wholly (inf if all are), the
    fraction of the pixels at it that the rest of the budget is enough for, and the number of pixels below it.
    """
    ascending = radix_sorted(score)
    sums, size, limits = sums_of(ascending), score.size, budgets * (1 + NOISE)
    if of_shown:
        fit = counts_within(sums, limits)
        fit[budgets <= float(ascending[0]) * (1 + NOISE)] = 0
    else:
        fit = np.searchsorted(sums[1:], budgets * size, side="right")
        fit[limits * size >= sums[-1]] = size
        fit[budgets <= 0] = 0
    levels = np.tile([np.inf, 0.0, size], (budgets.size, 1))
    partly = fit < size
    edges, budgets = ascending[fit[partly]], budgets[partly]
    first, beyond = (np.searchsorted(ascending, edges, side) for side in ("left", "right"))
    slack = budgets * (first if of_shown else size) - sums[first]
    cost = (beyond - first) * (edges - budgets * of_shown)
    fractions = np.divide(slack, cost, out=np.zeros_like(slack), where=cost > 0)
    levels[partly] = np.column_stack([edges, fractions.clip(0, 1), first])
    return levels


@compiled
def boundary(score: Array, weight: Array, goal: float) -> tuple[float, float, int]:
    """Fill pixels in order of score until their weight is the goal; by radix selection, without a sort.

    score and weight (n,) float32 >= 0. Returns the smallest score at which the cumulative weight exceeds the
    goal (inf if none does), the fraction of the weight at it that fits, and the number of pixels with it.
    """
    keys = score.view(np.uint32)
    sums = histogram(keys, weight, *DIGITS[0])
    if sums.sum() <= goal * (1 + NOISE):
        return np.inf, 0.0, 0
    digit, below = crossing(sums, 0.0, goal)
    keys, weight = members(keys, weight, *DIGITS[0], digit)
    for shift, bits in DIGITS[1:]:
        digit, below = crossing(histogram(keys, weight, shift, bits), below, goal)
        keys, weight = members(keys, weight, shift, bits, digit)
    fraction = min(1.0, max(0.0, (goal - below) / sum_below(weight, np.inf)))
    return np.float64(keys.view(np.float32)[0]), fraction, keys.size


def selection(score: Array, weight: Array, goal: float) -> tuple[float, float, float, float]:
    """Return the boundary score and its fraction for one goal, and the sums of the scores below and at it."""
    pivot, fraction, count = boundary(score, weight, goal)
    return pivot, fraction, sum_below(score, pivot), pivot * count if count else 0.0


def medians(values: Tensor, counted: Tensor) -> PerImage:
    """Return the lower median of each image's values >= 0 where `counted` is 1, not 0; 0 if it is nowhere."""
    rows = []
    for row, weight in zip(images(values, "values"), images(counted, "counted"), strict=True):
        count = weight.sum(dtype=np.float64)
        rows.append(boundary(row, weight, (count - 1) // 2)[0] if count else 0.0)
    return torch.tensor(rows, dtype=torch.float64)


def images(batch: Tensor, name: str) -> Iterator[Array]:
    """Yield each image's pixels, flat float32 on the CPU, checked; memory of one image at a time."""
    for index, image in enumerate(batch.detach()):
        pixels: Array = image.to("cpu", torch.float32).contiguous().view(-1).numpy()
        if pixels.size and pixels.view(np.uint32).max() > LARGEST_KEY:
            pixels = pixels + np.float32(0)  # turns -0.0 into 0.0
            wrong = pixels[~((pixels >= 0) & np.isfinite(pixels))]
            if wrong.size:
                raise InvalidArgumentError(
                    f"{name}: image {index} contains {wrong[0]}; every value must be finite and at least 0. "
                    "Clip it or fix its source"
                )
        yield pixels


def pairs(score: Tensor, error: Tensor, threshold: float) -> Iterator[tuple[Array, Array]]:
    """Yield each image's score and error, flat and checked as by `images`."""
    if score.shape != error.shape:
        raise InvalidArgumentError(
            f"error: shape {tuple(error.shape)} differs from the shape of the score, {tuple(score.shape)}; "
            "average it over channels for a one-channel score"
        )
    if not threshold >= 0:
        raise InvalidArgumentError(f"threshold: {threshold}; it must be at least 0")
    yield from zip(images(score, "score"), images(error, "error"), strict=True)


def lambdas(lam: Tensor, n: int) -> Array:
    """Return lam as float64 (N, G), G = 1 for shape (N,)."""
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


@compiled
def places_of(keys: Array, edges: Array, closed: bool) -> Array:
    """Return the number of ascending edges below each key >= 0, or if `closed` not above it; as searchsorted.

    Keys are put into BUCKETS of float32 between the least and the largest, few of which have an edge.
    """
    bits = (keys + np.float32(0)).astype(np.float32).view(np.uint32)
    of_edges = (edges + np.float32(0)).astype(np.float32).view(np.uint32)
    least, largest, shift = bits.min(), bits.max(), np.uint32(0)
    while (largest - least) >> shift >= BUCKETS:
        shift += np.uint32(1)
    first = np.zeros(BUCKETS + 1, np.int64)
    for bit in of_edges:
        first[((min(max(bit, least), largest) - least) >> shift) + 1] += 1
    first, places = first.cumsum(), np.empty(keys.size, np.int64)
    for i in range(keys.size):
        bucket = (bits[i] - least) >> shift
        place, last = first[bucket], first[bucket + 1]
        while place < last:
            half = (place + last) // 2
            below = edges[half] < keys[i] or (closed and edges[half] == keys[i])
            place, last = (half + 1, last) if below else (place, half)
        places[i] = place
    return places


@compiled
def summed(places: Array, weight: Array, count: int) -> Array:
    """Return the sum of the weights at each of so many places, float64; twice as fast as np.bincount."""
    sums = np.zeros(count)
    for i in range(places.size):
        sums[places[i]] += weight[i]
    return sums


def binned(keys: Array, edges: Array, *weights: Array, closed: bool = False) -> Array:
    """Sum weights by the number of edges below a key, or if `closed` not above it.

    edges (G,) are ascending; keys and weights (n,); returns (len(weights), G + 1).
    """
    places = places_of(keys, edges, closed)
    return np.array([summed(places, weight, len(edges) + 1) for weight in weights])


def saturating_curve(
    keys: Array, error: Array, edges: Array, power: float, exponent: float
) -> tuple[Array, Array]:
    """Return (distance, size) of the masks min(1, (edge / key)^power), each (G,); 0 at edge 0.

    distance = mean(mask^exponent * error); keys and error (n,), edges (G,) ascending from 0 to inf. Pixels
    beyond an edge are summed from the far end, so that the steep slopes of small keys do not drown them in
    rounding. Sums at an edge do not depend on the other edges, so that equal images have equal sizes on any
    grid.
    """
    scale = keys.max() or 1.0
    tiny = (keys / scale) ** (power * exponent) <= NEGLIGIBLE
    ratio = np.where(tiny, np.inf, keys / scale)
    slopes = error * ratio ** -(power * exponent), ratio**-power
    sums = binned(keys, edges, error, np.ones(len(keys)), *slopes)
    full, beyond = sums[:2].cumsum(axis=1)[:, :-1], sums[2:, ::-1].cumsum(axis=1)[:, -2::-1]
    reach = np.minimum(edges / scale, 1.0)
    shown = full + beyond * np.stack([reach ** (power * exponent), reach**power])
    if tiny.any():
        shown[0] += _tiny_beyond(keys[tiny], error[tiny], edges, power * exponent)
        shown[1] += _tiny_beyond(keys[tiny], np.ones(tiny.sum()), edges, power)
    distance, size = shown[0] / len(keys), 1 - shown[1] / len(keys)
    return np.where(edges > 0, distance, 0.0), np.where(edges > 0, size.clip(0, 1), 1.0)


def _tiny_beyond(keys: Array, weight: Array, edges: Array, power: float) -> Array:
    """Sum weight * (edge / key)^power over the keys above each edge, (G,), whose slopes would overflow.

    Each key is related to the edge below it, and each edge hands its sum down to the one below: all factors
    are at most 1.
    """
    below = np.concatenate([[0.0], edges])
    place = np.searchsorted(edges, keys, side="left")
    dimmed = weight * np.divide(below[place], keys, out=np.zeros(len(keys)), where=keys > 0) ** power
    own = np.bincount(place, dimmed, minlength=len(below))[1:]
    steps = np.divide(edges[:-1], edges[1:], out=np.ones(len(edges) - 1), where=edges[:-1] < edges[1:])
    sums, total = np.zeros(len(edges)), 0.0
    for edge in range(len(edges) - 1, -1, -1):
        total = own[edge] + (total * steps[edge] ** power if edge < len(steps) else 0.0)
        sums[edge] = total
    return sums


def boundary_curve(
    keys: Array, error: Array, edges: Array, fractions: Array, exponent: float
) -> tuple[Array, Array]:
    """Return (distance, size) of masks that are 1 below an edge, the fraction at it, 0 above; each (G,)."""
    weights = error, np.ones(len(keys))
    error_below, below = binned(keys, edges, *weights, closed=True).cumsum(axis=1)[:, :-1]
    if not fractions.any():
        return error_below / len(keys), 1 - below / len(keys)
    error_within, within = binned(keys, edges, *weights).cumsum(axis=1)[:, :-1]
    distance = error_below + fractions**exponent * (error_within - error_below)
    opened = below + fractions * (within - below)
    return distance / len(keys), 1 - opened / len(keys)


def of_each_image(
    score: Tensor, error: Tensor, levels: Array, curve: Callable[[Array, Array, Array], tuple[Array, Array]]
) -> tuple[Array, Array]:
    """Return (distance, size), each (N, G), of curve(score float64, error, level) for each image."""
    curves = []
    for (s, e), level in zip(pairs(score, error, 0.0), levels, strict=True):
        if s.size and s.min() == s.max():  # all pixels are shown alike, and so as one
            s, e = s[:1], e.mean(dtype=np.float64, keepdims=True)
        curves.append(curve(s.astype(np.float64), e, level))
    return np.stack([distance for distance, _ in curves]), np.stack([size for _, size in curves])


KAPPA = -0.25
"""Default exponent of the mean score; for scores of errors to a power, it is divided by the power."""
PIXELS = 2**22
"""Number of pixels summed at once: torch converts all that it sums to float64."""
TO_NEXT = 2.0**24
"""A positive float32 minus 1 / TO_NEXT of itself is the next smaller float32."""
LARGEST_FLOAT = torch.finfo(torch.float32).max


def check_kappa(kappa: float) -> None:
    """Refuse exponents of the mean score that would break scores near 0."""
    if not -1 <= kappa <= 1:
        raise InvalidArgumentError(f"kappa: {kappa}; it must lie in [-1, 1], and 0 treats all images alike")


def shares(score: Images, kappa: float) -> Float[np.ndarray, "n"]:
    """Return mean(score)^kappa of each image, float64; 1 where the score is 0 everywhere."""
    if kappa == 0:
        return np.ones(len(score))
    parts = torch.split(score.flatten(1), PIXELS, dim=1)
    sums = torch.stack([part.sum(dim=1, dtype=torch.float64) for part in parts]).sum(dim=0)
    return _of_means((sums / max(1, score[:1].numel())).cpu().numpy(), kappa)


def share_of_total(total: float, pixels: int, kappa: float) -> float:
    """Return mean(score)^kappa of one image, as `shares` does, from the sum of its score."""
    return float(_of_means(np.array([total / max(1, pixels)]), kappa)[0])


def spent(score: Images, lam: Tensor, kappa: float) -> Float[np.ndarray, "n g"]:
    """Return lam, (N,) or (N, G), times mean(score)^kappa of its image; float64, G = 1 for shape (N,)."""
    return np.asarray(lambdas(lam, len(score)) * shares(score, kappa)[:, None])


def _of_means(means: Float[np.ndarray, "n"], kappa: float) -> Float[np.ndarray, "n"]:
    return np.where(means > 0, means, 1.0) ** kappa


def within_noise(total: Float[Tensor, "n p"], budget: Float[Tensor, "n 1"]) -> Tensor:
    """Return total <= budget * (1 + NOISE), in operations of the graph."""
    return total - budget <= budget / (1 / NOISE)


def shares_in_graph(score: Images, kappa: float) -> PerImage:
    """Return mean(score)^kappa, float64; 1 where the score is 0 everywhere."""
    mean = image_means(score.double())
    return torch.where(mean > 0, mean, 1.0) ** kappa


def rounded_down_in_graph(values: PerImage) -> PerImage:
    """Round to float32, never above the float64 value."""
    rounded = values.float()
    return torch.where(
        rounded.double() > values, rounded - rounded.clamp(max=LARGEST_FLOAT) / TO_NEXT, rounded
    )


def up_to(score: Images, level: Float[Tensor, "n 2"]) -> Images:
    """Return 1 below the boundary score, the fraction at it, 0 above; the level holds both."""
    s = score.float()
    boundary, fraction = (per_image(part, s) for part in level.to(s.device, torch.float32).unbind(1))
    return torch.where(s < boundary, 1.0, torch.where(s == boundary, fraction, 0.0))
