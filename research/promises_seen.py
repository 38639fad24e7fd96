"""The same image under each promise: what every loss hides, on real images.

    python research/promises_seen.py DATA

Cells, nuclei and a slice of a brain from the tasks of local.py, with the packaged score; each promise is
calibrated on the same images, at a threshold that a fifth of the selection images keep without a mask. The
image shown is the test image whose error four fifths of them do not exceed. Writes the picture
docs/images/promises.jpg and the page research/results/promises-seen.md. Two minutes.
"""

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from local import TASKS, WINDOW, parts_of
from PIL import Image, ImageDraw, ImageFont

import conformask as cm
from conformask.arrays import Triplet
from conformask.images.pictures import as_bytes, error_bytes, heat, in_colors, overlay
from conformask.losses.base import Loss
from conformask.records.record import Array

DOCS = Path(__file__).parents[1] / "docs"
PAGE = Path(__file__).parent / "results" / "promises-seen.md"
PICTURE = DOCS / "images" / "promises.jpg"
SHOWN = {
    "cells": "cells in phase contrast, enlarged four times",
    "nuclei": "nuclei, denoised",
    "mr_t1": "a slice of a brain, enlarged twice",
}
SIDE, GAP, HEAD, FOOT, QUANTILE = 192, 8, 26, 22, 0.8


@dataclass(frozen=True)
class Seen:
    """One image under one promise."""

    loss: str
    sentence: str
    mask: Array
    kept: float
    hidden: float


def losses(tolerance: float) -> dict[str, Loss]:
    """The promises, by the heads of their columns."""
    return {
        "mean": cm.Mean("l1"),
        "trusted": cm.MeanShown("l1"),
        "wrong": cm.FalseOmissionRate("l1", tolerance),
        "local_share": cm.LocalShare("l1", WINDOW, tolerance),
        "local": cm.Local("l1", WINDOW),
    }


WORDS = {
    "mean": "the error that is shown, averaged over all pixels, those hidden counted as 0",
    "trusted": "the mean error of what is shown",
    "wrong": "the share of what is shown whose error exceeds the tolerance",
    "local_share": f"the share of what is shown whose {WINDOW} x {WINDOW} surroundings exceed the tolerance",
    "local": f"the largest mean error in the {WINDOW} x {WINDOW} surroundings of a pixel that is shown",
}


def seen(name: str, data: Path) -> tuple[Triplet, list[Seen]]:
    """The test image at the quantile of the errors, and its mask under each promise."""
    calibration, selection, test = parts_of(list(TASKS[name](data)))
    errors = [float(np.abs(triplet.truth() - triplet.y_hat).mean()) for triplet in test]
    shown = test[int(np.argsort(errors)[round(QUANTILE * len(errors))])]
    unit = "image_of_new_group" if len(set(test.groups)) < len(test) else None
    how = {"selection": selection, "promise": cm.Promise(confidence=0.9, unit=unit)}
    scorer = cm.packaged_scorer()
    local = cm.Local("l1", WINDOW).in_regions(calibration.has_regions)
    tolerance = float(cm.calibrate(scorer, calibration, threshold="q0.2", loss=local, **how).card.threshold)
    found = []
    for loss, value in losses(round(tolerance, 3)).items():
        threshold = 0.05 if loss in ("wrong", "local_share") else "q0.2"
        masker = cm.calibrate(scorer, calibration, threshold=threshold, loss=value, **how)
        kept = cm.evaluate(masker, test)
        mask = masker(shown).squeeze()
        inside = np.asarray(shown.layers.get("region", np.ones((1, *mask.shape)))[0]) > 0
        hidden = float(1 - mask[inside].mean())
        mask = np.where(inside, mask, 1)  # outside the region nothing is promised
        found.append(Seen(loss, masker.sentence, mask, kept.coverage, hidden))
    return shown, found


def strip(triplet: Triplet, masks: list[Seen]) -> list[tuple[str, Array, str]]:
    """Head, picture and foot of each tile of a row."""
    output = in_colors(triplet.y_hat)
    inside = np.asarray(triplet.layers.get("region", 1))
    error, scale = error_bytes(triplet.truth() * inside, triplet.y_hat * inside)
    tiles = [("output", output, ""), ("error", heat(error), f"white is {scale:.2g}")]
    for each in masks:
        picture = overlay(output, as_bytes(each.mask[None]))
        tiles.append((each.loss, picture, f"hides {each.hidden:.0%}, kept in {each.kept:.0%}"))
    return tiles


def draw(rows: list[list[tuple[str, Array, str]]]) -> None:
    """Write the picture: a row for each image."""
    font = ImageFont.load_default(13)
    width = GAP + (SIDE + GAP) * len(rows[0])
    canvas = Image.new("RGB", (width, HEAD + (SIDE + FOOT) * len(rows)), "white")
    ink = ImageDraw.Draw(canvas)
    for row, tiles in enumerate(rows):
        for column, (head, pixels, foot) in enumerate(tiles):
            left, top = GAP + column * (SIDE + GAP), HEAD + row * (SIDE + FOOT)
            tile = Image.fromarray(pixels).convert("RGB")
            scale = SIDE / max(tile.size)
            tile = tile.resize(
                (round(tile.width * scale), round(tile.height * scale)), Image.Resampling.NEAREST
            )
            canvas.paste(tile, (left + (SIDE - tile.width) // 2, top + (SIDE - tile.height) // 2))
            ink.text((left, top + SIDE + 3), foot, "black", font)
            if row == 0:
                ink.text((left, 6), head, "black", font)
    canvas.save(PICTURE, quality=85)


TEXT = """# The same image under each promise

What does a promise hide, and what does its sentence say of the picture? Written by
`research/promises_seen.py`; nothing but the words around is typed by hand.

![Three images, their errors, and the masks of five promises](../../docs/images/promises.jpg)

{captions}.

Hatched is what is hidden; the promise about the brain is about its labelled region, outside of which nothing
is said. Each image is the test image whose error four fifths of them do not exceed. The packaged score, 90 %
confidence; thresholds are what a fifth of the selection images keep without a mask, for *wrong* and
*local_share* 5 % of what is shown. "Kept in" is the share of test images within the threshold.

{losses}

## The sentences

{sentences}

The cells are from Usiigaci (MIT), the nuclei from the Data Science Bowl 2018 (BBBC038, CC0), the brain from
the IXI dataset (brain-development.org/ixi-dataset, CC BY-SA 3.0, as are the pictures of it).
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    warnings.simplefilter("ignore", UserWarning)  # of masks that hide much
    found = {name: seen(name, data) for name in SHOWN}
    draw([strip(*each) for each in found.values()])
    sentences = [
        f"- {SHOWN[name]}, {each.loss}: {each.sentence}" for name in found for each in found[name][1]
    ]
    meanings = [f"- **{name}**: {words}" for name, words in WORDS.items()]
    captions = "; ".join(SHOWN.values())
    text = TEXT.format(
        captions=captions[0].upper() + captions[1:],
        losses="\n".join(meanings),
        sentences="\n".join(sentences),
    )
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
