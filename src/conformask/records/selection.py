"""The contents of selection.npz, and the thresholds that are chosen on it.

People give thresholds and tolerances as a number, a share of the range, or in units of the images; a
threshold also as a quantile of losses on the selection images.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from conformask.errors import InvalidArgumentError, MismatchError, warn
from conformask.promises.order import Curves
from conformask.records.extent import extent_of
from conformask.records.loss import StatedLoss
from conformask.records.names import GIVEN, WITHOUT_TRAINING
from conformask.records.numbers import Values
from conformask.records.record import Array, from_dict, read_arrays, to_jsonable, write_arrays
from conformask.records.upgrade import compared, loss_named, with_loss

WHOLE, QUARTERS = "", "quarters/"
"""Beginnings of the names of arrays in selection.npz: those of curves of images, and of their quarters."""
ANY_SIZE, CONSTANT = "any size", "constant"
"""Names of the same score in parts of any size, and of one value everywhere, in comparisons."""
HARDLY = 0.95
"""A score is hardly useful if its masks are at least this fraction of those of a constant score."""


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
    """Mean mask sizes by name: under scores without training; under `CONSTANT`, one value everywhere."""
    oracle: float | None
    """Mean mask size under the best masks, given the truth; None where none is known."""
    correlation: float | None
    """Correlation C(M, D) of mask size and unmasked loss over the images, under the score."""
    interval: tuple[float, float] | None = None
    """The 90 % interval of the mean mask size over sets of such images; None in runs of conformask 0.2."""
    ratios: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """The 90 % intervals of the other mask sizes as multiples of that of the score, over sets of such images;
    empty where nothing is hidden, and in runs of conformask 0.3."""
    in_region: bool = False
    """True if mask sizes are those of the regions that the loss is about."""
    of_objects: bool = False
    """True if mask sizes are shares of objects."""
    part: str = "selection"
    """The images that this was measured on: selection, or test where no other was kept."""

    @property
    def whole(self) -> str:
        """What the mask sizes are shares of."""
        return "the objects of an image" if self.of_objects else extent_of(regional=self.in_region).whole

    def times(self, hidden: float) -> str:
        """Return a hidden share as a multiple of that of the score."""
        if not self.hidden:
            return "as much" if not hidden else "more"
        ratio = f"{hidden / self.hidden:.2g}"
        return "as much" if ratio == "1" else f"{ratio} times as much"

    def can_be_told_apart(self, other: str) -> bool:
        """Return whether another score hides more, or less, in nineteen of twenty sets of such images."""
        low, high = self.ratios.get(other, (math.inf, math.inf))
        return not low <= 1 <= high

    def warn_if_useless(self, scorer: str) -> None:
        """Warn if a score without training hides less, or a constant score hardly more.

        Another score is recommended only where it hides clearly less: in nineteen of twenty resampled sets.
        Nothing is said where no mask is needed.
        """
        if not self.hidden:
            return
        trains = scorer not in WITHOUT_TRAINING
        longer = "train longer, on more triplets" if trains else "train a score (conformask train)"
        if scorer == GIVEN:
            longer = "are higher values trusted (--higher trusted), and are the maps those of these images?"
        where = f"on {self.n} selection images with one lambda for all, the masks of"
        untrained = {name: share for name, share in self.others.items() if name != CONSTANT}
        best = min(untrained, key=lambda name: untrained[name])
        those = f"{where} scorer {best}, which needs no training, hide {self.times(untrained[best])}"
        if untrained[best] < self.hidden and self.ratios and self.can_be_told_apart(best):
            useless, worse = "the trained score is not useful yet", f"scorer {scorer} hides more than another"
            what = useless if trains else worse
            warn(f"{what}: {those}; {longer}, or use --scorer {best} (scorer={best!r})")
        elif self.hidden >= HARDLY * self.others[CONSTANT]:
            what = "the trained score is" if trains else f"scorer {scorer} is"
            those = f"{where} a constant score hide {self.times(self.others[CONSTANT])}"
            warn(f"{what} hardly useful: {those}; {longer}, or choose another threshold")
        elif trains and self.hidden >= untrained[best]:
            warn(
                f"the trained score may not be useful yet: {those}; with so few images, this may be "
                f"chance. Add selection images to find out; otherwise {longer}, or use --scorer {best} "
                f"(scorer={best!r})"
            )


@dataclass(frozen=True)
class Selection:
    """The contents of selection.npz: data on the selection images for the choices after training."""

    of: StatedLoss
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

    def save(self, folder: Path) -> None:
        """Write selection.npz."""
        arrays = {"of": np.array(json.dumps(to_jsonable(self.of.to_json()))), "distance": self.unmasked_loss}
        for prefix, of_families in ((WHOLE, self.curves), (QUARTERS, self.quarters)):
            for family, curves in of_families.items():
                arrays |= curves.arrays(f"{prefix}{family}/")
        if self.level_features is not None:
            arrays["level_features"] = self.level_features
        if self.comparison is not None:
            arrays["comparison"] = np.array(json.dumps(asdict(self.comparison)))
        write_arrays(folder / "selection.npz", arrays)

    @classmethod
    def load(cls, folder: Path) -> "Selection | None":
        """Read the record that save wrote; None where the folder keeps none."""
        path = folder / "selection.npz"
        if not path.exists():
            return None
        arrays = read_arrays(path)
        if "of" not in arrays:
            raise MismatchError(f"{path} was written by an older version of conformask: train again")
        curves, quarters = (_by_family(arrays, prefix) for prefix in (WHOLE, QUARTERS))
        name = str(arrays["of"])  # conformask 0.1 kept the name of a distance
        is_json = name.startswith("{")
        of = with_loss({"loss": json.loads(name)}, path)["loss"] if is_json else loss_named(name, path)
        stored = arrays.get("comparison", arrays.get("worth"))
        comparison = None if stored is None else compared(json.loads(str(stored)))
        kept = None if comparison is None else from_dict(ScoreComparison, comparison, path)
        return cls(of, arrays["distance"], curves, kept, arrays.get("level_features"), quarters)


def _by_family(arrays: Mapping[str, Array], prefix: str) -> dict[str, Curves]:
    inside = (key.removeprefix(prefix) for key in arrays if key.startswith(prefix))
    families = sorted({key.split("/")[0] for key in inside if key.count("/") == 1})
    return {family: Curves.from_arrays(arrays, f"{prefix}{family}/") for family in families}


PLAIN = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
"""A number without a unit."""
WITH_UNIT = re.compile(rf"({PLAIN.pattern})\s*((?:[^\W\d_]|[%‰°]).*)")
"""A number and its unit, such as 5% or 0.5 m."""


def threshold_in_loss(choice: float | str, loss: StatedLoss, values: Values | None) -> float | str:
    """Return a threshold with a unit as a value of the loss, and others as they are.

    A share of pixels or objects takes 5%. An error |y - y_hat| takes 5% of the range, or 0.5m where `values`
    have that unit; for l2 that is the root mean square, as in its sentence, for others such a power mean.
    """
    match = _with_unit(choice)
    if match is None:
        return choice
    if not loss.traits.is_share:
        return _error_of(match, f"threshold {choice!r}", loss, values)
    if match[2] != "%":
        raise InvalidArgumentError(
            f"threshold {choice!r}: the loss {loss.name} is a share, not an error: give 5%, for example"
        )
    return positive(float(match[1]) / 100)


def tolerance_of(choice: float | str, loss: StatedLoss, values: Values | None) -> float:
    """Return a tolerance given as a number, its text, 5% of the range, or 0.5m in the unit of `values`."""
    if match := _with_unit(choice):
        return _error_of(match, f"tolerance {choice!r}", loss, values)
    try:
        return float(choice)
    except ValueError as error:
        raise InvalidArgumentError(
            f"tolerance {choice!r}: give an error, such as 0.1, 10% of the range, or 0.5m with --units m"
        ) from error


def _with_unit(choice: float | str) -> re.Match[str] | None:
    """Return number and unit; None for numbers without one, and other texts."""
    if not isinstance(choice, str) or PLAIN.fullmatch(choice.strip()):
        return None
    return WITH_UNIT.fullmatch(choice.strip())


def _error_of(match: re.Match[str], what: str, loss: StatedLoss, values: Values | None) -> float:
    number, unit = float(match[1]), match[2]
    of_share = loss.words.error_of_share(number / 100)
    if unit == "%" and of_share is not None:
        return of_share
    if loss.traits.power is None:
        without = "in percent" if of_share is not None else "without a unit"
        raise InvalidArgumentError(
            f"{what}: {loss.words.distance} is not in the values of the images: give a number {without}"
        )
    if values is None or values.units is None:
        raise InvalidArgumentError(
            f"{what}: the unit of the calibration images is not stated: state it, --units {unit} "
            f"(Reading(units={unit!r})), or give a share of the range, such as 5%"
        )
    if unit != values.units:
        raise InvalidArgumentError(
            f"{what}: the values of the images are in {values.units}: give it in {values.units}"
        )
    return float((number / values.span) ** loss.traits.power)


def positive(threshold: float) -> float:
    """Return the threshold; raise InvalidArgumentError if it is not a distance above 0."""
    if not 0 < threshold < math.inf:
        raise InvalidArgumentError(f"threshold = {threshold:g}: must be a distance above 0")
    return float(threshold)


def threshold_of(choice: float | str, record: Selection | None) -> float:
    """Return a threshold given as a number, its text, or a quantile, such as "q0.1", of selection losses."""
    if record is None:
        if is_quantile(choice):
            raise InvalidArgumentError(
                f"threshold {choice!r} is a quantile on selection images: pass selection="
            )
        return positive(float(choice))
    threshold = level_of(choice, record.unmasked_loss)
    if threshold == 0:  # a number that is 0 was refused already
        raise InvalidArgumentError(
            f"threshold {choice!r}: this quantile of the losses without a mask of the "
            f"{len(record.unmasked_loss)} selection images is 0: give a larger quantile or a number"
        )
    return positive(threshold)


def level_of(choice: float | str, losses: Array) -> float:
    """Return a threshold from unmasked losses, as by threshold_of; 0 where their quantile is 0."""
    quantile = quantile_of(choice)
    return float(choice) if quantile is None else float(np.quantile(losses, quantile))


def quantile_of(choice: float | str) -> float | None:
    """Return 0.1 for the choice "q0.1"; None for a threshold that is given as a number."""
    return float(str(choice).removeprefix("q")) if is_quantile(choice) else None


def is_quantile(choice: float | str) -> bool:
    """Return whether the choice is a quantile such as "q0.1"; otherwise it is a loss."""
    if not isinstance(choice, str):
        positive(choice)
        return False
    if _with_unit(choice) is not None:
        return False
    is_quantile = choice.startswith("q")
    try:
        number = float(choice.removeprefix("q"))
        is_valid = 0 < number < 1 or not is_quantile
    except ValueError:
        is_valid = False
    if not is_valid:
        raise InvalidArgumentError(
            f"threshold {choice!r}: give a distance above 0, such as 0.05 (with a point), a percentage such "
            "as 5%, or a quantile such as q0.1"
        )
    if not is_quantile:
        positive(number)
    return is_quantile
