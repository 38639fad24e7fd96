"""evaluation.json: what was measured on images with truth."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from html import escape
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from conformask.errors import MismatchError, MissingFileError
from conformask.records.curves import Worth, worth_as_now
from conformask.records.loss import LossTerms
from conformask.records.network import Caveat, Network
from conformask.storage.as_arrays import Array, read_arrays
from conformask.storage.as_json import Json, read_json
from conformask.storage.owned import owned
from conformask.storage.published import Published, publish, read_published
from conformask.storage.typed import record_of

FILE = "evaluation.json"
STEMS = ("evaluation", "examples")
FRAMES = ("pandas", "polars")
"""Libraries whose DataFrame an evaluation becomes; the first that is installed."""


@dataclass(frozen=True)
class Measurement:
    """What was measured on images with truth, to stand beside what is promised."""

    n: int
    """Images, or groups where the promise is about whole groups."""
    coverage: float
    """Share of them that meets the threshold; of images of new groups the mean over groups."""
    coverage_interval: tuple[float, float]
    """95 %."""
    mean_distance: float
    """Masked."""
    p_worse: float | None
    """How often images like those of the calibration measure as bad or worse; None where no law is known."""
    broken: bool
    """Whether less is kept than was promised, and less than chance explains."""


@dataclass(frozen=True)
class ImageRecords:
    """What evaluation measured on each test image; arrays of shape (n,), float64 if nothing else is said."""

    name: Array
    """Texts."""
    distance: Array
    """Masked: d(m*y, m*y_hat)."""
    unmasked_distance: Array
    size: Array
    """mean(1 - m)."""
    oracle_size: Array
    """Of the exact oracle; NaN where there is none."""
    paper_oracle_size: Array
    """Of the paper's Opt; NaN where it was not computed or did not reach the threshold."""
    critical_lambda: Array
    difficulty: Array
    """The mean score."""
    group: Array | None = None
    """Texts, an image's own name where it has none; None in an evaluation of conformask 0.1."""
    category: Array | None = None
    """Texts, empty where there is none; None as for group."""
    passed: Array | None = None
    """Whether the distance meets the threshold; None as for group."""

    def columns(self) -> dict[str, list[Json]]:
        """Plain values by name; None where there is no group or category, or nobody noted it."""
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


@dataclass(frozen=True)
class Example:
    """One image of the gallery, ready to show: uint8, (H, W) or (H, W, 3)."""

    name: str
    kind: str
    """best, typical, worst (by loss against threshold), or whole (a whole image of tiles)."""
    x: Array
    y: Array
    y_hat: Array
    mask: Array
    """255 = trusted."""
    error: Array
    """Pixelwise error |y - y_hat|, averaged over channels, (H, W), 255 = error_scale."""
    error_scale: float
    size: float
    """Mask size, mean(1 - m)."""
    distance: float
    """Loss."""
    oracle_size: float | None


@dataclass(frozen=True)
class CategoryCoverage:
    """Coverage of the test images of a category."""

    category: str
    n: int
    coverage: float
    interval: tuple[float, float]
    """95 %."""


@dataclass(frozen=True)
class Made:
    """How an evaluation came about, for those who repeat it."""

    calibrated: str
    """When the promise was made, in UTC."""
    images: str
    """A hash of all pixels of the test images, in their order."""
    versions: Mapping[str, str]
    """Of what computed it, by name."""
    command: str | None
    """None where nobody typed one, as in a notebook."""


