"""Warnings about noisy references: what was seen, in which image, and what to do."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from conformask.data.repeat_checks import (
    FARTHEST,
    Correlation,
    Drift,
    Ends,
    Leak,
    SharedNoise,
    Shift,
    correlation,
    drift,
    ends,
    leaks,
    noise_ratio,
    noise_share,
    shared_noise,
    shift,
    without_drift,
)
from conformask.records.reference import NoiseModel
from conformask.records.sentence import rounded_share
from conformask.storage.as_arrays import Array
from conformask.types import Triplet

AT_END = 1e-3
"""Share of values at an end of the range above which a reference is called clipped."""
DRIFTED = 0.02
"""Relative difference in brightness between repeats above which it is called drift."""
CLEAR = 7.0
"""Standard errors that drift needs in one image; 16 parts of an image make them uncertain themselves."""
SHARED, VISIBLE = 0.9, 3.0
"""Correlation of one repeat with the noise of the input from which it is the same, and its least z."""
LEAKED, BROKEN = 0.02, 0.1
"""Share of noise in x, or of squared error out of sight, from which a leak is named, and refused."""
OWN = 0.01
"""Share of the noise of x in y_hat whose absence is named if VISIBLE standard errors are below it."""
MOVED, APART = 0.2, 0.5
"""Pixels between the repeats of an image from which they are said to be apart, and are refused."""
MOST = 0.5
"""Share of the images above which the noise of single ones counts."""
LESS_NOISE = 0.5
"""Share of the variance of the other repeat, or of the model, below which a reference was processed."""

REMEDY = (
    "divide frames, counts or acquisitions among x and the repeats, so that none is in two of them, and make "
    "y_hat from x alone"
)
"""What to do about references that are not independent of the network's input and output."""


@dataclass(frozen=True)
class RepeatMeasures:
    """What was measured by comparing the two repeats of an image."""

    drift: Drift
    ratio: float
    correlation: Correlation
    shift: Shift
    in_x: Leak | None
    """Their noise in the network's input; None if it has another size or other channels."""
    in_y_hat: Leak

    @property
    def moved(self) -> bool:
        """Whether one repeat has clearly moved against the other."""
        return abs(self.shift.pixels) > max(MOVED, CLEAR * self.shift.error)


@dataclass(frozen=True)
class ReferenceMeasures:
    """What was measured of the reference of an image."""

    ends: Ends
    """Shares of values at the ends of the range; if there are two repeats, the larger ones."""
    is_input: bool
    """Whether a repeat is the network's input."""
    shared: SharedNoise | None
    """None if there are two repeats."""
    noise: float | None
    """The `noise_share` of b; None without a noise model."""
    two: RepeatMeasures | None
    """None if there is one repeat."""


def measure_reference(
    b: Array, x: Array, y_hat: Array, c: Array | None = None, model: NoiseModel | None = None
) -> ReferenceMeasures:
    """Measure the reference b of an image, its second repeat c if there is one, its noise if it is known.

    All images are (C, *space) in [0, 1].
    """
    repeats = [b] if c is None else [b, c]
    return ReferenceMeasures(
        Ends(*np.max([ends(each, y_hat) for each in repeats], axis=0).tolist()),
        any(np.array_equal(each, x) for each in repeats),
        shared_noise(b, x, y_hat) if c is None else None,
        None if model is None else noise_share(b, y_hat, model),
        None if c is None else _measure_repeats(b, c, x, y_hat),
    )


def _measure_repeats(b: Array, c: Array, x: Array, y_hat: Array) -> RepeatMeasures:
    drifted = drift(b, c)
    c = without_drift(b, c, drifted.gain)
    return RepeatMeasures(drifted, noise_ratio(b, c), correlation(b, c), shift(b, c), *leaks(b, c, x, y_hat))


def repeats_of(triplet: Triplet) -> tuple[Array, Array] | None:
    """Return the two repeats b and c of a triplet; None if it has none."""
    if triplet.half_difference is None:
        return None
    return triplet.truth() + triplet.half_difference, triplet.truth() - triplet.half_difference


def measure_triplet(triplet: Triplet) -> ReferenceMeasures | None:
    """Measure the reference of a triplet; None if it has none with noise."""
    if triplet.y is None or not triplet.reference.is_noisy:
        return None
    b, c = repeats_of(triplet) or (triplet.y, None)
    return measure_reference(b, triplet.x, triplet.y_hat, c, triplet.reference.model)


def pooled_correlation(measures: Iterable[ReferenceMeasures]) -> Correlation | None:
    """Return how the noise of all images with repeats is correlated; None if there are none."""
    correlations = [each.two.correlation for each in measures if each.two is not None]
    return reduce(add, correlations) if correlations else None


def reference_faults(measures: Mapping[str, ReferenceMeasures]) -> list[str]:
    """Return what breaks a promise about noisy references beyond doubt; `measures` are as below."""
    return [text for text, breaks in _dependence(measures) if breaks]


def reference_warnings(measures: Mapping[str, ReferenceMeasures]) -> Iterator[str]:
    """Yield what may spoil a promise about noisy references; `measures` are those of each image, by name.

    How often each warning is missed, and given without need, was measured by research/repeats.py.
    """
    two = {name: each.two for name, each in measures.items() if each.two is not None}
    yield from (text for text, breaks in _dependence(measures) if not breaks)
    shares = {name: max(each.ends) for name, each in measures.items() if max(each.ends) > AT_END}
    if shares:
        name = max(shares, key=lambda each: shares[each])
        yield (
            f"{len(shares)} of {len(measures)} images have values of the reference at an end of the range "
            f"({rounded_share(shares[name])} in {name}): noise that is cut off does not average to 0. Use "
            "images that are neither saturated nor cut at black"
        )
    noises = {name: each.noise for name, each in measures.items() if each.noise is not None}
    yield from _less_noise(
        noises,
        "the reference has less noise than the noise model says",
        "Is the model right? Use acquisitions that were not processed",
    )
    pooled = pooled_correlation(measures.values())
    if pooled is not None:
        yield from _repeat_warnings(two, pooled)


