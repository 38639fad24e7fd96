"""The paper's figures 3 and 5 to 13: panels of its rows in lines and columns, each figure as SVG text."""

from collections.abc import Callable, Mapping, Sequence

from conformask.paper.panels import (
    HALF,
    RIVALS,
    TASKS,
    THIRD,
    Frame,
    Panel,
    distances,
    histograms,
    row_title,
    scatter,
)
from conformask.paper.records import RowResult
from conformask.pictures import svg

Draw = Callable[[RowResult, Frame], Panel | None]
Line = tuple[str, Sequence[Panel | None]]
"""Heading, empty for none, and the panels below it."""
GUTTER = 24


def grid(label: str, lines: Sequence[Line], frame: Frame, heads: Sequence[str] = ()) -> str | None:
    """Arrange panels in lines and columns, with headings; return None if there is no panel at all."""
    lines = [(heading, panels) for heading, panels in lines if any(panels)]
    if not lines:
        return None
    marks, descriptions, y, step = [], [], 0.0, frame.width + GUTTER
    for i, words in enumerate(heads):
        title, _, below = words.partition("\n")
        marks.append(svg.text(step * i + 4, 18, title, style="font-weight:600;font-size:15px"))
        marks.append(svg.text(step * i + 4, 37, below, style=f"fill:{svg.QUIET}"))
    y += 60 if heads else 0
    for heading, panels in lines:
        if heading:
            marks.append(svg.text(4, y + 18, heading, style="font-weight:600;font-size:14.5px"))
            y += 32
        for i, panel in enumerate(panels):
            if panel:
                marks.append(f'<g class="panel" transform="translate({step * i:g} {y:g})">{panel.marks}</g>')
                descriptions.append(panel.description)
        y += frame.height + 12
    width = step * max(len(panels) for _, panels in lines) - GUTTER
    return svg.document(f"{label}. {'. '.join(descriptions)}", marks, y, width)


def draw_by_row(task: str, label: str, draw: Draw, results: Sequence[RowResult]) -> str | None:
    """Draw a figure of a task: a column for each kind of network, a line for each data set and distance."""
    rows = [result for result in results if result.row.task == task]
    networks = list(dict.fromkeys(result.row.network for result in rows))
    kinds = dict.fromkeys((result.row.data, result.row.distance) for result in rows)
    panels = {(r.row.network, (r.row.data, r.row.distance)): draw(r, HALF) for r in rows}
    shown_networks = [network for network in networks if any(panels.get((network, kind)) for kind in kinds)]
    return grid(
        label, [("", [panels.get((network, kind)) for network in shown_networks]) for kind in kinds], HALF
    )


def draw_against_opt(task: str, label: str, results: Sequence[RowResult]) -> str | None:
    """Draw a figure of a task: a line for each row, a panel for each method, on common axes."""
    lines: list[Line] = [
        (
            f"{row_title(result)}, threshold {result.threshold:.3g}",
            [scatter(result, THIRD, (m,)) for m in RIVALS],
        )
        for result in results
        if result.row.task == task
    ]
    return grid(label, lines, THIRD)


def draw_summary(results: Sequence[RowResult]) -> str | None:
    """Draw figure 3: distances, mask sizes and their relation to Opt's for one row of each task."""
    rows = [row for task in TASKS if (row := _summary_row(task, results))]
    heads = [f"{TASKS[r.row.task]}\n{row_title(r)}" for r in rows]
    lines: list[Line] = [
        ("", [distances(result, THIRD, False) for result in rows]),
        ("", [histograms(result, THIRD, False) for result in rows]),
        ("", [scatter(result, THIRD) for result in rows]),
    ]
    return grid("Summary: masked distances, mask sizes, and mask sizes against Opt's", lines, THIRD, heads)


def _summary_row(task: str, results: Sequence[RowResult]) -> RowResult | None:
    """Return the regressor's L1 row of a task, for photographs if there are any."""
    rows = [r for r in results if (r.row.task, r.row.network, r.row.distance) == (task, "regressor", "l1")]
    return min(rows, key=lambda result: result.row.data != "photos", default=None)


def figures(results: Sequence[RowResult]) -> Mapping[int, str]:
    """Return figures 3 and 5 to 13 by their number in the paper, without those that have no panel."""
    results = sorted(results, key=lambda result: result.row.number)
    figure_by_number = {3: draw_summary(results)}
    for i, (task, name) in enumerate(TASKS.items()):
        figure_by_number[5 + i] = draw_by_row(
            task, f"{name}: masked distances and the threshold", distances, results
        )
        figure_by_number[8 + i] = draw_by_row(task, f"{name}: histograms of mask sizes", histograms, results)
        figure_by_number[11 + i] = draw_against_opt(task, f"{name}: mask sizes against Opt's", results)
    return {number: figure for number, figure in sorted(figure_by_number.items()) if figure}
