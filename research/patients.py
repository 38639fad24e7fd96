"""Local promises in the reader's units: patients, millimetres, micrometres, grey levels; from files to masks.

    python research/patients.py DATA

DATA has the folders mr_t1, hippocampus and nuclei. Everything is done as a person would: files with their
spacing, `conformask calibrate --scorer packaged`, `conformask mask`; then the sentence of the promise is
checked on the files of masks by code that knows only the sentence. Writes research/results/patients.md.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import tifffile
import torch
from local import enlarged
from scipy import ndimage, stats
from skimage.io import imread

import conformask as cm
from conformask.arrays import Array, Batch

PAGE = Path(__file__).parent / "results" / "patients.md"
SLABS, THICKNESS = (20, 34, 48), 12
Scan = tuple[str, str, Array, Array, Array, Array | None]
"""Name, group, x, y_hat, y, each (*space) in whole grey levels, and the region."""


@dataclass(frozen=True)
class Study:
    """Images, and how a person would ask for the promise."""

    window: str
    pixels: int
    """The side of the window in pixels."""
    spacing: float
    """Of a pixel, in mm, or in micrometres for planes."""
    levels: int
    """The largest value of a pixel."""
    options: tuple[str, ...]
    unit: str


PATIENTS = ("--group-from", r"(ixi\d+)_", "--unit", "group", "--group-name", "patient")
STUDIES = {
    "mr_t1": Study("6mm", 3, 2.0, 4095, (*PATIENTS, "--data-range", "0", "4095"), "patient"),
    "hippocampus": Study("3mm", 3, 1.0, 4095, ("--data-range", "0", "4095"), "scan"),
    "nuclei": Study("3um", 6, 0.5, 255, (), "field"),
}


def blurred(y: Array, levels: int) -> tuple[Array, Array]:
    """x with half the resolution, and its cubic enlargement."""
    x, y_hat = enlarged(y.astype(np.float32) / levels, 2)
    return np.rint(x * levels), np.rint(y_hat * levels)


def in_levels(scan: Array, levels: int) -> Array:
    return np.rint((scan / np.quantile(scan, 0.999)).clip(0, 1) * levels)


def mr_t1(data: Path) -> Iterator[Scan]:
    for path in sorted((data / "mr_t1").glob("*_t1.nii.gz")):
        y = in_levels(nibabel.load(path).get_fdata(dtype=np.float32), 4095)
        labels = np.asarray(nibabel.load(path.with_name(path.name.replace("_t1", "_seg"))).dataobj) > 0
        for start in SLABS:
            slab = y[..., start : start + THICKNESS]
            patient = path.name[:6]
            region = labels[..., start : start + THICKNESS]
            yield f"{patient}_{start}", patient, *blurred(slab, 4095), slab, region


def hippocampus(data: Path) -> Iterator[Scan]:
    for path in sorted((data / "hippocampus").glob("*_image.nii.gz")):
        y = in_levels(nibabel.load(path).get_fdata(dtype=np.float32)[:30, :42, :30], 4095)
        labels = np.asarray(nibabel.load(path.with_name(path.name.replace("image", "label"))).dataobj)[
            :30, :42, :30
        ]
        if y.shape == (30, 42, 30):
            region = ndimage.binary_dilation(labels > 0, iterations=2)
            yield path.name[:4], path.name[:4], *blurred(y, 4095), y, region


def nuclei(data: Path) -> Iterator[Scan]:
    generator = np.random.default_rng(0)
    for path in sorted((data / "nuclei").glob("*.png")):
        image = imread(path)
        y = np.rint(image if image.ndim == 2 else image[..., :3].mean(axis=2))[:256, :256]
        x = np.rint(generator.poisson(60 * y / 255) * 255 / 60).clip(0, 255)
        yield path.stem, path.stem, x, np.rint(ndimage.gaussian_filter(x, 1.0)), y, None


TASKS = {"mr_t1": mr_t1, "hippocampus": hippocampus, "nuclei": nuclei}


def write(folder: Path, name: str, image: Array, study: Study, step: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if image.ndim == 3:
        affine = np.diag([*np.full(3, step), 1.0])
        nibabel.save(nibabel.Nifti1Image(image.astype(np.int16), affine), folder / f"{name}.nii.gz")
        return
    sizes = {"axes": "YX", "PhysicalSizeX": step, "PhysicalSizeY": step}
    tifffile.imwrite(folder / f"{name}.ome.tif", image.astype(np.uint8), ome=True, metadata=sizes)


def write_parts(scans: list[Scan], study: Study, out: Path) -> dict[str, int]:
    """Write the images into calibration/ and test/, groups whole; return the numbers of groups."""
    groups = sorted({group for _, group, *_ in scans})
    order = np.random.default_rng(0).permutation(len(groups))
    tested = {groups[index] for index in order[: int(0.4 * len(groups))]}
    for name, group, x, y_hat, y, region in scans:
        part = out / ("test" if group in tested else "calibration")
        for role, image in (("x", x), ("y_hat", y_hat), ("y", y), ("region", region)):
            if image is not None:
                step = study.spacing * (2 if role == "x" and x.shape != y.shape else 1)
                write(part / role, name, image, study, step)
    return {"calibration": len(groups) - len(tested), "test": len(tested)}


def conformask(*tokens: object) -> None:
    subprocess.run([Path(sys.executable).with_name("conformask"), *map(str, tokens)], check=True)


def pixels_of(path: Path) -> Array:
    if path.name.endswith(".nii.gz"):
        return nibabel.load(path).get_fdata(dtype=np.float64)
    return np.asarray(tifffile.imread(path), np.float64)


def keeps(folder: Path, masks: Path, name: str, study: Study, threshold: float) -> tuple[bool, float]:
    """Whether the mean error around every pixel that is shown is within the threshold; the hidden share."""
    suffix = ".nii.gz" if study.pixels == 3 else ".ome.tif"
    y_hat, y = (pixels_of(folder / role / f"{name}{suffix}") for role in ("y_hat", "y"))
    mask = pixels_of(next(masks.glob(f"{name}.*")))
    region = pixels_of(folder / "region" / f"{name}{suffix}") > 0 if (folder / "region").exists() else y >= 0
    error = np.abs(y - y_hat) / study.levels
    means, shown = means_around(error, region, study.pixels), region & (mask > 0)
    return bool(means[shown].max(initial=0) <= threshold * (1 + 1e-6)), float(1 - shown.sum() / region.sum())


def means_around(error: Array, region: Array, side: int) -> Array:
    """The mean error around each pixel, over the pixels of the window that lie in image and region."""
    window = {"size": side, "mode": "constant"}
    total, count = (ndimage.uniform_filter(each.astype(float), **window) for each in (error * region, region))
    means: Array = total / np.maximum(count, 1e-9)
    return means


def of_study(name: str, data: Path, out: Path) -> list[str]:
    study, scans = STUDIES[name], list(TASKS[name](data))
    counts = write_parts(scans, study, out)
    run, masks = out / "run", out / "masks"
    terms = ("--over", "local", "--window", study.window, "--threshold", "q0.2")
    conformask("calibrate", "--scorer", "packaged", out / "calibration", *terms, *study.options, "--out", run)
    conformask("mask", run, out / "test", masks)
    masker = cm.load(run)
    threshold = masker.card.threshold
    kept: dict[str, list[bool]] = {}
    hidden = []
    for scan_name, group, *_ in scans:
        if any((out / "test" / "y").glob(f"{scan_name}.*")):
            is_kept, share = keeps(out / "test", masks / "masks", scan_name, study, threshold)
            kept.setdefault(group, []).append(is_kept)
            hidden.append(share)
    divided = in_many_divisions(masker, out, study, threshold)
    n_kept = sum(map(all, kept.values()))
    measured = f"{n_kept} of {len(kept)} {study.unit}s ({n_kept / len(kept):.2f})"
    images = f"{counts['calibration']} + {counts['test']} {study.unit}s, {len(scans)} images"
    low, high = usual_range(masker.card.n_units, len(kept))
    cells = [measured, f"{low:.2f} to {high:.2f}", f"{divided:.3f}", f"{np.mean(hidden):.3f}"]
    return [name, images, masker.sentence, *cells]


def usual_range(n: int, m: int) -> tuple[float, float]:
    """The range of the share kept in 95 of 100 tests of m units, after n for calibration (beta-binomial)."""
    rank = int(np.floor(0.1 * (n + 1)))
    low, high = stats.betabinom(m, n + 1 - rank, rank).ppf([0.025, 0.975]) / m
    return float(low), float(high)


def in_many_divisions(masker: cm.Masker, out: Path, study: Study, threshold: float) -> float:
    """The mean share that is kept over random divisions of the same groups, from scores and errors."""
    by_group: dict[str, float] = {}
    for part in ("calibration", "test"):
        images = cm.Triplets.from_folder(out / part, reading=masker.card.reading)
        for triplet, group in zip(images, images.groups, strict=True):
            error = np.abs(triplet.truth() - triplet.y_hat).mean(axis=0)
            region = triplet.layers.get("region", np.ones((1, *error.shape)))[0] > 0
            beyond = region & (means_around(error, region, study.pixels) > threshold * (1 + 1e-6))
            x, y_hat = (torch.from_numpy(image)[None] for image in (triplet.x, triplet.y_hat))
            scores = masker.scored(Batch((triplet.name,), x, y_hat, None)).score.map[0, 0].numpy()
            lowest = float(scores[beyond].min(initial=np.inf))  # shown is what lies below lambda
            by_group[group] = min(by_group.get(group, np.inf), lowest)
    limits, generator = np.array(list(by_group.values())), np.random.default_rng(0)
    n = masker.card.n_units
    shares = []
    for _ in range(2000):
        order = generator.permutation(len(limits))
        calibration, test = limits[order[:n]], limits[order[n:]]
        rank = int(np.floor(0.1 * (n + 1)))  # the smallest limits that may be passed
        shares.append(float((test >= np.sort(calibration)[rank - 1]).mean()))
    return float(np.mean(shares))


TEXT = """# Promises about patients, in millimetres and grey levels

