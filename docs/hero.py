"""Draws docs/images/masks.png, the picture of the README, from a demonstration: docs/picture.py demo."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from conformask.records.evaluation import Evaluation, Example
from conformask.report.pictures import gray, overlay

TITLES = ("input x", "output y_hat", "truth y", "mask", "output, veiled")
TILE, GAP, TOP = 192, 12, 34


def main(demo: Path, out: Path = Path("docs/images/masks.png")) -> None:
    examples = [example for example in Evaluation.load(demo).examples if example.kind == "typical"]
    width = len(TITLES) * (TILE + GAP) - GAP
    sheet = Image.new("RGB", (width, TOP + len(examples) * (TILE + GAP) - GAP), "white")
    font = ImageFont.load_default(18)
    for column, title in enumerate(TITLES):
        ImageDraw.Draw(sheet).text((column * (TILE + GAP), 4), title, fill=(40, 40, 48), font=font)
    for row, example in enumerate(examples):
        for column, picture in enumerate(pictures(example)):
            enlarged = Image.fromarray(picture).convert("RGB").resize((TILE, TILE), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (column * (TILE + GAP), TOP + row * (TILE + GAP)))
    sheet.save(out, optimize=True)


def pictures(example: Example) -> list[np.ndarray]:
    return [example.x, example.y_hat, example.y, gray(example.mask), overlay(example.y_hat, example.mask)]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
