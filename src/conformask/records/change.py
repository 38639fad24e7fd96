"""Changes between new images and the calibration images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """A plain property of images that has clearly changed."""

    measure: str
    """The property: brightness, contrast, noise or sharpness."""
    role: str
    """The images that changed: x or y_hat."""
    ratio: float
    """The median of new images divided by the median of the calibration images."""
    text: str
    """The change in words, such as "darker by a fifth"."""