What a promise says in the units of those who read it, and whether it is kept. Written by
`research/patients.py`; nothing but the words around the table is typed by hand. Files have their spacing
(NIfTI, OME-TIFF), brain and hippocampus their labels as region; the network is cubic enlargement by two,
for nuclei a Gaussian filter of Poisson noise. The pixel size of the nuclei is not known: 0.5 µm is assumed.
The scorer is the packaged one, and what a fifth of the images keeps without a mask is the threshold. "Kept"
is measured on the files that `conformask mask` writes, by code that knows only the sentence. "95 of 100
tests" is where the share lies, by chance of calibration and test, if the promise is kept. A promise is about
the mean over calibration sets, and "in other divisions" is that mean over 2000 random divisions of
the same images into as many for calibration and the others.

{table}

A patient of the first row has three slabs of twelve slices, and all three must keep the limit:
`--group-from '(ixi\\d+)_' --unit group --group-name patient`. The run keeps where groups are found, so
`conformask mask` and `conformask evaluate` find the patients of new files in the same way.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    lines = [
        "| images | calibration + test | promise | kept | 95 of 100 tests | in other divisions | hidden |",
        "|---" * 7 + "|",
    ]
    for name in STUDIES:
        with tempfile.TemporaryDirectory() as out:
            lines.append("| " + " | ".join(of_study(name, data, Path(out))) + " |")
        print(lines[-1], flush=True)
    PAGE.write_text(TEXT.format(table="\n".join(lines)), encoding="utf-8")


if __name__ == "__main__":
    main()
