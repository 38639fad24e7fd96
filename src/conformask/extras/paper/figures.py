"""The paper's figures 2 to 13 by matplotlib: an SVG file each, and one HTML page with all of them.

Figures 3 and 5 to 13 have panels of its rows in lines and columns. Each panel shows one row of the table,
with the methods named beside their marks. A row without data has none.
"""

import base64
import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from conformask.extras.paper import RowResult
from conformask.extras.paper.table import FIGURES, PAGE, RECORD
from conformask.extras.view import page as report
from conformask.extras.view.page import Picture, heat_gradient, pictures
from conformask.images.pictures import TITLES
from conformask.images.svg import template
from conformask.promises.order import meets_threshold
from conformask.records.evaluation import Example
from conformask.records.names import DISTANCES
from conformask.records.numbers import figure, share
from conformask.records.record import Array, atomic_write, claim

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
REPORT = Path(report.__file__).parent
PALETTE = {"quantile": ("#6f7783", "#a3abb7"), "default": ("#9a6500", "#e0ab45")}
"""Colours that the report does not have, on light and on dark ground."""


def _palettes() -> tuple[dict[str, str], dict[str, str]]:
    """Return the colours of the report's style sheet and of PALETTE, light and dark."""
    parts = (REPORT / "palette.css").read_text(encoding="utf-8").split("@media")[:2]
    light, dark = (dict(re.findall(r"--(\w+): (#\w+)", part)) for part in parts)
    for name, shades in PALETTE.items():
        light[name], dark[name] = shades
    return light, dark


LIGHT, DARK = _palettes()
STYLE = {
    "font.size": 12,
    "text.color": LIGHT["ink"],
    "text.parse_math": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 12,
    "axes.labelcolor": LIGHT["quiet"],
    "axes.edgecolor": LIGHT["quiet"],
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": LIGHT["rule"],
    "xtick.color": LIGHT["rule"],
    "ytick.color": LIGHT["rule"],
    "xtick.labelcolor": LIGHT["quiet"],
    "ytick.labelcolor": LIGHT["quiet"],
    "legend.frameon": False,
    "figure.facecolor": LIGHT["card"],
    "figure.dpi": 72,
    "savefig.facecolor": "auto",
    "svg.fonttype": "none",
    "svg.hashsalt": "conformask",
}


@dataclass(frozen=True)
class MethodStyle:
    """Name and drawing style of a method, for colour and for black and white."""

    key: str
    name: str
    short: str
    colour: str
    """Name of a colour of the palette."""
    marker: str
    """Marker of matplotlib."""
    symbol: str
    """The same as a character."""


EXACT = MethodStyle("exact", "Exact oracle", "Exact", "oracle", "+", "+")
OPT = MethodStyle("opt", "Opt", "Opt", "opt", "+", "+")
MASK = MethodStyle("mask", "Mask network", "Mask", "ours", "o", "●")
QUANTILE = MethodStyle("quantile", "Quantile", "Quantile", "quantile", "x", "×")
DEFAULT = MethodStyle("default", "Default", "Default", "default", "D", "◇")
RIVALS = (MASK, QUANTILE, DEFAULT)
METHODS = (EXACT, OPT, *RIVALS)

Panel = Callable[[Axes], str]
"""Draws a panel on axes, and returns its meaning in words."""
TitledPanel = tuple[str, Panel | None]
HALF, THIRD = (490.0, 330.0), (340.0, 300.0)
"""Width and height of a panel in points, with its margins."""
LEFT, RIGHT, TOP, BOTTOM = 68, 14, 62, 56


def row_title(result: RowResult) -> str:
    """Return the title of a row: Row 5 · cells, regressor, L1."""
    row = result.row
    parts = (WORDS.get(row.data, row.data), WORDS.get(row.network, row.network), distance_name(result))
    return f"Row {row.number} · " + ", ".join(part.replace("_", " ") for part in parts)


def with_threshold(result: RowResult) -> str:
    """Return the title of a row with its threshold."""
    return f"{row_title(result)}, threshold {result.threshold:.3g}"


