"""The report of an evaluation: figures, pictures and methods in one HTML file. Loads no torch."""

import base64
import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from conformask.errors import InvalidArgumentError, expect
from conformask.extras.view import facts, figures
from conformask.images.pictures import (
    HATCH,
    INFERNO,
    SMALL,
    TITLES,
    Contrast,
    gray,
    heat,
    shrink,
    shrunk_overlay,
    titles_for,
)
from conformask.images.svg import template
from conformask.promises.axes import EachCategory
from conformask.promises.order import meets_threshold
from conformask.records.card import CalibrationCard, worst_text
from conformask.records.evaluation import Evaluation, Example
from conformask.records.numbers import figure, interval_text, plural, rounded_share, share
from conformask.records.reading import CLEAN, Reference
from conformask.records.record import Array, as_cell, atomic_write, check_output
from conformask.records.words import (
    EXPLORATORY_TEXT,
    comparison_text,
    meaning_of,
    network_label,
    release_promise,
)


@dataclass(frozen=True)
class Picture:
    """An image ready for the page."""

    label: str
    alt: str
    src: str
    width: int
    height: int
    pixelated: bool


def pictures(
    example: Example,
    longest: int,
    data_range: tuple[float, float] | None = None,
    reference: Reference = CLEAN,
) -> dict[str, Picture]:
    """Return all pictures of an example, no side longer than `longest`, by name, in the order of TITLES.

    `data_range` are the values of black and white in y and y_hat, for the unit of the error.
    """
    small = max(example.y_hat.shape[:2]) <= SMALL
    hatched = shrunk_overlay(example.y_hat, example.mask, longest)
    arrays = {
        "output": example.y_hat,
        "overlay": hatched,
        "mask": gray(example.mask),
        "truth": example.y,
        "input": example.x,
        "error": heat(example.error),
    }
    labels = titles_for(reference) | {"error": error_label(example.error_scale, data_range, reference)}
    sizes = {"overlay": (max(hatched.shape), False)}
    return {
        name: picture(labels[name], example.name, arrays[name], *sizes.get(name, (longest, small)))
        for name in TITLES
        if name in arrays
    }


def error_label(
    scale: float, data_range: tuple[float, float] | None = None, reference: Reference = CLEAN
) -> str:
    """Return the caption of a picture of the error, with its largest value in the unit of the images."""
    low, high = data_range or (0.0, 1.0)
    return f"{titles_for(reference)['error']} |y − ŷ|, 0 to {float(figure(scale * (high - low))):g}"


def heat_gradient() -> str:
    """Return the colour map as a CSS gradient, for the legend."""
    stops = ", ".join(f"rgb({r:.0f} {g:.0f} {b:.0f})" for r, g, b in INFERNO)
    return f"linear-gradient(to right, {stops})"


def png(image: Image.Image) -> bytes:
    """Return the content of a PNG file, which names conformask as its software."""
    buffer, info = io.BytesIO(), PngInfo()
    info.add_text("Software", "conformask")
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def picture(label: str, name: str, image: Array, longest: int, pixelated: bool) -> Picture:
    """Make a picture of a uint8 image, no side longer than `longest`, described as the label of the name."""
    image = shrink(image, longest)
    height, width = image.shape[:2]
    uri = "data:image/png;base64," + base64.b64encode(png(Image.fromarray(image.squeeze()))).decode("ascii")
    return Picture(label, f"{label} of {name}", uri, width, height, pixelated)


