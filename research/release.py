"""How many good images does a release keep? On the demonstration's crops, and on tasks of MaskBench.

    python research/release.py WORK

WORK is that of `maskbench run DATA WORK` (pip install -e ./maskbench), whose triplets it reads. Writes
research/results/release.json and the picture of the how-to page; two minutes of a core. Every score is the
packaged one, the threshold the median loss, the confidence 0.9; images are divided at random SPLITS times.
"""

import json
import sys
import warnings
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import conformask as cm
from conformask.extras.make.demonstration import write_crops
from conformask.images.pictures import as_bytes, in_colors, overlay
from conformask.masker.masker import Masker
from conformask.promises.axes import fit_log_quantile
from conformask.promises.selection import benjamini_hochberg, p_values
from conformask.records.evaluation import Release
from conformask.scores.untrained import Untrained
from maskbench import tasks
from maskbench.triplets import Triplets

OUT = Path(__file__).parents[1] / "docs" / "images" / "which-images.png"
RECORD = Path(__file__).parent / "results" / "release.json"
SHARES, SPLITS, BATCH, CONFIDENCE = (0.01, 0.02, 0.05, 0.1), 1000, 60, 0.9
PARTS, DEMONSTRATION = {"selection": 100, "calibration": 300}, {"selection": 0, "calibration": 28}
LEAST = sum(PARTS.values()) + 3 * BATCH
"""Images that a task must have."""
SHOWN, SIDE, FRAME, GAP = "enlarged_esrgan", 72, 5, 6
COLOURS = {True: "#00735a", False: "#b84500"}
"""Of frames: released, held back."""


def dealt(count: int, parts: dict[str, int], seed: int) -> list[np.ndarray]:
    """Return places of images for selection and calibration, and all others."""
    return np.split(np.random.default_rng(seed).permutation(count), np.cumsum(list(parts.values())))


def calibrated(images: cm.Triplets, threshold: float | str, selection: cm.Triplets | None = None) -> Masker:
    promise = cm.Promise(confidence=CONFIDENCE)
    scorer = Untrained("packaged")
    return cm.calibrate(scorer, images, threshold=threshold, loss="l1", promise=promise, selection=selection)


def measure(images: cm.Triplets, parts: dict[str, int], threshold: float, batch: int) -> dict:
    """Return what is released of batches at each share, and how many of these miss the threshold.

    All images are scored once, and divided at random SPLITS times, each time with a lambda and an order of
    their own.
    """
    evidence = calibrated(images, threshold).evidence()
    critical, features, curves = evidence.critical_lambdas, evidence.column("features"), evidence.curves
    kept, missing = {share: [] for share in SHARES}, {share: [] for share in SHARES}
    within, hidden = [], []
    for seed in range(SPLITS):
        selection, calibration, new = dealt(len(images), parts, seed)
        lam = np.sort(critical[calibration])[int((1 - CONFIDENCE) * (len(calibration) + 1) + 1e-9) - 1]
        failed, risks = critical < lam, risk(features, critical, selection)
        within.append(1 - failed[new].mean())
        hidden.append(curves.hidden_shares[new, np.searchsorted(curves.grid, lam, side="right") - 1].mean())
        p = p_values(failed[calibration], risks[calibration], risks[new])
        for share, start in product(SHARES, range(0, len(new) - batch + 1, batch)):
            released = benjamini_hochberg(p[start : start + batch], share)
            misses = failed[new[start : start + batch]]
            kept[share].append(released[~misses].mean())
            missing[share].append((released & misses).sum() / max(released.sum(), 1))
    return {
        "n_calibration": parts["calibration"],
        "batch": batch,
        "batches": len(kept[SHARES[0]]),
        "within": float(np.mean(within)),
        "hidden": float(np.mean(hidden)),
        "good_released": {f"{share:g}": float(np.mean(kept[share])) for share in SHARES},
        "missing": {f"{share:g}": float(np.mean(missing[share])) for share in SHARES},
    }


def risk(features: np.ndarray, critical: np.ndarray, selection: np.ndarray) -> np.ndarray:
    """As `cm.release` orders images: by a regression on the selection images, or by the mean score."""
    fitted = fit_log_quantile(features[selection], critical[selection].clip(1e-6, 1e3), 1 - CONFIDENCE)
    return -fitted(features) if any(fitted.coefficients) else features[:, 0]


def draw(images: cm.Triplets) -> None:
    """Write a batch under its masks, the riskiest first; dots say where the threshold is missed."""
    parts = [images.select(places.tolist()) for places in dealt(len(images), PARTS, 0)]
    masker, batch = calibrated(parts[1], "q0.5", parts[0]), parts[2].select(range(BATCH))
    found: Release = cm.release(masker, batch, 0.05)
    print(found.sentence, found.n_released, "released")
    by_name = dict(zip(batch.names, batch, strict=True))
    columns, step = 10, SIDE + 2 * FRAME + GAP
    canvas = Image.new("RGB", (columns * step - GAP, len(batch) // columns * step - GAP), "white")
    pencil = ImageDraw.Draw(canvas)
    for place, image in enumerate(found.riskiest_first):
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
    record = {"demonstration": measure(crops, DEMONSTRATION, 0.025, len(crops) - 28)}
    for name in tasks.names():
        path = work / "triplets" / f"{name}-{tasks.task(name).VERSION}.npz"
        frozen = Triplets.load(path) if path.exists() else None
        if frozen is None or len(frozen) < LEAST:
            continue
        images = cm.Triplets.from_arrays(*map(list, (frozen.x, frozen.y_hat, frozen.y)))
        title, median = tasks.task(name).TITLE, float(np.median(frozen.errors.mean(axis=(1, 2))))
        record[title] = measure(images, PARTS, median, BATCH)
        print(title, record[title])
        if name == SHOWN:
            draw(images)
        RECORD.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
