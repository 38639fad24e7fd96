"""Which lambda serves easy and hard images alike, and what does it cost?

    python research/adaptive.py WORK DATA

The six tasks of local.py with the packaged score and the mean of L1 over the image, and the calibration sets
of the paper's sixteen rows; 30 splits of each into selection (a tenth), calibration and test images, groups
whole. Difficulty is the mean score. WORK keeps the curves; writes research/results/adaptive.json and the page
research/results/adaptive.md. Five minutes.
"""

import argparse
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from local import TASKS

import conformask as cm
from conformask.promises.axes import fit_log_quantile
from conformask.promises.order import marginal_rank, smallest
from conformask.promises.rules import ConditionalLambda, ImageCovariates
from conformask.records.record import Array, read_arrays, write_arrays

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent / "results" / "adaptive.md"
CONFIDENCE, SPLITS, TENTHS, PASSING = 0.9, 30, 10, 0.2


@dataclass(frozen=True)
class Images:
    """What is known of some images: features, critical lambdas, and hidden shares on a grid."""

    features: Array
    critical: Array
    grid: Array
    hidden: Array

    def take(self, places: Array) -> "Images":
        return Images(self.features[places], self.critical[places], self.grid, self.hidden[places])

    def hidden_at(self, lambdas: Array) -> Array:
        """The hidden share at each image's lambda, by the grid point below it: a little too much for all."""
        below = np.maximum(np.searchsorted(self.grid, lambdas * (1 + 1e-9), side="right") - 1, 0)
        return np.asarray(self.hidden[np.arange(len(lambdas)), below])


def curves_of(name: str, work: Path, data: Path) -> dict[str, Array]:
    """The curves of all images of a task, in a file."""
    path = work / f"{name}.npz"
    if not path.exists():
        x, y_hat, y, _, groups = zip(*TASKS[name](data), strict=True)
        volumes = {"reading": cm.Reading(axes="ZYX")} if y[0].ndim == 3 and y[0].shape[-1] > 3 else {}
        images = cm.Triplets.from_arrays(x, y_hat, y, **volumes)  # groups are kept whole by split
        unmasked = [float(np.abs(a - b).mean()) for a, b in zip(y_hat, y, strict=True)]
        threshold = float(np.quantile(unmasked, PASSING))
        evidence = cm.calibrate(cm.packaged_scorer(), images, threshold=threshold).evidence()
        curves = evidence.curves
        work.mkdir(exist_ok=True)
        arrays = {"features": curves.features, "grid": curves.grid, "hidden": curves.size}
        write_arrays(path, arrays | {"critical": evidence.critical_lambdas, "group": np.array(groups)})
    return read_arrays(path)


def constant(_: Images, calibration: Images, test: Images) -> Array:
    lam = smallest(calibration.critical, marginal_rank(len(calibration.critical), CONFIDENCE))
    return np.full(len(test.critical), lam)


def normalised(selection: Images, calibration: Images, test: Images) -> Array:
    """A regression on the selection images, shifted by the calibration images: `adaptive` until 0.2."""
    usable = (selection.critical > 0) & np.isfinite(selection.critical)
    h = fit_log_quantile(selection.features[usable], selection.critical[usable], 1 - CONFIDENCE)
    shifted = np.log(calibration.critical) - h(calibration.features)
    shift = smallest(shifted, marginal_rank(len(shifted), CONFIDENCE))
    return np.asarray(np.exp(h(test.features) + shift))


def of_tenths(parts: int) -> Callable[[Images, Images, Images], Array]:
    """A lambda for each part of the difficulties, cut on the selection images: exact in each part."""

    def lambdas(selection: Images, calibration: Images, test: Images) -> Array:
        cuts = np.quantile(selection.features[:, 0], np.linspace(0, 1, parts + 1)[1:-1])
        place, new = (np.digitize(images.features[:, 0], cuts) for images in (calibration, test))
        critical = [calibration.critical[place == part] for part in range(parts)]
        each = [smallest(of, marginal_rank(len(of), CONFIDENCE)) if len(of) else 0.0 for of in critical]
        return np.array(each)[new]

    return lambdas