MASKS = (
    "Kutiel, Cohen, Elad, Freedman: What's behind the mask: estimating uncertainty in image-to-image "
    "problems, 2022, arXiv:2211.15211"
)
SPLIT = (
    "Papadopoulos, Proedrou, Vovk, Gammerman: Inductive confidence machines for regression, ECML 2002",
    "Lei, G'Sell, Rinaldo, Tibshirani, Wasserman: Distribution-free predictive inference for regression, "
    "JASA 2018",
)
CONDITIONAL = "Vovk: Conditional validity of inductive conformal predictors, ACML 2012, arXiv:1209.2673"
RISK_CONTROL = (
    "Angelopoulos, Bates, Fisch, Lei, Schuster: Conformal risk control, ICLR 2024, arXiv:2208.02814"
)
RISK_BOUND = (
    "Bates, Angelopoulos, Lei, Malik, Jordan: Distribution-free, risk-controlling prediction sets, "
    "J. ACM 2021, arXiv:2101.02703"
)
BETTING = (
    "Waudby-Smith, Ramdas: Estimating means of bounded random variables by betting, JRSS B 2024, "
    "arXiv:2010.09686"
)
MONDRIAN = "Vovk, Lindsay, Nouretdinov, Gammerman: Mondrian confidence machine, technical report, 2003"
GUARANTEE_REFERENCES = {
    "marginal": SPLIT,
    "pac": (CONDITIONAL,),
    "ltt": ("Angelopoulos, Bates, Candès, Jordan, Lei: Learn then test, 2021, arXiv:2110.01052",),
    "simultaneous": (
        CONDITIONAL,
        "Moscovich, Nadler: Fast calculation of boundary crossing probabilities for Poisson processes, 2017",
    ),
    "expected": (RISK_CONTROL,),
    "conditional_mean": (
        RISK_CONTROL,
        "Rockafellar, Uryasev: Optimization of conditional value-at-risk, 2000",
    ),
    "rcps": (RISK_BOUND, BETTING),
    "rcps_hb": (RISK_BOUND,),
    "groups": (
        "Lee, Barber, Willett: Distribution-free inference with hierarchical data, 2023, arXiv:2306.06342",
    ),
    "categories": (MONDRIAN,),
    "weighted": (
        "Tibshirani, Barber, Candès, Ramdas: Conformal prediction under covariate shift, NeurIPS 2019, "
        "arXiv:1904.06019",
    ),
    "adaptive": (
        "Gibbs, Cherian, Candès: Conformal prediction with conditional guarantees, Journal of the Royal "
        "Statistical Society B, 2025, arXiv:2305.12616",
    ),
}
"""References by the name of the guarantee."""


def references(evaluation: Evaluation) -> Sequence[str]:
    """Return the reference for the masks, then those that prove the promise."""
    by_category = isinstance(evaluation.card.promise.axes.population, EachCategory)
    proofs = [*GUARANTEE_REFERENCES[evaluation.card.promise.guarantee], *([MONDRIAN] if by_category else [])]
    return tuple(dict.fromkeys([MASKS, *proofs]))


def methods_text(evaluation: Evaluation) -> str:
    """Return a paragraph for a methods section; numbers in brackets count the references."""
    proofs = ", ".join(str(number) for number in range(2, len(references(evaluation)) + 1))
    card, network, made = evaluation.card, evaluation.network, evaluation.made
    outputs = "an image-to-image network" if network is None else f"the network {network_label(network)}"
    version = "" if made is None else f" {made.versions['conformask']}"
    operands = " between masked output and masked reference" * card.loss.traits.masks_images
    oracle, whole = evaluation.mask_size_oracle, card.loss.extent.whole
    best = "" if oracle is None else f"; the smallest masks that the reference allows hid {share(oracle)}"
    sentences = [
        f"Outputs of {outputs} were masked with conformask{version} [1]: a mask {_values(card)}, computed "
        f"from the input and the output of the network by the scorer {evaluation.scorer}.",
        f"Masks were calibrated on {plural(card.n_calibration, 'image')}, separate from the training images, "
        f"with the guarantee {card.promise.guarantee} [{proofs}]. {card.sentence} As a formula: "
        f"{card.formula}; the loss is {card.loss.words.label}{operands}.",
        *([EXPLORATORY_TEXT] if card.exploratory else []),
        _measurement_sentence(evaluation),
        f"Masks hid {share(evaluation.mask_size)} of {whole} on average (bootstrap, "
        f"{interval_text(evaluation.mask_size_interval)}){best}.",
    ]
    return " ".join(sentences)


