"""The guarantees by name."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from conformask.conformal.adaptive import Adaptive
from conformask.conformal.categories import Categories
from conformask.conformal.evidence import Evidence
from conformask.conformal.expected import ConditionalMean, Expected
from conformask.conformal.groups import Groups
from conformask.conformal.ltt import Ltt
from conformask.conformal.marginal import Marginal
from conformask.conformal.pac import Pac
from conformask.conformal.rcps import Rcps, hoeffding_bentkus_rcps
from conformask.conformal.rules import Rule
from conformask.conformal.simultaneous import Simultaneous
from conformask.conformal.weighted import Weighted
from conformask.errors import InvalidArgumentError, chosen

CONFIDENCE = 0.9
DELTA = 0.05


@runtime_checkable
class Guarantee(Protocol):
    """Turns what calibration images say into a rule that keeps a promise."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def confidence(self) -> float | None:
        """The promised probability; None for a promise about a mean."""

    @property
    def delta(self) -> float | None:
        """The share of calibration sets for which the promise may fail; None where it averages over them."""

    @property
    def bounds_a_mean(self) -> bool:
        """Whether the promise is about a mean distance, not about a share of images."""

    @property
    def needs(self) -> frozenset[str]:
        """What it reads beyond critical lambdas.

        group, category, weight, features: of each image; grid: curves on one; upper_bound: of the distance,
        or bound_curve: of each image, where there is one; selection: images for the choices in `fixed`.
        """

    def claim(self, distance: str, threshold: float) -> str:
        """What is promised, as a formula."""

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """The smallest number of images (groups, images of a category, effective images) that can do.

        threshold, and the constant upper bound of the distance, matter for promises about a mean.
        """

    def rank(self, n: int) -> int | None:
        """Which of n critical lambdas, ascending, is deployed; None where it is not one of them.

        Coverage then has a known law: see `order.coverage_range` and `law.met_law`.
        """

    def fixed(self, selection: Evidence, n: int) -> "Guarantee":
        """With every choice made that must not see the n calibration images."""

    def rule(self, evidence: Evidence) -> Rule:
        """The rule; it is void, and masks everything, where the promise cannot be given."""


GUARANTEES: Mapping[str, Callable[..., Guarantee]] = {
    "marginal": Marginal,
    "pac": Pac,
    "expected": Expected,
    "conditional_mean": ConditionalMean,
    "rcps": Rcps,
    "rcps_hb": hoeffding_bentkus_rcps,
    "ltt": Ltt,
    "groups": Groups,
    "categories": Categories,
    "weighted": Weighted,
    "adaptive": Adaptive,
    "simultaneous": Simultaneous,
}
DEFAULTS = {"confidence": CONFIDENCE, "delta": DELTA}


def takes(name: str) -> frozenset[str]:
    """Which of confidence and delta a guarantee takes.

    Raises:
        InvalidArgumentError: an unknown name.
    """
    parameters = inspect.signature(chosen(GUARANTEES, name, "guarantee")).parameters
    return frozenset(DEFAULTS.keys() & parameters.keys())


def guarantee(name: str, confidence: float | None = None, delta: float | None = None) -> Guarantee:
    """The guarantee of that name; 0.9 and 0.05 where it takes a confidence or delta that is not given.

    Raises:
        InvalidArgumentError: an unknown name, a value outside (0, 1), or one that is not taken.
    """
    taken = takes(name)
    arguments: dict[str, Any] = {}
    for key, value in (("confidence", confidence), ("delta", delta)):
        if value is not None and not 0 < value < 1:
            raise InvalidArgumentError(f"{key} = {value:g}: must be between 0 and 1, such as {DEFAULTS[key]}")
        if value is not None and key not in taken:
            raise InvalidArgumentError(
                f"{key} = {value:g}: the {name} guarantee takes no {key}, leave it out"
            )
        if key in taken:
            arguments[key] = DEFAULTS[key] if value is None else value
    return GUARANTEES[name](**arguments)