@dataclass(frozen=True, kw_only=True)
class Evaluation(LossTerms):
    """evaluation.json: how a calibrated masker did on test images that no choice has seen."""

    promise: str
    threshold: float
    confidence: float | None
    """None for a promise about a mean."""
    guarantee: str
    family: str
    scorer: str
    n_calibration: int
    n_test: int
    coverage: float
    coverage_interval: tuple[float, float]
    """95 %: Clopper-Pearson, with an effective number of images where they lie in groups."""
    mask_size: float
    mask_size_interval: tuple[float, float]
    """Bootstrap, 95 %."""
    mask_size_oracle: float | None
    mask_size_paper_oracle: float | None
    n_paper_oracle: int
    """Images on which the paper's Opt was computed and reached the threshold."""
    ratio_to_oracle: float | None
    """mask_size / mask_size_oracle."""
    correlation_size_distance: float | None
    """C(M, D): Pearson, mask size and loss without a mask."""
    correlation_size_oracle: float | None
    """C(M, M_opt): Pearson, mask size and the paper's Opt's."""
    spearman_size_distance: float | None
    spearman_size_oracle: float | None
    coverage_by_difficulty: tuple[float, ...]
    """By decile of the mean score, easiest first."""
    size_by_difficulty: tuple[float, ...]
    size_by_threshold: tuple[tuple[float, float], ...]
    """(threshold, mean mask size on the calibration images) at the same confidence, thresholds ascending."""
    images: ImageRecords
    examples: tuple[Example, ...] = ()
    mean_distance: float = math.nan
    """Of the loss under the masks."""
    mean_distance_interval: tuple[float, float] = (math.nan, math.nan)
    """Bootstrap over images, whole groups where there are any, 95 %."""
    p_worse: float | None = None
    """How often images like those of the calibration measure as bad or worse; None where no law is known."""
    p_better: float | None = None
    """The same for as good or better."""
    coverage_by_category: tuple[CategoryCoverage, ...] = ()
    """Where the promise is for each category."""
    network: Network | None = None
    """Who made y_hat of the test images."""
    caveat: Caveat | None = None
    """What to say beside every result, where that is not the network that the promise is about."""
    fingerprint: str = ""
    """Of the masker."""
    unit: str | None = None
    """image, group or member; None is that of the guarantee."""
    share: float | None = None
    """Of a group's images that have to be fine."""
    within: bool = False
    """In each category by itself, beyond what the guarantee says."""
    n_groups: int | None = None
    """Of the test images, where the promise counts groups."""
    worth: Worth | None = None
    """What the score was worth on the selection images, where it was compared there."""
    exploratory: bool = False
    """The terms, or which images they rest on, were changed after a calibration on the same images."""
    hides: str | None = None
    """Which images are hidden completely whatever they look like, as nothing less keeps the promise."""
    made: Made | None = None
    """None in an evaluation of an earlier conformask."""
    again: Callable[[Mapping[str, Any]], "Evaluation"] | None = field(default=None, compare=False)
    """Evaluates the same images under another promise; None where this was read from a folder."""

    def __repr__(self) -> str:
        return f"Evaluation({self.promise}: {', '.join(map(' '.join, self._text().items()))})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in self._text().items())
        return f"<p><b>{escape(self.promise)}</b></p><table>{rows}</table>"

    def _text(self) -> dict[str, str]:
        low, high = self.coverage_interval
        facts = {"coverage": f"{self.coverage:.1%} (95 % interval {low:.1%} to {high:.1%})"}
        return facts | {"mask size": f"{self.mask_size:.3f}", "test images": f"{self.n_test}"}

    def __iter__(self) -> Iterator[dict[str, Json]]:
        """The rows of `table`, so that pandas.DataFrame(evaluation) is what it seems."""
        return iter(self.table())

    def table(self) -> list[dict[str, Json]]:
        """One dict of plain values for each image: name, group, category, passed, distance, mask size...

        Numbers that are unknown are NaN, other values None.
        """
        columns = self.images.columns()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def to_frame(self) -> Any:
        """The rows of `table` as a DataFrame of pandas, or of polars where pandas is not installed.

        Raises:
            MissingFileError: neither is installed.
        """
        for library in FRAMES:
            if find_spec(library) is not None:
                return import_module(library).DataFrame(self.images.columns())
        raise MissingFileError(
            f"a DataFrame needs {' or '.join(FRAMES)}: pip install {FRAMES[0]}; table() gives the same rows "
            "without it"
        )

    def plot(self, ax: Any = None) -> Any:
        """Mean mask size against threshold, as in the report, with what the test images measured; matplotlib.

        Args:
            ax: matplotlib axes to draw on; new ones if None.

        Returns:
            The axes.

        Raises:
            MissingFileError: matplotlib is not installed.
            MismatchError: the masker stored no curves, from which mask sizes at other thresholds are known.
        """
        if find_spec("matplotlib") is None:
            raise MissingFileError("plot needs matplotlib: pip install 'conformask[plot]'")
        if not self.size_by_threshold:
            raise MismatchError("no curves are stored: an earlier conformask kept none here, calibrate again")
        axes = import_module("matplotlib.pyplot").subplots()[1] if ax is None else ax
        axes.plot(*zip(*self.size_by_threshold, strict=True), ".-", label="calibration images")
        axes.axvline(self.threshold, color="C1", linestyle="--", label=f"chosen, {self.threshold:.4g}")
        low, high = self.mask_size_interval
        ends = [[self.mask_size - low], [high - self.mask_size]]
        measured = f"{self.n_test} test images, 95 % interval"
        axes.errorbar(self.threshold, self.mask_size, ends, color="C1", fmt="o", capsize=4, label=measured)
        axes.set(xlabel=f"threshold on {self.loss_label}", ylabel="mean mask size", ylim=(0, None))
        axes.set_title(f"coverage {self._text()['coverage']}")
        axes.legend()
        return axes

    def recalibrate(self, **promise: Any) -> "Evaluation":
        """The same masker under another promise, measured on the same images.

        Args:
            promise: threshold, confidence and what else `Masker.recalibrate` takes. A promise that was chosen
                on test images does not hold: the result says that it is exploratory where the masker does.

        Raises:
            MismatchError: this evaluation was read from a folder, without masker and images.
            ConformaskError: as `Masker.recalibrate` and `evaluate`.
        """
        if self.again is None:
            raise MismatchError(
                "this evaluation was read from a folder, without masker and images: recalibrate the masker, "
                "evaluate(masker.recalibrate(...), test)"
            )
        return self.again(promise)

    def summary(self) -> dict[str, Json]:
        """All but the arrays: the content of evaluation.json."""
        left_out = "images", "examples", "again"
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def save(self, folder: Path) -> None:
        """Write evaluation.json and what it names, evaluation-*.npz and examples-*.npz."""
        examples: dict[str, Array] = {}
        for index, example in enumerate(self.examples):
            for name, value in vars(example).items():
                examples[f"{index:03d}/{name}"] = np.asarray(np.nan if value is None else value)
        with owned(folder):
            images = {name: values for name, values in vars(self.images).items() if values is not None}
            arrays = {"evaluation": images, "examples": examples}
            publish(folder / FILE, self.summary(), arrays)

    @classmethod
    def load(cls, folder: Path) -> "Evaluation":
        """Read what save wrote.

        Raises:
            MissingFileError: the folder holds no evaluation.
            MismatchError: a file is damaged, or was not written with the others.
        """
        path = folder / FILE
        record = read_json(path)
        if record["schema"] == 1:
            published = Published(record, {stem: read_arrays(folder / f"{stem}.npz") for stem in STEMS})
        else:
            published = read_published(path, STEMS)
        try:
            images = ImageRecords(**published.arrays["evaluation"])
            examples = list(_examples(published.arrays["examples"]))
        except (KeyError, TypeError, ValueError) as error:
            raise MismatchError(f"{folder} holds a damaged evaluation ({error}): repeat it") from error
        mean = {"mean_distance": float(images.distance.mean())}
        record = {**mean, **published.record, "images": images, "examples": examples}
        return record_of(cls, {**record, "worth": worth_as_now(record.get("worth"))}, path)


def _examples(arrays: Mapping[str, Array]) -> Iterator[Example]:
    for index in sorted({key.split("/")[0] for key in arrays}):
        values = {field.name: arrays[f"{index}/{field.name}"] for field in fields(Example)}
        plain: dict[str, Any] = {key: a.item() if a.ndim == 0 else a for key, a in values.items()}
        oracle = plain.pop("oracle_size")
        yield Example(**plain, oracle_size=None if np.isnan(oracle) else oracle)
