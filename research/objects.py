"""Promises about nuclei after a denoiser: Open Image Denoise on fields of few photons, objects by watershed.

    pip install pyoidn
    python research/objects.py make NUCLEI WORK  # x, y_hat, y, labels: a minute on one core
    python research/objects.py measure WORK      # promises, and the picture of the page

Writes research/results/objects.json. The fields are those of 256 x 256 pixels of the Data Science Bowl 2018
(BBBC038), each scaled to its own range; x has the noise of at most PHOTONS. A third of them is the test.
"""

import json
import sys
from pathlib import Path

import numpy as np
import scipy
from PIL import Image
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import find_boundaries, watershed

import conformask as cm
from conformask.scorers.untrained import Untrained
from conformask.storage.as_arrays import Array
from conformask.types import Triplet

OUT = Path(__file__).parents[1] / "docs" / "images" / "objects.png"
RECORD = Path(__file__).parent / "results" / "objects.json"
SIDE, PHOTONS, TEST, SELECTION, GAP = 256, 6, 1 / 3, 0.15, 8
PROMISES, IOU = {"wrong": 0.1, "missed": 0.25, "any": 0.5}, 0.7
GREEN, RED = (0, 158, 115), (213, 94, 0)


def contrast(image: Array) -> Array:
    """How far a pixel is above Otsu's threshold, as a share of it: stands for a confidence map."""
    smooth = gaussian(image, 1)
    return np.asarray(smooth / threshold_otsu(smooth) - 1, np.float32)


def segmented(image: Array) -> Array:
    """Label nuclei: Otsu's threshold, and a watershed from the middles of what is above it."""
    inside = scipy.ndimage.binary_opening(contrast(image) > 0, iterations=2)
    depth = gaussian(scipy.ndimage.distance_transform_edt(inside), 1)
    parts, _ = scipy.ndimage.label(inside)
    peaks = peak_local_max(depth, min_distance=5, labels=parts, exclude_border=False)
    markers = np.zeros(image.shape, int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-depth, markers, mask=inside))


def make(nuclei: Path, work: Path) -> None:
    """Write the triplets of all fields of one size, and the labels of y_hat and y."""
    import pyoidn

    generator = np.random.default_rng(0)
    for role in ("x", "y_hat", "y", "labels/y_hat", "labels/y", "contrast"):
        (work / role).mkdir(parents=True, exist_ok=True)
    for path in sorted(nuclei.glob("*.png")):
        field = Image.open(path)
        if field.size != (SIDE, SIDE) or field.mode != "L":
            continue
        y = np.asarray(field, np.float32)
        low, high = np.percentile(y, (1, 99.9))
        y = ((y - low) / max(high - low, 1)).clip(0, 1)
        x = (generator.poisson(PHOTONS * y) / PHOTONS).clip(0, 1).astype(np.float32)
        rgb = np.ascontiguousarray(np.repeat(x[..., None], 3, axis=-1))
        y_hat = pyoidn.denoise(rgb).mean(axis=-1).clip(0, 1)
        np.save(work / "contrast" / f"{path.stem}.npy", contrast(y_hat))
        for role, image in {"x": x, "y_hat": y_hat, "y": y}.items():
            pixels = (255 * image).round().astype(np.uint8)
            Image.fromarray(pixels).save(work / role / path.name)
            if role != "x":
                labels = segmented(pixels / 255).astype(np.uint16)
                Image.fromarray(labels).save(work / "labels" / role / path.name)


def measure(work: Path) -> None:
    """Calibrate the promises on two thirds of the fields, and measure them on the others."""
    fields = cm.Triplets.from_folder(work, reading=cm.Reading(objects="labels", cues="contrast"))
    others, test = fields.holdout(TEST)
    calibration, selection = others.holdout(SELECTION)
    record: dict[str, object] = {"calibration": len(calibration), "test": len(test)}
    contrasts, packaged = cm.Given("trusted"), Untrained("packaged")
    runs = {over: (contrasts, over) for over in PROMISES} | {"packaged": (packaged, "wrong")}
    for name, (scorer, over) in runs.items():
        loss, threshold = cm.Objects(over, IOU), PROMISES[over]
        masker = cm.calibrate(scorer, calibration, threshold=threshold, loss=loss, selection=selection)
        found = cm.evaluate(masker, test)
        assert found.objects is not None
        facts = {"threshold": threshold, "coverage": found.coverage, "hidden": found.mask_size}
        record[name] = {**facts, **vars(found.objects)}
        if name == "wrong":
            draw(masker, test)
    RECORD.write_text(json.dumps(record, indent=2) + "\n")


def _counts(masker: cm.Masker, triplet: Triplet) -> tuple[int, int]:
    labels, mask = triplet.cues[-1], np.asarray(masker(triplet))
    return len(np.unique(labels[mask > 0])), len(np.unique(labels[mask == 0]))


def draw(masker: cm.Masker, test: cm.Triplets) -> None:
    """Write input, output with outlines of what is trusted and hidden, and truth of a field with both."""
    triplet = max(test, key=lambda each: min(_counts(masker, each)))
    labels, true, mask = triplet.cues[-1], triplet.y_labels[0], np.asarray(masker(triplet))
    canvas = Image.new("RGB", (3 * 2 * SIDE + 2 * GAP, 2 * SIDE), "white")
    marks = ({}, {GREEN: np.where(mask > 0, labels, 0), RED: np.where(mask > 0, 0, labels)}, {GREEN: true})
    for place, (image, outlined) in enumerate(
        zip((triplet.x, triplet.y_hat, triplet.truth()), marks, strict=True)
    ):
        grey = (255 * image[0].clip(0, 1) ** 0.7).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
        tile = np.stack([grey] * 3, axis=-1)
        for color, objects in outlined.items():
            tile[find_boundaries(objects.repeat(2, axis=0).repeat(2, axis=1), mode="inner")] = color
        canvas.paste(Image.fromarray(tile), (place * (2 * SIDE + GAP), 0))
    canvas.quantize(64).save(OUT, optimize=True)


if __name__ == "__main__":
    {"make": make, "measure": measure}[sys.argv[1]](*map(Path, sys.argv[2:]))
