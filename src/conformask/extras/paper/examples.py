"""The paper's figures 2 and 4: input, truth, output, calibrated masks and error of a few test images."""

import base64
import io
from dataclasses import dataclass, replace
from html import escape

import numpy as np
from PIL import Image

from conformask.extras.paper.pictures import DEFAULT, MASK, TASKS, MethodStyle, distance_name, row_title
from conformask.extras.paper.settings import RowResult
from conformask.extras.view.page import Picture, pictures
from conformask.images import svg
from conformask.images.pictures import TITLES
from conformask.promises.order import meets_threshold
from conformask.records.evaluation import Example
from conformask.records.numbers import figure

EACH, LONGEST, LIGHT = 3, 160, 5_000
"""Examples per row; longest side of a picture; length above which PNG URIs become JPEG, for a small page."""
SIDE, GAP, TEXT = 154.0, 11.0, 56.0
"""Sizes in a strip drawn as SVG: box of a picture, space between two, and height of the lines under them."""


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


def draw_strips(result: RowResult) -> str | None:
    """Draw the strips of a row as one SVG image with embedded pictures; None if there are none."""
    rows = strips(result)
    if not rows:
        return None
    marks = [svg.text(4, 18, title(result), style="font-weight:600;font-size:14.5px")]
    y = 32.0
    for strip in rows:
        height = max(SIDE * _aspect(cell.picture) for cell in strip.cells if cell)
        for i, cell in enumerate(strip.cells):
            marks.append(_cell(4 + i * (SIDE + GAP), y, height, cell) if cell else "")
        y += height + TEXT + GAP
    names = ", ".join(strip.name for strip in rows)
    return svg.document(
        f"{title(result)}: inputs, truths, outputs, masks and errors of {names}",
        marks,
        y,
        8 + 6 * SIDE + 5 * GAP,
    )


def title(result: RowResult) -> str:
    """Return the title of a row with its task and threshold."""
    task = TASKS.get(result.row.task, result.row.task)
    return f"{task} · {row_title(result)}, threshold {result.threshold:.3g}"


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
    if len(src) <= LIGHT:
        return src
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(src.split(",", 1)[1]))) as image:
        image.save(buffer, "JPEG", quality=80, optimize=True)
    jpeg = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return min(src, jpeg, key=len)


def _aspect(picture: Picture) -> float:
    return picture.height / picture.width


def _cell(x: float, y: float, height: float, cell: Cell) -> str:
    """Draw a picture in its box, with its label and notes below."""
    box = f'x="{x:g}" y="{y:g}" width="{SIDE:g}" height="{SIDE * _aspect(cell.picture):g}"'
    rendering = "image-rendering:pixelated" if cell.picture.pixelated else ""
    image = (
        f'<image {box} href="{escape(cell.picture.src)}" style="{rendering}"/>'
        f'<rect {box} style="fill:none;stroke:{svg.RULE}"/>'
    )
    note_lines = [
        svg.text(x, y + height + 32 + 15 * i, _shorten(note), style=f"fill:{svg.QUIET};font-size:11.5px")
        for i, note in enumerate(cell.notes)
    ]
    return image + svg.text(x, y + height + 16, cell.label, style="font-size:12.5px") + "".join(note_lines)


def _shorten(words: str, limit: int = 22) -> str:
    return words if len(words) <= limit else words[:10] + "…" + words[-(limit - 11) :]