def provenance(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return the facts that identify network, masker, images and software."""
    network, made = evaluation.network, evaluation.made
    name = "unknown" if network is None else f"{network.name} {network.fingerprint or ''}".rstrip()
    rows = [("Network", name), ("Masker", evaluation.fingerprint or "–")]
    if made is None:
        return rows
    return [
        *rows,
        ("Test images", f"{evaluation.n_test:,}, SHA-256 of their pixels {made.images}"),
        ("Calibrated", made.calibrated),
        ("Versions", ", ".join(f"{name} {version}" for name, version in made.versions.items())),
    ]


def _values(card: CalibrationCard) -> str:
    level = ", after a level predicted for each image has divided the score" * (card.level == "image")
    if not card.is_grey:
        parts = "" if card.patches is None else f", in {card.parts}"
        return f"shows a pixel (1) or hides it (0){parts}{level}"
    family = f"by the family {card.family_name}{level}"
    return f"assigns each pixel a number between 0 (hidden) and 1 (shown), {family}"


def _measurement_sentence(evaluation: Evaluation) -> str:
    promise = evaluation.card.promise
    start = f"On {evaluation.units_text}, separate from all of these,"
    if promise.axes.statement.bounds_a_mean:
        low, high = map(figure, evaluation.mean_loss_interval)
        mean = figure(evaluation.mean_loss)
        return (
            f"{start} the mean loss was {mean} (bootstrap, 95\N{NO-BREAK SPACE}% interval {low} to {high})"
            f"{worst_text(evaluation.worst, evaluation.card)}."
        )
    interval, met = interval_text(evaluation.coverage_interval), share(evaluation.coverage)
    if promise.axes.unit.is_group or not promise.by_group:  # otherwise the coverage is not a share of a count
        counted = evaluation.n_units
        met = f"{evaluation.coverage * counted:.0f} of {counted} ({met})"
    within = promise.named(f"within the threshold{promise.axes.unit.judged}")
    worst = worst_text(evaluation.worst)
    return f"{start} {met} were {within} (Clopper-Pearson, {interval}){worst}."


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
class ImageTable:
    """Table of all test images."""

    names: list[str]
    measures: list[str]
    rows: list[tuple[list[str], bool, list[tuple[str, str]]]]
    """Name, group and category of an image, without columns that are empty for all; whether it is within the
    threshold; and pairs of a number to sort by and its text."""
    csv: str
    """CSV file of the whole record as a data URI."""


def write_report(
    evaluation: Evaluation,
    path: Path | str,
    *,
    caveats: Iterable[str] = (),
    remarks: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> Path:
    """Write the report of an evaluation to one HTML file, wholly or not at all, and return its path.

    `caveats` are sentences about the test images that it states beside its own; `remarks` are lines about
    single images by their names, each a title and a text.

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
    page = render(evaluation, caveats, remarks)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render(
    evaluation: Evaluation,
    caveats: Iterable[str] = (),
    remarks: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> str:
    """Return the report as HTML; every name in it is escaped, every picture is embedded."""
    gauge, card, shared = figures.gauge(evaluation), evaluation.card, evaluation.release_share
    examples = sorted(evaluation.examples, key=lambda example: -example.size)  # the most hidden first
    known = [example for example in examples if example.kind in KINDS]
    noun = evaluation.reference.noun
    charts = [(title, caption.format(noun=noun), draw(evaluation)) for title, caption, draw in FIGURES]
    return template(Path(__file__).with_name("template.html")).render(
        evaluation=evaluation,
        verdict=facts.verdict(evaluation),
        caveats=[*facts.caveats(evaluation), *caveats],
        meaning=meaning_of(card),
        loss=card.loss.words.label,
        sample=evaluation.units_text,
        gauge=Markup(gauge) if gauge else None,
        tiles=facts.key_numbers(evaluation),
        cards=[(title, caption, Markup(svg)) for title, caption, svg in charts if svg],
        comparison=evaluation.comparison
        and comparison_text(evaluation.comparison, best=evaluation.mask_size_oracle is None),
        gallery=_gallery(evaluation, examples),
        remarks=remarks or {},
        strip=[(each.name, pictures(each, STRIP)["overlay"]) for each in known[:MOST]],
        pictured={example.name for example in known},
        images=image_table(evaluation),
        methods=methods_text(evaluation),
        references=references(evaluation),
        provenance=provenance(evaluation),
        figure=figure,
        rounded_share=rounded_share,
        heat_gradient=heat_gradient(),
        hatch=HATCH,
        contrast=lambda example: Contrast(example.black, example.white).text,
        numbers=[(fact.label, fact.value) for fact in facts.facts(evaluation) if fact.label],
        release=shared and release_promise(card, shared, evaluation.caveat),
        releases=facts.releases(evaluation),
        all_or_none_released=facts.all_or_none_released(evaluation),
        has_verdicts=facts.has_verdicts(evaluation),
        version=version("conformask"),
        today=datetime.now(UTC).date().isoformat(),
    )


def _gallery(
    evaluation: Evaluation, examples: Sequence[Example]
) -> list[tuple[str, list[tuple[Example, dict[str, Picture], bool]]]]:
    """Return rows under the heading of their kind, known kinds first.

    A row is an example with its pictures, and whether it is within the threshold.
    """
    data_range, threshold = evaluation.card.range_of_y_hat, evaluation.card.threshold
    sections: dict[str, list[tuple[Example, dict[str, Picture], bool]]] = {kind: [] for kind in KINDS}
    for example in evaluation.examples:
        sections.setdefault(example.kind, [])
    for example in examples:
        shown = pictures(example, GALLERY, data_range, evaluation.reference)
        met = bool(meets_threshold(np.array(example.loss), threshold))
        sections[example.kind].append((example, shown, met))
    return [(KINDS.get(kind, kind), rows) for kind, rows in sections.items() if rows]


def image_table(evaluation: Evaluation) -> ImageTable:
    """Return rows in the order of the record, without columns that are empty for all images."""
    columns = evaluation.images.columns()
    labels = [name for name in ("name", "group", "category") if any(columns[name])]
    measures = [name for name in MEASURES if not np.isnan(columns[name]).all()]
    met = meets_threshold(evaluation.images.loss, evaluation.card.threshold).tolist()
    rows = [
        (
            [str(columns[name][index] or "") for name in labels],
            within,
            [_number(columns[name][index], is_share=name in SHARES) for name in measures],
        )
        for index, within in enumerate(met)
    ]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*columns])
    writer.writerows(map(as_cell, row) for row in zip(*(columns | {"passed": met}).values(), strict=True))
    uri = "data:text/csv;base64," + base64.b64encode(text.getvalue().encode()).decode("ascii")
    return ImageTable(["image", *labels[1:]], [MEASURES[name] for name in measures], rows, uri)


