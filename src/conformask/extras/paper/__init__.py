"""The paper's sixteen rows as data, four sizes at which to run them, and their results; without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conformask.errors import InvalidArgumentError
from conformask.extras.train import TrainingConfig
from conformask.records import names
from conformask.records.record import Array

if TYPE_CHECKING:
    from conformask.records.evaluation import Evaluation


@dataclass(frozen=True)
class PublishedResult:
    """A line of the paper's Table 1: mean mask sizes, C(M, D) and C(M, M_opt)."""

    opt: float
    ours: float
    quantile: float
    ours_distance: float
    quantile_distance: float
    ours_opt: float
    quantile_opt: float


@dataclass(frozen=True)
class TableRow:
    """A row of Table 1: its images, network and distance."""

    number: int
    task: str
    data: str
    """Kind of images: photos or cells."""
    network: str
    """Training of the predictor: regressor or gan."""
    distance: str
    published: PublishedResult


def _row(number: int, task: str, data: str, network: str, distance: str, *published: float) -> TableRow:
    return TableRow(number, task, data, network, distance, PublishedResult(*published))


ROWS = (
    # in the paper: mask size of Opt, ours, Quantile; C(M, D) of ours, Quantile; C(M, M_opt) of ours, Quantile
    _row(1, "completion", "photos", "regressor", "l1", 0.09, 0.10, 0.15, 0.89, 0.78, 0.89, 0.76),
    _row(2, "completion", "photos", "regressor", "lpips", 0.01, 0.01, 0.20, 0.54, 0.51, 0.89, 0.77),
    _row(3, "completion", "photos", "gan", "l1", 0.09, 0.09, 0.14, 0.95, 0.85, 0.94, 0.80),
    _row(4, "completion", "photos", "gan", "lpips", 0.01, 0.01, 0.08, 0.31, 0.24, 0.50, 0.23),
    _row(5, "super_resolution", "cells", "regressor", "l1", 0.24, 0.26, 0.28, 0.99, 0.54, 0.95, 0.88),
    _row(6, "super_resolution", "cells", "regressor", "ssim", 0.03, 0.03, 0.13, 0.66, 0.64, 0.82, 0.57),
    _row(7, "super_resolution", "cells", "gan", "l1", 0.26, 0.30, 0.40, 0.94, 0.63, 0.80, 0.72),
    _row(8, "super_resolution", "cells", "gan", "ssim", 0.03, 0.03, 0.13, 0.79, 0.63, 0.83, 0.63),
    _row(9, "super_resolution", "photos", "regressor", "l1", 0.30, 0.36, 0.39, 0.99, 0.97, 0.95, 0.94),
    _row(10, "super_resolution", "photos", "regressor", "ssim", 0.10, 0.23, 0.48, 0.89, 0.85, 0.94, 0.84),
    _row(11, "super_resolution", "photos", "gan", "l1", 0.37, 0.38, 0.47, 0.97, 0.81, 0.95, 0.67),
    _row(12, "super_resolution", "photos", "gan", "ssim", 0.10, 0.12, 0.51, 0.86, 0.81, 0.92, 0.86),
    _row(13, "colorization", "photos", "regressor", "l1", 0.27, 0.37, 0.40, 0.68, 0.43, 0.57, 0.46),
    _row(14, "colorization", "photos", "regressor", "l2", 0.18, 0.37, 0.38, 0.57, 0.30, 0.60, 0.48),
    _row(15, "colorization", "photos", "gan", "l1", 0.27, 0.38, 0.40, 0.58, 0.40, 0.60, 0.52),
    _row(16, "colorization", "photos", "gan", "l2", 0.18, 0.36, 0.38, 0.42, 0.28, 0.59, 0.49),
)


def rows_of(numbers: Sequence[int] | None) -> tuple[TableRow, ...]:
    """Return the rows with these numbers, all if None."""
    by_number = {row.number: row for row in ROWS}
    row_numbers = list(by_number) if numbers is None else list(dict.fromkeys(numbers))
    unknown_numbers = [number for number in row_numbers if number not in by_number]
    if unknown_numbers or not row_numbers:
        numbers_text = ", ".join(map(str, unknown_numbers)) or "none"
        raise InvalidArgumentError(
            f"rows: {numbers_text}; the table has rows {min(by_number)} to {max(by_number)}"
        )
    return tuple(by_number[number] for number in sorted(row_numbers))


CONFIDENCE = 0.9
QUANTILE = 0.1
THRESHOLD = f"q{QUANTILE}"
"""Threshold: this quantile of the unmasked distance on the selection images."""
SEED = 0
SPLITS = {"within": "within", "paper": "paper"}
"""Splits of the tiles of the cells: whole fields kept for training, or all at random as in the paper."""


@dataclass(frozen=True)
class Method:
    """A score with a family of masks."""

    scorer: names.Scorer | None
    """Scorer; None for the one that suits the distance."""
    family: str | None
    """Family; None for the one that suits the scorer."""
    own_network: bool
    """True if the score network is conformask's own instead of a U-Net with as many levels as the paper's."""


