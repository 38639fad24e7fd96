"""What calibration images say of a threshold: critical lambdas, and curves of loss and mask size."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace

import numpy as np
from jaxtyping import Float

from conformask.errors import InvalidArgumentError, MismatchError
from conformask.records.record import Array

STORED_AS = {"loss": "distance"}
"""Names of arrays in files, where they are not those of fields; a masker's fingerprint hashes them."""

ALONG_GRID = ("loss", "size", "bound", "hidden")
"""Arrays with a column for each point of the grid."""


@dataclass(frozen=True)
class Curves:
    """For each image, the raw loss and the mask size at the points of a fixed grid of lambdas."""

    names: Array
    """Names of the images, (n,) strings."""
    grid: Array
    """Lambdas, (G,) increasing, from 0 to inf."""
    loss: Array
    """Losses, (n, G) float64, such as d(m*y, m*y_hat), not made monotone."""
    size: Array
    """Mask sizes, (n, G) float64: mean(1 - m)."""
    features: Array | None = None
    """Features of the scores, (n, F) float64."""
    bound: Array | None = None
    """The largest losses that any truth could give, (n, G) float64."""
    group: Array | None = None
    """Groups, (n,) strings: images of one group are dependent."""
    category: Array | None = None
    """Categories, (n,) strings."""
    weight: Array | None = None
    """Likelihood ratios, (n,) float64."""
    appearance: Array | None = None
    """Logarithms of image statistics of x and y_hat, (n, 2, 4) float64; see `masker.admission`."""
    hidden: Array | None = None
    """Shares of the regions that masks hide, (n, G) float64; None where the loss is about whole images."""

    @property
    def hidden_shares(self) -> Array:
        """Shares that masks hide, (n, G): of the regions that the loss is about, or of whole images."""
        return self.size if self.hidden is None else self.hidden

    @property
    def known(self) -> dict[str, Array]:
        """The arrays that there are, by the names of their fields."""
        return {name: values for name, values in vars(self).items() if values is not None}

    @property
    def columns(self) -> dict[str, Array | None]:
        """What promises need of each image, as far as it is known: group, category and weight."""
        return {"group": self.group, "category": self.category, "weight": self.weight}

    def arrays(self, prefix: str = "") -> dict[str, Array]:
        """Return the curves as named arrays for an npz."""
        return {prefix + STORED_AS.get(name, name): values for name, values in self.known.items()}

    def take(self, places: Array) -> "Curves":
        """Return the curves of the images at these places."""
        rows = {name: values[places] for name, values in self.known.items() if name != "grid"}
        return replace(self, **rows)

    def from_start(self, start: float) -> "Curves":
        """Return the curves without the grid points between 0 and `start`."""
        kept = (self.grid == 0) | (self.grid >= start)
        rows = {name: values[:, kept] for name, values in self.known.items() if name in ALONG_GRID}
        return self if kept.all() else replace(self, grid=self.grid[kept], **rows)

    def along(self, factors: Array, grid: Array) -> "Curves":
        """Return the curves on another grid, where lambda is a point of it times the factor of each image.

        Values are those of the last grid point up to that lambda.
        """
        lambdas = np.multiply.outer(factors, grid)
        places = np.searchsorted(self.grid, lambdas, side="right") - 1
        known = self.known
        rows = {name: np.take_along_axis(known[name], places, 1) for name in ALONG_GRID if name in known}
        return replace(self, grid=grid, **rows)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], prefix: str = "") -> "Curves":
        """Read curves from the arrays that arrays() returned."""
        names = {field.name: prefix + STORED_AS.get(field.name, field.name) for field in fields(cls)}
        columns = {name: arrays[stored] for name, stored in names.items() if stored in arrays}
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in columns]
        shapes = {len(values) for name, values in columns.items() if name != "grid" and values.ndim}
        if missing or len(shapes) > 1:
            raise MismatchError(f"these curves are damaged: {missing or shapes}; copy the file again")
        return cls(**columns)


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
        """Return the largest possible value of the loss."""
        if self.upper_bound is None:
            raise InvalidArgumentError("a promise about a mean needs a loss with an upper bound")
        return self.upper_bound

    def take(self, places: Array, groups: Array | None = None) -> "CalibrationData":
        """Return the evidence of the images at these places, in these groups if not in their own."""
        curves = self.curves.take(places)
        curves = curves if groups is None else replace(curves, group=groups)
        return replace(self, critical_lambdas=self.critical_lambdas[places], curves=curves)

    def column(self, name: str) -> Array:
        """Return a column of the curves that the guarantee needs, by the name of its field."""
        values = self.curves.known.get(name)
        if values is None:
            raise MismatchError(
                f"the stored curves have no {name}, which this promise needs: calibrate the images again"
            )
        return values