def _number(value: float, *, is_share: bool) -> tuple[str, str]:
    """Return a number for scripts to sort by, empty for NaN, and its text."""
    # JavaScript reads Infinity, not inf
    sortable = "" if math.isnan(value) else f"{value:.6g}".replace("inf", "Infinity")
    return sortable, rounded_share(value) if is_share else figure(value)


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


FOLDER = Path(__file__).parent
WIDEST, LONGEST = 220, 480
"""Width of a picture shown in a notebook, and longest side of one kept in it, in pixels."""
TILE, GAP, LINE, MARGIN = 208, 12, 20, 16
INK, QUIET, EDGE, PAPER = (29, 33, 41), (93, 100, 112), (214, 216, 212), "white"
VERDICTS = {
    None: ("", INK),
    True: ("within the threshold   ", (0, 115, 90)),
    False: ("beyond the threshold   ", (184, 69, 0)),
}
"""Text and colour by whether an image is within the threshold."""
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
ASCII = str.maketrans({"ŷ": "y_hat", "−": "-", "✓": "", "✗": "", "\N{NO-BREAK SPACE}": " "})
"""Replacements of characters that Pillow's own font lacks."""


@dataclass(frozen=True)
class StripRow:
    """One image of a strip, with its pictures and facts."""

    pictures: Mapping[str, Array]
    """Pictures by label, uint8 (H, W) or (H, W, 3)."""
    facts: tuple[str, ...]
    met: bool | None
    """True if the loss is within the threshold; None where the truth is unknown."""


