"""The named guarantees."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from conformask.conformal.certainty import Simultaneous, TrainingConditional
from conformask.conformal.guarantee import Guarantee
from conformask.conformal.lambdas import Adaptive
from conformask.conformal.populations import EachCategory, Weighted
from conformask.conformal.statements import ConditionalExpectedLoss, Coverage, ExpectedLoss
from conformask.conformal.units import Group, Image, ImageOfNewGroup, Unit
from conformask.errors import InvalidArgumentError, chosen

DEFAULTS = {"confidence": 0.9, "delta": 0.05}
"""Default values, for guarantees that take them."""


def marginal(confidence: float) -> Guarantee:
    """Promise P(d <= threshold) >= confidence over calibration and test image, if exchangeable."""
    return Guarantee("marginal", Coverage(confidence))


def pac(confidence: float, delta: float) -> Guarantee:
    """Promise P(d <= threshold | calibration set) >= confidence with probability 1 - delta over sets."""
    return Guarantee("pac", Coverage(confidence), TrainingConditional(delta))


def ltt(confidence: float, delta: float) -> Guarantee:
    """Promise the same as pac, without monotonicity: learn then test."""
    return Guarantee("ltt", Coverage(confidence), TrainingConditional(delta, "fixed_sequence"))


def simultaneous(confidence: float, delta: float, thresholds: tuple[float, ...] = ()) -> Guarantee:
    """Promise the same as pac, for every declared threshold and every confidence at once."""
    return Guarantee("simultaneous", Coverage(confidence), Simultaneous(delta, thresholds))


def expected() -> Guarantee:
    """Promise E d <= threshold over calibration and test image, if exchangeable."""
    return Guarantee("expected", ExpectedLoss())


def conditional_mean(confidence: float, t: float = 0.0) -> Guarantee:
    """Promise P(E[d | x] <= threshold) >= confidence: the paper's condition (3) as it is written."""
    return Guarantee("conditional_mean", ConditionalExpectedLoss(confidence, t))


def rcps(delta: float) -> Guarantee:
    """Promise E[d | calibration set] <= threshold with probability 1 - delta over calibration sets."""
    return Guarantee("rcps", ExpectedLoss(), TrainingConditional(delta))


def rcps_hb(delta: float) -> Guarantee:
    """Promise the same as rcps, by the bound of the original paper, which ignores the order of images."""
    return Guarantee("rcps_hb", ExpectedLoss(), TrainingConditional(delta, "hoeffding_bentkus"))


def groups(confidence: float) -> Guarantee:
    """Promise P(d <= threshold) >= confidence for an image of a new group, if groups are exchangeable."""
    return Guarantee("groups", Coverage(confidence), unit=ImageOfNewGroup())


def categories(confidence: float) -> Guarantee:
    """Promise P(d <= threshold | category) >= confidence in every category, each with its own lambda."""
    return Guarantee("categories", Coverage(confidence), population=EachCategory())


def weighted(confidence: float) -> Guarantee:
    """Promise P(d <= threshold) >= confidence for another population of known likelihood ratio."""
    return Guarantee("weighted", Coverage(confidence), population=Weighted())


def adaptive(confidence: float) -> Guarantee:
    """Promise P(d <= threshold) >= confidence with a lambda that follows how hard an image looks."""
    return Guarantee("adaptive", Coverage(confidence), lam=Adaptive())


GUARANTEES: Mapping[str, Callable[..., Guarantee]] = {
    preset.__name__: preset
    for preset in (
        marginal, pac, expected, conditional_mean, rcps, rcps_hb, ltt, groups, categories, weighted, adaptive,
        simultaneous,
    )
}  # fmt: skip


UNITS: Mapping[str, Unit] = {"image": Image(), "image_of_new_group": ImageOfNewGroup(), "group": Group()}


def takes(name: str) -> frozenset[str]:
    """Return which of confidence and delta a guarantee takes.

    Raises:
        InvalidArgumentError: an unknown name.
    """
    parameters = inspect.signature(chosen(GUARANTEES, name, "guarantee")).parameters
    return frozenset(DEFAULTS.keys() & parameters.keys())


def guarantee(
    name: str,
    confidence: float | None = None,
    delta: float | None = None,
    unit: str | None = None,
    share: float | None = None,
    within: bool = False,
) -> Guarantee:
    """Return the promise with this name; confidence and delta default to 0.9 and 0.05 where it takes them.

    Args:
        name: a key of GUARANTEES.
        confidence: the promised probability, where it takes one.
        delta: the share of calibration sets for which it may fail, where it takes one.
        unit: image, group or image_of_new_group, instead of the guarantee's own; see `units`.
        share: the share of a group's images that must meet the threshold, for the unit group; 1 if None.
        within: whether each category gets the promise by itself.

    Raises:
        InvalidArgumentError: an unknown name, a value outside its range, or one that is not taken; a
            combination without a theorem.
    """
    taken = takes(name)
    arguments: dict[str, Any] = {}
    for key, value in (("confidence", confidence), ("delta", delta)):
        if value is not None and not 0 < value < 1:
            raise InvalidArgumentError(f"{key} = {value:g}: must be between 0 and 1, such as {DEFAULTS[key]}")
        if value is not None and key not in taken:
            raise InvalidArgumentError(
                f"{key} = {value:g}: the {name} guarantee takes no {key}; leave it out"
            )
        if key in taken:
            arguments[key] = DEFAULTS[key] if value is None else value
    promise = GUARANTEES[name](**arguments)
    if unit is not None or share is not None:
        counted = unit_of(unit, share)
        if promise.unit not in (Image(), counted):
            raise InvalidArgumentError(
                f"the {name} guarantee has a unit of its own: leave out the unit, or use marginal with it"
            )
        promise = replace(promise, unit=counted)
    if within and isinstance(promise.population, Weighted):
        raise InvalidArgumentError(
            f"the {name} guarantee is about one other population, not about each category by itself: leave "
            "out per_category (--per-category), or use marginal with it"
        )
    return replace(promise, population=EachCategory()) if within else promise


def unit_of(name: str | None, share: float | None) -> Unit:
    """Return the unit with this name.

    Raises:
        InvalidArgumentError: an unknown name, or a share outside (0, 1] or of another unit than a group.
    """
    made = chosen(UNITS, name or "image", "unit")
    if share is None:
        return made
    if not isinstance(made, Group):
        raise InvalidArgumentError(
            f"share = {share:g}: only the unit group takes a share; choose that unit or leave share out"
        )
    if not 0 < share <= 1:
        raise InvalidArgumentError(f"share = {share:g}: must be above 0 and at most 1, such as 0.9")
    return Group(share)
