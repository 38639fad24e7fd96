"""Numbers as text: shares, intervals, counts, and values in the units of files."""

import math
from dataclasses import dataclass


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


def left_out_text(n: int, how: str = "left out") -> str:
    """Return how many images play no part, because an earlier step has seen them."""
    them = "it" if n == 1 else "them"
    return f"{plural(n, 'image')} {how}: training, selection or calibration has seen {them}."


UNIT = (0.0, 1.0)
"""The range of floats."""
DIGITS = 3
"""Number of digits to which upper limits are rounded up, so that no sentence says more than is promised."""


THE_RANGE = "the range"
"""What shares of errors are shares of, in words."""


@dataclass(frozen=True)
class Values:
    """The values of y_hat that become 0 and 1, and their unit."""

    low: float
    high: float
    units: str | None
    is_stated: bool
    """True if a person stated the values; otherwise they are those of the type of the files."""
    of_each: bool = False
    """True if each image has its own range, so that no values are those of all."""

    @property
    def whole(self) -> str:
        """What shares are shares of, in words."""
        return "each image's own range" if self.of_each else THE_RANGE

    @property
    def span(self) -> float:
        """The difference of the values that become 1 and 0."""
        return self.high - self.low

    def text(self, share: float, digits: int = DIGITS) -> str | None:
        """Return a share of the range in these values, rounded up; None where that says nothing new."""
        if self.units is None and (self.low, self.high) == UNIT:
            return None
        unit = "" if self.units is None else f" {self.units}"
        whole = f"{written(self.low)} to " if unit or self.is_stated or self.low else ""
        return f"{written(rounded_up(share * self.span, digits))}{unit} of {whole}{written(self.high)}{unit}"


def rounded_up(value: float, digits: int = DIGITS) -> float:
    """Return the value, rounded up to a number of significant digits, tolerant of the rounding of floats."""
    if value == 0 or not math.isfinite(value):
        return value
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return math.ceil(value * 10.0**places - 1e-6) / 10.0**places


def written(value: float) -> str:
    """Return a number with all of its digits, without those that only the rounding of floats adds."""
    return f"{value:.12g}"


def rounded_share(share: float) -> str:
    """Return a measured share in percent, whole unless it is below 5 % or above 99 %."""
    if math.isnan(share):
        return "–"
    return f"{round(100 * share, 1 if share < 0.05 or share > 0.99 else 0):g} %"