@dataclass(frozen=True)
class Strip:
    """Result of show(): a notebook displays it, save() writes it."""

    sentence: str
    rows: tuple[StripRow, ...]

    def __repr__(self) -> str:
        rows_text = "; ".join(", ".join(row.facts) for row in self.rows)
        return f"Strip({self.sentence} {rows_text})"

    def _repr_html_(self) -> str:
        return template(FOLDER / "strip.html").render(strip=self, pictures=_pictures, widest=WIDEST)

    def _repr_png_(self) -> bytes:
        return png(_draw_sheet(self))

    def save(self, path: Path | str) -> Path:
        """Write a .png or a self-contained .html, and return its path; refuse another suffix."""
        path = Path(path)
        check_strip_file(path)
        if path.suffix.lower() == ".png":
            content = self._repr_png_()
        else:
            page, fragment = template(FOLDER / "strip_page.html"), Markup(self._repr_html_())
            content = page.render(sentence=self.sentence, fragment=fragment).encode()
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        return path


def check_strip_file(path: Path) -> None:
    """Raise, before the work, for a file that a strip cannot be saved to."""
    if path.suffix.lower() not in (".png", ".html"):
        raise InvalidArgumentError(f"path {str(path)!r}: give a name that ends with .png or .html")
    check_output(path)


def _pictures(row: StripRow) -> Iterator[Picture]:
    for label, image in row.pictures.items():
        yield picture(label, "this image", image, LONGEST, max(image.shape[:2]) <= SMALL)


def _draw_sheet(strip: Strip) -> Image.Image:
    """Draw all rows, from top to bottom, below the promise."""
    columns = max(len(row.pictures) for row in strip.rows)
    inner = columns * (TILE + GAP) - GAP
    bold, plain = ImageFont.load_default(15), ImageFont.load_default(13)
    promise_lines = _wrap(strip.sentence, bold, inner)
    row_images = [_draw_row(row, plain, inner) for row in strip.rows]
    top = MARGIN + len(promise_lines) * LINE + GAP
    height = top + sum(row.height + GAP for row in row_images)
    sheet = Image.new("RGB", (inner + 2 * MARGIN, height), PAPER)
    for index, line in enumerate(promise_lines):
        ImageDraw.Draw(sheet).text((MARGIN, MARGIN + index * LINE), line, fill=INK, font=bold)
    for row in row_images:
        sheet.paste(row, (MARGIN, top))
        top += row.height + GAP
    return sheet


def _draw_row(row: StripRow, font: Font, width: int) -> Image.Image:
    """Draw the pictures of a row, their labels, and the facts."""
    tiles = [_draw_tile(image) for image in row.pictures.values()]
    label_top = max(tile.height for tile in tiles) + 4
    verdict, colour = VERDICTS[row.met]
    facts = _wrap(verdict + "   ".join(row.facts), font, width)
    sheet = Image.new("RGB", (width, label_top + (1 + len(facts)) * LINE), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, (label, tile) in enumerate(zip(row.pictures, tiles, strict=True)):
        left = column * (TILE + GAP)
        sheet.paste(tile, (left, 0))
        pen.rectangle((left, 0, left + tile.width - 1, tile.height - 1), outline=EDGE)
        pen.text((left, label_top), label.translate(ASCII), fill=QUIET, font=font)
    pen.text((0, label_top + LINE), verdict, fill=colour, font=font)
    # wrapped together with the facts to share their first line, but drawn in its own colour
    facts[0] = facts[0].removeprefix(verdict)
    for index, line in enumerate(facts):
        indent = 0.0 if index else font.getlength(verdict)
        pen.text((indent, label_top + (1 + index) * LINE), line, fill=INK, font=font)
    return sheet


def _draw_tile(image: Array) -> Image.Image:
    """Resize to the width of a tile: few pixels stay visible as squares, many are averaged."""
    size = (TILE, max(1, round(TILE * image.shape[0] / image.shape[1])))
    resampling = Image.Resampling.NEAREST if max(image.shape[:2]) <= SMALL else Image.Resampling.LANCZOS
    return Image.fromarray(image).convert("RGB").resize(size, resampling)


def _wrap(text: str, font: Font, width: int) -> list[str]:
    lines = [""]
    for word in text.translate(ASCII).split(" "):
        candidate = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and font.getlength(candidate) > width:
            lines.append(word)
        else:
            lines[-1] = candidate
    return lines