def conditional(basis: Callable[[Array], Array]) -> Callable[[Images, Images, Images], Array]:
    """Quantile regression with the test point, as the package does it, on other features."""

    def lambdas(selection: Images, calibration: Images, test: Images) -> Array:
        centre, scale = calibration.features.mean(axis=0), calibration.features.std(axis=0) + 1e-12
        known, new = (basis((images.features - centre) / scale) for images in (calibration, test))
        usable = selection.critical[(selection.critical > 0) & np.isfinite(selection.critical)]
        low, high = usable.min() / 10, 10 * usable.max()
        logs = np.where(
            calibration.critical < low, np.log(low) - 1, np.log(calibration.critical.clip(low, high))
        )
        rule = ConditionalLambda(known, logs, (np.log(low) - 1, np.log(high)), CONFIDENCE)
        return rule(ImageCovariates(len(new), features=new))

    return lambdas


def mean_alone(features: Array) -> Array:
    return features[:, :1]


def parabola(features: Array) -> Array:
    return np.column_stack([features[:, :1], features[:, :1] ** 2])


def hinges(features: Array) -> Array:
    """Piecewise linear, with bends at -0.7 and 0.7 standard deviations."""
    return np.column_stack([features[:, 0], *(np.maximum(features[:, 0] - at, 0) for at in (-0.7, 0.7))])


METHODS = {
    "one lambda": constant,
    "regression on selection images": normalised,
    "a lambda for each of five parts": of_tenths(5),
    "with the test point, mean score": conditional(mean_alone),
    "with the test point, its parabola": conditional(parabola),
    "with the test point, two bends": conditional(hinges),
    "with the test point, all features": conditional(lambda features: features),
}
"""The last is the guarantee `adaptive`."""


def split(groups: Array, generator: np.random.Generator) -> tuple[Array, Array, Array]:
    """Places of selection (a tenth), calibration (half of the rest) and test images, groups whole."""
    names = generator.permutation(np.unique(groups))
    cuts = np.cumsum([round(0.1 * len(names)), round(0.45 * len(names))])
    selection, calibration, test = (np.nonzero(np.isin(groups, part))[0] for part in np.split(names, cuts))
    return selection, calibration, test


def measure(stored: dict[str, Array]) -> dict[str, dict[str, list[float]]]:
    """Coverage and hidden share of each method by tenth of difficulty, mean over the splits."""
    images = Images(**{key: stored[key] for key in ("features", "critical", "grid", "hidden")})
    order = np.argsort(np.argsort(images.features[:, 0], kind="stable"), kind="stable")
    tenth = order * TENTHS // len(order)
    met, hidden = (np.zeros((len(METHODS), TENTHS)) for _ in range(2))
    count = np.zeros(TENTHS)
    for seed in range(SPLITS):
        places = split(stored["group"], np.random.default_rng(seed))
        selection, calibration, test = map(images.take, places)
        np.add.at(count, tenth[places[2]], 1)
        for row, method in enumerate(METHODS.values()):
            lambdas = method(selection, calibration, test)
            np.add.at(met[row], tenth[places[2]], lambdas <= test.critical * (1 + 1e-9))
            np.add.at(hidden[row], tenth[places[2]], test.hidden_at(lambdas))
    return {
        method: {"coverage": (met[row] / count).tolist(), "hidden": (hidden[row] / count).tolist()}
        for row, method in enumerate(METHODS)
    }


def rows_of_the_paper() -> Iterator[dict[str, Array]]:
    """What was kept of the calibration sets of the paper's sixteen rows: no curves, so no hidden shares."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(RESULTS / "paper_long.tar.xz", folder, filter="data")
        for path in sorted(Path(folder).glob("stages/calibration-*-default-*/curves.npz")):
            stored = read_arrays(path)
            n = len(stored["critical_lambda"])
            nothing = {"grid": np.array([0.0, np.inf]), "hidden": np.zeros((n, 2)), "group": np.arange(n)}
            yield {"features": stored["features"], "critical": stored["critical_lambda"], **nothing}


TEXT = """# Equal for easy and hard images

