"""Promises about nuclei, cells and hippocampi after a denoiser: objects by watershed, texture and a forest.

    pip install pyoidn
    python research/objects.py make NUCLEI WORK          # x, y_hat, y, labels: a minute on one core
    python research/objects.py measure WORK              # promises, and the picture of the page
    python research/objects.py make-cells CELLS WORK2    # three minutes
    python research/objects.py measure-cells WORK2
    python research/objects.py hippocampi HIPPOCAMPUS    # two minutes

Writes objects.json, objects-of-cells.json and objects-of-hippocampi.json of research/results. A third of the
images is the test.

Nuclei: fields of 256 x 256 pixels of the Data Science Bowl 2018 (BBBC038), each scaled to its own range; x
has the noise of at most PHOTONS. Cells: phase-contrast fields (Usiigaci) with Gaussian noise; what has more
texture than the rest is a cell, or several that touch. Both are denoised by Open Image Denoise.

Hippocampi: MR (Medical Segmentation Decathlon) with Gaussian noise, after total variation; a random forest,
trained on the first TRAINED volumes, labels anterior and posterior part, and y has the labels by hand. Which
volumes are of one patient is not known, so each is a group. ODDS and the IoU were chosen on volumes that are
measured here, and the noise of the cells on seven of the fields: the figures are of methods tuned on them.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import scipy
from PIL import Image
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.restoration import denoise_tv_chambolle
from skimage.segmentation import find_boundaries, watershed
from sklearn.ensemble import RandomForestClassifier

import conformask as cm
from conformask.arrays import Triplet
from conformask.records.record import Array
from conformask.scores.untrained import Untrained

OUT = Path(__file__).parents[1] / "docs" / "images" / "objects.png"
RECORD = Path(__file__).parent / "results" / "objects.json"
RECORD_OF_CELLS = RECORD.with_name("objects-of-cells.json")
SIDE, PHOTONS, TEST, SELECTION, GAP = 256, 6, 1 / 3, 0.15, 8
NOISE, TEXTURE, SMALLEST = 0.15, 6.0, 400
NOISE_OF_MR, IOU_OF_MR, TRAINED, ODDS = 0.05, 0.6, 30, (3, 2, 2)
PROMISES, IOU = {"wrong": 0.1, "missed": 0.25, "any": 0.5}, 0.7
Segmenting = Callable[[Array], Array]
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


def texture(image: Array) -> Array:
    """How far a pixel is above Otsu's threshold in the standard deviation around it, as a share of it."""
    smooth = gaussian(image, 1)
    variance = gaussian(smooth**2, TEXTURE) - gaussian(smooth, TEXTURE) ** 2
    deviation = np.sqrt(variance.clip(0))
    return np.asarray(deviation / threshold_otsu(deviation) - 1, np.float32)


def cells_of(image: Array) -> Array:
    """Label what has much texture, and at least SMALLEST pixels: cells, or those that touch as one."""
    parts, _ = scipy.ndimage.label(scipy.ndimage.binary_opening(texture(image) > 0, iterations=3))
    return np.where(np.bincount(parts.ravel())[parts] < SMALLEST, 0, parts)


def make(nuclei: Path, work: Path) -> None:
    """Write the triplets of all fields of one size, and the labels of y_hat and y."""
    generator = np.random.default_rng(0)
    for path in sorted(nuclei.glob("*.png")):
        field = Image.open(path)
        if field.size == (SIDE, SIDE) and field.mode == "L":
            y = _scaled(field)
            x = generator.poisson(PHOTONS * y) / PHOTONS
            _write(work, path.name, x, y, contrast, segmented)


def make_cells(cells: Path, work: Path) -> None:
    """Write the triplets of all fields of cells, and the labels of y_hat and y."""
    generator = np.random.default_rng(0)
    for path in sorted(cells.glob("*.png")):
        y = _scaled(Image.open(path).convert("L"))
        _write(work, path.name, y + NOISE * generator.standard_normal(y.shape), y, texture, cells_of)


def _scaled(field: Image.Image) -> Array:
    y = np.asarray(field, np.float32)
    low, high = np.percentile(y, (1, 99.9))
    return ((y - low) / max(high - low, 1)).clip(0, 1)


def _write(
    work: Path,
    name: str,
    x: Array,
    y: Array,
    map_of: Callable[[Array], Array],
    label: Callable[[Array], Array],
) -> None:
    import pyoidn

    for role in ("x", "y_hat", "y", "labels/y_hat", "labels/y", "contrast"):
        (work / role).mkdir(parents=True, exist_ok=True)
    x = x.clip(0, 1).astype(np.float32)
    rgb = np.ascontiguousarray(np.repeat(x[..., None], 3, axis=-1))
    y_hat = pyoidn.denoise(rgb).mean(axis=-1).clip(0, 1)
    np.save(work / "contrast" / f"{Path(name).stem}.npy", map_of(y_hat))
    for role, image in {"x": x, "y_hat": y_hat, "y": y}.items():
        pixels = (255 * image).round().astype(np.uint8)
        Image.fromarray(pixels).save(work / role / name)
        if role != "x":
            labels = label(pixels / 255).astype(np.uint16)
            Image.fromarray(labels).save(work / "labels" / role / name)


