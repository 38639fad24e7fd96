"""What a promise needs before it can be given."""

from datetime import UTC, datetime

import numpy as np
from jaxtyping import Float

from conformask.conformal.guarantees import Guarantee
from conformask.conformal.rules import ConstantLambda
from conformask.errors import CalibrationError, InvalidArgumentError


def positive(threshold: float) -> float:
    """The threshold, or InvalidArgumentError where it is no distance above 0."""
    if not 0 < threshold < np.inf:
        raise InvalidArgumentError(f"threshold = {threshold:g}: must be a distance above 0")
    return float(threshold)


def enough(wanted: Guarantee, n: int) -> None:
    """Refuse a calibration set that is too small, with a CalibrationError that says what it needs."""
    needed = wanted.smallest_calibration_set()
    if n < needed:
        raise CalibrationError(
            f"{n} images are too few for confidence {wanted.confidence:g} ({wanted.name}): it needs at least "
            f"{needed}; add images or lower the confidence"
        )


def rule_for(
    wanted: Guarantee, critical: Float[np.ndarray, "n"], threshold: float, distance: str
) -> ConstantLambda:
    """The rule that keeps the promise, or CalibrationError where only closed masks would."""
    enough(wanted, len(critical))
    rule = wanted.rule(critical)
    if rule.lam <= 0:
        fail = float((critical <= 0).mean())
        raise CalibrationError(
            f"{distance} <= {threshold:.4g} cannot be promised with confidence {wanted.confidence:g}: "
            f"{fail:.0%} of the calibration images exceed it under every mask that opens anything; "
            "raise the threshold or lower the confidence"
        )
    return rule


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
