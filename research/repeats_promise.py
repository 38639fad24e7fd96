"""Promises about clean images from noisy repeats, beside those that a clean truth gives.

    python research/repeats_promise.py DATA

Tiles of four kinds of images, and volumes: sections of an electron microscope, fields of cells, photographs
of still scenes (x has the noise of the camera) and MR volumes of hippocampi, to which Poisson-Gauss noise
is added, and the steady fields of FMD, whose repeats are real (their clean image is the mean of 50, which
has the repeats in it). y_hat is x after total-variation denoising, the score its local spread. For each of
five thresholds, quantiles of the clean losses without a mask (for windows one), half of the images
calibrate and the others test, DEALS times: by the clean image, by products of two repeats with both
allowances, and by the mean of two repeats as if it were the truth. Coverage is of the clean loss: the share
of the test images whose clean critical lambda is at least the one that is deployed. Of hippocampi only the
labelled region counts. Beside this, a score is trained on small tiles of cells with clean images and with
repeats, and draws measure how well the central limit theorem holds in windows.
research/results/repeats.json keeps what was measured; what it has is not measured again.
"""

import argparse
import json
import tempfile
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tifffile
import torch
from PIL import Image
from skimage.restoration import denoise_tv_chambolle

import conformask as cm
from conformask.arrays import Batch
from conformask.extras.noise.clean import UNKNOWN
from conformask.masks.critical import concatenate, critical_lambdas, lambda_grid, measures
from conformask.masks.families import family
from conformask.promises.order import first_crossing
from conformask.scores.scorer import for_loss, score_of

RESULTS = Path(__file__).parent / "results" / "repeats.json"
GAIN, READ, WEIGHT = 0.004, 0.01, 0.08
"""Of the noise that is added; of the denoising."""
CONFIDENCE, DEALS, SELECTION = 0.9, 200, 30
QUANTILES = {True: (0.2, 0.35, 0.5, 0.65, 0.8), False: (0.8,)}
"""Of losses over the image, and in windows."""
SIDES = {"sections": 192, "cells": 256, "photographs": 256, "FMD": 64, "hippocampi": None}
REACH = {"FMD": (1.054, 2)}
"""For clt and exact, measured by `conformask check`; noise that is added is independent at each pixel."""
WINDOWS = {"hippocampi": (7, 11)}
PHOTON, DRAWS = 0.004, 40_000
"""The value of a photon, so that images stay in [0, 1], and draws for each error in `shares_above`."""
USUAL = (15, 31)

Planes = tuple[np.ndarray, ...]
"""x, b, c and y of one image, and its region if it has one."""