def distance_name(result: RowResult) -> str:
    """Return the label of the distance."""
    distance = result.row.distance
    return DISTANCES[distance].label if distance in DISTANCES else distance


def sizes_of(result: RowResult, method: MethodStyle) -> Array:
    """Return the mask sizes of the test images by a method; empty where it has none."""
    if method in (EXACT, OPT):
        return result.exact_size if method is EXACT else result.opt_size
    return result.methods[method.key].images.size if method.key in result.methods else np.empty(0)


def distances_of(result: RowResult, method: MethodStyle) -> Array:
    """Return the masked distances of the test images by a method; empty where it has none."""
    if method is OPT:
        return result.opt_distance
    return result.methods[method.key].images.loss if method.key in result.methods else np.empty(0)


def share_beyond(result: RowResult, method: MethodStyle) -> float:
    """Return the share of a method's images that miss the threshold; NaN where it has none."""
    values = finite_values(distances_of(result, method))
    return float((~meets_threshold(values, result.threshold)).mean()) if values.size else math.nan


def finite_values(values: Array) -> Array:
    """Return the finite values."""
    return values[np.isfinite(values)]


def distances(result: RowResult) -> Panel | None:
    """Draw masked distances of each method as a cloud whose width shows density, and the threshold."""
    by_method = {m: v for m in (OPT, *RIVALS) if (v := finite_values(distances_of(result, m))).size}
    if not by_method:
        return None
    threshold = result.threshold
    largest = max(float(values.max()) for values in by_method.values())
    # above all values, unless they dwarf the threshold
    top = max(1.25 * threshold, min(1.05 * largest, 2.4 * threshold), 1e-12)
    shares = {method: share(share_beyond(result, method)) for method in by_method}

    def draw(ax: Axes) -> str:
        columns = range(1, len(by_method) + 1)
        ax.set(xlim=(0.5, len(by_method) + 0.5), ylim=(0, top))
        ax.set(xlabel="share beyond the threshold", ylabel=f"masked distance, {distance_name(result)}")
        ax.set_xticks(columns, [f"{_short_name(m, result)}\n{shares[m]}" for m in by_method])
        ax.grid(visible=False, axis="x")
        for column, (method, values) in zip(columns, by_method.items(), strict=True):
            _swarm(ax, column, method, values)
        limit = LIGHT["limit"]
        ax.axhline(threshold, color=limit, linestyle="--", linewidth=1.75)
        ax.text(1, 1.02, f"threshold {threshold:.3g}", color=limit, ha="right", transform=ax.transAxes)
        beyond = "; ".join(f"{method.name} {words} beyond" for method, words in shares.items())
        return f"{with_threshold(result)}: {beyond}"

    return draw


def histograms(result: RowResult) -> Panel | None:
    """Draw mask sizes of each method as a histogram in its own lane, over a common axis, with the mean."""
    by_method = {m: v for m in METHODS if (v := finite_values(sizes_of(result, m))).size}
    if not any(method in by_method for method in RIVALS):
        return None
    high = _size_axis_end(by_method.values())
    edges = np.linspace(0, high, BINS + 1)

    def draw(ax: Axes) -> str:
        lanes = range(len(by_method) - 1, -1, -1)
        labels = [f"{_short_name(m, result)}\n{values.mean():.3f}" for m, values in by_method.items()]
        ax.set(xlim=(0, high), ylim=(0, len(by_method)), xlabel="mask size, the share hidden; line: mean")
        ax.set_yticks(lanes, labels, va="bottom")
        for lane, label, (method, values) in zip(lanes, ax.get_yticklabels(), by_method.items(), strict=True):
            colour = LIGHT[method.colour]
            counts = np.histogram(values, edges)[0]
            heights = lane + 0.82 * counts / counts.max()
            ax.stairs(heights, edges, baseline=lane, fill=True, color=colour, alpha=0.75)
            ax.vlines(values.mean(), lane, lane + 0.86, color=LIGHT["ink"], linewidth=1.5)
            label.set_color(colour)
        means = "; ".join(f"{method.name} {values.mean():.3f}" for method, values in by_method.items())
        return f"{row_title(result)}, mean mask sizes: {means}"

    return draw


