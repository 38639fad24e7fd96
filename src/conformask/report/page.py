"""The report: one self-contained HTML file."""

import base64
import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from markupsafe import Markup

from conformask.conformal.crossing import meets_threshold
from conformask.errors import expect
from conformask.pictures.pixels import HATCH
from conformask.pictures.templates import template
from conformask.records.evaluation import Evaluation, Example
from conformask.records.sentence import rounded_share
from conformask.report import figures, words
from conformask.report.gallery import Picture, heat_gradient, pictures
from conformask.report.methods import facts, methods_text, references
from conformask.storage.as_csv import as_cell
from conformask.storage.as_json import Json
from conformask.storage.atomic import atomic_write
from conformask.wording.numbers import figure
from conformask.wording.promises import meaning_of, release_promise
from conformask.wording.scores import comparison_text

GALLERY, STRIP = 640, 180
"""Longest side of pictures kept in the file, in pixels: gallery, strip on top."""
MOST = 8
"""Number of pictures in the strip."""
KINDS = {
    "best": "Best: the mask removes much error for its size",
    "typical": "Typical: the middle of the test images",
    "worst": "Worst: the largest losses",
}
MEASURES = {
    "loss": "loss",
    "unmasked_loss": "without a mask",
    "size": "hidden",
    "oracle_size": "best possible",
    "difficulty": "mean score",
}
"""Columns of numbers, and their headings; the CSV file has all columns."""
SHARES = ("size", "oracle_size")
"""Columns of hidden shares."""


@dataclass(frozen=True)
class FigureCard:
    """A figure with its title and a caption that says what to look for."""

    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class GalleryRow:
    """An example with its pictures and numbers."""

    name: str
    pictures: dict[str, Picture]
    hidden: str
    best: str | None
    loss: str
    met: bool
    release: str


@dataclass(frozen=True)
class ImageRow:
    """Row of an image in the table: its names and its measures."""

    names: list[str]
    """Name, group and category of the image; without columns that are empty for all images."""
    met: bool
    numbers: list[tuple[str, str]]
    """Pairs of a number to sort by and its text."""


@dataclass(frozen=True)
class ImageTable:
    """Table of all test images."""

    names: list[str]
    measures: list[str]
    rows: list[ImageRow]
    csv: str
    """CSV file of the whole record as a data URI."""


def write_report(evaluation: Evaluation, path: Path | str, *, caveats: Iterable[str] = ()) -> Path:
    """Write the report of an evaluation to one HTML file, wholly or not at all, and return its path.

    `caveats` are sentences about the test images that it states beside its own.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> y = np.random.default_rng(1).random((20, 16, 16), dtype=np.float32)
        >>> new = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> print(cm.write_report(cm.evaluate(masker, new), "report.html"))
        report.html
    """
    expect(evaluation, Evaluation, "evaluation", "what evaluate() returned")
    path = Path(path)
    page = render(evaluation, caveats)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render(evaluation: Evaluation, caveats: Iterable[str] = ()) -> str:
    """Return the report as HTML; every name in it is escaped, every picture is embedded."""
    gauge = figures.gauge(evaluation)
    return template(Path(__file__).with_name("template.html")).render(
        evaluation=evaluation,
        verdict=words.verdict(evaluation),
        caveats=[*words.caveats(evaluation), *caveats],
        meaning=meaning_of(evaluation.card),
        loss=evaluation.card.loss.label,
        sample=evaluation.units_text,
        gauge=Markup(gauge) if gauge else None,
        tiles=words.tiles(evaluation),
        cards=_cards(evaluation),
        comparison=evaluation.comparison
        and comparison_text(evaluation.comparison, best=evaluation.mask_size_oracle is None),
        gallery=_gallery(evaluation),
        strip=_strip(evaluation),
        pictured={example.name for example in evaluation.examples if example.kind in KINDS},
        images=image_table(evaluation),
        methods=methods_text(evaluation),
        references=references(evaluation),
        facts=facts(evaluation),
        heat_gradient=heat_gradient(),
        hatch=HATCH,
        numbers=words.numbers(evaluation),
        release=evaluation.release_share
        and release_promise(evaluation.card, evaluation.release_share, evaluation.caveat),
        releases=words.releases(evaluation),
        none_released=evaluation.release_share and words.none_released_text(evaluation),
        version=version("conformask"),
        today=datetime.now(UTC).date().isoformat(),
    )


