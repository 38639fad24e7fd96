"""The paper's figures 3 and 5 to 13 as SVG: panels of its rows in lines and columns.

Each panel shows one row of the table, with the methods named beside their marks. A row without data has none.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np

from conformask.extras.paper.settings import RowResult
from conformask.images import svg
from conformask.promises.order import meets_threshold
from conformask.records.names import DISTANCES
from conformask.records.numbers import share
from conformask.records.record import Array

TASKS = {
    "completion": "Image completion",
    "super_resolution": "Super-resolution",
    "colorization": "Colorization",
}
WORDS = {"photos": "photographs", "gan": "GAN"}
MOST_POINTS = 300
"""Largest number of marks drawn in a panel, evenly selected; more would be indistinguishable."""
BINS = 32
DOT = 4.2
"""Diameter of a dot; dots are smaller in a narrow column."""


@dataclass(frozen=True)
class MethodStyle:
    """Name and drawing style of a method, for colour and for black and white."""

    key: str
    name: str
    short: str
    colour: str
    glyph: str
    """SVG path, relative to the position of a value."""
    stroke: float


@dataclass(frozen=True)
class Frame:
    """The size of a panel."""

    width: float
    height: float

    def plot(
        self, x: svg.Domain, y: svg.Domain, top: float = 66, left: float = 58, right: float = 16
    ) -> svg.Plot:
        """Return scales with room for the axes, and for a heading above the label of the vertical axis."""
        return svg.Plot(svg.Scale(*x, left, self.width - right), svg.Scale(*y, self.height - 52, top))


@dataclass(frozen=True)
class Panel:
    """Marks of a panel, in its own coordinates, and their meaning in words."""

    marks: str
    description: str


EXACT = MethodStyle("exact", "Exact oracle", "Exact", svg.ORACLE, "m0-3v6m-3-3h6", 1.4)
OPT = MethodStyle("opt", "Opt", "Opt", svg.OPT, "m0-3v6m-3-3h6", 1.4)
MASK = MethodStyle("mask", "Mask network", "Mask", svg.OURS, "h0", 5)
QUANTILE = MethodStyle(
    "quantile", "Quantile", "Quantile", "var(--quantile, #6f7783)", "m-2.4-2.4l4.8 4.8m0-4.8l-4.8 4.8", 1.4
)
DEFAULT = MethodStyle(
    "default", "Default", "Default", "var(--default, #9a6500)", "m0-3.4l3.4 3.4l-3.4 3.4l-3.4-3.4z", 1.4
)
RIVALS = (MASK, QUANTILE, DEFAULT)
METHODS = (EXACT, OPT, *RIVALS)
HALF, THIRD = Frame(480, 316), Frame(312, 276)


def row_title(result: RowResult) -> str:
    """Return the title of a row: Row 5 · cells, regressor, L1."""
    row = result.row
    parts = (WORDS.get(row.data, row.data), WORDS.get(row.network, row.network), distance_name(result))
    return f"Row {row.number} · " + ", ".join(part.replace("_", " ") for part in parts)


def distance_name(result: RowResult) -> str:
    """Return the label of the distance."""
    distance = result.row.distance
    return DISTANCES[distance].label if distance in DISTANCES else distance


def sizes_of(result: RowResult, method: MethodStyle) -> Array:
    """Return the mask sizes of the test images by a method; empty where it has none."""
    if method.key in ("exact", "opt"):
        return result.exact_size if method is EXACT else result.opt_size
    return result.methods[method.key].images.size if method.key in result.methods else np.empty(0)


def distances_of(result: RowResult, method: MethodStyle) -> Array:
    """Return the masked distances of the test images by a method; empty where it has none."""
    if method is OPT:
        return result.opt_distance
    return result.methods[method.key].images.loss if method.key in result.methods else np.empty(0)


def share_beyond(result: RowResult, method: MethodStyle) -> float:
    """Return the share of a method's images that miss the threshold; NaN where it has none."""
    finite_distances = finite_values(distances_of(result, method))
    return (
        float((~meets_threshold(finite_distances, result.threshold)).mean())
        if finite_distances.size
        else math.nan
    )


