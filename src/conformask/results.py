"""What runs leave on disk: frozen records, JSON and npz, always whole or not at all. No torch here."""

import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from conformask.errors import MismatchError, MissingFileError, OutputError

Json = Any
"""None, bool, int, float, str, or lists and string-keyed dicts of these."""
Array = np.ndarray[Any, np.dtype[Any]]

SCHEMA = 1


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on success it becomes `path`, on failure nothing is left.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.
    """
    aside = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        aside.replace(path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another folder") from error
    finally:
        if aside.parent.is_dir() and os.access(aside.parent, os.W_OK):
            aside.unlink(missing_ok=True)


def write_json(path: Path, record: Mapping[str, Json]) -> None:
    """Write a record with the schema and package version; infinities become "inf", NaN null."""
    head = {"schema": SCHEMA, "conformask": version("conformask")}
    text = json.dumps(plain({**head, **record}), indent=2, allow_nan=False)
    with whole_file(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, needed: Iterable[str] = ()) -> dict[str, Any]:
    """Read what write_json wrote.

    Raises:
        MissingFileError: there is no such file.
        MismatchError: the file is not valid, lacks a needed key, or is of a newer schema.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; is {path.parent} the right folder?")
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema = int(record.get("schema", 0))
    except (ValueError, TypeError, AttributeError) as error:
        raise MismatchError(f"{path} is not a record of conformask ({error}): copy it again") from error
    if schema > SCHEMA:
        raise MismatchError(
            f"{path} has schema {schema}, this conformask reads up to {SCHEMA}: upgrade conformask"
        )
    missing = [key for key in needed if key not in record]
    if missing:
        raise MismatchError(f"{path} lacks {', '.join(missing)}: it is damaged, copy it again")
    return record


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write named arrays to an npz."""
    with whole_file(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, Array]:
    """Read what write_arrays wrote; never unpickles.

    Raises:
        MissingFileError: there is no such file.
        MismatchError: the file is damaged.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; is {path.parent} the right folder?")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, EOFError, BadZipFile) as error:
        raise MismatchError(f"{path} is damaged ({error}): copy it again") from error


def number(value: float | str | None) -> float:
    """A number that JSON may hold as the string "inf", or NaN as null."""
    return math.nan if value is None else float(value)


