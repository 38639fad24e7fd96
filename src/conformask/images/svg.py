"""SVG marks and HTML templates: scales, ticks, axes; every name put into a page is escaped.

Each function returns SVG text. Colours are CSS variables of the page with a fallback, so that a figure can
also stand alone.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, Template

WIDTH = 480
HEIGHT = 320
Y_TICKS = 4
"""Number of ticks of the vertical axis, about."""
LETTER, BOLD = 7.2, 7.9
"""Widths that a letter hardly exceeds on average, plain and bold: fonts are those of the reader."""
INK = "var(--ink, #1d2129)"
QUIET = "var(--quiet, #5d6470)"
RULE = "var(--rule, #e2e3df)"
PAPER = "var(--card, #ffffff)"
OURS = "var(--ours, #0072b2)"
ORACLE = "var(--oracle, #009e73)"
OPT = "var(--opt, #b8629a)"
LIMIT = "var(--limit, #d55e00)"
BEHIND = "var(--behind, #c3c7cd)"

Format = Callable[[float], str]
Domain = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """A linear map from numbers to positions; an empty domain is widened."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the position of a value, to a hundredth of a pixel."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.start + share * (self.end - self.start), 2)


@dataclass(frozen=True)
class Plot:
    """The two scales of a figure."""

    x: Scale
    y: Scale


def plot(x: Domain, y: Domain, top: float = 44, height: float = HEIGHT) -> Plot:
    """Return the scales of a figure of the usual size, with room for axes below and labels above.

    At the left is room for the longest label of a tick, as plain number or percentage.
    """
    longest = max(len(plain(value)) for value in ticks(*y, Y_TICKS))
    return Plot(Scale(*x, max(48, 12 + LETTER * longest), WIDTH - 20), Scale(*y, height - 52, top))


def plain(value: float) -> str:
    """Format a number as on a tick: 0.02, 150, 1.5e-05."""
    return f"{value:.6g}"


def percent(value: float) -> str:
    """Format a share as on a tick: 90 %."""
    return f"{100 * value:.4g} %"


def whole(value: float) -> str:
    """Format a count as on a tick; return "" between two whole numbers."""
    return f"{value:.0f}" if float(value).is_integer() else ""


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers from low to high, about `count` of them."""
    spacing = (high - low) / count
    if not (math.isfinite(spacing) and spacing > 0):
        return [low]
    power = 10.0 ** math.floor(math.log10(spacing))
    step = power * min((s for s in (1, 2, 2.5, 5, 10) if s * power >= spacing * (1 - 1e-9)), default=10)
    # 1e-9 keeps the last tick where low / step or high / step falls short by rounding
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def document(label: str, marks: Iterable[str], height: float = HEIGHT, width: float = WIDTH) -> str:
    """Return a whole SVG image, with a label for those who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(label)}" font-size="13" style="width:100%;height:auto;fill:{INK};'
        f'font-family:inherit;font-variant-numeric:tabular-nums">{"".join(marks)}</svg>'
    )


def group(marks: Iterable[str], style: str) -> str:
    """Group marks that share a style."""
    return f'<g style="{style}">{"".join(marks)}</g>'


def text(x: float, y: float, words: str, anchor: str = "start", style: str = "") -> str:
    """Draw words at a position, with a halo that keeps them legible on marks."""
    halo = f"paint-order:stroke;stroke:{PAPER};stroke-width:4px;stroke-linejoin:round;{style}"
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" style="{halo}">{escape(words)}</text>'


def segment(x1: float, y1: float, x2: float, y2: float) -> str:
    """Draw a straight line."""
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'


def axes(
    plot: Plot,
    x_label: str,
    y_label: str,
    formats: tuple[Format, Format] = (plain, plain),
    x_ticks: Sequence[float] | None = None,
) -> str:
    """Draw quiet grid lines, tick labels and the two axis labels, the vertical one above its axis."""
    left, right, bottom, top = plot.x.start, plot.x.end, plot.y.start, plot.y.end
    ys = [v for v in ticks(plot.y.low, plot.y.high, Y_TICKS) if formats[1](v)]
    xs = ticks(plot.x.low, plot.x.high, 6) if x_ticks is None else x_ticks
    grid = [segment(left, plot.y(v), right, plot.y(v)) for v in ys]
    base = segment(left, bottom, right, bottom)
    labels = [text(left - 8, plot.y(v) + 4, formats[1](v), "end") for v in ys]
    labels += [text(plot.x(v), bottom + 18, formats[0](v), "middle") for v in xs]
    labels += [text(right, bottom + 40, x_label, "end"), text(4, top - 16, y_label)]
    return (
        group(grid, f"stroke:{RULE}")
        + group([base], f"stroke:{QUIET}")
        + group(labels, f"fill:{QUIET};font-size:12.5px")
    )


def bars(
    plot: Plot, edges: Sequence[float], heights: Sequence[float], titles: Sequence[str], fill: str
) -> str:
    """Draw one bar for each interval, with a tooltip; leave out empty ones."""
    marks = []
    for left, right, value, title in zip(edges, edges[1:], heights, titles, strict=False):
        if value > 0:
            x, y = plot.x(left), plot.y(value)
            width, height = max(plot.x(right) - x - 1, 0.8), plot.y.start - y
            box = f'x="{x + 0.5:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
            marks.append(f"<rect {box}><title>{escape(title)}</title></rect>")
    return group(marks, f"fill:{fill}")


