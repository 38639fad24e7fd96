"""The contents of selection.npz: data on the selection images, for the choices after training."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from conformask.conformal.curves import Curves
from conformask.errors import MismatchError
from conformask.records.loss import LossTerms, whole_of
from conformask.storage.as_arrays import Array, read_arrays, write_arrays
from conformask.storage.as_json import Json
from conformask.storage.typed import from_dict

CROSS_FITTED = "cross-fitted"
"""Said of training images that were scored by networks trained without their groups."""

WHOLE, QUARTERS = "", "quarters/"
"""Beginnings of the names of arrays in selection.npz: those of curves of images, and of their quarters."""


@dataclass(frozen=True)
class ScoreComparison:
    """The benchmark of a score: mean mask sizes on images of one part, all for one promise."""

    n: int
    """Number of images."""
    threshold: float
    """The threshold of the promise."""
    hidden: float
    """Mean mask size under the score."""
    others: Mapping[str, float]
    """Mean mask sizes by name: under scores without training; under "constant", one value everywhere; under
    "trained", the trained score, where training ended with another."""
    oracle: float | None
    """Mean mask size under the best masks, given the truth; None where none is known."""
    correlation: float | None
    """Correlation C(M, D) of mask size and unmasked loss over the images, under the score."""
    interval: tuple[float, float] | None = None
    """The 90 % interval of the mean mask size over sets of such images; None in runs of conformask 0.2."""
    clearly_less: tuple[str, ...] = ()
    """The other scores that hide less in at least nineteen of twenty sets of such images."""
    in_region: bool = False
    """True if mask sizes are those of the regions that the loss is about."""
    of_objects: bool = False
    """True if mask sizes are shares of objects."""
    part: str = "selection"
    """The images that this was measured on: selection, or test where no other was kept, or CROSS_FITTED."""

    @property
    def whole(self) -> str:
        """What the mask sizes are shares of."""
        return whole_of(in_region=self.in_region, of_objects=self.of_objects)


@dataclass(frozen=True)
class Selection:
    """The contents of selection.npz: data on the selection images for the choices after training."""

    of: LossTerms
    """The loss that the record is about."""
    unmasked_loss: Array
    """Losses of the images without a mask, (n,)."""
    curves: Mapping[str, Curves]
    """Curves by the name of the family."""
    comparison: ScoreComparison | None = None
    level_features: Array | None = None
    """Features that the level of an image is predicted from, (n, F); None in runs of conformask 0.2."""
    quarters: Mapping[str, Curves] = field(default_factory=dict)
    """Curves of quarters of some of the images, with the same features, by the name of the family."""

    def threshold(self, quantile: float) -> float:
        """Return the quantile of the unmasked losses, which a threshold such as "q0.1" stands for."""
        return float(np.quantile(self.unmasked_loss, quantile))

    def save(self, folder: Path) -> None:
        """Write selection.npz."""
        arrays = {"of": np.array(json.dumps(vars(self.of))), "distance": self.unmasked_loss}
        for prefix, of_families in ((WHOLE, self.curves), (QUARTERS, self.quarters)):
            for family, curves in of_families.items():
                arrays |= curves.arrays(f"{prefix}{family}/")
        if self.level_features is not None:
            arrays["level_features"] = self.level_features
        if self.comparison is not None:
            arrays["comparison"] = np.array(json.dumps(asdict(self.comparison)))
        write_arrays(folder / "selection.npz", arrays)

    @classmethod
    def load(cls, folder: Path) -> "Selection":
        """Read the record that save wrote."""
        arrays = read_arrays(folder / "selection.npz")
        if "of" not in arrays:
            raise MismatchError(
                f"{folder / 'selection.npz'} was written by an older version of conformask: train again"
            )
        curves, quarters = (_by_family(arrays, prefix) for prefix in (WHOLE, QUARTERS))
        path = folder / "selection.npz"
        terms = _terms(str(arrays["of"]), path)
        stored = arrays.get("comparison", arrays.get("worth"))  # worth: up to conformask 0.2
        comparison = None if stored is None else comparison_as_now(json.loads(str(stored)))
        kept = None if comparison is None else from_dict(ScoreComparison, comparison, path)
        return cls(terms, arrays["distance"], curves, kept, arrays.get("level_features"), quarters)


def _by_family(arrays: Mapping[str, Array], prefix: str) -> dict[str, Curves]:
    inside = (key.removeprefix(prefix) for key in arrays if key.startswith(prefix))
    families = sorted({key.split("/")[0] for key in inside if key.count("/") == 1})
    return {family: Curves.from_arrays(arrays, f"{prefix}{family}/") for family in families}


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
