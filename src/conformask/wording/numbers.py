"""Numbers as text: shares, intervals, counts."""

import math


def figure(value: float | None, digits: int = 3) -> str:
    """Format a number to a few significant digits; a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.{digits}g}" if math.isfinite(value) else "∞"


def share(value: float | None) -> str:
    """Format a share as a percentage with one decimal."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def percent(value: float) -> str:
    """Format a promised share, without needless decimals: 90 %, 99.5 %."""
    return f"{100 * value:.4g}\N{NO-BREAK SPACE}%"


def interval_text(interval: tuple[float, float]) -> str:
    """Return the text of a 95 % interval of a share."""
    low, high = (f"{100 * end:.1f}" for end in interval)
    return f"95\N{NO-BREAK SPACE}% interval {low} to {high}"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: 1 image, 2 images."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
