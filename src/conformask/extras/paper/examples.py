"""The paper's figures 2 and 4: input, truth, output, calibrated masks and error of a few test images."""

import base64
import io
from dataclasses import dataclass, replace

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from conformask.extras.paper.pictures import (
    DEFAULT,
    MASK,
    STYLE,
    TASKS,
    MethodStyle,
    distance_name,
    with_threshold,
)
from conformask.extras.paper.settings import RowResult
from conformask.extras.view.page import Picture, pictures
from conformask.images.pictures import TITLES
from conformask.promises.order import meets_threshold
from conformask.records.evaluation import Example
from conformask.records.numbers import figure

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


def strips(result: RowResult) -> list[ExampleStrip]:
    """Return a few test images of a row with their pictures, starting with examples of both methods."""
    ours, default = (_examples(result, method) for method in (MASK, DEFAULT))
    names = sorted({**ours, **default}, key=lambda name: not (name in ours and name in default))
    examples_by_name = {name: ours.get(name) or default[name] for name in names}
    first_by_kind = {example.kind: name for name, example in reversed(examples_by_name.items())}
    order = [first_by_kind[kind] for kind in ("typical", "best", "worst") if kind in first_by_kind]
    chosen_names = list(dict.fromkeys([*order, *names]))[:EACH]
    return [
        _strip(result, examples_by_name[name], ours.get(name), default.get(name)) for name in chosen_names
    ]


def draw_strips(result: RowResult) -> Figure | None:
    """Draw the strips of a row; None if there are none."""
    rows = strips(result)
    if not rows:
        return None
    pictures_by_strip = [[cell.picture for cell in strip.cells if cell] for strip in rows]
    heights = [SIDE * max(p.height / p.width for p in shown) + TEXT for shown in pictures_by_strip]
    with rc_context(STYLE):
        figure = Figure((6 * (SIDE + GAP) / 72, (sum(heights) + 32) / 72), layout="constrained")
        figure.suptitle(title(result), x=0.01, ha="left", fontweight="bold")
        axes = figure.subplots(len(rows), 6, squeeze=False, height_ratios=heights)
        for ax, cell in zip(axes.flat, (cell for strip in rows for cell in strip.cells), strict=True):
            ax.set_axis_off()
            if cell:
                _draw(ax, cell)
    names = ", ".join(strip.name for strip in rows)
    figure.set_label(f"{title(result)}: inputs, truths, outputs, masks and errors of {names}")
    return figure


def title(result: RowResult) -> str:
    """Return the title of a row with its task and threshold."""
    task = TASKS.get(result.row.task, result.row.task)
    return f"{task} · {with_threshold(result)}"


def _examples(result: RowResult, method: MethodStyle) -> dict[str, Example]:
    evaluation = result.methods.get(method.key)
    return {e.name: e for e in evaluation.examples} if evaluation else {}


def _strip(
    result: RowResult, example: Example, ours: Example | None, default: Example | None
) -> ExampleStrip:
    tiles = pictures(example, LONGEST)
    cells = (
        _picture(tiles["input"], TITLES["input"], example.name),
        _picture(tiles["truth"], TITLES["truth"]),
        _picture(tiles["output"], TITLES["output"]),
        _mask(result, MASK, ours),
        _mask(result, DEFAULT, default),
        _picture(tiles["error"], "Error |y − ŷ|", f"0 to {example.error_scale:.2g}"),
    )
    return ExampleStrip(example.name, cells)


def _mask(result: RowResult, method: MethodStyle, example: Example | None) -> Cell | None:
    if example is None:
        return None
    met = "✓" if meets_threshold(np.array(example.loss), result.threshold) else "✗"
    distance = f"{distance_name(result)} {figure(example.loss)} {met}"
    label = "Mask: default" if method is DEFAULT else "Mask: network"
    return _picture(pictures(example, LONGEST)["mask"], label, f"size {figure(example.size)}", distance)


def _picture(picture: Picture, label: str, *notes: str) -> Cell:
    return Cell(replace(picture, src=shrink_uri(picture.src)), label, notes)


def shrink_uri(src: str) -> str:
    """Return a PNG URI, or the same picture as JPEG if that keeps the page small."""
    if len(src) <= HEAVY:
        return src
    buffer = io.BytesIO()
    _decoded(src).save(buffer, "JPEG", quality=80, optimize=True)
    jpeg = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return min(src, jpeg, key=len)


def _decoded(src: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(src.split(",", 1)[1])))


def _draw(ax: Axes, cell: Cell) -> None:
    """Draw a picture with its label and notes below."""
    interpolation = "nearest" if cell.picture.pixelated else "none"
    ax.imshow(_decoded(cell.picture.src), cmap="gray", vmin=0, vmax=255, interpolation=interpolation)
    words = "\n".join((cell.label, *map(_shorten, cell.notes)))
    ax.text(0, -0.03, words, va="top", fontsize=11, transform=ax.transAxes)


def _shorten(words: str, limit: int = 22) -> str:
    return words if len(words) <= limit else words[:10] + "…" + words[-(limit - 11) :]
