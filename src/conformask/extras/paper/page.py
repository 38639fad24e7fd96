"""Files of the figures of the paper's experiments: an SVG file each, and one HTML page with all of them."""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from matplotlib.figure import Figure

from conformask.extras.paper import examples
from conformask.extras.paper.pictures import (
    HALF,
    METHODS,
    OPT,
    PALETTE,
    REPORT,
    RIVALS,
    TASKS,
    MethodStyle,
    as_svg,
    figures,
    finite_values,
    row_title,
    share_beyond,
    sizes_of,
)
from conformask.extras.paper.settings import RowResult
from conformask.extras.paper.table import FIGURES, PAGE, RECORD
from conformask.extras.view.page import heat_gradient
from conformask.images.svg import template
from conformask.records.numbers import figure, share
from conformask.records.record import atomic_write, claim

KINDS = (
    (
        "Figure 3: the summary",
        "One row for each task: the regressor, with L1. From top to bottom: masked distances, mask sizes, "
        "mask sizes against Opt’s. Each kind of figure is explained below, where it shows all rows.",
    ),
    (
        "Figures 5 to 7: is the threshold kept?",
        "Each dot is a test image, at the distance that remains after masking. Look for how few dots lie "
        "above the dashed threshold: one in ten is allowed, and the share is given below each method. Opt "
        "sees the truth and lies on the line or below it. The closer a cloud lies below the line, the less "
        "was masked unnecessarily. Numbers in brackets count the images with an Opt, where not all have "
        "one.",
    ),
    (
        "Figures 8 to 10: how much is masked?",
        "Mask sizes of the test images, one lane per method; the vertical line is the mean, and each lane "
        "is scaled to its own highest bin. Further left is better: less is hidden for the same promise.",
    ),
    (
        "Figures 11 to 13: do masks grow where they must?",
        "Each mark is a test image: its mask size against Opt’s, which knows the truth. A narrow cloud "
        "along the dotted diagonal means that the method masks much only where it is needed; height above "
        "the diagonal is waste. r is Pearson’s correlation.",
    ),
)
"""Kinds of figures, in the order of the paper: the title, and what to look for."""


def write_page(results: Sequence[RowResult], out: Path) -> list[Path]:
    """Write out/figures/*.svg and out/paper.html, each wholly or not at all, and return their paths.

    Unfinished rows are simply not in `results`; a figure without any data is not written.
    """
    results = sorted(results, key=lambda result: result.row.number)
    svgs = {
        f"figure-02-row{result.row.number:02d}.svg": as_svg(drawn)
        for result in results
        if (drawn := examples.draw_strips(result))
    }
    by_number = figures(results)
    svgs |= {f"figure-{number:02d}.svg": as_svg(drawn) for number, drawn in by_number.items()}
    files = {out / FIGURES / name: text for name, text in svgs.items()}
    files[out / PAGE] = render(results, by_number)
    claim(out / RECORD, {}, [path.relative_to(out).as_posix() for path in files])
    for path, text in files.items():
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return list(files)


def render(results: Sequence[RowResult], by_number: Mapping[int, Figure]) -> str:
    """Return the page as HTML; names are escaped, every picture is embedded."""
    galleries = {
        result.row.number: (examples.title(result), strips)
        for result in results
        if (strips := examples.strips(result))
    }
    entries = [
        {
            "number": result.row.number,
            "title": row_title(result).split(" · ", 1)[1],
            "task": TASKS.get(result.row.task, result.row.task),
            "threshold": figure(result.threshold),
            "tested": f"{max((each.n_test for each in result.methods.values()), default=0):,}",
            "sizes": [_mean(result, method) for method in METHODS],
            "beyond": [share(share_beyond(result, method)) for method in RIVALS],
        }
        for result in results
    ]
    return template(Path(__file__).with_name("page.html"), REPORT).render(
        entries=entries,
        methods=METHODS,
        rivals=RIVALS,
        sections=_sections(by_number),
        galleries=galleries,
        palette=PALETTE,
        heat_gradient=heat_gradient(),
        version=version("conformask"),
        today=datetime.now(UTC).date().isoformat(),
    )


def _sections(by_number: Mapping[int, Figure]) -> list[tuple[str, str, list[dict[str, object]]]]:
    """Return the kinds of figures that have data, with title, what to look for, and a figure per task."""
    sections = []
    for (title, caption), numbers in zip(KINDS, ((3,), (5, 6, 7), (8, 9, 10), (11, 12, 13)), strict=True):
        shown: list[dict[str, object]] = [
            {
                "number": number,
                "title": "" if number == 3 else f"Figure {number}: {task}",
                "src": base64.b64encode(as_svg(drawn).encode()).decode("ascii"),
                "alt": drawn.get_label(),
                "narrow": drawn.get_figwidth() <= HALF[0] / 72,
            }
            for number, task in zip(numbers, TASKS.values(), strict=False)
            if (drawn := by_number.get(number))
        ]
        if shown:
            sections.append((title, caption, shown))
    return sections


def _mean(result: RowResult, method: MethodStyle) -> str:
    """Return the mean mask size; Opt's with the number of images if it was not computed on all."""
    finite_sizes = finite_values(sizes_of(result, method))
    if not finite_sizes.size:
        return "–"
    is_partial = method is OPT and finite_sizes.size < len(result.opt_size)
    return f"{finite_sizes.mean():.3f}" + (f" ({finite_sizes.size})" if is_partial else "")