def finite_values(values: Array) -> Array:
    """Return the finite values."""
    return values[np.isfinite(values)]


def distances(result: RowResult, frame: Frame, headed: bool = True) -> Panel | None:
    """Draw masked distances of each method as a cloud whose width shows density, and the threshold."""
    by_method = {m: finite_values(distances_of(result, m)) for m in (OPT, *RIVALS)}
    by_method = {method: values for method, values in by_method.items() if values.size}
    if not by_method:
        return None
    threshold, high = (
        result.threshold,
        _distance_axis_end(np.concatenate(list(by_method.values())), result.threshold),
    )
    plot = frame.plot((0.5, len(by_method) + 0.5), (0, high), top=36 if not headed else 66)
    names = [_name_with_count(m.short if frame.width < HALF.width else m.name, result, m) for m in by_method]
    shares = [share(share_beyond(result, method)) for method in by_method]
    columns = range(1, len(by_method) + 1)
    notes = [
        svg.text(plot.x(column), plot.y.start + 36, words, "middle")
        for column, words in zip(columns, shares, strict=True)
    ]
    marks = [
        _head(result, frame, headed, ""),
        svg.axes(
            plot,
            "",
            f"masked distance, {distance_name(result)}",
            (lambda column: names[int(column) - 1], svg.plain),
            columns,
        ),
        svg.group(
            [svg.text(plot.x.start - 8, plot.y.start + 36, "beyond", "end"), *notes],
            f"fill:{svg.QUIET};font-size:12px",
        ),
        *(
            _swarm(plot, column, method, values)
            for column, (method, values) in enumerate(by_method.items(), start=1)
        ),
        svg.level(plot, threshold, f"threshold {threshold:.3g}"),
    ]
    description = "; ".join(f"{m.name} {s} beyond" for m, s in zip(by_method, shares, strict=True))
    return Panel("".join(marks), f"{row_title(result)}, threshold {threshold:.3g}: {description}")


def histograms(result: RowResult, frame: Frame, headed: bool = True) -> Panel | None:
    """Draw mask sizes of each method as a histogram in its own lane, over a common axis, with the mean."""
    by_method = {method: finite_values(sizes_of(result, method)) for method in METHODS}
    by_method = {method: values for method, values in by_method.items() if values.size}
    if not any(method in by_method for method in RIVALS):
        return None
    high = _size_axis_end(list(by_method.values()))
    edges = [float(edge) for edge in np.linspace(0, high, BINS + 1)]
    plot = frame.plot((0, high), (0, len(by_method)), top=26 if not headed else 54, left=84, right=66)
    upright = [svg.segment(plot.x(v), plot.y.start, plot.x(v), plot.y.end) for v in svg.ticks(0, high, 5)]
    marks = [
        _head(result, frame, headed, f"threshold {result.threshold:.3g}"),
        svg.group(upright, f"stroke:{svg.RULE}"),
        svg.axes(plot, "mask size, the share hidden", "", (svg.plain, lambda _: ""), svg.ticks(0, high, 5)),
        svg.text(frame.width - 10, plot.y.end - 8, "mean", "end", f"fill:{svg.QUIET};font-size:12.5px"),
        *(
            _lane(plot, len(by_method) - i, m, _name_with_count(m.short, result, m), values, edges)
            for i, (m, values) in enumerate(by_method.items(), start=1)
        ),
    ]
    description = "; ".join(f"{method.name} {values.mean():.3f}" for method, values in by_method.items())
    return Panel("".join(marks), f"{row_title(result)}, mean mask sizes: {description}")


