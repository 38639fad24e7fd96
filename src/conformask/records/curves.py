"""Losses and mask sizes of images along a grid of lambdas."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from conformask.errors import MismatchError
from conformask.records.loss import LossTerms
from conformask.storage.as_arrays import Array, read_arrays, write_arrays
from conformask.storage.as_json import Json
from conformask.storage.typed import from_dict


@dataclass(frozen=True)
class Curves:
    """For each image, the raw loss and the mask size at the points of a fixed grid of lambdas."""

    names: Array
    """Names of the images, (n,) strings."""
    grid: Array
    """Lambdas, (G,) increasing, from 0 to inf."""
    distance: Array
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
    """Logarithms of image statistics of x and y_hat, (n, 2, 4) float64; see `masker.appearance`."""

    def arrays(self, prefix: str = "") -> dict[str, Array]:
        """Return the curves as named arrays for an npz."""
        values = {prefix + field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def take(self, places: Array) -> "Curves":
        """Return the curves of the images at these places."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        rows = {key: value[places] for key, value in columns.items() if key != "grid" and value is not None}
        return replace(self, **rows)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], prefix: str = "") -> "Curves":
        """Read curves from the arrays that arrays() returned.

        Raises:
            MismatchError: an array is missing, or their lengths differ.
        """
        columns = {f.name: arrays[prefix + f.name] for f in fields(cls) if prefix + f.name in arrays}
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in columns]
        shapes = {len(values) for name, values in columns.items() if name != "grid" and values.ndim}
        if missing or len(shapes) > 1:
            raise MismatchError(f"these curves are damaged: {missing or shapes}; copy the file again")
        return cls(**columns)


@dataclass(frozen=True)
class ScoreComparison:
    """The benchmark of a score: mean mask sizes on selection images, all for one promise."""

    n: int
    """Number of selection images."""
    threshold: float
    """The threshold of the promise."""
    hidden: float
    """Mean mask size under the score."""
    others: Mapping[str, float]
    """Mean mask sizes under scores without training, by name, and under "constant", one value everywhere."""
    oracle: float | None
    """Mean mask size under the best masks, given the truth; None where none is known."""
    correlation: float | None
    """Correlation C(M, D) of mask size and unmasked loss over the images, under the score."""
    interval: tuple[float, float] | None = None
    """The 90 % interval of the mean mask size over sets of such images; None in runs of conformask 0.2."""
    clearly_less: tuple[str, ...] = ()
    """The other scores that hide less in at least nineteen of twenty sets of such images."""


@dataclass(frozen=True)
class Selection:
    """The contents of selection.npz: data on the selection images for the choices after training."""

    of: LossTerms
    """The loss that the record is about."""
    distance: Array
    """Losses of the images without a mask, (n,)."""
    curves: Mapping[str, Curves]
    """Curves by the name of the family."""
    comparison: ScoreComparison | None = None

    def threshold(self, quantile: float) -> float:
        """Return the quantile of the unmasked losses, which a threshold such as "q0.1" stands for."""
        return float(np.quantile(self.distance, quantile))

    def save(self, folder: Path) -> None:
        """Write selection.npz."""
        arrays = {"of": np.array(json.dumps(vars(self.of))), "distance": self.distance}
        for family, curves in self.curves.items():
            arrays |= curves.arrays(f"{family}/")
        if self.comparison is not None:
            arrays["comparison"] = np.array(json.dumps(asdict(self.comparison)))
        write_arrays(folder / "selection.npz", arrays)

    @classmethod
    def load(cls, folder: Path) -> "Selection":
        """Read the record that save wrote."""
        arrays = read_arrays(folder / "selection.npz")
        families = sorted({key.split("/")[0] for key in arrays if "/" in key})
        if "of" not in arrays:
            raise MismatchError(
                f"{folder / 'selection.npz'} was written by an older version of conformask: train again"
            )
        curves = {name: Curves.from_arrays(arrays, f"{name}/") for name in families}
        path = folder / "selection.npz"
        terms = _terms(str(arrays["of"]), path)
        stored = arrays.get("comparison", arrays.get("worth"))  # worth: up to conformask 0.2
        comparison = None if stored is None else comparison_as_now(json.loads(str(stored)))
        kept = None if comparison is None else from_dict(ScoreComparison, comparison, path)
        return cls(terms, arrays["distance"], curves, kept)


def _terms(stored: str, path: Path) -> LossTerms:
    """Parse the terms of a loss from JSON, or from the name of a distance, as conformask 0.1 kept it."""
    if not stored.startswith("{"):
        return LossTerms(distance=stored)
    return from_dict(LossTerms, json.loads(stored), path)


def comparison_as_now(stored: Json) -> Json:
    """Return the JSON of a Worth; conformask 0.2 kept three other scores, each under its own name."""
    if not isinstance(stored, Mapping) or "trained" not in stored:
        return stored
    names = {"packaged": "packaged", "local_spread": "spread", "constant": "constant"}
    others = {name: stored.get(old) for old, name in names.items()}
    return {**stored, "hidden": stored["trained"], "others": others}
