"""Files of the figures of the paper's experiments: an SVG file each, and one HTML page with all of them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from markupsafe import Markup

from conformask.extras.paper import examples
from conformask.extras.paper.pictures import (
    METHODS,
    OPT,
    RIVALS,
    TASKS,
    MethodStyle,
    figures,
    finite_values,
    row_title,
    share_beyond,
    sizes_of,
)
from conformask.extras.paper.settings import RowResult
from conformask.extras.paper.table import RECORD
from conformask.extras.view import page as report
from conformask.images.svg import template
from conformask.records.files import atomic_write
from conformask.records.numbers import figure, share
from conformask.records.record import claim

REPORT = Path(report.__file__).parent
FONT = "system-ui,-apple-system,'Segoe UI','Helvetica Neue','Noto Sans',Arial,sans-serif"
MARGIN = 16
"""Margin around a figure in its own file."""
PALETTE = {"quantile": ("#6f7783", "#a3abb7"), "default": ("#9a6500", "#e0ab45")}
"""Colours that the report does not have, on light and on dark ground."""

KINDS = {
    "summary": (
        "Figure 3: the summary",
        "One row for each task: the regressor, with L1. From top to bottom: masked distances, mask sizes, "
        "mask sizes against Opt’s. Each kind of figure is explained below, where it shows all rows.",
    ),
    "distances": (
        "Figures 5 to 7: is the threshold kept?",
        "Each dot is a test image, at the distance that remains after masking. Look for how few dots lie "
        "above the dashed threshold: one in ten is allowed, and the share is given below each method. Opt "
        "sees the truth and lies on the line or below it. The closer a cloud lies below the line, the less "
        "was masked unnecessarily. Numbers in brackets count the images with an Opt, where not all have "
        "one.",
    ),
    "histograms": (
        "Figures 8 to 10: how much is masked?",
        "Mask sizes of the test images, one lane per method; the vertical line is the mean, and each lane "
        "is scaled to its own highest bin. Further left is better: less is hidden for the same promise.",
    ),
    "scatter": (
        "Figures 11 to 13: do masks grow where they must?",
        "Each mark is a test image: its mask size against Opt’s, which knows the truth. A narrow cloud "
        "along the dotted diagonal means that the method masks much only where it is needed; height above "
        "the diagonal is waste. r is Pearson’s correlation.",
    ),
}


@dataclass(frozen=True)
class RowEntry:
    """A row in the table at the head of the page."""

    number: int
    anchor: str | None
    title: str
    task: str
    threshold: str
    tested: str
    sizes: tuple[str, ...]
    beyond: tuple[str, ...]


@dataclass(frozen=True)
class PageFigure:
    """A figure on the page."""

    number: int
    title: str
    svg: Markup


PAGE, FIGURES = "paper.html", "figures"


@dataclass(frozen=True)
class Gallery:
    """The example images of a row."""

    anchor: str
    title: str
    strips: list[examples.ExampleStrip]


def write_page(results: Sequence[RowResult], out: Path) -> list[Path]:
    """Write out/figures/*.svg and out/paper.html, each wholly or not at all, and return their paths.

    Unfinished rows are simply not in `results`; a figure without any data is not written.
    """
    results = sorted(results, key=lambda result: result.row.number)
    figure_svgs = figures(results)
    files = {out / FIGURES / name: standalone(text) for name, text in _figure_files(results, figure_svgs)}
    files[out / PAGE] = render(results, figure_svgs)
    claim(out / RECORD, {}, [path.relative_to(out).as_posix() for path in files])
    for path, text in files.items():
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return list(files)


def render(results: Sequence[RowResult], figure_svgs: Mapping[int, str]) -> str:
    """Return the page as HTML; names are escaped, every picture is embedded."""
    galleries = [
        Gallery(_anchor(result), examples.title(result), strips)
        for result in results
        if (strips := examples.strips(result))
    ]
    return template(Path(__file__).with_name("page.html"), REPORT).render(
        entries=[_entry(result) for result in results],
        methods=METHODS,
        rivals=RIVALS,
        sections=_sections(figure_svgs),
        galleries=galleries,
        palette=PALETTE,
        heat_gradient=report.heat_gradient(),
        version=version("conformask"),
        today=datetime.now(UTC).date().isoformat(),
    )


def standalone(text: str) -> str:
    """Make a figure its own file: plain colours that any program reads, darker ones where preferred."""
    light, dark = _palettes()
    text = re.sub(r"var\(--(\w+), (#\w+)\)", lambda match: light.get(match[1], match[2]), text)
    width, height = map(float, re.findall(r'viewBox="0 0 (\S+) (\S+)"', text)[0])
    full_width, full_height = width + 2 * MARGIN, height + 2 * MARGIN
    text = re.sub(
        r'viewBox="[^"]+"', f'viewBox="{-MARGIN} {-MARGIN} {full_width:g} {full_height:g}"', text, count=1
    )
    text = text.replace("width:100%;height:auto;", "", 1).replace(
        "font-family:inherit", f"font-family:{FONT}", 1
    )
    text = text.replace('role="img"', f'width="{full_width:g}" height="{full_height:g}" role="img"', 1)
    rules = "".join(
        f'[style*="{attribute}:{light[name]}"]{{{attribute}:{shade}!important}}'
        for name, shade in dark.items()
        for attribute in ("fill", "stroke")
    )
    ground = (
        f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"
        f'<rect x="{-MARGIN}" y="{-MARGIN}" width="100%" height="100%" style="fill:{light["card"]}"/>'
    )
    # the style goes inside the svg element, behind its first tag
    head, rest = text.split(">", 1)
    return f"{head}>{ground}{rest}\n"


def _palettes() -> tuple[dict[str, str], dict[str, str]]:
    """Return the colours of the report's style sheet and of PALETTE, light and dark."""
    light, dark, *_ = (REPORT / "palette.css").read_text(encoding="utf-8").split("@media")
    palettes = [dict(re.findall(r"--(\w+): (#\w+)", part)) for part in (light, dark)]
    for name, shades in PALETTE.items():
        for palette, shade in zip(palettes, shades, strict=True):
            palette[name] = shade
    return palettes[0], palettes[1]


def _figure_files(results: Sequence[RowResult], figure_svgs: Mapping[int, str]) -> Iterator[tuple[str, str]]:
    """Yield the file names of figures with the figures."""
    for result in results:
        if text := examples.draw_strips(result):
            yield f"figure-02-row{result.row.number:02d}.svg", text
    for number, text in figure_svgs.items():
        yield f"figure-{number:02d}.svg", text


def _sections(figure_svgs: Mapping[int, str]) -> list[tuple[str, str, list[PageFigure]]]:
    """Return the kinds of figures that have data, with title, what to look for, and a figure per task."""
    numbers = dict(zip(KINDS, ((3,), (5, 6, 7), (8, 9, 10), (11, 12, 13)), strict=True))
    names = [*TASKS.values()]
    titles = {
        n: f"Figure {n}: {names[(n - 5) % 3]}" if n > 3 else "" for group in numbers.values() for n in group
    }
    sections = [
        (
            *KINDS[kind],
            [PageFigure(n, titles[n], Markup(figure_svgs[n])) for n in numbers[kind] if n in figure_svgs],
        )
        for kind in KINDS
    ]
    return [section for section in sections if section[2]]


def _anchor(result: RowResult) -> str:
    return f"row-{result.row.number:02d}"


def _entry(result: RowResult) -> RowEntry:
    counts = [evaluation.n_test for evaluation in result.methods.values()]
    return RowEntry(
        number=result.row.number,
        anchor=_anchor(result) if examples.strips(result) else None,
        title=row_title(result).split(" · ", 1)[1],
        task=TASKS.get(result.row.task, result.row.task),
        threshold=figure(result.threshold),
        tested=f"{max(counts, default=0):,}",
        sizes=tuple(_mean(result, method) for method in METHODS),
        beyond=tuple(share(share_beyond(result, method)) for method in RIVALS),
    )


def _mean(result: RowResult, method: MethodStyle) -> str:
    """Return the mean mask size; Opt's with the number of images if it was not computed on all."""
    finite_sizes = finite_values(sizes_of(result, method))
    if not finite_sizes.size:
        return "–"
    is_partial = method is OPT and finite_sizes.size < len(result.opt_size)
    return f"{finite_sizes.mean():.3f}" + (f" ({finite_sizes.size})" if is_partial else "")
