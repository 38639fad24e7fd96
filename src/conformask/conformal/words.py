"""Promises as formulas that a person can read."""


def rate(distance: str, threshold: float, confidence: float, given: str = "") -> str:
    """Return the formula P(distance <= threshold) >= confidence."""
    return f"P({distance} <= {threshold:.4g}{given}) >= {_level(confidence)}"


def mean(distance: str, threshold: float, given: str = "") -> str:
    """Return the formula E distance <= threshold."""
    expected = f"E[{distance}{given}]" if " " in distance + given else f"E {distance}"
    return f"{expected} <= {threshold:.4g}"


def with_probability(delta: float, claim: str) -> str:
    """Return the claim, for all but a share delta of calibration sets."""
    return f"with probability {_level(1 - delta)} over calibration sets, {claim}"


def _level(value: float) -> str:
    """Return a number with all of its decimals, at least two: 0.90, 0.999."""
    text = f"{value:.6g}"
    return text if len(text) > 3 else f"{value:.2f}"
