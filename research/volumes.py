"""Scores for volumes: slice by slice, or in three dimensions; sizes, coverage and time on real MR volumes.

    python research/volumes.py WORK --mr DIR --hippocampus DIR

Two tasks: thick slices of brains (every fourth slice of a T1 volume is kept, the mean of four, and cubic
splines fill in the rest) and noise on small volumes of the hippocampus (Gaussian noise, taken away by total
variation). Subjects are dealt to training, selection, calibration and test. WORK keeps triplets as NIfTI and
run folders; research/results/volumes.json what was measured. A killed run goes on. research/volumes_page.py
makes research/results/volumes.md of it. About an hour on two cores.
"""

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import nibabel
import numpy as np
from scipy.ndimage import zoom
from skimage.restoration import denoise_tv_chambolle

import conformask as cm
from conformask.extras.paper.resplits import resplit

RESULTS = Path(__file__).parent / "results" / "volumes.json"
THICK, NOISE, STRENGTH = 4, 0.08, 0.08
SHARES = {"train": 0.5, "selection": 0.12, "calibration": 0.22, "test": 0.16}
WIDTHS = {"slices": (16,), "volume": (8, 16)}
EPOCHS = 12
CONFIDENCE, DEALS = 0.9, 200
Pair = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def thick_slices(y: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(x, y_hat) of a volume (X, Y, Z): both on its grid."""
    depth = y.shape[2] // THICK * THICK
    thick = y[..., :depth].reshape(*y.shape[:2], -1, THICK).mean(axis=3)
    x = np.repeat(thick, THICK, axis=2)
    y_hat = zoom(thick, (1, 1, THICK), order=3, mode="nearest", grid_mode=True)
    beyond = [(0, 0), (0, 0), (0, y.shape[2] - depth)]
    return np.pad(x, beyond, mode="edge"), np.pad(y_hat, beyond, mode="edge").clip(0, 1)


def noisy(y: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(x, y_hat) of a volume with noise."""
    x = (y + NOISE * generator.standard_normal(y.shape)).clip(0, 1)
    return x, denoise_tv_chambolle(x, weight=STRENGTH).clip(0, 1)


TASKS: dict[str, tuple[str, str, Pair]] = {
    "thick slices of brains": ("mr", "*_t1.nii.gz", thick_slices),
    "noise on hippocampi": ("hippocampus", "*_image.nii.gz", noisy),
}


def write_triplets(source: Path, pattern: str, make: Pair, out: Path) -> None:
    """NIfTI triplets with the headers of the volumes, and a manifest; intensities are scaled by volume."""
    if (out / "manifest.csv").exists():
        return
    paths = sorted(source.glob(pattern))
    order = np.random.default_rng(0).permutation(len(paths))
    ends = np.round(np.cumsum(list(SHARES.values())) * len(paths)).astype(int)
    parts = {
        int(place): list(SHARES)[int(np.searchsorted(ends, rank, "right"))]
        for rank, place in enumerate(order)
    }
    rows = []
    for place, path in enumerate(paths):
        image = nibabel.load(path)
        values = np.asarray(image.get_fdata(dtype=np.float32))
        y = (values / np.quantile(values, 0.999)).clip(0, 1)
        x, y_hat = make(y, np.random.default_rng(place))
        name, row = path.name.split("_")[0], {}
        for role, volume in {"x": x, "y_hat": y_hat, "y": y}.items():
            (out / role).mkdir(parents=True, exist_ok=True)
            row[role] = f"{role}/{name}.nii.gz"
            nibabel.Nifti1Image(volume.astype(np.float32), image.affine).to_filename(out / row[role])
        rows.append({"name": name, "group": name, "split": parts[place], **row})
    with (out / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def measured(data: cm.Triplets, run: Path, scorer: str, by: str | None, width: int | None) -> dict[str, Any]:
    """Train, calibrate and evaluate one scorer; what it came to."""
    started = process_time()
    fitted = cm.fit_scorer(
        data.part("train"),
        selection=data.part("selection"),
        out=run,
        scorer=scorer,
        training=cm.TrainingConfig(epochs=EPOCHS, resume=(run / "checkpoints").exists()),
        network=cm.NetworkOptions(width=width, volume_mode=by),
    )
    minutes = (process_time() - started) / 60
    calibration, test = data.part("calibration"), data.part("test")
    masker = cm.calibrate(
        fitted, calibration, threshold="q0.2", promise=cm.Promise(confidence=CONFIDENCE)
    ).save(run)
    evaluation = cm.evaluate(masker, test, out=run)
    return {
        "scorer": scorer,
        "by": by,
        "width": width,
        "n": [len(data.part(part)) for part in SHARES],
        "training_minutes": minutes,
        "threshold": masker.card.threshold,
        "coverage": evaluation.coverage,
        "mask_size": evaluation.mask_size,
        "oracle_size": evaluation.mask_size_oracle,
        "correlation": evaluation.correlation_size_oracle,
        "seconds_a_volume": seconds_a_volume(masker, test),
        "resplits": resplit(masker, calibration, test, DEALS).summary(),
    }


def seconds_a_volume(masker: cm.Masker, test: cm.Triplets) -> float:
    """Of a mask, from arrays in memory."""
    triplets = list(test)
    started = perf_counter()
    for triplet in triplets:
        masker(triplet)
    return (perf_counter() - started) / len(triplets)


def runs() -> Iterator[tuple[str, str, str | None, int | None]]:
    """(task, scorer, by, width), the quick ones first; without by and width the packaged network."""
    for scorer in ("spread", "packaged", "mask"):
        yield from ((task, scorer, None, None) for task in reversed(TASKS))
    for task in reversed(TASKS):
        yield from ((task, "mask", by, width) for by, widths in WIDTHS.items() for width in widths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--mr", type=Path, required=True)
    parser.add_argument("--hippocampus", type=Path, required=True)
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for task, scorer, by, width in runs():
        key = f"{task}, {scorer}" + (f" by {by}, width {width}" if by else "")
        if key in results:
            continue
        name, pattern, make = TASKS[task]
        folder = options.work / name
        write_triplets(getattr(options, name), pattern, make, folder / "triplets")
        data = cm.Triplets.from_folder(folder / "triplets")
        run = folder / f"{scorer}-{by}-{width}"
        results[key] = {"task": task, **measured(data, run, scorer, by, width)}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
