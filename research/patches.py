"""What do masks without specks cost? Parts, boundaries and hidden shares on the crops of `conformask demo`.

    python research/patches.py WORK  # five minutes of a core

Writes research/results/patches.json and the picture of docs/how-to/patches.md. Ten times, a third of the
crops is the test; all masks are calibrated on the others, with the packaged score and for the same promise.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import conformask as cm
from conformask.demo import SIDE, write_crops
from conformask.look import TEST
from conformask.pictures.pixels import in_colors

OUT = Path(__file__).parents[1] / "docs" / "images" / "patches.png"
RECORD = Path(__file__).parent / "results" / "patches.json"
AREAS, DRAWN, GAP, SPLITS, HIDDEN = (None, 25, 100, 400), (None, 100, 400), 8, 10, (235, 225, 205)
LOSSES = {"l1": ("l1", 0.025), "local": (cm.Local("l1", 9), 0.12)}


def measured(loss: object, threshold: float, area: int | None, crops: cm.Triplets) -> dict[str, float]:
    """Means over test images and splits."""
    rows = []
    for seed in range(SPLITS):
        calibration, test = crops.holdout(TEST, seed=seed)
        masker = cm.calibrate(cm.packaged_scorer(), calibration, threshold=threshold, loss=loss, patches=area)
        found = cm.evaluate(masker, test, opt_images=0)
        shown, hidden, boundary = found.images.parts
        rows.append((found.coverage, found.mask_size, shown + hidden, boundary))
    names = "coverage", "hidden", "parts", "boundary"
    return dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))


def draw(crops: cm.Triplets) -> None:
    """Write what masks with parts of ever larger sizes show of the crop with the longest boundary."""
    calibration, test = crops.holdout(TEST)
    maskers = [
        cm.calibrate(cm.packaged_scorer(), calibration, threshold=0.025, loss="l1", patches=area)
        for area in DRAWN
    ]
    shown = test[int(np.argmax(cm.evaluate(maskers[0], test, opt_images=0).images.boundary))]
    output = in_colors(shown.y_hat)
    hidden = np.array(HIDDEN, np.uint8)
    tiles = [output, *(np.where(masker(shown)[..., None] > 0, output, hidden) for masker in maskers)]
    canvas = Image.new("RGB", (len(tiles) * (SIDE + GAP) - GAP, SIDE), "white")
    for place, tile in enumerate(tiles):
        canvas.paste(Image.fromarray(tile).convert("RGB").resize((SIDE, SIDE)), (place * (SIDE + GAP), 0))
    canvas.quantize(128).save(OUT, optimize=True)


def main(work: Path) -> None:
    write_crops(work)
    crops = cm.Triplets.from_folder(work)
    draw(crops)
    record = {
        name: {str(area or "any"): measured(loss, threshold, area, crops) for area in AREAS}
        for name, (loss, threshold) in LOSSES.items()
    }
    RECORD.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
