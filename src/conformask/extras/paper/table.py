"""Writing of paper.csv, with one line per row and method, and of paper.md, with 95 % intervals."""

import csv
import platform
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy

from conformask.extras.paper import CONFIDENCE, METHODS, ROWS, THRESHOLD, Finished, Run
from conformask.promises import intervals
from conformask.promises.order import meets_threshold
from conformask.records.record import Array, atomic_write, claim


@dataclass(frozen=True)
class Estimate:
    """A number and its bootstrap interval over images; NaN where it does not exist."""

    value: float
    low: float
    high: float

    @property
    def exists(self) -> bool:
        """True if the number exists."""
        return bool(np.isfinite(self.value))


NOTHING = Estimate(np.nan, np.nan, np.nan)


def mean(values: Array) -> Estimate:
    """Estimate the mean of the finite values."""
    return _estimate(lambda a: a.mean(axis=-1), values)


def correlation(a: Array, b: Array) -> Estimate:
    """Estimate Pearson's r where both are known; not known for fewer than three images or a constant."""
    return NOTHING if intervals.correlation(a, b) is None else _estimate(_pearson, a, b)


def ratio(a: Array, b: Array) -> Estimate:
    """Estimate mean a / mean b over the images where both are known."""
    return _estimate(lambda a, b: a.mean(axis=-1) / b.mean(axis=-1), a, b)


def _estimate(measure: Callable[..., Array], *columns: Array) -> Estimate:
    finite = np.logical_and.reduce([np.isfinite(column) for column in columns])
    finite_columns = [column[finite] for column in columns]
    if not finite.any():
        return NOTHING
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(measure(*finite_columns))
        drawn = intervals.resampled(measure, *finite_columns)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) == 0 or not np.isfinite(value):
        return NOTHING
    return Estimate(value, *intervals.percentiles(drawn))


def _pearson(a: Array, b: Array) -> Array:
    with warnings.catch_warnings(action="ignore", category=scipy.stats.ConstantInputWarning):  # NaN then
        return np.asarray(scipy.stats.pearsonr(a, b, axis=-1).statistic)


TITLES = {
    "completion": "Image completion of photographs",
    "super_resolution of cells": "Super-resolution of cells",
    "super_resolution": "Super-resolution of photographs",
    "colorization": "Colorization of photographs",
}
PACKAGES = ("conformask", "torch", "lightning", "torchmetrics", "numpy")
CHOICES = (
    (
        "Quantile",
        "the paper does not say how an interval becomes a mask. Ours: the width u - l, clipped to [0, 1], "
        "is the score; the family (lambda / (eps + s)) and the calibration are the same as for the mask "
        "network. It sees neither the distance nor the threshold, so one network per predictor serves all "
        "its distances.",
    ),
    (
        "Opt",
        "with a fixed mu the paper's iteration never reaches the threshold except on images below it, so mu "
        "is found for each image: for L1 and L2 by root finding in closed form (the paper's Adam agrees), "
        "for SSIM and LPIPS Adam with step 0.01 from mu = 2, doubled every 50 steps, at most 1000 steps. An "
        "image that it does not bring below the threshold is left out and lowers Opt's coverage.",
    ),
    (
        "exact",
        "Opt is not the smallest mask that meets the threshold: the exact optimum of (P1) on the realised "
        "error is (for L1 it is binary). It exists for L1 and L2 only. We give ratios to both.",
    ),
    (
        "Masks per channel",
        "as in the paper, a mask has the channels of y_hat, for all methods, including our default "
        "(elsewhere conformask's default is one channel).",
    ),
    (
        "Rank",
        "the paper takes the plain quantile of the critical lambdas, which misses the confidence slightly "
        "(0.8991 at 1000 images); ours is the rank floor((1 - confidence)(n + 1)), which does not.",
    ),
    (
        "Threshold",
        "the paper takes the 0.1-quantile on a random sample of the validation set; ours is computed on "
        "the selection images, which are neither calibration nor test images.",
    ),
    (
        "Distances",
        "means over pixels and channels of images in [0, 1], L2 without the square root; SSIM is 1 - SSIM; "
        "LPIPS has the SqueezeNet backbone and sees grey images as three equal channels. The paper names "
        "no backbone.",
    ),
    (
        "SSIM and LPIPS",
        "are not monotone under nested masks: the critical lambda is the last grid point before the first "
        "failure, so that their coverage is at or above the law's.",
    ),
    (
        "Cells",
        "the paper's rat astrocytes are not available everywhere, so any folder of micrographs is cut into "
        "tiles. The paper assigns overlapping tiles at random to training and validation (--split paper). "
        "By default (--split within) whole fields are kept for training and selection, and the tiles of "
        "all others are assigned to calibration and test: the promise is about new tiles of these fields.",
    ),
    ("Super-resolution", "x is the mean of 4 x 4 pixels; the paper scales down without saying how."),
    ("GAN", "the generator's last epoch is kept: one chosen by its L1 would be a regressor again."),
    (
        "Regressors and scorers",
        "end with the weights of the lowest selection loss; optimised by AdamW (weight decay 1e-4).",
    ),
)