def scatter(result: RowResult, frame: Frame, methods: Sequence[MethodStyle] = RIVALS) -> Panel | None:
    """Draw mask sizes against the paper's Opt, with Pearson's r; the methods are named above."""
    by_method = {m: _pairs(result, m) for m in methods}
    by_method = {method: pairs for method, pairs in by_method.items() if len(pairs)}
    if not by_method:
        return None
    high = _size_axis_end([pairs for pairs in (_pairs(result, m) for m in RIVALS) if len(pairs)])
    plot = frame.plot((0, high), (0, high))
    numbers = {method: _correlation(pairs) for method, pairs in by_method.items()}
    alone = len(methods) == 1
    marks = [
        svg.axes(
            plot,
            "mask size of Opt, which sees the truth",
            "mask size" + ("" if alone else "; above: Pearson’s r"),
        ),
        svg.line(plot, (0, high), (0, high), svg.QUIET, "2 4"),
        *(_cloud(plot, _thin(pairs, MOST_POINTS if alone else 120), m) for m, pairs in by_method.items()),
        _key(numbers, "r = " if alone else ""),
    ]
    description = "; ".join(f"{method.name} r = {r}" for method, r in numbers.items())
    return Panel("".join(marks), f"{row_title(result)}, mask size against Opt's: {description}")


def _head(result: RowResult, frame: Frame, headed: bool, right: str) -> str:
    """Draw the row's title at the left above the panel and a quiet fact at the right."""
    words = svg.text(4, 16, row_title(result), style="font-weight:600")
    return words + svg.text(frame.width - 10, 16, right, "end", f"fill:{svg.QUIET}") if headed else ""


def _name_with_count(name: str, result: RowResult, method: MethodStyle) -> str:
    """Return the name, with the number of images in brackets if Opt was not computed on all."""
    is_partial = method is OPT and not np.isfinite(result.opt_size).all()
    return f"{name} ({np.isfinite(result.opt_size).sum()})" if is_partial else name


def _distance_axis_end(values: Array, threshold: float) -> float:
    """Return the top of a distance axis: above all values, unless they dwarf the threshold."""
    return max(1.25 * threshold, min(1.05 * float(values.max()), 2.4 * threshold), 1e-12)


def _size_axis_end(arrays: Sequence[Array]) -> float:
    """Return the end of an axis of mask sizes."""
    return min(max(1.05 * max(float(values.max()) for values in arrays), 0.01), 1.0)


def _swarm(plot: svg.Plot, column: int, method: MethodStyle, values: Array) -> str:
    """Draw dots side by side around a column, so that width shows density; count those above the axis."""
    n_above = int((values > plot.y.high).sum())
    points = _thin(np.sort(values[values <= plot.y.high]))
    step = plot.x(1) - plot.x(0)
    dot = min(DOT, 0.05 * step)
    xs = column + _swarm_offsets([plot.y(value) for value in points], 0.42 * step, dot) / step
    note = svg.text(
        plot.x(column), plot.y.end + 4, f"{n_above} above ↑", "middle", f"fill:{method.colour};font-size:12px"
    )
    return _cloud(plot, np.stack([xs, points], axis=1), replace(method, glyph="h0", stroke=dot)) + (
        note if n_above else ""
    )


def _swarm_offsets(heights: Sequence[float], limit: float, dot: float) -> Array:
    """Return how far dots move from the middle of a column so that none touch; in a full one they overlap."""
    candidates = sorted(np.arange(-limit, limit + 1e-9, 0.4 * dot), key=abs)
    positions: list[tuple[float, float]] = []
    for i, y in enumerate(heights):
        near = [(x, z) for x, z in positions if abs(z - y) < dot]
        free_positions = (
            x for x in candidates if all((x - u) ** 2 + (y - v) ** 2 >= dot**2 for u, v in near)
        )
        # without room, multiples of the golden ratio spread dots evenly over the column
        positions.append((float(next(free_positions, (2 * (i * 0.618034 % 1) - 1) * limit)), y))
    return np.array([x for x, _ in positions])


