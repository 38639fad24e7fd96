"""How many good images does a release keep? On the demonstration's crops, and on tasks of research/minute.py.

    python research/release.py WORK

WORK is that of minute.py, whose triplets it reads. Writes research/results/release.json and the picture of
the how-to page; five minutes of a core. Every score is the packaged one, the threshold the median loss of the
selection images, and the confidence 0.9; images are dealt anew SPLITS times.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import conformask as cm
from conformask.conformal.selection import benjamini_hochberg
from conformask.demo import write_crops
from conformask.masker.masker import Masker
from conformask.pictures.pixels import as_bytes, in_colors, overlay
from conformask.records.release import Release
from conformask.scorers.untrained import Untrained

OUT = Path(__file__).parents[1] / "docs" / "images" / "which-images.png"
RECORD = Path(__file__).parent / "results" / "release.json"
SHARES, SPLITS, BATCH = (0.01, 0.02, 0.05, 0.1), 4, 60
PARTS = {"selection": 100, "calibration": 300, "new": 300}
DEMONSTRATION, DEALS = {"selection": 0, "calibration": 28, "new": 12}, 10
SHOWN, SIDE, FRAME, GAP = "a quarter of the side, Real-ESRGAN", 72, 5, 6
COLOURS = {True: "#00735a", False: "#b84500"}
"""Of frames: released, held back."""


def dealt(images: cm.Triplets, parts: dict[str, int], seed: int) -> list[cm.Triplets]:
    order = np.random.default_rng(seed).permutation(len(images))
    ends = np.cumsum(list(parts.values()))
    return [
        images.select(order[end - size : end].tolist())
        for end, size in zip(ends, parts.values(), strict=True)
    ]


def calibrated(selection: cm.Triplets, calibration: cm.Triplets, threshold: float | str) -> Masker:
    chosen_on = selection if len(selection) else None
    return cm.calibrate(
        Untrained("packaged"), calibration, threshold=threshold, loss="l1", selection=chosen_on
    )


def measure(
    images: cm.Triplets, parts: dict[str, int], threshold: float | str, splits: int, batch: int
) -> dict:
    """Return what is released of batches at each share, and how many of these miss the threshold."""
    kept, missing = {share: [] for share in SHARES}, {share: [] for share in SHARES}
    within, hidden = [], []
    for seed in range(splits):
        selection, calibration, new = dealt(images, parts, seed)
        found = cm.release(calibrated(selection, calibration, threshold), new, 0.1, each=True)
        by_name = {image.name: image for image in found.images}
        judged = [by_name[name] for name in new.names]
        p, good = np.array([image.p_value for image in judged]), np.array([image.within for image in judged])
        within.append(good.mean())
        hidden.append(np.mean([image.hidden for image in judged]))
        for share in SHARES:
            for start in range(0, len(new), batch):
                released = benjamini_hochberg(p[start : start + batch], share)
                of_batch = good[start : start + batch]
                kept[share].append(released[of_batch].mean())
                missing[share].append((released & ~of_batch).sum() / max(released.sum(), 1))
    return {
        "n_calibration": parts["calibration"],
        "batch": batch,
        "batches": len(kept[SHARES[0]]),
        "within": float(np.mean(within)),
        "hidden": float(np.mean(hidden)),
        "good_released": {f"{share:g}": float(np.mean(kept[share])) for share in SHARES},
        "missing": {f"{share:g}": float(np.mean(missing[share])) for share in SHARES},
    }


def draw(images: cm.Triplets) -> None:
    """Write a batch under its masks, the riskiest first; dots say where the threshold is missed."""
    selection, calibration, new = dealt(images, PARTS, 0)
    masker, batch = calibrated(selection, calibration, "q0.5"), new.select(range(40))
    found: Release = cm.release(masker, batch, 0.05)
    print(found.sentence, found.n_released, "released")
    by_name = dict(zip(batch.names, batch, strict=True))
    columns, step = 10, SIDE + 2 * FRAME + GAP
    canvas = Image.new("RGB", (columns * step - GAP, len(batch) // columns * step - GAP), "white")
    pencil = ImageDraw.Draw(canvas)
    for place, image in enumerate(found.images):
        left, top = place % columns * step, place // columns * step
        pencil.rectangle((left, top, left + step - GAP - 1, top + step - GAP - 1), COLOURS[image.released])
        triplet = by_name[image.name]
        tile = overlay(in_colors(triplet.y_hat), as_bytes(np.asarray(masker(triplet))[None]))
        canvas.paste(Image.fromarray(tile).resize((SIDE, SIDE)), (left + FRAME, top + FRAME))
        if not image.within:
            pencil.ellipse(
                (left + FRAME + 4, top + FRAME + 4, left + FRAME + 20, top + FRAME + 20),
                "#d00000",
                "white",
                2,
            )
    canvas.quantize(96).save(OUT, optimize=True)


def main(work: Path) -> None:
    warnings.simplefilter("ignore")
    write_crops(work / "crops")
    crops = cm.Triplets.from_folder(work / "crops")
    print(len(crops), "crops")
    record = {"demonstration": measure(crops, DEMONSTRATION, 0.025, DEALS, DEMONSTRATION["new"])}
    for path in sorted((work / "triplets").glob("*, *.npz")):
        arrays = np.load(path)
        images = cm.Triplets.from_arrays(*(arrays[role] for role in ("x", "y_hat", "y")))
        record[path.stem] = measure(images, PARTS, "q0.5", SPLITS, BATCH)
        print(path.stem, record[path.stem])
        if path.stem == SHOWN:
            draw(images)
        RECORD.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