def page(finished: Sequence[Finished], run: Run) -> str:
    """Return the whole text."""
    parts = (_head(finished, run), _tables(finished), _ratios(finished), _differences(finished))
    return "\n".join(
        (*parts, _coverage_text(finished), _fields(finished), _choices(run), _settings(finished, run))
    )


def _head(finished: Sequence[Finished], run: Run) -> str:
    state = "" if len(finished) == run.rows else f"\n**Unfinished: {len(finished)} of {run.rows} rows.**\n"
    numbers = ",".join(str(entry.result.row.number) for entry in finished)
    rows = f" --rows {numbers}" if len(finished) == run.rows < len(ROWS) else ""
    return f"""# The paper's Table 1

Written by `conformask paper --preset {run.name} --split {run.split}{rows}`, from the stages that it ran.
{state}
Confidence {CONFIDENCE}, threshold {THRESHOLD} of the unmasked distance on the selection images, guarantee
marginal, masks per channel. Methods: **Opt**, the paper's oracle, and **exact**, the true optimum, which both
see the truth; **ours**, the paper's mask network (equation 6); **Quantile**, its baseline; **default**,
conformask's own: the loss of equation (6), for L2 the loss for L1, on a network of its own, with another
family of masks.

Sizes and correlations are from the test images of one split, with bootstrap intervals (95 %) over the
test images; where Opt is iterated (SSIM, LPIPS), its values are from the images on which it was computed.
Coverage is given over resplits. The figures are on [one page](paper.html), and each is a file in
the folder figures.
"""


def _tables(finished: Sequence[Finished]) -> str:
    names = [NAMES[method] for method in METHODS]
    against = [f"C(M, {other}) {name}" for other in ("D", "M_opt") for name in names]
    parts = []
    for kind, title in TITLES.items():
        sizes, correlations = [], []
        for entry in finished:
            result, row = entry.result, entry.result.row
            if kind != (row.task if row.data == "photos" else f"{row.task} of {row.data}"):
                continue
            key = [str(row.number), row.network, row.distance]
            images = [result.methods[method].images for method in METHODS]
            columns = (result.opt_size, result.exact_size, *(each.size for each in images))
            means = [mean(column) for column in columns]
            sizes.append([*key, f"{result.threshold:.4g}", *map(_estimate_text, means)])
            estimates = [correlation(each.size, each.unmasked_loss) for each in images]
            estimates += [correlation(each.size, result.opt_size) for each in images]
            correlations.append([*key, *map(_estimate_text, estimates)])
        if sizes:
            head = ("row", "network", "distance")
            sizes_text = _table((*head, "threshold", *NAMES.values()), sizes)
            correlations_text = _table((*head, *against), correlations)
            parts.append(
                f"## {title}\n\nMean mask size:\n\n{sizes_text}\nCorrelations:\n\n{correlations_text}"
            )
    return "\n".join(parts)


NAMES = {"opt": "Opt", "exact": "exact", "mask": "ours", "quantile": "Quantile", "default": "default"}


