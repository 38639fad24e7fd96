"""The guarantees by name."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from conformask.conformal.marginal import Marginal
from conformask.conformal.rules import ConstantLambda
from conformask.errors import InvalidArgumentError, chosen


@runtime_checkable
class Guarantee(Protocol):
    """Turns critical lambdas of calibration images into a rule that keeps a promise."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def confidence(self) -> float:
        """The promised probability."""

    def smallest_calibration_set(self) -> int:
        """The smallest number of calibration images that can give the promise."""

    def rule(self, critical_lambdas: Float[np.ndarray, "n"]) -> ConstantLambda:
        """The rule; lambda = 0 where the promise is void."""


GUARANTEES: Mapping[str, Callable[[float], Guarantee]] = {"marginal": Marginal}


def guarantee(name: str, confidence: float) -> Guarantee:
    """The guarantee of that name at this confidence.

    Raises:
        InvalidArgumentError: an unknown name, or a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise InvalidArgumentError(f"confidence = {confidence:g}: must be between 0 and 1, for example 0.9")
    return chosen(GUARANTEES, name, "guarantee")(confidence)
