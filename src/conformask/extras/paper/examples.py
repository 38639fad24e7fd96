"""The paper's figures 2 and 4: input, truth, output, calibrated masks and error of a few test images."""

import base64
import io
from dataclasses import dataclass, replace

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from conformask.extras.paper.pictures import DEFAULT, MASK, STYLE, TASKS, distance_name, with_threshold
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
                style = "nearest" if cell.picture.pixelated else "none"
                ax.imshow(_decoded(cell.picture.src), cmap="gray", vmin=0, vmax=255, interpolation=style)
                words = "\n".join((cell.label, *map(_shorten, cell.notes)))
                ax.text(0, -0.03, words, va="top", fontsize=11, transform=ax.transAxes)
    names = ", ".join(strip.name for strip in rows)
    figure.set_label(f"{title(result)}: inputs, truths, outputs, masks and errors of {names}")
    return figure


def title(result: RowResult) -> str:
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