def plain(value: Any) -> Json:
    """A value as JSON will give it back: lists for tuples and arrays, "inf", null for NaN."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


@dataclass(frozen=True)
class Curves:
    """For each image, the raw distance and the mask size at the points of a fixed grid of lambdas."""

    names: Array
    """(n,) strings."""
    grid: Array
    """(G,) increasing, from 0 to inf."""
    distance: Array
    """(n, G) float64: d(m*y, m*y_hat), not made monotone."""
    size: Array
    """(n, G) float64: mean(1 - m)."""
    features: Array | None = None
    """(n, F) float64: what the score looks like."""
    bound: Array | None = None
    """(n, G) float64: the largest masked distance that any truth could give."""
    group: Array | None = None
    """(n,) strings: images of one group are dependent."""
    category: Array | None = None
    """(n,) strings."""
    weight: Array | None = None
    """(n,) float64: likelihood ratios."""

    def arrays(self, prefix: str = "") -> dict[str, Array]:
        """As named arrays for an npz."""
        values = {prefix + field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def take(self, places: Array) -> "Curves":
        """Those of the images at these places."""
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        rows = {key: value[places] for key, value in kept.items() if key != "grid" and value is not None}
        return replace(self, **rows)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], prefix: str = "") -> "Curves":
        """The inverse of arrays()."""
        return cls(**{f.name: arrays[prefix + f.name] for f in fields(cls) if prefix + f.name in arrays})


@dataclass(frozen=True)
class Selection:
    """selection.npz: what the choices after training need of the selection images."""

    of: str
    """The name of the distance."""
    distance: Array
    """(n,) unmasked distances."""
    curves: Mapping[str, Curves]
    """For each family."""

    def threshold(self, quantile: float) -> float:
        """The quantile of the unmasked distances, as "q0.1" means it."""
        return float(np.quantile(self.distance, quantile))

    def save(self, folder: Path) -> None:
        """Write selection.npz."""
        arrays = {"of": np.array(self.of), "distance": self.distance}
        for family, curves in self.curves.items():
            arrays |= curves.arrays(f"{family}/")
        write_arrays(folder / "selection.npz", arrays)

    @classmethod
    def load(cls, folder: Path) -> "Selection":
        """Read what save wrote."""
        arrays = read_arrays(folder / "selection.npz")
        families = sorted({key.split("/")[0] for key in arrays if "/" in key})
        if "of" not in arrays:
            raise MismatchError(f"{folder / 'selection.npz'} is of an older conformask: train again")
        curves = {name: Curves.from_arrays(arrays, f"{name}/") for name in families}
        return cls(str(arrays["of"]), arrays["distance"], curves)


@dataclass(frozen=True)
class CalibrationCard:
    """calibration.json: what is promised, and for which images."""

    threshold: float
    confidence: float | None
    """None for a promise about a mean."""
    delta: float | None
    """Share of calibration sets for which the promise may fail; None where it averages over them."""
    guarantee: str
    claim: str
    """What is promised, as a formula."""
    distance: str
    family: Mapping[str, Json]
    rule: Mapping[str, Json]
    exact: bool
    """Critical lambdas solved exactly; otherwise on a grid, which is conservative."""
    exploratory: bool
    """Threshold or confidence were changed after the calibration."""
    thresholds: tuple[float, ...] | None
    """Declared before the calibration, for a simultaneous promise."""
    n_calibration: int
    n_groups: int | None
    """Where images of a group are dependent."""
    n_effective: float | None
    """Effective sample size, where images are weighted."""
    channels: int
    sizes: tuple[tuple[int, int], ...]
    data_range: tuple[float, float] | None
    """Values of black and white, where it was stated; the file type says them otherwise."""
    population: str | None
    """For which images the promise holds, where the data say so."""
    calibrated: str
    """When, in UTC."""
    calibrated_on: tuple[str, ...]
    """Pixel hashes of the calibration images."""
    tiles: tuple[int, int] | None = None
    """Side and overlap of the tiles by which whole images were scored; None where each was one pass."""

    @property
    def promise(self) -> str:
        """The promise in one sentence."""
        images = f"the {self.n_calibration} calibration images"
        if self.n_groups is not None:
            images += f" in {self.n_groups} groups"
        whom = f"{self.population}, like {images}" if self.population else f"new images like {images}"
        exploratory = ", exploratory" if self.exploratory else ""
        return f"{self.claim} for {whom} ({self.guarantee}{exploratory})"

    def save(self, folder: Path) -> None:
        """Write calibration.json."""
        write_json(folder / "calibration.json", dict(vars(self)))

    @classmethod
    def load(cls, folder: Path) -> "CalibrationCard":
        """Read what save wrote.

        Raises:
            MissingFileError: nothing was calibrated in this folder.
        """
        path = folder / "calibration.json"
        if folder.is_dir() and not path.is_file():
            raise MissingFileError(f"{folder} is not calibrated, {path.name} is missing: calibrate it first")
        record = {"tiles": None} | read_json(path, cls.__dataclass_fields__.keys() - {"tiles"})
        values = {key: record[key] for key in cls.__dataclass_fields__}
        values["threshold"] = number(values["threshold"])
        values["sizes"] = tuple(tuple(size) for size in values["sizes"])
        values["calibrated_on"] = tuple(values["calibrated_on"])
        for key in ("data_range", "thresholds", "tiles"):
            values[key] = values[key] and tuple(values[key])
        return cls(**values)


@dataclass(frozen=True)
class Measurement:
    """What was measured on images with truth, to stand beside what is promised."""

    n: int
    coverage: float
    """Share of the images whose masked distance meets the threshold; of a promise about groups their mean."""
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
    """What evaluation measured on each test image; arrays of shape (n,), float64 but for the names."""

    name: Array
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


@dataclass(frozen=True)
class Example:
    """One image of the gallery, ready to show: uint8, (H, W) or (H, W, 3)."""

    name: str
    kind: str
    """best, typical, worst (by masked distance against threshold), or whole (a whole image of tiles)."""
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
    """Masked distance."""
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
class Evaluation:
    """evaluation.json: how a calibrated masker did on test images that no choice has seen."""

    promise: str
    threshold: float
    confidence: float | None
    """None for a promise about a mean."""
    guarantee: str
    distance: str
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
    """C(M, D): Pearson, mask size and unmasked distance."""
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
    """Masked."""
    mean_distance_interval: tuple[float, float] = (math.nan, math.nan)
    """Bootstrap over images, whole groups where there are any, 95 %."""
    p_worse: float | None = None
    """How often images like those of the calibration measure as bad or worse; None where no law is known."""
    p_better: float | None = None
    """The same for as good or better."""
    coverage_by_category: tuple[CategoryCoverage, ...] = ()
    """Where the promise is for each category."""

    def __repr__(self) -> str:
        return f"Evaluation({self.promise}: {', '.join(map(' '.join, self._told().items()))})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{name}</td><td>{told}</td></tr>" for name, told in self._told().items())
        return f"<p><b>{escape(self.promise)}</b></p><table>{rows}</table>"

    def _told(self) -> dict[str, str]:
        low, high = self.coverage_interval
        told = {"coverage": f"{self.coverage:.1%} (95 % interval {low:.1%} to {high:.1%})"}
        return told | {"mask size": f"{self.mask_size:.3f}", "test images": f"{self.n_test}"}

    def table(self) -> list[dict[str, Json]]:
        """One dict of plain values an image, as pandas.DataFrame takes it; NaN where there is no value."""
        columns = {name: values.tolist() for name, values in vars(self.images).items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def summary(self) -> dict[str, Json]:
        """All but the arrays: the content of evaluation.json."""
        record = {name: value for name, value in vars(self).items() if name not in ("images", "examples")}
        return record | {"coverage_by_category": [vars(each) for each in self.coverage_by_category]}

    def save(self, folder: Path) -> None:
        """Write evaluation.json, evaluation.npz and, where there are examples, examples.npz."""
        write_arrays(folder / "evaluation.npz", asdict(self.images))
        examples: dict[str, Array] = {}
        for index, example in enumerate(self.examples):
            for name, value in vars(example).items():
                examples[f"{index:03d}/{name}"] = np.asarray(np.nan if value is None else value)
        write_arrays(folder / "examples.npz", examples)
        write_json(folder / "evaluation.json", self.summary())

    @classmethod
    def load(cls, folder: Path) -> "Evaluation":
        """Read what save wrote.

        Raises:
            MissingFileError: the folder holds no evaluation.
        """
        summary = read_json(folder / "evaluation.json")
        arrays = read_arrays(folder / "examples.npz")
        names, indices = [f.name for f in fields(Example)], sorted({key.split("/")[0] for key in arrays})
        examples = tuple(_example({name: arrays[f"{i}/{name}"] for name in names}) for i in indices)
        values = {field.name: summary[field.name] for field in fields(cls) if field.name in summary}
        categories = values.pop("coverage_by_category", ())
        for key, value in values.items():
            if isinstance(value, list):
                pairs = (tuple(map(number, v)) if isinstance(v, list) else number(v) for v in value)
                values[key] = tuple(pairs)
        values["coverage_by_category"] = tuple(
            CategoryCoverage(**{**each, "interval": tuple(each["interval"])}) for each in categories
        )
        images = ImageRecords(**read_arrays(folder / "evaluation.npz"))
        values.setdefault("mean_distance", float(images.distance.mean()))
        return cls(**values, images=images, examples=examples)


def _example(arrays: Mapping[str, Array]) -> Example:
    values: dict[str, Any] = {key: a.item() if a.ndim == 0 else a for key, a in arrays.items()}
    oracle = values.pop("oracle_size")
    return Example(**values, oracle_size=None if np.isnan(oracle) else oracle)