def scatter(result: RowResult, methods: Sequence[MethodStyle] = RIVALS) -> Panel | None:
    """Draw mask sizes against the paper's Opt, with Pearson's r; the methods are named above."""
    all_pairs = {m: pairs for m in RIVALS if len(pairs := _pairs(result, m))}
    by_method = {method: pairs for method, pairs in all_pairs.items() if method in methods}
    if not by_method:
        return None
    high = _size_axis_end(all_pairs.values())
    alone = len(methods) == 1

    def draw(ax: Axes) -> str:
        ax.set(xlim=(0, high), ylim=(0, high), xlabel="mask size of Opt, which sees the truth")
        ax.set_ylabel("mask size" if alone else "mask size; above: Pearson’s r")
        ax.plot([0, high], [0, high], color=LIGHT["quiet"], linestyle=":")
        words = []
        for method, pairs in by_method.items():
            r = _correlation(pairs)
            label = f"{method.name}, r = {r}" if alone else f"{method.short} {r}"
            _cloud(ax, _thin(pairs, MOST_POINTS if alone else 120), method, label=label)
            words.append(f"{method.name} r = {r}")
        ax.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, labelcolor="linecolor", fontsize=11,
            handlelength=1, handletextpad=0.2, columnspacing=0.7, borderpad=0, borderaxespad=0.2,
        )  # fmt: skip
        return f"{row_title(result)}, mask size against Opt's: {'; '.join(words)}"

    return draw


def _short_name(method: MethodStyle, result: RowResult) -> str:
    """Return the name, with the number of images in brackets if Opt was not computed on all."""
    is_partial = method is OPT and not np.isfinite(result.opt_size).all()
    return f"{method.short} ({np.isfinite(result.opt_size).sum()})" if is_partial else method.short


def _size_axis_end(arrays: Iterable[Array]) -> float:
    return min(max(1.05 * max(float(values.max()) for values in arrays), 0.01), 1.0)


def _swarm(ax: Axes, column: int, method: MethodStyle, values: Array) -> None:
    """Draw dots side by side around a column, so that width shows density; count those above the axis."""
    top = ax.get_ylim()[1]
    points = _thin(np.sort(values[values <= top]))
    places = ax.transData.transform(np.stack([np.full(len(points), column), points], axis=1))
    step = ax.bbox.width / np.ptp(ax.get_xlim())
    dot = min(DOT, 0.05 * step)
    xs = column + _swarm_offsets(places[:, 1], 0.42 * step, dot) / step
    _cloud(ax, np.stack([xs, points], axis=1), method, marker="o", markersize=dot)
    if n_above := int((values > top).sum()):
        colour = LIGHT[method.colour]
        ax.annotate(f"{n_above} above ↑", (column, top), va="top", ha="center", color=colour)


def _swarm_offsets(heights: Array, limit: float, dot: float) -> Array:
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


def _cloud(
    ax: Axes, pairs: Array, method: MethodStyle, *, marker: str = "", markersize: float = 5, label: str = ""
) -> None:
    """Draw a mark of the method for each pair (k, 2); overlaps grow darker."""
    marker = marker or method.marker
    ax.plot(
        *pairs.T, marker, color=LIGHT[method.colour], alpha=0.6, markersize=markersize, label=label,
        fillstyle="full" if marker == "o" else "none", markeredgewidth=0 if marker == "o" else 1.4,
    )  # fmt: skip


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


def _grid(label: str, lines: Sequence[Sequence[TitledPanel]], size: tuple[float, float]) -> Figure | None:
    """Arrange panels in lines and columns; return None if there is no panel at all."""
    lines = [line for line in lines if any(panel for _, panel in line)]
    if not lines:
        return None
    width, height = size
    columns, whole_height = max(map(len, lines)), height * len(lines)
    whole = np.array([width * columns, whole_height])
    descriptions = []
    with rc_context(STYLE):
        figure = Figure((width * columns / 72, whole_height / 72))
        for i, line in enumerate(lines, start=1):
            for j, (title, panel) in enumerate(line):
                if panel:
                    corner = (j * width + LEFT, whole_height - i * height + BOTTOM) / whole
                    ax = figure.add_axes((*corner, *((width - LEFT - RIGHT, height - TOP - BOTTOM) / whole)))
                    ax.set_title(title, pad=24)
                    descriptions.append(panel(ax))
    figure.set_label(f"{label}. {'. '.join(descriptions)}")
    return figure


