"""Warnings about noisy references: what was seen, in which image, and what to do."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from conformask.data.repeat_checks import (
    FARTHEST,
    Correlation,
    Drift,
    Ends,
    SharedNoise,
    correlation,
    drift,
    ends,
    jpeg_share,
    noise_ratio,
    noise_share,
    shared_noise,
    unevenness,
)
from conformask.records.reference import NoiseModel
from conformask.records.sentence import rounded_share
from conformask.storage.as_arrays import Array

AT_END = 1e-3
"""Share of values at an end of the range above which a reference is called clipped."""
DRIFTED = 0.02
"""Relative difference in brightness between repeats above which it is called drift."""
CLEAR = 7.0
"""Standard errors that drift needs in one image; 16 parts of an image make them uncertain themselves."""
SHARED_BY_TWO, SHARED_BY_ONE = 0.2, 0.9
"""Correlation with the noise of the input, measured by two repeats and by one, above which it is the same."""
VISIBLE = 3.0
"""Standard errors that such a correlation needs in one image."""
MOST = 0.5
"""Share of the images above which the noise of single ones counts."""
LESS_NOISE = 0.5
"""Share of the variance of the other repeat, or of the model, below which a reference was processed."""
DENOISED = 0.25
"""Share of the variance of the other repeat below which nothing else is concluded from the difference."""
UNEVEN = 1.3
"""The `unevenness` of noise above which both repeats were processed."""
SMOOTH = 0.5
"""Share of fine noise below which both repeats were processed."""
ROUNDED = 0.1
"""Share of frequencies, rounded to 0 in blocks of 8 x 8 pixels alone, above which an image was a JPEG."""


@dataclass(frozen=True)
class RepeatMeasures:
    """What was measured by comparing the two repeats of an image."""

    drift: Drift
    ratio: float
    unevenness: float
    correlation: Correlation


@dataclass(frozen=True)
class ReferenceMeasures:
    """What was measured of the reference of an image."""

    ends: Ends
    """Shares of values at the ends of the range; if there are two repeats, the larger ones."""
    jpeg: float
    """The `jpeg_share` of the reference; if there are two repeats, the larger one."""
    shared: SharedNoise | None
    noise: float | None
    """The `noise_share` of b; None without a noise model."""
    two: RepeatMeasures | None
    """None if there is one repeat."""

    @property
    def has_noise_of_input(self) -> bool:
        """Whether the noise of the reference is clearly that of the input.

        If one of two repeats was denoised, the detail that it lacks would look like noise.
        """
        if self.shared is None:
            return False
        size, z = self.shared
        if self.two is None:
            return size > SHARED_BY_ONE and z > VISIBLE
        clear = abs(size) > SHARED_BY_TWO and abs(z) > VISIBLE
        return math.isinf(z) or (clear and self.two.ratio > DENOISED)


def measure_reference(
    b: Array, x: Array, y_hat: Array, c: Array | None = None, model: NoiseModel | None = None
) -> ReferenceMeasures:
    """Measure the reference b of an image, its second repeat c if there is one, its noise if it is known.

    All images are (C, *space) in [0, 1].
    """
    repeats = [b] if c is None else [b, c]
    return ReferenceMeasures(
        Ends(*np.max([ends(each) for each in repeats], axis=0).tolist()),
        max(jpeg_share(each) for each in repeats),
        shared_noise(b, x, y_hat, c),
        None if model is None else noise_share(b, y_hat, model),
        None
        if c is None
        else RepeatMeasures(drift(b, c), noise_ratio(b, c), unevenness(b, c), correlation(b, c)),
    )


def pooled_correlation(measures: Iterable[ReferenceMeasures]) -> Correlation | None:
    """Return how the noise of all images with repeats is correlated; None if there are none."""
    correlations = [each.two.correlation for each in measures if each.two is not None]
    return reduce(add, correlations) if correlations else None


def reference_warnings(measures: Mapping[str, ReferenceMeasures]) -> Iterator[str]:
    """Yield what spoils a promise about noisy references; `measures` are those of each image, by name.

    How often each warning is missed, and given without need, was measured by research/repeats.py.
    """
    two = {name: each.two for name, each in measures.items() if each.two is not None}
    yield from _input_warnings(measures)
    shares = {name: max(each.ends) for name, each in measures.items() if max(each.ends) > AT_END}
    yield from _worst(
        shares,
        len(measures),
        "have values of the reference at an end of the range ({value} in {name}): noise that is cut off does "
        "not average to 0. Use images that are neither saturated nor cut at black; zeros in counts are fine",
    )
    jpegs = {name: each.jpeg for name, each in measures.items() if each.jpeg > ROUNDED}
    yield from _worst(
        jpegs,
        len(measures),
        "have a reference that was a JPEG (in {name}, {value} more zeros in blocks of 8 x 8 pixels than in "
        "shifted ones), which removes noise: use the files that the detector wrote",
    )
    noises = {name: each.noise for name, each in measures.items() if each.noise is not None}
    yield from _less_noise(
        noises,
        "the reference has less noise than the noise model says",
        "Is the model right? Use acquisitions that were not processed",
    )
    if two:
        yield from _repeat_warnings(two)


def _worst(values: Mapping[str, float], n: int, text: str) -> Iterator[str]:
    """Yield a text about images and the largest of their values; nothing if there are none."""
    if values:
        name = max(values, key=lambda each: values[each])
        yield f"{len(values)} of {n} images {text.format(name=name, value=rounded_share(values[name]))}"


def _input_warnings(measures: Mapping[str, ReferenceMeasures]) -> Iterator[str]:
    """Warn of references that are the input, by their pixels or by their noise."""
    alike = {name: each.shared for name, each in measures.items() if each.shared and each.has_noise_of_input}
    same = [name for name, shared in alike.items() if math.isinf(shared.z)]
    remedy = "give the network one acquisition and keep others for the reference"
    if same:
        yield f"{len(same)} of {len(measures)} references are the network's input, as in {same[0]}: {remedy}"
    elif len(alike) > MOST * len(measures):
        name = max(alike, key=lambda each: abs(alike[each].coefficient))
        yield (
            f"{len(alike)} of {len(measures)} references have the noise of the network's input (correlation "
            f"{abs(alike[name].coefficient):.2f} in {name}): {remedy}"
        )


def _repeat_warnings(repeats: Mapping[str, RepeatMeasures]) -> Iterator[str]:
    yield from _drift_warnings({name: each.drift for name, each in repeats.items()})
    yield from _less_noise(
        {name: each.ratio for name, each in repeats.items()},
        "one repeat has less noise than the other",
        "Use two acquisitions that were made and stored alike",
    )
    uneven = [name for name in repeats if repeats[name].unevenness > UNEVEN]
    if len(uneven) > MOST * len(repeats):
        name = max(uneven, key=lambda each: repeats[each].unevenness)
        yield (
            f"in {len(uneven)} of {len(repeats)} images, most in {name}, the repeats differ by noise that "
            "is strong here and weak there, more than brightness explains, as after non-local means. Were "
            "they denoised? Use the images that the detector wrote"
        )
    pooled = reduce(add, (each.correlation for each in repeats.values()))
    if pooled.fine_share < SMOOTH:
        yield (
            f"the repeats differ by smooth noise: of the fine noise that independent pixels have, "
            f"{rounded_share(max(pooled.fine_share, 0.0))} is there. Were they denoised, interpolated or "
            "compressed? Use the images that the detector wrote"
        )
    if pooled.range > FARTHEST:
        yield (
            f"the difference of the repeats is correlated over more than {FARTHEST} pixels: did something "
            "move, drift or flicker between them?"
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