def noisy(y: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    counts = generator.poisson(y / GAIN) * GAIN
    return (counts + READ * generator.standard_normal(y.shape)).clip(0, 1)


def darkened(plane: np.ndarray) -> np.ndarray:
    """Return a plane between 0.1 and 0.7, so that noise is not cut off."""
    return 0.1 + 0.6 * plane


def added(planes: Iterator[np.ndarray]) -> Iterator[Planes]:
    for seed, plane in enumerate(planes):
        y, generator = darkened(plane), np.random.default_rng(seed)
        yield (*(noisy(y, generator) for _ in range(3)), y)


def grey(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"), dtype=float) / 255


def sections(data: Path) -> Iterator[Planes]:
    stacks = [tifffile.imread(data / "em" / f"stack{place}.tif") / 255.0 for place in (1, 2)]
    return added(plane for stack in stacks for plane in stack)


def cells(data: Path) -> Iterator[Planes]:
    return added(grey(path)[:512, :512] for path in sorted((data / "cells").glob("*.png")))


def photographs(data: Path) -> Iterator[Planes]:
    for seed, path in enumerate(sorted((data / "polyu").glob("*_clean.jpg"))):
        x, y = (
            darkened(grey(each)[:256, :256])
            for each in (path.with_name(path.name.replace("clean", "noisy")), path)
        )
        generator = np.random.default_rng(seed)
        yield x, noisy(y, generator), noisy(y, generator), y


def fmd(data: Path) -> Iterator[Planes]:
    for field in ("confocal_fish", "confocal_mice"):
        roles = ("noisy1", "noisy2", "noisy3", "clean")
        yield tuple(grey(data / "fmd" / f"{field}_{role}.png") for role in roles)


def hippocampi(data: Path) -> Iterator[Planes]:
    paths = sorted((data / "hippocampus").glob("*_image.nii.gz"))
    images = (np.asarray(nibabel.load(path).dataobj, dtype=float) for path in paths)
    labels = (nibabel.load(str(path).replace("image", "label")).dataobj for path in paths)
    for found, label in zip(added(image / image.max() for image in images), labels, strict=True):
        yield (*found, (np.asarray(label) > 0).astype(float))


KINDS = {
    "FMD": fmd, "hippocampi": hippocampi, "cells": cells, "photographs": photographs, "sections": sections
}  # fmt: skip


def tiles(kind: str, data: Path) -> list[Planes]:
    """x, b, c, y, y_hat and region of all tiles, or of volumes."""
    side, found = SIDES[kind], []
    for x, b, c, y, *region in KINDS[kind](data):
        planes = (x, b, c, y, denoise_tv_chambolle(x, weight=WEIGHT), *region)
        if side is None:
            found.append(planes)
            continue
        for top in range(0, y.shape[0] - side + 1, side):
            found += [
                tuple(plane[top : top + side, left : left + side] for plane in planes)
                for left in range(0, y.shape[1] - side + 1, side)
            ]
    return [tuple(plane.astype(np.float32) for plane in planes) for planes in found]


def losses_of(kind: str, side: int | None, *, regional: bool) -> dict[str, tuple[str, Any]]:
    """What is taken for the truth, and the loss: over the image, or in windows of this side."""
    reach, whole = REACH.get(kind, (1, 1))
    if side is None:
        plain = cm.Mean("l2", regional=regional)
        clt, exact = (
            cm.CleanMean("l2", how, reach=each, regional=regional)
            for how, each in (("clt", reach), ("exact", whole))
        )
        by_repeats = {"clt": ("repeats", clt), "exact": ("repeats", exact)}
        return {"clean": ("y", plain), **by_repeats, "mean": ("mean", plain)}
    plain = cm.Local("l2", side, regional=regional)
    return {
        "clean": ("y", plain),
        "clt": ("repeats", cm.CleanLocal("l2", side, reach=reach, regional=regional)),
        "mean": ("mean", plain),
    }


def with_scores(images: list[Planes], truth: str, loss: Any) -> list[Batch]:
    """The images one by one, with what is taken for the truth, and their scores."""
    found, score = [], for_loss(cm.Heuristic(cm.local_spread, channels=1), loss)
    for at, planes in enumerate(images):
        x, b, c, y, y_hat, *region = (torch.from_numpy(plane)[None, None] for plane in planes)
        layers = {"region": region[0]} if region else {}
        layers |= {"noise": ((b - c) / 2).square()} if truth == "repeats" else {}
        batch = Batch((str(at),), x, y_hat, y if truth == "y" else (b + c) / 2, layers)
        found.append(batch.with_score(score_of(score, x, y_hat)))
    return found


def measured(kind: str, side: int | None, images: list[Planes]) -> dict[str, Any]:
    """Hidden shares, and coverage of the clean loss, by what was taken for the truth and by threshold."""
    regional, columns, critical = len(images[0]) > 5, {}, {}
    thresholds: list[float] = []
    ways = losses_of(kind, side, regional=regional)
    truth, plain = ways["mean"]
    masks = family(plain.family)
    grid = lambda_grid(masks, plain, with_scores(images[:SELECTION], truth, plain))
    for way, (truth, loss) in ways.items():
        items = with_scores(images, truth, loss)
        found = concatenate(measures(item, masks, loss, grid) for item in items)
        if way == "clean":
            thresholds = np.quantile(found["distance"][:, -1], QUANTILES[side is None]).tolist()
        columns[way] = (np.log(grid[1:-1]), found["hidden" if regional else "size"])
        critical[way] = np.array(
            [
                np.concatenate([critical_lambdas(item, masks, loss, grid, t) for item in items])
                if loss.traits.monotone
                else first_crossing(grid, found["distance"], t)
                for t in thresholds
            ]
        )
    return {"thresholds": thresholds, "ways": dealt(columns, critical)}


def dealt(columns: dict[str, Any], critical: dict[str, np.ndarray]) -> dict[str, Any]:
    """Divide the images DEALS times, and return means over the deals by way, one for each threshold."""
    n, ways = critical["clean"].shape[1], {way: {"hidden": [], "coverage": []} for way in critical}
    orders = [SELECTION + np.random.default_rng(seed).permutation(n - SELECTION) for seed in range(DEALS)]
    for way, (logs, sizes) in columns.items():
        for lambdas, truly in zip(critical[way], critical["clean"], strict=True):
            hidden, covered = [], []
            for order in orders:
                calibration, test = np.array_split(order, 2)
                rank = int((1 - CONFIDENCE) * (len(calibration) + 1) + 1e-9)
                lam = np.sort(lambdas[calibration])[rank - 1]
                covered.append(np.mean(truly[test] >= lam))
                curve = sizes[test].mean(axis=0)
                hidden.append(
                    curve[0] if lam <= 0
                    else curve[-1] if np.isinf(lam)
                    else np.interp(np.log(lam), logs, curve[1:-1])
                )  # fmt: skip
            ways[way]["hidden"].append(round(float(np.mean(hidden)), 4))
            ways[way]["coverage"].append(round(float(np.mean(covered)), 4))
    return ways


def trained(data: Path) -> dict[str, float]:
    """Hidden shares of small tiles of cells with scores trained with clean images, and with repeats."""
    side, parts = 64, {"train": slice(0, 160), "selection": slice(160, 220), "rest": slice(220, 520)}
    images = [
        tuple(plane[top : top + side, left : left + side] for plane in planes)
        for planes in tiles("cells", data)
        for top in (0, 128)
        for left in (0, 128)
    ]
    x, b, c, y, y_hat = (np.stack(each) for each in zip(*images, strict=True))
    order, errors = np.random.default_rng(0).permutation(len(x)), np.square(y - y_hat).mean(axis=(1, 2))

    def part(name: str, *, repeats: bool) -> cm.Triplets:
        at = order[parts[name]]
        return cm.Triplets.from_arrays(
            x[at], y_hat[at], b[at] if repeats else y[at], repeats=c[at] if repeats else None
        )

    hidden = {}
    for way in ("clean", "repeats"):
        with tempfile.TemporaryDirectory() as run:
            scorer = cm.fit_scorer(
                part("train", repeats=way == "repeats"), out=run, scorer="error", loss=cm.CleanMean("l2"),
                selection=part("selection", repeats=way == "repeats"), training=cm.TrainingConfig(epochs=20),
            )  # fmt: skip
            masker = cm.calibrate(
                scorer, part("rest", repeats=False), threshold=float(np.median(errors)), loss="l2"
            )
            hidden[way] = round(masker.card.hidden, 4)
    return hidden


def shares_above() -> dict[str, dict[str, tuple[float, float]]]:
    """How often the clean mean over a tile is above p + t by the central limit theorem, by noise and side.

    The largest share over errors of 0 to 2 standard deviations of normal noise, or of -1 to 1 times the image
    for counts of photons; eta is 0.002. Then the share of the tiles that have enough pixels with noise.
    """
    loss, generator = cm.CleanMean("l2", reach=1), np.random.default_rng(0)
    spot = np.where(np.add.outer(np.arange(32) < 2, np.arange(32) < 2) == 2, 5.0, 0.05)
    counts = {f"{mean:g} photons": np.full((32, 32), mean) for mean in (20, 2, 0.5, 0.2, 0.1, 0.05, 0.02)}
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name, side in product(("normal", *counts, "5 photons in 2 x 2 pixels, else 0.05"), (6, 8, 15, 32)):
        mean = counts.get(name, spot)[:side, :side] * PHOTON
        above, enough = [], []
        for error in (0.0, 0.5, 1.0, 2.0) if name == "normal" else (-1.0, 0.5, 1.0):
            errors = np.full(mean.shape, error * 0.02) if name == "normal" else error * mean + 1e-6
            shares = []
            for _ in range(20):
                shape = (DRAWS // 20, side, side)
                b, c = (
                    0.02 * generator.standard_normal(shape)
                    if name == "normal"
                    else generator.poisson(mean / PHOTON, shape) * PHOTON - mean
                    for _ in range(2)
                )
                y, noise = ((b + c) / 2 + errors + 0.5, np.square((b - c) / 2))
                y, noise = (torch.from_numpy(each).float()[:, None] for each in (y, noise))
                losses = loss.on(y, torch.full_like(y, 0.5), None, 1, noise).of(torch.ones_like(y))
                shares.append(
                    (np.mean(losses.numpy() < np.square(errors).mean()), np.mean(losses.numpy() < UNKNOWN))
                )
            above.append(np.mean(shares, axis=0)[0])
            enough.append(np.mean(shares, axis=0)[1])
        found.setdefault(name, {})[str(side)] = (round(max(above), 4), round(min(enough), 3))
        print(name, side, found[name][str(side)], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, measure in {"trained": lambda: trained(options.data), "above": shares_above}.items():
        if name not in results:
            results[name] = measure()
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    for kind in KINDS:
        if kind in results:
            continue
        images = tiles(kind, options.data)
        images = [images[at] for at in np.random.default_rng(0).permutation(len(images))]
        inside = [each[5] if len(each) > 5 else np.ones_like(each[3]) for each in images]
        found: dict[str, Any] = {"n": len(images), "side": SIDES[kind]}
        found["pixels"] = round(float(np.mean([each.sum() for each in inside])))
        for side in (None, *WINDOWS.get(kind, USUAL)):
            found[f"window {side}" if side else "image"] = measured(kind, side, images)
        results[kind] = found
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        print(kind, json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