METHODS: Mapping[str, Method] = {
    "mask": Method("mask", "reciprocal", own_network=False),
    "quantile": Method("quantile", "reciprocal", own_network=False),
    "default": Method(None, None, own_network=True),
}
"""Methods of the table: the paper's, its baseline, and conformask's own."""


@dataclass(frozen=True)
class TrainingSettings:
    """Training settings of networks, for fit_predictor and fit_scorer."""

    width: int
    paper_form: bool = False
    epochs: int | None = None
    patience: int | None = None
    batch_size: int = 16
    learning_rate: float = 5e-4

    def config(self, grid_points: int | None = None) -> TrainingConfig:
        """Return the settings in the form of fit_predictor and fit_scorer."""
        return TrainingConfig(
            epochs=self.epochs,
            patience=self.patience,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=SEED,
            grid_points=grid_points,
            resume=True,
        )


@dataclass(frozen=True)
class Counts:
    """Number of images in each part of the split; None for as many as there are."""

    train: int | None
    selection: int | None
    calibration: int | None
    test: int | None


@dataclass(frozen=True)
class PaperPreset:
    """A size at which all rows are run."""

    size: int
    """Side of photographs and tiles, in pixels."""
    stride: int
    """Number of pixels from one tile of the cells to the next."""
    photos: Counts
    cells: Counts
    needed: Counts
    """Fewest images of each part; fewer are refused."""
    predictor: TrainingSettings
    scorer: TrainingSettings
    ssim_points: int
    lpips_points: int
    """Grid points of distances whose curves are measured mask by mask (ssim_points and lpips_points)."""
    opt_images: int
    """Number of test images on which Opt is iterated, for SSIM and LPIPS; for lp it is solved on all."""
    resplits: int = 200


_SMALL = Counts(16, 4, 10, 5)
_ALL = Counts(None, None, 1000, None)
_CELLS = Counts(750, 136, 1000, 400)
_CONSTANT = 30
"""Patience that outlasts the paper's ten epochs, so that its learning rate is never cut."""
_PAPER = TrainingSettings(
    64, paper_form=True, epochs=10, patience=_CONSTANT, batch_size=50, learning_rate=1e-5
)
_PAPER_SCORER = TrainingSettings(
    64, paper_form=True, epochs=10, patience=_CONSTANT, batch_size=25, learning_rate=1e-5
)
_TINY, _SHORT = Counts(24, 8, 12, 8), TrainingSettings(4, epochs=1, batch_size=8)
_NARROW, _NARROW_SCORER, _LONG = (
    TrainingSettings(16, epochs=12),
    TrainingSettings(16, epochs=8),
    TrainingSettings(16, patience=10),
)

PRESETS: Mapping[str, PaperPreset] = {
    "smoke": PaperPreset(32, 32, _TINY, _TINY, Counts(8, 4, 9, 4), _SHORT, _SHORT, 8, 8, opt_images=2),
    "cpu": PaperPreset(128, 64, _ALL, _CELLS, _SMALL, _NARROW, _NARROW_SCORER, 48, 24, opt_images=40),
    "long": PaperPreset(128, 64, _ALL, _CELLS, _SMALL, _LONG, _LONG, 48, 24, opt_images=40),
    "paper": PaperPreset(256, 32, _ALL, _ALL, _SMALL, _PAPER, _PAPER_SCORER, 128, 128, opt_images=1000),
}


@dataclass(frozen=True)
class RowResult:
    """Result of a finished row; its arrays have one value per test image, in the order of the evaluations."""

    row: TableRow
    threshold: float
    methods: Mapping[str, "Evaluation"]
    """Evaluations by method: mask (the paper's), quantile and default, on the same test images."""
    opt_size: Array
    """Mask size of the paper's Opt, (n_test,); NaN where it was not computed or missed the threshold."""
    exact_size: Array
    """Mask size of the exact oracle, (n_test,); NaN where there is none."""
    exact_distance: Array
    """Masked distance of the exact oracle, (n_test,); NaN where there is none."""
    opt_distance: Array
    """Masked distance of the paper's Opt, (n_test,); NaN where it was not computed."""


@dataclass(frozen=True)
class Finished:
    """A finished row with what the table shows besides the test images."""

    result: RowResult
    resplits: Mapping[str, Mapping[str, Any]]
    """Resplits by method: coverage and size of each, mean and deviation of the law of coverage, and coverage
    of the first five as measured on the masks."""
    images: Mapping[str, int]
    """Number of images in each part."""


@dataclass(frozen=True)
class Run:
    """Settings and time of the run of a table."""

    name: str
    preset: PaperPreset
    split: str
    seconds: float
    """Total seconds of all finished stages, each counted once."""
    rows: int
    """Number of requested rows."""
