"""Draws the diagrams of the how-to pages, docs/images/*.svg: `python docs/diagrams.py`.

A diagram has layers of boxes; arrows lead from each box to those of the next layer that it names. Its colours
are those of docs/site.css, light or dark as the reader's system is.
"""

from dataclasses import dataclass
from html import escape
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
WIDTH, GAP, LINE, PAD, MARGIN = 208, 52, 19, 12, 14
"""Of a box; between layers; of a line, and between boxes; around lines; around all."""
STYLE = """
svg { background: #fff; font: 14px system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
.ground { fill: #fff; } .box { fill: #eef3f6; stroke: #0b2a3c; } .title { fill: #0b2a3c; font-weight: 600; }
.line { fill: #38444d; } .arrow { stroke: #b84500; fill: none; stroke-width: 2; } .head { fill: #b84500; }
@media (prefers-color-scheme: dark) {
  svg { background: #0b0c0f; }
  .ground { fill: #0b0c0f; } .box { fill: #0b2a3c; stroke: #7cc5ef; } .title { fill: #fff; }
  .line { fill: #d3dae0; } .arrow { stroke: #ff9a52; } .head { fill: #ff9a52; }
}
"""


@dataclass(frozen=True)
class Box:
    """A title, lines under it, and the titles of the boxes to which arrows lead."""

    title: str
    lines: tuple[str, ...] = ()
    to: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        return 2 * PAD + LINE * (1 + len(self.lines))


@dataclass(frozen=True)
class Diagram:
    """Layers of boxes, next to each other; narrow enough for a phone."""

    layers: tuple[tuple[Box, ...], ...]


EXPORTS = ("masker.onnx", "whole.onnx", "model/", "repository/")
DIAGRAMS = {
    "export": Diagram((
        (Box("masker", ("a run or a saved masker",), EXPORTS),),
        (
            Box("masker.onnx", ("for onnxruntime:", "x, y_hat, lambda", "to mask and score")),
            Box("whole.onnx", ("with your network in it:", "x to y_hat, mask, score")),
            Box("model/", ("for bioimage.io",)),
            Box("repository/", ("for the Hugging Face Hub",)),
        ),
    )),
    "libraries": Diagram((
        (
            Box("MONAI", ("a bundle, an inferer",), ("predictor",)),
            Box("deepinv", ("a denoiser, a reconstructor",), ("predictor",)),
            Box("CAREamics", ("a checkpoint",), ("predictor",)),
            Box("transformers", ("a folder",), ("predictor",)),
        ),
        (
            Box("predictor", (
                "x in [0, 1] to y_hat,", "as the library runs it;",
                "known by a hash of", "weights, settings, code",
            )),
        ),
    )),
    "your-network": Diagram((
        (
            Box("a Python function", ("module:function",), ("y_hat/",)),
            Box("PyTorch", ("a file .pt2 or TorchScript",), ("y_hat/",)),
            Box("ONNX", ("a file .onnx",), ("y_hat/",)),
            Box("outputs that you have", ("files or arrays",), ("y_hat/",)),
        ),
        (Box("y_hat/", ("beside x/ and y/: what", "train, calibrate, evaluate", "and mask read")),),
    )),
}  # fmt: skip
"""By page."""


def main() -> None:
    for name, diagram in DIAGRAMS.items():
        (IMAGES / f"{name}.svg").write_text(drawn(diagram), encoding="utf-8")


def drawn(diagram: Diagram) -> str:
    """Return the diagram as SVG, its layers centred."""
    size, places = placed(diagram)
    boxes = {box.title: box for layer in diagram.layers for box in layer}
    parts = ['<rect class="ground" width="{}" height="{}"/>'.format(*size)]
    for title, box in boxes.items():
        parts.append(drawn_box(box, *places[title]))
        parts += [drawn_arrow(box, places[title], boxes[other], places[other]) for other in box.to]
    view = 'viewBox="0 0 {0} {1}" width="{0}" height="{1}"'.format(*size)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view}>',
        f"<style>{STYLE}</style>",
        *parts,
        "</svg>",
        "",
    ]
    return "\n".join(lines)


def placed(diagram: Diagram) -> tuple[tuple[int, int], dict[str, tuple[float, float]]]:
    """Return width and height, and the left and the top of each box."""
    width = len(diagram.layers) * (WIDTH + GAP) - GAP
    heights = [sum(box.height for box in layer) + LINE * (len(layer) - 1) for layer in diagram.layers]
    height = max(heights)
    places, left = {}, float(MARGIN)
    for layer, own in zip(diagram.layers, heights, strict=True):
        top = MARGIN + (height - own) / 2
        for box in layer:
            places[box.title] = (left, top)
            top += box.height + LINE
        left += WIDTH + GAP
    return (width + 2 * MARGIN, height + 2 * MARGIN), places


def drawn_box(box: Box, left: float, top: float) -> str:
    middle, first = left + WIDTH / 2, top + PAD + 14
    lines = [
        f'<text class="line" x="{middle:g}" y="{first + LINE * (1 + index):g}" text-anchor="middle">'
        f"{escape(line)}</text>"
        for index, line in enumerate(box.lines)
    ]
    title = (
        f'<text class="title" x="{middle:g}" y="{first:g}" text-anchor="middle">{escape(box.title)}</text>'
    )
    place = f'x="{left:g}" y="{top:g}" width="{WIDTH}" height="{box.height}"'
    return "\n".join([f'<rect class="box" {place} rx="5"/>', title, *lines])


def drawn_arrow(box: Box, place: tuple[float, float], other: Box, there: tuple[float, float]) -> str:
    """Return an arrow from one box to another, which leaves and arrives from left to right."""
    x, y = place[0] + WIDTH, place[1] + box.height / 2
    end_x, end_y = there[0], there[1] + other.height / 2
    bend = (x + end_x) / 2
    path = f"M{x:g} {y:g}C{bend:g} {y:g} {bend:g} {end_y:g} {end_x - 9:g} {end_y:g}"
    head = f"M{end_x:g} {end_y:g}l-10 -5v10z"
    return f'<path class="arrow" d="{path}"/><path class="head" d="{head}"/>'


if __name__ == "__main__":
    main()
