"""What do masks without specks cost? Parts, boundaries and hidden shares on the crops of `conformask demo`.

    python research/patches.py WORK  # three minutes of a core

Writes research/results/patches.json and the picture of docs/how-to/photographs.md. Five times, a third of the
crops is the test; all masks are calibrated on the others, with the packaged score and for the same promise.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import label

import conformask as cm
from conformask.extras.make.demonstration import SIDE, write_crops
from conformask.extras.make.look import TEST
from conformask.images.pictures import in_colors

OUT = Path(__file__).parents[1] / "docs" / "images" / "patches.png"
RECORD = Path(__file__).parent / "results" / "patches.json"
AREAS, DRAWN, GAP, SPLITS, HIDDEN = (None, 25, 100, 400), (None, 100, 400), 8, 5, (235, 225, 205)
LOSSES = {"l1": ("l1", 0.025), "local": (cm.Local("l1", 9), 0.12)}


def measured(loss: object, threshold: float, area: int | None, crops: cm.Triplets) -> dict[str, float]:
    """Return means over test images and splits."""
    rows = []
    for seed in range(SPLITS):
        calibration, test = crops.holdout(TEST, seed=seed)
        masker = cm.calibrate(cm.packaged_scorer(), calibration, threshold=threshold, loss=loss, patches=area)
        rows += [facts(masker(triplet) > 0) for triplet in test]
    names = "hidden", "parts", "boundary"
    return {"n": len(rows), **dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))}


def facts(shown: np.ndarray) -> tuple[float, int, int]:
    """Return the hidden share of a mask, its number of parts, and the length of their boundary."""
    boundary = sum(int(np.diff(shown, axis=axis).sum()) for axis in range(2))
    return float(1 - shown.mean()), label(shown)[1] + label(~shown)[1], boundary


def draw(crops: cm.Triplets) -> None:
    """Write what masks with parts of ever larger sizes show of the crop with the longest boundary."""
    calibration, test = crops.holdout(TEST)
    maskers = [
        cm.calibrate(cm.packaged_scorer(), calibration, threshold=0.025, loss="l1", patches=area)
        for area in DRAWN
    ]
    shown = max(test, key=lambda triplet: facts(maskers[0](triplet) > 0)[2])
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