def line(plot: Plot, xs: Iterable[float], ys: Iterable[float], stroke: str, dash: str = "none") -> str:
    """Draw a line of segments through points."""
    path = " ".join(f"{plot.x(x):g},{plot.y(y):g}" for x, y in zip(xs, ys, strict=True))
    style = f"fill:none;stroke:{stroke};stroke-width:2.25;stroke-linejoin:round;stroke-dasharray:{dash}"
    return f'<polyline points="{path}" style="{style}"/>'


def outline(plot: Plot, edges: Sequence[float], heights: Sequence[float], stroke: str, dash: str) -> str:
    """Draw the contour of a histogram, so that another can be seen through it."""
    xs = [edge for edge in edges for _ in range(2)]
    ys = [0.0, *(height for height in heights for _ in range(2)), 0.0]
    return line(plot, xs, ys, stroke, dash)


def points(
    plot: Plot, xs: Iterable[float], ys: Iterable[float], titles: Iterable[str], fill: str, r: float = 3.5
) -> str:
    """Draw a dot for each pair, with a tooltip."""
    marks = [
        f'<circle cx="{plot.x(x):g}" cy="{plot.y(y):g}" r="{r:g}"><title>{escape(title)}</title></circle>'
        for x, y, title in zip(xs, ys, titles, strict=True)
    ]
    return group(marks, f"fill:{fill}")


def band(plot: Plot, low: float, high: float, fill: str) -> str:
    """Shade a range of the vertical axis, over the whole width."""
    y, height = plot.y(high), plot.y(low) - plot.y(high)
    box = f'x="{plot.x.start:g}" y="{y:g}" width="{plot.x.end - plot.x.start:g}" height="{height:g}"'
    return f'<rect {box} style="fill:{fill};opacity:.12"/>'


def strip(plot: Plot, low: float, high: float, fill: str) -> str:
    """Shade a range of the horizontal axis, over the whole height."""
    x, width = plot.x(low), plot.x(high) - plot.x(low)
    y, height = plot.y.end, plot.y.start - plot.y.end
    box = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return f'<rect {box} style="fill:{fill};opacity:.12"/>'


def whiskers(plot: Plot, xs: Iterable[float], intervals: Iterable[Domain], stroke: str) -> str:
    """Draw a vertical interval at each x."""
    marks = [
        segment(plot.x(x), plot.y(a), plot.x(x), plot.y(b)) for x, (a, b) in zip(xs, intervals, strict=True)
    ]
    return group(marks, f"stroke:{stroke};stroke-width:2;stroke-linecap:round;opacity:.5")


def upright(plot: Plot, value: float, label: str, beside: str = "") -> str:
    """Draw a vertical reference line with its label above the plot, right of `beside`, that of the axis."""
    x, top, half = plot.x(value), plot.y.end, BOLD * len(label) / 2
    centre = max(min(x, WIDTH - 4 - half), 14 + LETTER * len(beside) + half)
    mark = segment(x, plot.y.start, x, top - 8)
    return group([mark], f"stroke:{LIMIT};stroke-width:1.75") + text(
        centre, top - 14, label, "middle", f"fill:{LIMIT};font-weight:600"
    )


def anchor(plot: Plot, x: float) -> str:
    """Return the text anchor that keeps words at a horizontal position inside."""
    share = (x - plot.x.start) / (plot.x.end - plot.x.start)
    return "middle" if 0.25 < share < 0.8 else ("start" if share <= 0.25 else "end")


def level(plot: Plot, value: float, label: str, stroke: str = LIMIT) -> str:
    """Draw a horizontal reference line with its label above the plot, at the right."""
    y = plot.y(value)
    mark = segment(plot.x.start, y, plot.x.end, y)
    return group([mark], f"stroke:{stroke};stroke-width:1.75;stroke-dasharray:6 4") + text(
        plot.x.end, plot.y.end - 16, label, "end", f"fill:{stroke};font-weight:600"
    )


def along(plot: Plot, start: Domain, end: Domain, label: str) -> str:
    """Draw words below the upper end of a rising line, rotated with it."""
    x1, y1, x2, y2 = plot.x(start[0]), plot.y(start[1]), plot.x(end[0]), plot.y(end[1])
    angle = math.degrees(math.atan2(y2 - y1, x2 - x1))
    mark = text(-8, 17, label, "end", f"fill:{QUIET}")
    return f'<g transform="translate({x2:g} {y2:g}) rotate({angle:.2f})">{mark}</g>'


def key(entries: Iterable[tuple[str, str, str]]) -> str:
    """Draw a row of (label, colour, dash) above the plot; an empty dash means a filled mark."""
    marks, x = [], 4.0
    for label, colour, dash in entries:
        swatch = (
            group([segment(x, 12, x + 18, 12)], f"stroke:{colour};stroke-width:2.5;stroke-dasharray:{dash}")
            if dash
            else f'<rect x="{x + 3:g}" y="6" width="12" height="12" style="fill:{colour}"/>'
        )
        marks += [swatch, text(x + 23, 16.5, label)]
        x += 44 + LETTER * len(label)
    return "".join(marks)


def template(path: Path, *folders: Path) -> Template:
    """Return a template, which may include files beside it, those of other folders, and notebook.css."""
    loader = FileSystemLoader([path.parent, Path(__file__).parent, *folders], encoding="utf-8")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(path.name)
