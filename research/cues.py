"""What `conformask train` returns from few triplets, and what a map beside y_hat is worth.

    python research/cues.py WORK DATA [--pairs NAME ...] [--counts 30 100 300]

The six pairs of research/minute.py, whose parts these are; draws of a network that makes several outputs
(research/sampler.py, first) with the spread of 2, 4 and 8 of them; and a network that gives a variance with
its output. Each pair has a map such as its users have. Measured are simple scores, the map, the packaged
score, and networks trained on 30, 100 and 300 triplets, without the map and with it: all calibrated on
the same images, at the 0.1-quantile of the selection images' L1 and 90 %, with the default masks. WORK keeps
triplets and run folders; research/results/cues what was measured, a file for each pair; a killed run goes on.
research/cues_page.py makes research/results/cues.md of it.
"""

import argparse
import json
import warnings
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from minute import CONFIDENCE, DEALS, PAIRS, RADIUS, STEP, TILE, parts_of, sections, threshold_of
from minute import arrays_of as minute_arrays
from scipy.ndimage import convolve, distance_transform_edt, uniform_filter
from volumes import THICK

import conformask as cm
from conformask.errors import CalibrationError
from conformask.extras.paper.resplits import resplit
from conformask.scores.networks import UNet

RESULTS = Path(__file__).parent / "results" / "cues"
COUNTS = (30, 100, 300)
SIMPLE = ("residual", "gradient", "spread")
WINDOW = 9
ROLES = ("x", "y_hat", "y")
DRAWS = (2, 4, 8)
NOISE, STEPS, BATCH, CROP, WIDTH = 0.1, 1500, 8, 64, 16
"""Of the network that gives a variance: noise of its x, and its training."""


