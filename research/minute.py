"""How many triplets, and how many minutes, until masks are small: from scratch, fine-tuned, packaged.

    python research/minute.py WORK DATA [--pairs NAME ...]

Six pairs of a task and images of which research/pretraining knows neither: three networks from packages on
photographs of a camera (research/minute_networks.py, first), thick slices of hippocampi, and sections of an
electron microscope with missing pixels or out of focus. Whole scenes, subjects and sections are dealt to
training and to selection; tiles of the others to calibration and test, one by one. Every score is calibrated
on the same images, at the 0.1-quantile of the selection images' losses and 90 %. WORK keeps triplets and run
folders; research/results/minute.json what was measured; a killed run goes on. research/minute_page.py makes
research/results/minute.md of it.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import nibabel
import numpy as np
import tifffile
import torch
import torch.nn.functional as F
import volumes
from PIL import Image
from scipy.interpolate import griddata
from scipy.ndimage import convolve
from skimage.restoration import richardson_lucy

import conformask as cm
from conformask.errors import CalibrationError
from conformask.extras.paper.resplits import resplit
from conformask.scores.scorer import Heuristic, Scorer

RESULTS = Path(__file__).parent / "results" / "minute.json"
PARTS = ("train", "selection", "calibration", "test")
SHARES = (0.6, 0.1)
"""Of the groups for training and selection."""
TILE, STEP, SIDE = 64, 128, 32
"""Tiles of photographs lie STEP apart, those of sections TILE."""
COUNTS = (30, 100, 300, 800)
HOW = ("fine-tuned", "scratch")
EPOCHS = (2, 4, 8, 15)
"""Shorter trainings on the largest count."""
CONFIDENCE, DEALS, QUANTILE = 0.9, 200, 0.1
SLICES, KNOWN, RADIUS, ITERATIONS, NOISE = 16, 0.25, 3, 15, 0.01
Made = Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]
"""Group, x, y_hat and y, each (H, W) or (H, W, 3), uint8."""


def by_network(name: str, work: Path) -> Made:
    """Tiles of what minute_networks.py wrote."""
    for path in sorted((work / name / "y").glob("*.png")):
        x, y_hat, y = (np.asarray(Image.open(work / name / role / path.name)) for role in ("x", "y_hat", "y"))
        factor = y.shape[0] // x.shape[0]
        for top in range(0, y.shape[0], STEP):
            for left in range(0, y.shape[1], STEP):
                small = x[top // factor : (top + TILE) // factor, left // factor : (left + TILE) // factor]
                both = (image[top : top + TILE, left : left + TILE] for image in (y_hat, y))
                yield path.stem.rpartition("_")[0], small, *both


def thick_slices(data: Path) -> Made:
    """Slices across the thick ones, that cubic splines fill in."""
    for path in sorted((data / "hippocampus").glob("*_image.nii.gz")):
        values = nibabel.load(path).get_fdata(dtype=np.float32)
        y = (values / np.quantile(values, 0.999)).clip(0, 1)
        y = y[..., : y.shape[2] // volumes.THICK * volumes.THICK]
        x, y_hat = volumes.thick_slices(y, np.random.default_rng(0))
        for place in np.linspace(4, y.shape[1] - 5, SLICES).astype(int):
            planes = (_framed(volume[:, place]) for volume in (x, y_hat, y))
            yield path.name.split("_")[0], *map(_bytes, planes)


def missing_pixels(data: Path) -> Made:
    """Three pixels of four are lost; cubic interpolation between the others."""
    for name, y, generator in sections(data):
        known = generator.random(y.shape) < KNOWN
        points = np.argwhere(known)
        everywhere = tuple(np.mgrid[: y.shape[0], : y.shape[1]])
        y_hat, nearest = (griddata(points, y[known], everywhere, method=how) for how in ("cubic", "nearest"))
        yield from _tiles(name, np.where(known, y, 0), np.where(np.isnan(y_hat), nearest, y_hat), y)


def out_of_focus(data: Path) -> Made:
    """Blurred by a disc, with a little noise; Richardson-Lucy deconvolution."""
    rows, columns = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    disc = (rows**2 + columns**2 <= RADIUS**2).astype(np.float64)
    disc /= disc.sum()
    for name, y, generator in sections(data):
        x = convolve(y, disc, mode="reflect") + NOISE * generator.standard_normal(y.shape)
        yield from _tiles(name, x, richardson_lucy(x.clip(0, 1), disc, ITERATIONS), y)


def sections(data: Path) -> Iterator[tuple[str, np.ndarray, np.random.Generator]]:
    for stack in ("stack1", "stack2"):
        for place, plane in enumerate(tifffile.imread(data / "em" / f"{stack}.tif")):
            yield f"{stack}-{place}", plane / 255.0, np.random.default_rng(place)


def _tiles(name: str, *images: np.ndarray) -> Made:
    for top in range(0, images[0].shape[0], TILE):
        for left in range(0, images[0].shape[1], TILE):
            parts = (image[top : top + TILE, left : left + TILE] for image in images)
            yield name, *map(_bytes, parts)


def _framed(plane: np.ndarray) -> np.ndarray:
    """The middle, SIDE x SIDE; the edge repeated where there is less."""
    for axis in (0, 1):
        lack = max(0, SIDE - plane.shape[axis])
        pad = [(0, 0), (0, 0)]
        pad[axis] = (lack // 2, lack - lack // 2)
        plane = np.pad(plane, pad, mode="edge")
        start = (plane.shape[axis] - SIDE) // 2
        plane = plane.take(range(start, start + SIDE), axis)
    return plane


def _bytes(image: np.ndarray) -> np.ndarray:
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


PAIRS: dict[str, Callable[[Path, Path], Made]] = {
    "thick slices, cubic splines": lambda work, data: thick_slices(data),
    "missing pixels, cubic interpolation": lambda work, data: missing_pixels(data),
    "out of focus, Richardson-Lucy": lambda work, data: out_of_focus(data),
    "camera noise, Open Image Denoise": lambda work, data: by_network("oidn", work),
    "half the side, Real-CUGAN": lambda work, data: by_network("cugan", work),
    "a quarter of the side, Real-ESRGAN": lambda work, data: by_network("esrgan", work),
}


def gradient(x: torch.Tensor, y_hat: torch.Tensor) -> torch.Tensor:
    """The length of the gradient of y_hat, the mean over channels."""
    padded = F.pad(y_hat, (1, 1, 1, 1), mode="replicate")
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    right = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    return (down**2 + right**2).sqrt().mean(dim=1, keepdim=True)


def change(x: torch.Tensor, y_hat: torch.Tensor) -> torch.Tensor:
    """|x - y_hat|, the mean over channels."""
    brought = F.interpolate(x, size=y_hat.shape[2:], mode="bilinear")
    return (brought - y_hat).abs().mean(dim=1, keepdim=True)


SIMPLE = {"local spread": cm.local_spread, "gradient": gradient, "change": change}


def triplets_of(name: str, work: Path, data: Path) -> dict[str, cm.Triplets]:
    """The parts of a pair."""
    return parts_of(arrays_of(name, work, data), ("x", "y_hat", "y"))


def arrays_of(name: str, work: Path, data: Path) -> dict[str, np.ndarray]:
    """Groups, x, y_hat and y of a pair, from the disk where they are there."""
    kept = work / "triplets" / f"{name}.npz"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        groups, *roles = zip(*PAIRS[name](work, data), strict=True)
        x, y_hat, y = map(np.stack, roles)
        np.savez(kept, groups=np.array(groups), x=x, y_hat=y_hat, y=y)
    return dict(np.load(kept))


def parts_of(arrays: dict[str, np.ndarray], roles: tuple[str, ...]) -> dict[str, cm.Triplets]:
    """Triplets of arrays with groups: whole groups, and for the last two parts tiles of others."""
    groups = arrays["groups"]
    generator = np.random.default_rng(0)
    names = generator.permutation(np.unique(groups))
    ends = np.round(np.cumsum(SHARES) * len(names)).astype(int)
    places = [
        generator.permutation(np.flatnonzero(np.isin(groups, dealt))) for dealt in np.split(names, ends)
    ]
    dealt = dict(zip(PARTS, [*places[:2], *np.array_split(places[2], 2)], strict=True))
    return {
        part: cm.Triplets.from_arrays(
            **{role: list(arrays[role][chosen]) for role in roles},
            groups=list(groups[chosen]) if part in PARTS[:2] else None,
            names=[f"{groups[place]}-{place}" for place in chosen],
        )
        for part, chosen in dealt.items()
    }


def scorers(parts: dict[str, cm.Triplets], folder: Path) -> Iterator[tuple[str, Callable[[], Scorer]]]:
    """Every contender by its key, made when it is asked for."""
    channels = parts["train"][0].y_hat.shape[0]
    for title, function in SIMPLE.items():
        yield title, lambda function=function: Heuristic(function, channels)
    yield "packaged", lambda: cm.packaged_scorer().of(parts["train"])
    lengths = [*((count, None) for count in COUNTS), *((COUNTS[-1], epochs) for epochs in EPOCHS)]
    for count, epochs in lengths:
        for how in HOW:
            title = f"{how} {count}" + (f", {epochs} epochs" if epochs else "")
            yield title, partial(trained, parts["train"], folder / title, count, how, epochs)


def trained(train: cm.Triplets, run: Path, count: int, how: str, epochs: int | None) -> Scorer:
    """As `conformask train --scorer mask` does it on so many triplets."""
    some = train.select(range(min(count, len(train))))
    return cm.fit_scorer(
        some,
        out=run,
        scorer="mask",
        training=cm.TrainingConfig(epochs=epochs, resume=True),
        network=cm.NetworkOptions(from_scratch=how == "scratch"),
    )


def measured(scorer: Scorer, parts: dict[str, cm.Triplets], threshold: float) -> dict[str, Any]:
    """What its masks hide, once on the test images and over deals of calibration and test images."""
    masker = cm.calibrate(
        scorer,
        parts["calibration"],
        threshold=threshold,
        loss="l1",
        promise=cm.Promise(confidence=CONFIDENCE),
        family="water_filling",
    )
    evaluation = cm.evaluate(masker, parts["test"])
    return {
        "size": evaluation.mask_size,
        "coverage": evaluation.coverage,
        "oracle": evaluation.mask_size_oracle,
        "correlation": evaluation.correlation_size_loss,
        "resplits": resplit(masker, parts["calibration"], parts["test"], DEALS).summary(),
    }


def threshold_of(selection: cm.Triplets) -> float:
    """The quantile of the losses without a mask."""
    losses = [float(np.abs(triplet.y_hat - triplet.truth()).mean()) for triplet in selection]
    return float(np.quantile(losses, QUANTILE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in options.pairs:
        parts = triplets_of(name, options.work, options.data)
        threshold = threshold_of(parts["selection"])
        counts = {part: len(triplets) for part, triplets in parts.items()}
        rows = results.setdefault(name, {"threshold": threshold, "n": counts, "scores": {}})["scores"]
        for key, made in scorers(parts, options.work / "runs" / name):
            if key in rows:
                continue
            started = process_time()
            scorer = made()
            minutes = (process_time() - started) / 60
            try:
                rows[key] = {"minutes": minutes, **measured(scorer, parts, threshold)}
            except CalibrationError:
                rows[key] = None  # it has to hide everything
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            hidden = rows[key]["resplits"]["mask_size"] if rows[key] else 1.0
            print(f"{name}: {key} {hidden:.4f}, {minutes:.1f} min", flush=True)


if __name__ == "__main__":
    main()