def _ratios(finished: Sequence[Finished]) -> str:
    columns = (
        "row", "ours / exact", "ours / Opt", "paper: ours / Opt", "ours / Quantile",
        "paper: ours / Quantile", "default / exact", "default / Opt", "default / Quantile",
    )  # fmt: skip
    rows = []
    for entry in finished:
        result, published = entry.result, entry.result.row.published
        ours, quantile, default = (result.methods[method].images.size for method in METHODS)
        rows.append(
            [
                str(result.row.number),
                _estimate_text(ratio(ours, result.exact_size)),
                _estimate_text(ratio(ours, result.opt_size)),
                f"{published.ours / published.opt:.2f}",
                _estimate_text(ratio(ours, quantile)),
                f"{published.ours / published.quantile:.2f}",
                _estimate_text(ratio(default, result.exact_size)),
                _estimate_text(ratio(default, result.opt_size)),
                _estimate_text(ratio(default, quantile)),
            ]
        )
    text = "## Ratios of mask sizes beside the paper's\n\nSmaller is better; 1 against an oracle is perfect. "
    return f"{text}The paper prints sizes to two digits.\n\n{_table(columns, rows)}"


def _differences(finished: Sequence[Finished]) -> str:
    columns = ("row", "difference", "mean mask size", "significant", "smaller in resplits")
    rows = []
    for entry in finished:
        for a, b in (("mask", "quantile"), ("default", "mask"), ("default", "quantile")):
            methods = entry.result.methods
            estimate = mean(methods[a].images.size - methods[b].images.size)  # paired by image
            smaller = float(np.mean(entry.resplits[a]["size"] < entry.resplits[b]["size"]))
            answer = "yes" if estimate.exists and not estimate.low <= 0 <= estimate.high else "no"
            name = f"{NAMES[a]} - {NAMES[b]}"
            rows.append(
                [str(entry.result.row.number), name, _estimate_text(estimate), answer, f"{smaller:.0%}"]
            )
    return (
        "## Differences\n\nPaired bootstrap over test images (95 %); beside it the share of resplits in "
        "which the first method's mean mask size is the smaller one.\n\n" + _table(columns, rows)
    )


def _coverage_text(finished: Sequence[Finished]) -> str:
    columns = ("row", "method", "test images", "resplits", "law", "measured on masks", "as promised")
    rows = []
    for entry in finished:
        is_exact = np.isfinite(entry.result.exact_size).any()
        for method, evaluation in entry.result.methods.items():
            resplits = entry.resplits[method]
            coverage, law, spread = resplits["coverage"], resplits["law_mean"], resplits["law_std"]
            deviation = (float(coverage.mean()) - law) / (spread / np.sqrt(len(coverage)))
            as_promised = "yes" if deviation >= -3 and (deviation <= 3 or not is_exact) else "NO"
            rows.append(
                [
                    str(entry.result.row.number),
                    NAMES[method],
                    f"{evaluation.coverage:.3f}",
                    f"{coverage.mean():.3f} ± {coverage.std():.3f}",
                    f"{law:.3f} ± {spread:.3f}",
                    f"{resplits['measured'].mean():.3f}",
                    f"{as_promised} ({deviation:+.1f} standard errors)",
                ]
            )
    return (
        "## Coverage\n\nOver resplits of calibration and test images, mean ± standard deviation, beside the "
        "Beta-binomial law, which is exact for L1 and L2 (the mean is within three standard errors) and a "
        "lower bound for SSIM and LPIPS, whose lambdas lie on a grid (the mean is at most three below). "
        "The law tests ranks only: on the first five resplits coverage is measured on the masks "
        "themselves.\n\n" + _table(columns, rows)
    )


def _fields(finished: Sequence[Finished]) -> str:
    rows = []
    for entry in finished:
        if entry.result.row.data != "cells":
            continue
        for method, evaluation in entry.result.methods.items():
            files = np.array([str(name).rsplit("_r", 1)[0] for name in evaluation.images.name])
            met = meets_threshold(evaluation.images.loss, evaluation.card.threshold)
            by_field = [met[files == file] for file in np.unique(files)]
            values = [float(field.mean()) for field in by_field]
            texts = [f"{value:.2f} ({len(field)})" for value, field in zip(values, by_field, strict=True)]
            numbers = [f"{number:.2f}" for number in (min(values), float(np.median(values)), max(values))]
            rows.append([str(entry.result.row.number), NAMES[method], *numbers, ", ".join(texts)])
    if not rows:
        return ""
    return (
        "## Coverage by field\n\nDescriptive: the promise is about new tiles of these fields, not about each "
        "field. Coverage of the test tiles of each field, and how many there are.\n\n"
        + _table(("row", "method", "lowest", "median", "highest", "by field"), rows)
    )


