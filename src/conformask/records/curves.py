"""Distances and mask sizes of images along a grid of lambdas."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from conformask.errors import MismatchError
from conformask.records.loss import LossTerms
from conformask.storage.as_arrays import Array, read_arrays, write_arrays
from conformask.storage.as_json import Json
from conformask.storage.typed import record_of


@dataclass(frozen=True)
class Curves:
    """For each image, the raw loss and the mask size at the points of a fixed grid of lambdas."""

    names: Array
    """(n,) strings."""
    grid: Array
    """(G,) increasing, from 0 to inf."""
    distance: Array
    """(n, G) float64: the loss, such as d(m*y, m*y_hat), not made monotone."""
    size: Array
    """(n, G) float64: mean(1 - m)."""
    features: Array | None = None
    """(n, F) float64: what the score looks like."""
    bound: Array | None = None
    """(n, G) float64: the largest loss that any truth could give."""
    group: Array | None = None
    """(n,) strings: images of one group are dependent."""
    category: Array | None = None
    """(n,) strings."""
    weight: Array | None = None
    """(n,) float64: likelihood ratios."""
    appearance: Array | None = None
    """(n, 2, 4) float64: logarithms of plain numbers of x and y_hat, see `masker.appearance`."""

    def arrays(self, prefix: str = "") -> dict[str, Array]:
        """As named arrays for an npz."""
        values = {prefix + field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def take(self, places: Array) -> "Curves":
        """Those of the images at these places."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        rows = {key: value[places] for key, value in columns.items() if key != "grid" and value is not None}
        return replace(self, **rows)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], prefix: str = "") -> "Curves":
        """The inverse of arrays().

        Raises:
            MismatchError: one is missing, or they are of different lengths.
        """
        columns = {f.name: arrays[prefix + f.name] for f in fields(cls) if prefix + f.name in arrays}
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in columns]
        shapes = {len(values) for name, values in columns.items() if name != "grid" and values.ndim}
        if missing or len(shapes) > 1:
            raise MismatchError(f"these curves are damaged: {missing or shapes}; copy the file again")
        return cls(**columns)


@dataclass(frozen=True)
class Worth:
    """What a score is worth: hidden shares of selection images, all at one promise."""

    n: int
    """Images."""
    threshold: float
    """Of the promise."""
    hidden: float
    """Under the score."""
    others: Mapping[str, float]
    """Under scores that need no training, by their names, and "constant", one value everywhere."""
    oracle: float | None
    """Under the best mask of each image, given the truth; None where none is known."""
    correlation: float | None
    """Of hidden share and unmasked loss over the images, C(M, D), under the score."""
    interval: tuple[float, float] | None = None
    """Of the hidden share, in nine of ten sets of such images; None in runs of conformask 0.2."""
    clearly_less: tuple[str, ...] = ()
    """The others that hide less in at least nineteen of twenty sets of such images."""


@dataclass(frozen=True)
class Selection:
    """selection.npz: what the choices after training need of the selection images."""

    of: LossTerms
    """Which loss."""
    distance: Array
    """(n,) losses of the images without a mask."""
    curves: Mapping[str, Curves]
    """For each family."""
    worth: Worth | None = None

    def threshold(self, quantile: float) -> float:
        """The quantile of the unmasked losses, as "q0.1" means it."""
        return float(np.quantile(self.distance, quantile))

    def save(self, folder: Path) -> None:
        """Write selection.npz."""
        arrays = {"of": np.array(json.dumps(vars(self.of))), "distance": self.distance}
        for family, curves in self.curves.items():
            arrays |= curves.arrays(f"{family}/")
        if self.worth is not None:
            arrays["worth"] = np.array(json.dumps(asdict(self.worth)))
        write_arrays(folder / "selection.npz", arrays)

    @classmethod
    def load(cls, folder: Path) -> "Selection":
        """Read what save wrote."""
        arrays = read_arrays(folder / "selection.npz")
        families = sorted({key.split("/")[0] for key in arrays if "/" in key})
        if "of" not in arrays:
            raise MismatchError(f"{folder / 'selection.npz'} is of an older conformask: train again")
        curves = {name: Curves.from_arrays(arrays, f"{name}/") for name in families}
        path = folder / "selection.npz"
        terms = _terms(str(arrays["of"]), path)
        worth = worth_as_now(json.loads(str(arrays["worth"]))) if "worth" in arrays else None
        kept = None if worth is None else record_of(Worth, worth, path)
        return cls(terms, arrays["distance"], curves, kept)


def _terms(stored: str, path: Path) -> LossTerms:
    """As JSON; conformask 0.1 kept the name of a distance."""
    if not stored.startswith("{"):
        return LossTerms(distance=stored)
    return record_of(LossTerms, json.loads(stored), path)


def worth_as_now(stored: Json) -> Json:
    """The JSON of a Worth; conformask 0.2 kept three other scores, each under a name of its own."""
    if not isinstance(stored, Mapping) or "trained" not in stored:
        return stored
    names = {"packaged": "packaged", "local_spread": "spread", "constant": "constant"}
    others = {name: stored.get(old) for old, name in names.items()}
    return {**stored, "hidden": stored["trained"], "others": others}