def _by_row(
    label: str,
    draw: Callable[[RowResult], Panel | None],
    title: Callable[[RowResult], str],
    rows: Sequence[RowResult],
) -> Figure | None:
    """Draw a figure of a task: a column for each kind of network, a line for each data set and distance."""
    panels: dict[tuple[str, ...], TitledPanel] = {
        (row.row.network, row.row.data, row.row.distance): (title(row), panel)
        for row in rows
        if (panel := draw(row))
    }
    networks = dict.fromkeys(network for network, *_ in panels)
    kinds = dict.fromkeys((data, distance) for _, data, distance in panels)
    lines = [[panels.get((network, *kind), ("", None)) for network in networks] for kind in kinds]
    return _grid(label, lines, HALF)


def _summary(results: Sequence[RowResult]) -> Figure | None:
    """Draw figure 3: for each task the regressor's L1 row, of photographs if there are any."""
    rows = []
    for task in TASKS:
        of_task = [
            r for r in results if (r.row.task, r.row.network, r.row.distance) == (task, "regressor", "l1")
        ]
        rows += sorted(of_task, key=lambda result: result.row.data != "photos")[:1]
    lines = [
        [(f"{TASKS[row.row.task]}\n{row_title(row)}", distances(row)) for row in rows],
        [("", histograms(row)) for row in rows],
        [("", scatter(row)) for row in rows],
    ]
    return _grid("Summary: masked distances, mask sizes, and mask sizes against Opt's", lines, THIRD)


def figures(results: Sequence[RowResult]) -> Mapping[int, Figure]:
    """Return figures 3 and 5 to 13 by their number in the paper, without those that have no panel.

    The label of a figure says in words what it shows.
    """
    results = sorted(results, key=lambda result: result.row.number)
    by_number = {3: _summary(results)}
    for i, (task, name) in enumerate(TASKS.items()):
        rows = [result for result in results if result.row.task == task]
        label = f"{name}: masked distances and the threshold"
        by_number[5 + i] = _by_row(label, distances, row_title, rows)
        by_number[8 + i] = _by_row(f"{name}: histograms of mask sizes", histograms, with_threshold, rows)
        lines = [
            [("" if j else with_threshold(row), scatter(row, (method,))) for j, method in enumerate(RIVALS)]
            for row in rows
        ]
        by_number[11 + i] = _grid(f"{name}: mask sizes against Opt's", lines, THIRD)
    return {number: figure for number, figure in sorted(by_number.items()) if figure}


@lru_cache(maxsize=32)  # for the file and the page
def as_svg(figure: Figure) -> str:
    """Return a figure as SVG, titled by its label, with darker colours where they are preferred."""
    buffer = io.StringIO()
    unnamed = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # letters that its fonts lack are those of the viewer
    with rc_context(STYLE), warnings.catch_warnings(action="ignore"):
        figure.savefig(buffer, format="svg", metadata={"Title": figure.get_label(), **unnamed})
    rules = "".join(
        f'[style*="{attribute}: {LIGHT[name]}"]{{{attribute}:{shade}!important}}'
        for name, shade in DARK.items()
        for attribute in ("fill", "stroke")
    )
    dark = f"@media screen and (prefers-color-scheme:dark){{{rules}}}</style>"
    return buffer.getvalue().replace("</style>", dark, 1)


EACH, LONGEST, HEAVY = 3, 160, 5_000
"""Examples per row; longest side of a picture; length above which PNG URIs become JPEG, for a small page."""
SIDE, GAP, TEXT = 154.0, 11.0, 56.0
"""Sizes in a drawn strip: box of a picture, space between two, and height of the lines under them."""


@dataclass(frozen=True)
class Cell:
    """A picture with its label and the notes under it."""

    picture: Picture
    label: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ExampleStrip:
    """An example: its name and its pictures, None where a method has no mask of it."""

    name: str
    cells: tuple[Cell | None, ...]


