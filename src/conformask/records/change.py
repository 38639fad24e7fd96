"""In which way new images differ from those of the calibration."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """One plain property of images that is clearly not as it was."""

    measure: str
    """brightness, contrast, noise or sharpness."""
    role: str
    """Of which images: x or y_hat."""
    ratio: float
    """The median of new images divided by that of the calibration images."""
    text: str
    """In words, such as "darker by a fifth"."""
