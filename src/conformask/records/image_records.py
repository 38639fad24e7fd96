"""Measurements on each image of an evaluation."""

from dataclasses import dataclass

import numpy as np

from conformask.storage.as_arrays import Array
from conformask.storage.as_json import Json


@dataclass(frozen=True)
class ImageRecords:
    """Measurements on each test image; arrays of shape (n,), float64 unless stated otherwise."""

    name: Array
    """Names, as strings."""
    loss: Array
    """Losses under the masks, such as d(m*y, m*y_hat)."""
    unmasked_loss: Array
    size: Array
    """Mask sizes, mean(1 - m)."""
    oracle_size: Array
    """Mask sizes of the exact oracle; NaN where there is none."""
    paper_oracle_size: Array
    """Mask sizes of the paper's Opt; NaN where not computed, or the threshold was not reached."""
    critical_lambda: Array
    difficulty: Array
    """Mean scores."""
    group: Array | None = None
    """Groups, as strings, an image's own name where it has none; None in conformask 0.1."""
    category: Array | None = None
    """Categories, as strings, empty where there is none; None in conformask 0.1."""
    passed: Array | None = None
    """True where the loss meets the threshold; None in conformask 0.1."""
    hidden_error: Array | None = None
    """Means of |y - y_hat| over what is hidden, weighted by 1 - m, in the region where the promise is about
    one; NaN where nothing is hidden; None in conformask 0.2."""
    shown_error: Array | None = None
    """Means of |y - y_hat| over what is shown, weighted by m."""
    shown_parts: Array | None = None
    """Numbers of connected parts that are shown; None for grey masks, and in conformask 0.2."""
    hidden_parts: Array | None = None
    """Numbers of connected parts that are hidden."""
    boundary: Array | None = None
    """Lengths of the boundary between shown and hidden parts, in sides of pixels."""

    @property
    def hidden_and_shown_error(self) -> tuple[float, float, int] | None:
        """Mean errors of what is hidden and of what is shown, over images with both, and their number.

        None where there are none, or nothing was recorded.
        """
        if self.hidden_error is None or self.shown_error is None:
            return None
        both = np.isfinite(self.hidden_error) & np.isfinite(self.shown_error)
        if not both.any():
            return None
        hidden, shown = (float(errors[both].mean()) for errors in (self.hidden_error, self.shown_error))
        return hidden, shown, int(both.sum())

    @property
    def parts(self) -> tuple[float, float, float] | None:
        """Mean numbers of shown and of hidden parts, and mean length of their boundary; None if unknown."""
        if self.shown_parts is None or self.hidden_parts is None or self.boundary is None:
            return None
        return float(self.shown_parts.mean()), float(self.hidden_parts.mean()), float(self.boundary.mean())

    def columns(self) -> dict[str, list[Json]]:
        """Return plain values by name; None where there is no group or category, or it was not recorded."""
        measured = {name: values.tolist() for name, values in vars(self).items() if values is not None}
        names, nothing = measured.pop("name"), [None] * len(self.name)
        groups, categories = measured.pop("group", names), measured.pop("category", nothing)
        return {
            "name": names,
            "group": [None if group == name else group for group, name in zip(groups, names, strict=True)],
            "category": [category or None for category in categories],
            "passed": measured.pop("passed", nothing),
            **measured,
        }