def distance_to_known(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Of missing pixels: how far each pixel is from the nearest one that is known."""
    return np.stack([distance_transform_edt(x == 0) for x in arrays["x"]])


def distance_to_middle(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Of thick slices: how far each pixel is from the middle of its slice, in pixels."""
    *_, height, width = arrays["y"].shape
    place = np.arange(width)  # volumes are at least as deep as a tile is wide, or start a slice at its edge
    return np.broadcast_to(np.abs(place % THICK - (THICK - 1) / 2), (len(arrays["y"]), height, width)).copy()


def blurred_again(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Out of focus: |A y_hat - x|, A the blur."""
    rows, columns = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    disc = (rows**2 + columns**2 <= RADIUS**2).astype(np.float32)
    pairs = zip(arrays["y_hat"] / np.float32(255), arrays["x"] / np.float32(255), strict=True)
    return np.stack([np.abs(convolve(y_hat, disc / disc.sum(), mode="reflect") - x) for y_hat, x in pairs])


def reduced_again(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """A quarter of the side: |A y_hat - x|, A the mean of blocks."""
    y_hat, x = (arrays[role].astype(np.float32) / 255 for role in ("y_hat", "x"))
    n, height, width, channels = x.shape
    factor = y_hat.shape[1] // height
    means = y_hat.reshape(n, height, factor, width, factor, channels).mean(axis=(2, 4))
    return np.abs(means - x).mean(axis=-1).repeat(factor, axis=1).repeat(factor, axis=2)


def removed_noise(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Of a denoiser: the standard deviation of what it removed, in a window around each pixel."""
    removed = (arrays["x"].astype(np.float32) - arrays["y_hat"]).mean(axis=-1) / 255
    mean, square = (uniform_filter(each, (0, WINDOW, WINDOW)) for each in (removed, removed**2))
    return np.sqrt((square - mean**2).clip(min=0))


def over_flips(name: str, work: Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The spread over flips and turns that research/minute_networks.py wrote, in the order of its tiles."""
    tiles: list[np.ndarray] = []
    for path in sorted((work / name / "y").glob("*.png")):
        spread = np.load(work / name / "spread" / f"{path.stem}.npy")
        corners = product(range(0, spread.shape[0], STEP), range(0, spread.shape[1], STEP))
        tiles += [spread[top : top + TILE, left : left + TILE] for top, left in corners]
    return np.stack(tiles).astype(np.float32)


MAPS = {
    "thick slices, cubic splines": ("distance to the middle of the slice", distance_to_middle),
    "missing pixels, cubic interpolation": ("distance to the nearest known pixel", distance_to_known),
    "out of focus, Richardson-Lucy": ("|A y_hat - x|", blurred_again),
    "camera noise, Open Image Denoise": ("sd of x - y_hat in a window", removed_noise),
    "half the side, Real-CUGAN": ("sd over flips and turns", "cugan"),
    "a quarter of the side, Real-ESRGAN": ("|A y_hat - x|", reduced_again),
    **{f"a sampler, {k} draws": (f"sd of {k} draws", k) for k in DRAWS},
    "noise, a network with a variance": ("its variance", "variance"),
}
"""Title and maker of the map of each pair."""


def of_minute(name: str, work: Path, data: Path) -> dict[str, np.ndarray]:
    """The arrays of a pair of research/minute.py, with its map."""
    arrays = minute_arrays(name, work, data)
    maker = MAPS[name][1]
    return arrays | {"cues": over_flips(maker, work, arrays) if isinstance(maker, str) else maker(arrays)}


def with_variance(work: Path, data: Path) -> dict[str, np.ndarray]:
    """Noisy sections of a microscope, and a U-Net fitted by likelihood to the others: mean and variance."""
    kept = work / "triplets" / "variance.npz"
    if kept.exists():
        return dict(np.load(kept))
    names, ys, xs = [], [], []
    for name, y, generator in sections(data):
        names.append(name)
        ys.append(y.astype(np.float32))
        xs.append((y + NOISE * generator.standard_normal(y.shape)).clip(0, 1).astype(np.float32))
    own = np.arange(len(names)) % 3 == 0
    network = fitted(np.stack(xs)[own], np.stack(ys)[own])
    made: dict[str, list[Any]] = {role: [] for role in ("groups", "x", "y_hat", "y", "cues")}
    for name, x, y in zip(np.array(names)[~own], np.stack(xs)[~own], np.stack(ys)[~own], strict=True):
        with torch.no_grad():
            mean, log_variance = network(torch.from_numpy(x)[None, None])[0]
        planes = {"x": x, "y_hat": (torch.from_numpy(x) + mean).clamp(0, 1).numpy(), "y": y}
        planes["cues"] = log_variance.exp().numpy()
        for top in range(0, y.shape[0], TILE):
            for left in range(0, y.shape[1], TILE):
                made["groups"].append(str(name))
                for role, plane in planes.items():
                    made[role].append(plane[top : top + TILE, left : left + TILE])
    arrays = {role: np.stack(values) for role, values in made.items()}
    np.savez(kept, **arrays)
    return arrays


def fitted(x: np.ndarray, y: np.ndarray) -> torch.nn.Module:
    """A U-Net for the mean of y - x and the logarithm of its variance, by the Gaussian likelihood."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    network = UNet(1, 2, width=WIDTH, levels=3)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        places = generator.integers(0, [len(x), *(side - CROP for side in x.shape[1:])], (BATCH, 3))
        crops = [np.stack([images[n, a : a + CROP, b : b + CROP] for n, a, b in places]) for images in (x, y)]
        seen, truth = (torch.from_numpy(crop)[:, None] for crop in crops)
        mean, log_variance = network(seen).split(1, dim=1)
        squared = (truth - seen - mean).square()
        loss = (squared * (-log_variance).exp() + log_variance).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def of_sampler(draws: int, work: Path) -> dict[str, np.ndarray]:
    """What research/sampler.py drew: the first draw, and the spread of so many."""
    kept = np.load(work / "sampler.npz")
    return {**{role: kept[role] for role in ("groups", "x", "y_hat", "y")}, "cues": kept[f"spread_{draws}"]}


def arrays_of(name: str, work: Path, data: Path) -> dict[str, np.ndarray]:
    """All images of a pair, and their maps."""
    if name in PAIRS:
        return of_minute(name, work, data)
    maker = MAPS[name][1]
    return with_variance(work, data) if maker == "variance" else of_sampler(int(maker), work)


def measured(scorer: Any, parts: dict[str, cm.Triplets], threshold: float) -> dict[str, Any] | None:
    """What its masks hide over deals of calibration and test images; None where all has to be hidden."""
    try:
        masker = cm.calibrate(
            scorer, parts["calibration"], threshold=threshold, loss="l1",
            promise=cm.Promise(confidence=CONFIDENCE),
        )  # fmt: skip
    except CalibrationError:
        return None
    deals = resplit(masker, parts["calibration"], parts["test"], DEALS).summary()
    evaluation = cm.evaluate(masker, parts["test"])
    return {"oracle": evaluation.mask_size_oracle, "resplits": deals}


def contenders(
    counts: list[int], without: Any, with_map: Any, folder: Path
) -> Iterator[tuple[str, Any, Any]]:
    """Title, parts and maker of each score."""
    for name in SIMPLE:
        yield name, without, partial(cm.fit_scorer, without["selection"], out=folder / name, scorer=name)
    yield "given", with_map, cm.Given
    yield "packaged", without, cm.packaged_scorer
    for count in counts:
        for title, parts in ((f"train {count}", without), (f"train {count}, with the map", with_map)):
            train = parts["train"].select(range(min(count, len(parts["train"]))))
            training = cm.TrainingConfig(resume=True)
            yield title, parts, partial(cm.fit_scorer, train, out=folder / title, training=training)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", nargs="+", choices=list(MAPS), default=list(MAPS))
    parser.add_argument("--counts", nargs="+", type=int, default=list(COUNTS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.pairs:
        arrays = arrays_of(name, options.work, options.data)
        without, with_map = (parts_of(arrays, roles) for roles in (ROLES, (*ROLES, "cues")))
        threshold = threshold_of(without["selection"])
        counts = {part: len(triplets) for part, triplets in without.items()}
        path = RESULTS / f"{name.replace(', ', '-').replace(' ', '-')}.json"
        result = {"pair": name, "map": MAPS[name][0], "n": counts, "scores": {}}
        result = json.loads(path.read_text()) if path.exists() else result
        rows = result["scores"]
        for title, parts, make in contenders(options.counts, without, with_map, options.work / "cues" / name):
            if title in rows:
                continue
            started = process_time()
            scorer = make()
            minutes = (process_time() - started) / 60
            ended = scorer.name if title.startswith("train") else None
            found = measured(scorer, parts, threshold)
            rows[title] = found and {"minutes": minutes, "ended with": ended, **found}
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(result, indent=1) + "\n")
            hidden = rows[title]["resplits"]["mask_size"] if rows[title] else 1.0
            print(f"{name}: {title} {hidden:.4f}, {ended}, {minutes:.1f} min", flush=True)


if __name__ == "__main__":
    main()
