"""Changes between new images and the calibration images."""

from dataclasses import dataclass

WORDS = {
    "brightness": ("darker", "brighter"),
    "contrast": ("less contrast", "more contrast"),
    "noise": ("less noise", "noisier"),
    "sharpness": ("blurred", "sharper"),
}
"""Words for less and for more of each property."""
FRACTIONS = {10: "a tenth", 20: "a fifth", 25: "a quarter", 33: "a third", 50: "half"}
"""Percentages with a name."""
NEAR = 2
"""Percentage points within which a fraction's name is used: medians of different images are not exact."""


@dataclass(frozen=True)
class Change:
    """A plain property of images that has clearly changed."""

    measure: str
    """The property: brightness, contrast, noise or sharpness."""
    role: str
    """The images that changed: x or y_hat."""
    ratio: float
    """The median of new images divided by the median of the calibration images."""

    @property
    def text(self) -> str:
        """The change in words, such as "darker by a fifth"."""
        word = WORDS[self.measure][self.ratio > 1]
        if self.measure == "sharpness":  # its ratio has no familiar unit
            return word
        if self.measure == "brightness" and 0.1 < self.ratio < 2:
            return f"{word} by {_fraction_text(abs(self.ratio - 1))}"
        return f"{word} ({self.ratio:.2g} times)"


def _fraction_text(fraction: float) -> str:
    percent = 100 * fraction
    nearest = min(FRACTIONS, key=lambda candidate: abs(candidate - percent))
    return FRACTIONS[nearest] if abs(nearest - percent) <= NEAR else f"{percent:.0f}\N{NO-BREAK SPACE}%"