def _dependence(measures: Mapping[str, ReferenceMeasures]) -> Iterator[tuple[str, bool]]:
    """Yield why references are not independent looks at what the input shows, and if that is beyond doubt."""
    n, two = len(measures), {name: each.two for name, each in measures.items() if each.two is not None}
    same = [name for name, each in measures.items() if each.is_input]
    shared = {name: each.shared for name, each in measures.items() if each.shared is not None}
    alike = {name: size for name, (size, z) in shared.items() if size > SHARED and z > VISIBLE}
    moved = {name: abs(each.shift.pixels) for name, each in two.items() if each.moved}
    if same:
        yield f"{len(same)} of {n} references are the network's input, as in {same[0]}: {REMEDY}", True
    elif len(alike) > MOST * n:
        name = max(alike, key=lambda each: alike[each])
        text = f"{len(alike)} of {n} references have the noise of the network's input (correlation "
        yield f"{text}{alike[name]:.2f} in {name}): {REMEDY}", False
    usual = float(np.median([moved.get(name, 0.0) for name in two])) if two else 0.0
    if moved:
        name = max(moved, key=lambda each: moved[each])
        text = f"the repeats of {len(moved)} of {n} images are apart, by {moved[name]:.1f} pixels in {name}: "
        yield f"{text}register them by whole pixels, or take them of a sample that is still", usual > APART
    independent = [each for each in two.values() if each.ratio > LESS_NOISE and usual <= APART and not same]
    if independent:
        yield from _leaks(independent)


def _leaks(repeats: Sequence[RepeatMeasures]) -> Iterator[tuple[str, bool]]:
    """Yield that x or y_hat carries noise of the repeats, and whether it is so much that promises break."""
    of_x = [each.in_x for each in repeats if each.in_x is not None]
    in_x, in_y_hat = reduce(add, of_x) if of_x else None, reduce(add, (each.in_y_hat for each in repeats))
    share = 0.0 if in_x is None else _clear_share(in_x)
    if share > LEAKED:
        yield f"x carries {rounded_share(share)} of the noise of the repeats: {REMEDY}", share > BROKEN
    hidden = in_y_hat.hidden(_clear_share(in_y_hat))
    if hidden > LEAKED:
        text = f"y_hat carries noise of the repeats, by which {rounded_share(hidden)} of its squared error is"
        yield f"{text} not seen: {REMEDY}", hidden > BROKEN
    is_repeat = in_x is not None and abs(in_x.z[-1]) < VISIBLE
    lacks = in_y_hat.z[-1] < VISIBLE and VISIBLE * in_y_hat.errors[-1] < OWN
    if is_repeat and lacks and max(share, hidden) <= LEAKED:
        yield f"y_hat carries no more of the noise of x than of that of the repeats: {REMEDY}", False


def _clear_share(leak: Leak) -> float:
    """Return the share of the noise of one repeat, or of both, that an image clearly carries; 0 if none."""
    return float(np.where(leak.z > CLEAR, leak.shares, 0.0)[:2].max())


def _repeat_warnings(repeats: Mapping[str, RepeatMeasures], pooled: Correlation) -> Iterator[str]:
    yield from _drift_warnings({name: each.drift for name, each in repeats.items()})
    yield from _less_noise(
        {name: each.ratio for name, each in repeats.items()},
        "one repeat has less noise than the other",
        "Use two acquisitions that were made and stored alike",
    )
    if pooled.range > FARTHEST or pooled.beyond[-1] > pooled.seen.sum():
        yield (
            f"the repeats differ by noise that pixels more than {FARTHEST} apart share: did something move, "
            "drift or flicker between them, or does the detector add noise to whole rows? By --allowance clt "
            f"--reach {pooled.rounded_reach:g} that of rows is allowed for"
        )


def _less_noise(shares: Mapping[str, float], what: str, remedy: str) -> Iterator[str]:
    """Warn where MOST images have less than LESS_NOISE of the variance of the noise that they should have."""
    little = [name for name in shares if shares[name] < LESS_NOISE]
    if len(little) > MOST * len(shares):
        name = min(little, key=lambda each: shares[each])
        yield (
            f"in {len(little)} of {len(shares)} images {what} ({rounded_share(shares[name])} of its variance "
            f"in {name}). Was it denoised, compressed or averaged? {remedy}"
        )


def _drift_warnings(drifts: Mapping[str, Drift]) -> Iterator[str]:
    """Warn of drift in gain, or else in level."""
    for what, place in (("gain", 0), ("mean", 2)):
        logs = {name: (math.log(each[place]), each[place + 1]) for name, each in drifts.items()}
        clear = {
            name: abs(log) for name, (log, error) in logs.items() if abs(log) > max(DRIFTED, CLEAR * error)
        }
        if clear:
            name = max(clear, key=lambda each: clear[each])
            yield (
                f"the {what} of the two repeats differs in {len(clear)} of {len(drifts)} images, by "
                f"{100 * math.expm1(logs[name][0]):+.0f} % from the first to the second in {name}: did the "
                "lamp drift or the sample bleach? Scale them to one brightness or take them in turns"
            )
            return