A lambda for all images may keep its promise on nine of ten easy images, and on two of three hard ones.
Which lambda serves both alike, and how much more does it hide? Written by `research/adaptive.py`; nothing
but the words around the tables is typed by hand. Difficulty is the mean score; all of these methods keep
P >= 0.9 over all images by a theorem.

## The paper's sixteen rows

Coverage by tenth of difficulty, from the easiest images to the hardest, of the default scores of
[smaller masks](smaller-masks.md): the calibration sets, split {splits} times into selection, calibration and
test images, rows pooled.

{paper}

- **with the test point, all features** is the [guarantee adaptive](../../docs/promises.md): no tenth
  lies below {worst:.2f}, where one lambda leaves {one:.2f}.
- What was kept of these rows are critical lambdas and features. How much each method hides is therefore
  measured on other images, below.

## Six tasks

The tasks of [local promises](local.md) with the packaged score and the mean of L1 over the image: coverage by
tenth, tasks pooled, and how much is hidden compared with one lambda.

{tasks}

{areas}

- The guarantee adaptive hides {area:.2f} times as much as one lambda, mean over the tasks, and less where the
  score misjudges easy images (cells, nuclei). It costs most where the calibration set is small: the
  hippocampi have about forty calibration images, and four numbers are fitted to them.
- A lambda for each of five parts, each with its own fifth of the calibration images, is exact in these parts
  and hides more, since a fifth of the images fixes each lambda.
- A regression on selection images is no better than one lambda where these are few; with the test point they
  only bound the lambdas.
"""


def table(record: Sequence[dict[str, dict[str, list[float]]]]) -> str:
    """Coverage by tenth, means over the rows of the record."""
    numbers = " | ".join(map(str, range(1, TENTHS + 1)))
    lines = [f"| lambda | {numbers} | all |", "|---|" + "---|" * (TENTHS + 1)]
    for method in METHODS:
        by_tenth = pooled(record, method)
        cells = " | ".join(f"{value:.2f}" for value in by_tenth)
        lines.append(f"| {method} | {cells} | {by_tenth.mean():.3f} |")
    return "\n".join(lines)


def pooled(record: Sequence[dict[str, dict[str, list[float]]]], method: str) -> Array:
    return np.mean([row[method]["coverage"] for row in record], axis=0)


def area(row: dict[str, dict[str, list[float]]], method: str) -> float:
    """Hidden share, relative to that of one lambda."""
    return float(np.mean(row[method]["hidden"]) / np.mean(row["one lambda"]["hidden"]))


def write_page(paper: list[dict[str, dict[str, list[float]]]], tasks: dict[str, Any]) -> None:
    methods = list(METHODS)
    lines = [
        f"| hidden, times one lambda | {' | '.join(tasks)} | mean |",
        "|---|" + "---|" * (len(tasks) + 1),
    ]
    for method in methods[1:]:
        areas = [area(row, method) for row in tasks.values()]
        cells = " | ".join(f"{value:.2f}" for value in [*areas, float(np.mean(areas))])
        lines.append(f"| {method} | {cells} |")
    text = TEXT.format(
        splits=SPLITS,
        paper=table(paper),
        tasks=table(list(tasks.values())),
        areas="\n".join(lines),
        worst=pooled(paper, methods[-1]).min(),
        one=pooled(paper, "one lambda").min(),
        area=np.mean([area(row, methods[-1]) for row in tasks.values()]),
    )
    PAGE.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # of masks that hide much
    tasks = {name: measure(curves_of(name, given.work, given.data)) for name in TASKS}
    paper = [measure(stored) for stored in rows_of_the_paper()]
    record = json.dumps({"tasks": tasks, "paper": paper}, default=float)
    (RESULTS / "adaptive.json").write_text(record + "\n")
    write_page(paper, tasks)


if __name__ == "__main__":
    main()
