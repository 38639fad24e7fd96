"""Promises about clean images from noisy repeats, beside those that a clean truth gives.

    python research/repeats_promise.py DATA

Tiles of three kinds of images: sections of an electron microscope and fields of cells, to which
Poisson-Gauss noise is added three times (x, b and c), and the steady fields of FMD, whose repeats are
real (their clean image is the mean of 50, which has the repeats in it). y_hat is x after total-variation
denoising, the score its local spread. Half of the tiles calibrate, the others test, DEALS times: by the
clean image, by products of two repeats with both allowances, by the mean of two repeats and by one repeat
as if they were the truth. Coverage is of the clean squared error under deployed masks, computed here from
the masks alone.
research/results/repeats.json keeps what was measured.
"""

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from skimage.restoration import denoise_tv_chambolle

import conformask as cm

RESULTS = Path(__file__).parent / "results" / "repeats.json"
GAIN, READ, WEIGHT = 0.004, 0.01, 0.08
"""Of the noise that is added; of the denoising."""
CONFIDENCE, DEALS, SELECTION, QUANTILE = 0.9, 10, 30, 0.5
SIDES = {"sections, noise added": 128, "cells, noise added": 128, "FMD, real repeats": 64}
REACH = {"FMD, real repeats": 2}
"""Measured by `conformask check`; noise that is added is independent at each pixel."""


def noisy(y: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    counts = generator.poisson(y / GAIN) * GAIN
    return (counts + READ * generator.standard_normal(y.shape)).clip(0, 1)


def added(planes: list[np.ndarray]) -> list[tuple[np.ndarray, ...]]:
    """x, b, c and y of clean planes, darkened so that noise is not cut off."""
    found = []
    for seed, plane in enumerate(planes):
        y, generator = 0.1 + 0.6 * plane, np.random.default_rng(seed)
        found.append((*(noisy(y, generator) for _ in range(3)), y))
    return found


def sections(data: Path) -> list[tuple[np.ndarray, ...]]:
    stacks = [tifffile.imread(data / "em" / f"stack{place}.tif") / 255.0 for place in (1, 2)]
    return added([plane for stack in stacks for plane in stack[::2]])


def cells(data: Path) -> list[tuple[np.ndarray, ...]]:
    paths = sorted((data / "cells").glob("*.png"))[:20]
    planes = [np.asarray(Image.open(path).convert("L"), dtype=float) / 255 for path in paths]
    return added([plane[:512, :512] for plane in planes])


def fmd(data: Path) -> list[tuple[np.ndarray, ...]]:
    def read(name: str) -> np.ndarray:
        return np.asarray(Image.open(data / "fmd" / f"{name}.png"), dtype=float) / 255

    fields = ("confocal_fish", "confocal_mice")
    return [
        tuple(read(f"{field}_{role}") for role in ("noisy1", "noisy2", "noisy3", "clean")) for field in fields
    ]


KINDS = {"sections, noise added": sections, "cells, noise added": cells, "FMD, real repeats": fmd}


def tiles(kind: str, data: Path) -> dict[str, np.ndarray]:
    """x, b, c, y and y_hat of all tiles that show something."""
    side, roles = SIDES[kind], ("x", "b", "c", "y", "y_hat")
    found: dict[str, list[np.ndarray]] = {role: [] for role in roles}
    for x, b, c, y in KINDS[kind](data):
        planes = (x, b, c, y, denoise_tv_chambolle(x, weight=WEIGHT))
        for top in range(0, y.shape[0] - side + 1, side):
            for left in range(0, y.shape[1] - side + 1, side):
                for role, plane in zip(roles, planes, strict=True):
                    found[role].append(plane[top : top + side, left : left + side].astype(np.float32))
    return {role: np.stack(values) for role, values in found.items()}


def measured(kind: str, data: Path) -> dict[str, Any]:
    """Hidden share, and coverage of the clean squared error, by what was taken for the truth."""
    arrays = tiles(kind, data)
    losses = np.square(arrays["y"] - arrays["y_hat"]).mean(axis=(1, 2))
    threshold, n = float(np.quantile(losses, QUANTILE)), len(losses)
    reach, score = REACH.get(kind, 1), cm.Heuristic(cm.local_spread, channels=1)
    ways = {
        "clean": ("y", None, cm.Mean("l2")),
        "products, clt": ("b", "c", cm.CleanMean("l2", "clt", reach=reach)),
        "products, exact": ("b", "c", cm.CleanMean("l2", "exact", reach=reach)),
        "mean of two as truth": ("mean", None, cm.Mean("l2")),
        "one as truth": ("b", None, cm.Mean("l2")),
    }
    arrays["mean"] = (arrays["b"] + arrays["c"]) / 2

    def part(places: np.ndarray, y: str, repeats: str | None) -> cm.Triplets:
        return cm.Triplets.from_arrays(
            arrays["x"][places], arrays["y_hat"][places], arrays[y][places],
            repeats=None if repeats is None else arrays[repeats][places],
        )  # fmt: skip

    rows: dict[str, dict[str, list[float]]] = {way: {"hidden": [], "coverage": []} for way in ways}
    for seed in range(DEALS):
        order = np.random.default_rng(seed).permutation(n)
        selection, rest = order[:SELECTION], order[SELECTION:]
        calibration, test = np.array_split(rest, 2)
        for way, (y, repeats, loss) in ways.items():
            masker = cm.calibrate(
                score, part(calibration, y, repeats), threshold=threshold, loss=loss,
                promise=cm.Promise(confidence=CONFIDENCE), selection=part(selection, y, repeats),
            )  # fmt: skip
            masks = np.stack([masker(triplet) for triplet in part(test, "y", None)]).reshape(
                len(test), *arrays["y"].shape[1:]
            )
            clean = (masks**2 * np.square(arrays["y"] - arrays["y_hat"])[test]).mean(axis=(1, 2))
            rows[way]["hidden"].append(float(1 - masks.mean()))
            rows[way]["coverage"].append(float(np.mean(clean <= threshold)))
    means = {way: {key: float(np.mean(values)) for key, values in row.items()} for way, row in rows.items()}
    return {"n": n, "side": SIDES[kind], "threshold": threshold, "reach": reach, "ways": means}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for kind in KINDS:
        if kind not in results:
            results[kind] = measured(kind, options.data)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        for way, row in results[kind]["ways"].items():
            print(f"{kind}: {way} hidden {row['hidden']:.3f}, coverage {row['coverage']:.3f}", flush=True)


if __name__ == "__main__":
    main()