def _choices(run: Run) -> str:
    preset, lengths = run.preset, []
    for name, plan in (("predictors", preset.predictor), ("scorers", preset.scorer)):
        limits = ((plan.epochs, "epochs"), (plan.patience, "epochs of patience"))
        limits_text = ", ".join(f"{value:g} {unit}" for value, unit in limits if value is not None)
        lengths.append(f"{name} trained for {limits_text} at {plan.learning_rate:g}")
    scale = (
        f"images of {preset.size} pixels, networks of width {preset.predictor.width}, and "
        f"{' and '.join(lengths)}. The paper: 256 pixels, width 64, ten epochs of Adam at 1e-5. The stripes "
        "that completion fills are an eighth of the side, 32 of 256 pixels in the paper."
    )
    texts = "\n".join(f"- **{name}**: {text}" for name, text in (("Scale", scale), *CHOICES))
    return f"## Where our reading of the paper had a choice\n\n{texts}\n"


def _settings(finished: Sequence[Finished], run: Run) -> str:
    counts = {entry.result.row.data: entry.images for entry in finished}
    images = "\n".join(
        f"- {data}: " + ", ".join(f"{count} {part}" for part, count in parts.items())
        for data, parts in counts.items()
    )
    preset = "\n".join(f"- {name}: {value}" for name, value in asdict(run.preset).items())
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return (
        f"## Settings\n\nImages:\n\n{images}\n\nPreset {run.name}:\n\n{preset}\n\n"
        f"{run.seconds / 3600:.2f} hours in all stages of this folder, each at its last run. "
        f"Python {platform.python_version()}, {versions}.\n"
    )


def _estimate_text(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})" if estimate.exists else "-"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


@dataclass(frozen=True)
class TableLine:
    """A line of paper.csv.

    Sizes, their bootstrap interval (95 %, over images) and correlations are from the test images of the
    one split; coverage is the mean over resplits, for an oracle the share of images on which it reached the
    threshold. A value that does not exist is NaN, and empty in the file.
    """

    row: int
    task: str
    data: str
    network: str
    distance: str
    method: str
    mask_size: float
    mask_size_low: float
    mask_size_high: float
    coverage: float
    c_size_distance: float
    c_size_opt: float
    n_calibration: int
    n_test: int


RECORD = "paper.json"
"""Record that claims what the experiments write beside their stages."""
FILES = ("paper.csv", "paper.md")
PAGE, FIGURES = "paper.html", "figures"
"""The page of the figures, and the folder of their files."""
COLUMNS = tuple(field.name for field in fields(TableLine))


def write_table(finished: Sequence[Finished], run: Run, out: Path) -> tuple[Path, ...]:
    """Write paper.csv and paper.md, and return their paths."""
    table, text = (out / name for name in FILES)
    claim(out / RECORD, {}, FILES)
    with atomic_write(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        for line in lines(finished):
            cells = {
                name: f"{value:.6g}" if isinstance(value, float) else value
                for name, value in vars(line).items()
            }
            writer.writerow({name: "" if cell == "nan" else cell for name, cell in cells.items()})
    with atomic_write(text) as temporary:
        temporary.write_text(page(finished, run), encoding="utf-8")
    return table, text


def lines(finished: Sequence[Finished]) -> Iterator[TableLine]:
    """Yield the lines of each row: exact, opt, mask, quantile and default."""
    for entry in finished:
        result, row = entry.result, entry.result.row
        oracles = {
            "exact": (result.exact_size, result.exact_distance),
            "opt": (result.opt_size, result.opt_distance),
        }
        for method in (*oracles, *METHODS):
            evaluation = result.methods.get(method, result.methods["mask"])
            if method in oracles:
                sizes, distances = oracles[method]
                met = meets_threshold(distances[np.isfinite(distances)], result.threshold)
                coverage = float(met.mean()) if len(met) else np.nan
                counts = 0, int(np.isfinite(sizes).sum())
            else:
                sizes = evaluation.images.size
                coverage = float(entry.resplits[method]["coverage"].mean())
                counts = evaluation.card.n_calibration, evaluation.n_test
            size = mean(sizes)
            with_opt = np.nan if method == "opt" else correlation(sizes, result.opt_size).value
            yield TableLine(
                row.number, row.task, row.data, row.network, row.distance, method,
                size.value, size.low, size.high, coverage,
                correlation(sizes, evaluation.images.unmasked_loss).value, with_opt, *counts,
            )  # fmt: skip