def measure(work: Path, of_cells: bool = False) -> None:
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
        record[name] = _facts(masker, test, threshold)
        if name == "wrong" and not of_cells:
            draw(masker, test)
    (RECORD_OF_CELLS if of_cells else RECORD).write_text(json.dumps(record, indent=2) + "\n")


def parts_of(forest: RandomForestClassifier, image: Array) -> tuple[Array, Array]:
    """Label the anterior (1) and posterior (2) hippocampus, one piece each; and how likely a label is."""
    raw = forest.predict_proba(_features(image)).reshape(*image.shape, 3)
    shares = np.stack([gaussian(raw[..., part], 1) for part in range(3)], axis=-1) * ODDS
    shares /= shares.sum(axis=-1, keepdims=True)
    labels = np.zeros(image.shape, np.uint16)
    for part in (1, 2):
        pieces, _ = scipy.ndimage.label(shares.argmax(axis=-1) == part)
        sizes = np.bincount(pieces.ravel())[1:]
        if sizes.size:
            labels[pieces == 1 + sizes.argmax()] = part
    return labels, shares.max(axis=-1).astype(np.float32)


def _features(image: Array) -> Array:
    """Return what the forest sees of each voxel: its place in the volume, and the image around it."""
    places = np.meshgrid(*(np.linspace(0, 1, side) for side in image.shape), indexing="ij")
    smooth = [gaussian(image, sigma) for sigma in (0.5, 1, 2, 4)]
    edges = [scipy.ndimage.gaussian_gradient_magnitude(image, 1), scipy.ndimage.gaussian_laplace(image, 1.5)]
    return np.stack([*places, *smooth, *edges], axis=-1).reshape(image.size, -1)


def _volume(path: Path, generator: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Return x, y_hat, y and the labels by hand; the first axis is the last one of the file."""
    image, labels = (
        np.asarray(nibabel.load(each).dataobj).T
        for each in (path, path.with_name(path.name.replace("image", "label")))
    )
    low, high = np.percentile(image, (1, 99))
    y = ((image - low) / (high - low)).clip(0, 1).astype(np.float32)
    x = (y + NOISE_OF_MR * generator.standard_normal(y.shape)).clip(0, 1).astype(np.float32)
    y_hat = denoise_tv_chambolle(x, weight=NOISE_OF_MR / 2)
    return x, y_hat.astype(np.float32), y, labels.astype(np.uint16)


def hippocampi(folder: Path) -> cm.Triplets:
    """Train the forest on some volumes, and return the others with its labels."""
    generator = np.random.default_rng(0)
    volumes = [_volume(path, generator) for path in sorted(folder.glob("*_image.nii.gz"))]
    known = np.concatenate([labels.ravel() for *_, labels in volumes[:TRAINED]])
    features = np.concatenate([_features(y_hat) for _, y_hat, *_ in volumes[:TRAINED]])
    drawn = generator.random(len(known)) < np.where(known > 0, 0.5, 0.1)
    forest = RandomForestClassifier(30, min_samples_leaf=5, random_state=0).fit(features[drawn], known[drawn])
    x, y_hat, y, y_labels = (list(images) for images in zip(*volumes[TRAINED:], strict=True))
    labels, shares = (
        list(images) for images in zip(*(parts_of(forest, each) for each in y_hat), strict=True)
    )
    return cm.Triplets.from_arrays(
        x, y_hat, y, cues=shares, labels=labels, y_labels=y_labels, reading=cm.Reading(axes="ZYX"),
        groups=[str(place) for place in range(len(x))],
    )  # fmt: skip


def measure_hippocampi(folder: Path) -> None:
    """Promise on the volumes without training that no wrong part is shown."""
    images = hippocampi(folder)
    calibration, test = images.holdout(TEST)
    masker = cm.calibrate(
        cm.Given("trusted"), calibration, threshold=0.5, loss=cm.Objects("any", IOU_OF_MR),
        promise=cm.Promise(unit="group", group_name="volume"),
    )  # fmt: skip
    record = {"calibration": len(calibration), "test": len(test), "any": _facts(masker, test, 0.5)}
    RECORD.with_name("objects-of-hippocampi.json").write_text(json.dumps(record, indent=2) + "\n")


def _facts(masker: cm.Masker, test: cm.Triplets, threshold: float) -> dict[str, object]:
    found = cm.evaluate(masker, test)
    assert found.objects is not None
    facts = {"threshold": threshold, "coverage": found.coverage, "hidden": found.mask_size}
    return {**facts, **vars(found.objects)}


def _counts(masker: cm.Masker, triplet: Triplet) -> tuple[int, int]:
    labels, mask = triplet.layers["labels"][0], np.asarray(masker(triplet))
    return len(np.unique(labels[mask > 0])), len(np.unique(labels[mask == 0]))


def draw(masker: cm.Masker, test: cm.Triplets) -> None:
    """Write input, output with outlines of what is trusted and hidden, and truth of a field with both."""
    triplet = max(test, key=lambda each: min(_counts(masker, each)))
    labels, true, mask = (
        triplet.layers["labels"][0],
        triplet.layers["y_labels"][0],
        np.asarray(masker(triplet)),
    )
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
    of_cells = partial(measure, of_cells=True)
    verbs = {"make": make, "measure": measure, "make-cells": make_cells, "measure-cells": of_cells}
    verbs["hippocampi"] = measure_hippocampi
    verbs[sys.argv[1]](*map(Path, sys.argv[2:]))