def _gallery(evaluation: Evaluation) -> list[tuple[str, list[GalleryRow]]]:
    """Return rows under the heading of their kind, known kinds first, the most hidden first."""
    examples = sorted(evaluation.examples, key=lambda example: -example.size)
    kinds = dict.fromkeys([*KINDS, *(example.kind for example in evaluation.examples)])
    rows = {
        KINDS.get(kind, kind): [_row(evaluation, e, GALLERY) for e in examples if e.kind == kind]
        for kind in kinds
    }
    return [(heading, section) for heading, section in rows.items() if section]


def _strip(evaluation: Evaluation) -> list[tuple[str, Picture]]:
    """Return small overlays with their names, the most hidden first."""
    ordered = sorted((e for e in evaluation.examples if e.kind in KINDS), key=lambda example: -example.size)
    return [(example.name, pictures(example, STRIP)["overlay"]) for example in ordered[:MOST]]


def _row(evaluation: Evaluation, example: Example, longest: int) -> GalleryRow:
    return GalleryRow(
        name=example.name,
        pictures=pictures(example, longest, evaluation.card.range_of_y_hat, evaluation.reference),
        hidden=rounded_share(example.size),
        best=None if example.oracle_size is None else rounded_share(example.oracle_size),
        loss=figure(example.loss),
        met=bool(meets_threshold(np.array(example.loss), evaluation.card.threshold)),
        release=example.release,
    )


def _cards(evaluation: Evaluation) -> list[FigureCard]:
    """Return the figures that have data, in reading order."""
    noun = evaluation.reference.noun
    charts = [(title, caption.format(noun=noun), draw(evaluation)) for title, caption, draw in FIGURES]
    return [FigureCard(title, caption, Markup(svg)) for title, caption, svg in charts if svg]


def image_table(evaluation: Evaluation) -> ImageTable:
    """Return rows in the order of the record, without columns that are empty for all images."""
    columns = evaluation.images.columns()
    label_names = [name for name in ("name", "group", "category") if any(columns[name])]
    measure_names = [name for name in MEASURES if not np.isnan(columns[name]).all()]
    met = meets_threshold(evaluation.images.loss, evaluation.card.threshold).tolist()
    labels_by_row = zip(*(columns[name] for name in label_names), strict=True)
    measures_by_row = zip(*(columns[name] for name in measure_names), strict=True)
    rows = [
        ImageRow(
            [str(name or "") for name in labels],
            within,
            [
                (_sortable_text(value), rounded_share(value) if name in SHARES else figure(value))
                for name, value in zip(measure_names, measures, strict=True)
            ],
        )
        for labels, within, measures in zip(labels_by_row, met, measures_by_row, strict=True)
    ]
    return ImageTable(
        ["image", *label_names[1:]],
        [MEASURES[name] for name in measure_names],
        rows,
        _csv({**columns, "passed": met}),
    )


def _sortable_text(value: float) -> str:
    """Return a number for scripts to sort by; empty for NaN."""
    # JavaScript reads Infinity, not inf
    return "" if math.isnan(value) else f"{value:.6g}".replace("inf", "Infinity")


def _csv(columns: Mapping[str, Sequence[Json]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(map(as_cell, row) for row in zip(*columns.values(), strict=True))
    return "data:text/csv;base64," + base64.b64encode(text.getvalue().encode()).decode("ascii")


FIGURES: tuple[tuple[str, str, figures.Figure], ...] = (
    (
        "Loss before and after masking",
        "Look for how little lies right of the threshold. "
        "Bars that crowd just left of it mean that little is masked unnecessarily.",
        figures.distances,
    ),
    (
        "What is left when more is hidden",
        "The sooner the curve falls, the better the score finds the errors; at best they are known. Along "
        "the flat line a score knows nothing. The dot: our masks.",
        figures.risk,
    ),
    (
        "How much is hidden, beside the best possible",
        "The best possible masks are found with the {noun} and hide as little as possible; the closer ours "
        "come to them, the better.",
        figures.sizes,
    ),
    (
        "Does the mask adapt to the image?",
        "A cloud along the diagonal means that much is hidden only where it has to be; height above it is "
        "waste.",
        figures.size_against_oracle,
    ),
    (
        "What another threshold would cost",
        "How much is hidden of the calibration images, same confidence. conformask recalibrate RUN "
        "--threshold T sets another; one that is chosen from this curve is exploratory, unless the guarantee "
        "covers them all at once.",
        figures.size_by_threshold,
    ),
    (
        "Coverage from easy to hard images",
        "Look for a drop at the right: the hardest images then pay for the others. Lines are 95 % "
        "intervals; the promise holds on average, not in every tenth.",
        figures.coverage_by_difficulty,
    ),
    (
        "Hidden from easy to hard images",
        "More should be hidden of harder images; read it beside the coverage of the same tenths.",
        figures.size_by_difficulty,
    ),
)
