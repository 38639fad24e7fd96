"""The information that calibration images give about a threshold, as numbers."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from conformask.conformal.curves import Curves
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.storage.as_arrays import Array


@dataclass(frozen=True)
class CalibrationData:
    """Critical lambdas and curves of n images, and the declared properties of the loss."""

    threshold: float
    critical_lambdas: Float[np.ndarray, "n"]
    """Critical lambdas: 0 where an image fails under every open mask, inf where it passes unmasked."""
    curves: Curves
    upper_bound: float | None = None
    """The largest possible value of the loss."""
    own_bound: bool = False
    """True if each image has its own bound at every lambda (lp losses)."""
    monotone: bool = True
    """True if the loss never grows when a nested mask shrinks."""

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.critical_lambdas)

    def risk(self) -> Float[np.ndarray, "n g"]:
        """Return the running maximum of the loss along the grid: the risk at any lambda up to each point."""
        return np.asarray(np.maximum.accumulate(self.curves.loss, axis=1))

    def bound(self) -> float:
        """Return the largest possible value of the loss.

        Raises:
            InvalidArgumentError: the loss has no upper bound.
        """
        if self.upper_bound is None:
            raise InvalidArgumentError("a promise about a mean needs a loss with an upper bound")
        return self.upper_bound

    def take(self, places: Array, groups: Array | None = None) -> "CalibrationData":
        """Return the evidence of the images at these places, in these groups if not in their own."""
        curves = self.curves.take(places)
        curves = curves if groups is None else replace(curves, group=groups)
        return replace(self, critical_lambdas=self.critical_lambdas[places], curves=curves)

    def column(self, name: str) -> Array:
        """Return a column of the curves that the guarantee needs, by the name of its field.

        Raises:
            MismatchError: the column was not stored.
        """
        values: Array | None = getattr(self.curves, name)
        if values is None:
            raise MismatchError(
                f"the stored curves have no {name}, which this promise needs: calibrate the images again"
            )
        return values