def strips_of(result: RowResult) -> list[ExampleStrip]:
    """Return a few test images of a row with their pictures, starting with examples of both methods."""
    evaluations = (result.methods.get(method.key) for method in (MASK, DEFAULT))
    ours, default = ({e.name: e for e in each.examples} if each else {} for each in evaluations)
    names = sorted({**ours, **default}, key=lambda name: not (name in ours and name in default))
    examples_by_name = {name: ours.get(name) or default[name] for name in names}
    first_by_kind = {example.kind: name for name, example in reversed(examples_by_name.items())}
    order = [first_by_kind[kind] for kind in ("typical", "best", "worst") if kind in first_by_kind]
    strips = []
    for name in list(dict.fromkeys([*order, *names]))[:EACH]:
        example = examples_by_name[name]
        tiles = pictures(example, LONGEST)
        cells = (
            _cell(tiles["input"], TITLES["input"], name),
            _cell(tiles["truth"], TITLES["truth"]),
            _cell(tiles["output"], TITLES["output"]),
            _mask(result, "Mask: network", ours.get(name)),
            _mask(result, "Mask: default", default.get(name)),
            _cell(tiles["error"], "Error |y − ŷ|", f"0 to {example.error_scale:.2g}"),
        )
        strips.append(ExampleStrip(name, cells))
    return strips


def draw_strips(result: RowResult) -> Figure | None:
    """Draw the strips of a row; None if there are none."""
    rows = strips_of(result)
    if not rows:
        return None
    pictures_by_strip = [[cell.picture for cell in strip.cells if cell] for strip in rows]
    heights = [SIDE * max(p.height / p.width for p in shown) + TEXT for shown in pictures_by_strip]
    with rc_context(STYLE):
        figure = Figure((6 * (SIDE + GAP) / 72, (sum(heights) + 32) / 72), layout="constrained")
        figure.suptitle(strip_title(result), x=0.01, ha="left", fontweight="bold")
        axes = figure.subplots(len(rows), 6, squeeze=False, height_ratios=heights)
        for ax, cell in zip(axes.flat, (cell for strip in rows for cell in strip.cells), strict=True):
            ax.set_axis_off()
            if cell:
                style = "nearest" if cell.picture.pixelated else "none"
                ax.imshow(_decoded(cell.picture.src), cmap="gray", vmin=0, vmax=255, interpolation=style)
                words = "\n".join((cell.label, *map(_shorten, cell.notes)))
                ax.text(0, -0.03, words, va="top", fontsize=11, transform=ax.transAxes)
    names = ", ".join(strip.name for strip in rows)
    figure.set_label(f"{strip_title(result)}: inputs, truths, outputs, masks and errors of {names}")
    return figure


def strip_title(result: RowResult) -> str:
    """Return the title of a row with its task and threshold."""
    task = TASKS.get(result.row.task, result.row.task)
    return f"{task} · {with_threshold(result)}"


def _mask(result: RowResult, label: str, example: Example | None) -> Cell | None:
    if example is None:
        return None
    met = "✓" if meets_threshold(np.array(example.loss), result.threshold) else "✗"
    distance = f"{distance_name(result)} {figure(example.loss)} {met}"
    return _cell(pictures(example, LONGEST)["mask"], label, f"size {figure(example.size)}", distance)


def _cell(picture: Picture, label: str, *notes: str) -> Cell:
    """Return a picture with its label and notes, as JPEG if that keeps the page small."""
    src = picture.src
    if len(src) > HEAVY:
        buffer = io.BytesIO()
        _decoded(src).save(buffer, "JPEG", quality=80, optimize=True)
        jpeg = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
        src = min(src, jpeg, key=len)
    return Cell(replace(picture, src=src), label, notes)


def _decoded(src: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(src.split(",", 1)[1])))


def _shorten(words: str, limit: int = 22) -> str:
    return words if len(words) <= limit else words[:10] + "…" + words[-(limit - 11) :]


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
        if (drawn := draw_strips(result))
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
        result.row.number: (strip_title(result), strips)
        for result in results
        if (strips := strips_of(result))
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