def _lane(
    plot: svg.Plot, base: int, method: MethodStyle, name: str, values: Array, edges: Sequence[float]
) -> str:
    """Draw one histogram on its own base line, as high as its lane allows, and its mean."""
    counts = np.histogram(values, edges)[0]
    base_y, lane_height = plot.y(base), plot.y(0) - plot.y(1)
    lane = svg.Plot(plot.x, svg.Scale(0, float(counts.max()), base_y, base_y - 0.82 * lane_height))
    spans = zip(edges, edges[1:], counts, strict=False)
    titles = [f"{method.name}, mask size {a:.3g} to {b:.3g}: {count} images" for a, b, count in spans]
    mean = float(values.mean())
    style = f"fill:{method.colour};font-weight:600"
    return (
        svg.group(
            [svg.segment(plot.x.start, base_y, plot.x.end, base_y)], f"stroke:{svg.QUIET};stroke-width:.75"
        )
        + svg.group(
            [svg.bars(lane, edges, [float(c) for c in counts], titles, method.colour)], "fill-opacity:.75"
        )
        + svg.group(
            [svg.segment(plot.x(mean), base_y + 3, plot.x(mean), base_y - 0.86 * lane_height)],
            f"stroke:{svg.INK};stroke-width:1.5",
        )
        + svg.text(plot.x.start - 8, base_y - 5, name, "end", style)
        + svg.text(plot.x.end + 56, base_y - 5, f"{mean:.3f}", "end", style)
    )


def _cloud(plot: svg.Plot, pairs: Array, method: MethodStyle) -> str:
    """Draw a glyph of the method for each pair (k, 2); overlaps grow darker."""
    marks = [f'<path d="M{plot.x(x):.1f} {plot.y(y):.1f}{method.glyph}"/>' for x, y in pairs]
    words = f"<title>{escape(method.name)}: {len(marks)} images drawn</title>"
    return (
        f'<g class="cloud {method.key}" style="{_ink(method)};stroke-opacity:.6">{words}{"".join(marks)}</g>'
    )


def _ink(method: MethodStyle) -> str:
    return f"fill:none;stroke:{method.colour};stroke-width:{method.stroke:g};stroke-linecap:round"


def _pairs(result: RowResult, method: MethodStyle) -> Array:
    """Return Opt's mask size and the method's, (k, 2), on the images that have both."""
    sizes = sizes_of(result, method)
    if not sizes.size:
        return np.empty((0, 2))
    both: Array = np.stack([result.opt_size, sizes], axis=1)
    pairs: Array = both[np.isfinite(both).all(axis=1)]
    return pairs


def _correlation(pairs: Array) -> str:
    """Return Pearson's r as text, or that it is not defined."""
    if len(pairs) < 2 or not pairs.std(axis=0).all():
        return "not defined"
    return f"{np.corrcoef(pairs.T)[0, 1]:.2f}"


def _thin(values: Array, limit: int = MOST_POINTS) -> Array:
    """Return an even selection of at most this many values."""
    selection: Array = values[np.linspace(0, len(values) - 1, min(len(values), limit)).astype(int)]
    return selection


def _key(numbers: Mapping[MethodStyle, str], prefix: str) -> str:
    """Draw the methods with their glyphs and a number each, in a line above the panel."""
    marks, x = [], 4.0
    for method, number in numbers.items():
        name = f"{method.name}, {prefix}{number}" if len(numbers) == 1 else f"{method.short} {number}"
        marks.append(svg.group([f'<path d="M{x + 5:g} 12{method.glyph}"/>'], _ink(method)))
        marks.append(
            svg.text(x + 14, 16.5, name, style=f"fill:{method.colour};font-weight:600;font-size:12px")
        )
        x += 24 + 7.2 * len(name)
    return "".join(marks)


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
