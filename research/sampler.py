"""A network that draws: four-fold enlargement of photographs, trained by the energy score on one core.

    python research/sampler.py train PHOTOS WORK    # half an hour; resumes where it stopped
    python research/sampler.py draw PHOTOS WORK     # eight samples of each photograph that it has not seen
    python research/sampler.py measure WORK         # what intervals cover, and masks; the picture of the page

The network is that of maskbench/src/maskbench/sampler.py (pip install -e ./maskbench), of another width.
WORK/samples.npz holds the draws and their spreads.
Writes research/results/sampler.json and the picture of docs/how-to/maps-and-samples.md.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from time import process_time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import stats
from torch import Tensor

import conformask as cm
from conformask.extras.make.demonstration import packaged_photographs
from conformask.extras.make.predictors import CueRecipe, CustomPredictor
from conformask.images.pictures import as_bytes, heat, overlay
from maskbench.sampler import FACTOR, Sampler, energy_score

SIDE, CROP = 128, 96
"""Sides of the images that are measured, and of those that are learned from."""
LEARNED = 1000
"""Photographs to learn from, the first by name; the others are measured."""
WIDTHS = (48, 96, 144)
BATCH, RATE, MINUTES, KEEP_EVERY = 12, 5e-4, 32, 100
COUNTS = (2, 4, 8)
"""Numbers of samples."""
WIDTH, CONFIDENCE, THRESHOLD, RESPLITS, DEPLOYED = 1.645, 0.9, 0.04, 200, 3
PROMISES: Mapping[str, tuple[str, str]] = {
    "one": ("one", "image"),
    "mean": ("mean", "image"),
    "all": ("all", "group"),
    "random": ("all", "image_of_new_group"),
}
"""What is shown, and the unit of the promise."""
TILE, GAP = 192, 6
"""Pixels of the picture."""
RECORD = Path(__file__).parent / "results" / "sampler.json"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "generative.png"


def shrunk(y: Tensor) -> Tensor:
    return F.avg_pool2d(y, FACTOR)


def photographs(folder: Path) -> list[np.ndarray]:
    """All photographs in grey, uint8, by name."""
    return [np.asarray(Image.open(path).convert("L")) for path in sorted(folder.glob("*.jpg"))]


def train(photos: Path, work: Path) -> None:
    images, generator = photographs(photos)[:LEARNED], np.random.default_rng()
    network, path = Sampler(WIDTHS), work / "sampler.pt"
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    minutes, step = 0.0, 0
    if path.exists():
        state = torch.load(path)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        minutes, step = state["minutes"], state["step"]
    start, before, scores = process_time(), minutes, []
    while minutes < MINUTES:
        optimizer.param_groups[0]["lr"] = RATE * max(0.02, min(1, 3 * (1 - minutes / MINUTES)))
        y = torch.from_numpy(np.stack([_crop(images, generator) for _ in range(BATCH)]))[:, None] / 255
        one, other = network(shrunk(y).repeat(2, 1, 1, 1)).chunk(2)
        score = energy_score(y, one, other)
        optimizer.zero_grad()
        score.backward()
        optimizer.step()
        scores.append(score.item())
        step, minutes = step + 1, before + (process_time() - start) / 60
        if step % KEEP_EVERY == 0 or minutes >= MINUTES:
            print(f"{step} steps, {minutes:.1f} minutes, energy score {np.mean(scores):.5f}", flush=True)
            scores = []
            torch.save(
                {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
                | {"minutes": minutes, "step": step},
                path,
            )


def _crop(images: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    image = images[generator.integers(len(images))]
    top, left = (generator.integers(side - CROP + 1) for side in image.shape)
    crop = image[top : top + CROP, left : left + CROP]
    return np.ascontiguousarray(crop[:, ::-1] if generator.random() < 0.5 else crop).astype(np.float32)


def draw(photos: Path, work: Path) -> None:
    """Draw samples of the photographs that the network has not seen, as --cues samples,K does."""
    network = Sampler(WIDTHS).eval()
    network.load_state_dict(torch.load(work / "sampler.pt")["network"])
    predictor, recipe = CustomPredictor(network, "sampler", ""), CueRecipe.of(f"samples,{COUNTS[-1]}", "all")
    shown = Image.fromarray(packaged_photographs()["coffee"]).convert("L").resize((408, 272))
    images = [*photographs(photos)[LEARNED:], np.asarray(shown)]
    truths = np.stack([middle(image) for image in images]).astype(np.float32) / 255
    samples = []
    for y in torch.from_numpy(truths)[:, None].split(BATCH):
        outputs, _ = recipe(predictor, shrunk(y))
        samples.append(torch.cat(outputs, dim=1).numpy())
    drawn, y = np.concatenate(samples), truths[:-1]
    drawn, shown_samples = drawn[:-1], drawn[-1]
    spreads = {f"spread_{count}": drawn[:, :count].std(axis=1) for count in COUNTS}
    np.savez_compressed(
        work / "samples.npz", x=shrunk(torch.from_numpy(y)).numpy(), y=y, y_hat=drawn[:, 0],
        y_hat_mean=drawn.mean(axis=1), samples=drawn.astype(np.float16), **spreads,
        groups=[path.stem for path in sorted(photos.glob("*.jpg"))[LEARNED:]],
        shown_y=truths[-1], shown_samples=shown_samples,
    )  # fmt: skip


def middle(image: np.ndarray) -> np.ndarray:
    top, left = ((side - SIDE) // 2 for side in image.shape)
    return image[top : top + SIDE, left : left + SIDE]


def measure(work: Path) -> None:
    with np.load(work / "samples.npz") as file:
        drawn = {name: file[name].astype(np.float32) for name in ("x", "y", "samples")}
        y, samples = file["shown_y"], file["shown_samples"]
    record: dict[str, object] = {
        "photographs": len(drawn["y"]),
        "samples": COUNTS[-1],
        "threshold": THRESHOLD,
    }
    record["intervals"] = {count: intervals(drawn["y"], drawn["samples"][:, :count]) for count in COUNTS}
    record["masks"] = {name: masks(drawn, name) for name in PROMISES}
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
    draw_picture(drawn, y, samples)


def intervals(y: np.ndarray, samples: np.ndarray) -> dict[str, float]:
    """Share of the true pixels in the mean of K samples +- 1.645 standard deviations, and in their range.

    "perfect" is what these intervals cover if truth and samples are independent draws of one normal
    distribution: a t distribution with K - 1 degrees of freedom, and K - 1 of K + 1.
    """
    count = samples.shape[1]
    mean, deviation = samples.mean(axis=1), samples.std(axis=1, ddof=1)
    normal = abs(y - mean) <= WIDTH * deviation
    between = (y >= samples.min(axis=1)) & (y <= samples.max(axis=1))
    return {
        "normal": float(normal.mean()),
        "normal_perfect": float(2 * stats.t.cdf(WIDTH / np.sqrt(1 + 1 / count), count - 1) - 1),
        "normal_images": float(np.mean(normal.mean(axis=(1, 2)) >= CONFIDENCE)),
        "range": float(between.mean()),
        "range_perfect": (count - 1) / (count + 1),
    }


def triplets_of(drawn: Mapping[str, np.ndarray], show: str, places: np.ndarray) -> cm.Triplets:
    """As `conformask triplets --cues samples,8 --show` writes them."""
    x, y, samples = (drawn[name][places] for name in ("x", "y", "samples"))
    spread, groups = samples.std(axis=1), np.arange(len(y))
    if show == "all":
        x, y, spread, groups = (np.repeat(each, samples.shape[1], axis=0) for each in (x, y, spread, groups))
        return cm.Triplets.from_arrays(x, samples.reshape(y.shape), y, cues=spread, groups=groups.tolist())
    return cm.Triplets.from_arrays(
        x, samples[:, 0] if show == "one" else samples.mean(axis=1), y, cues=spread
    )


def calibrated(drawn: Mapping[str, np.ndarray], name: str, places: np.ndarray) -> cm.Masker:
    show, unit = PROMISES[name]
    images, promise = triplets_of(drawn, show, places), cm.Promise(confidence=CONFIDENCE, unit=unit)
    return cm.calibrate(cm.Given(), images, threshold=THRESHOLD, loss="l1", promise=promise)


def masks(drawn: Mapping[str, np.ndarray], name: str) -> dict[str, object]:
    """Coverage over resplits of the photographs into halves, by critical lambdas; some deploy their masks."""
    total = len(drawn["y"])
    critical = calibrated(drawn, name, np.arange(total)).critical_lambdas.reshape(total, -1)
    critical = critical if name == "random" else critical.min(axis=1, keepdims=True)
    generator, coverage, deployed, hidden = np.random.default_rng(0), [], [], []
    for resplit in range(RESPLITS):
        calibration, test = np.array_split(generator.permutation(total), 2)
        coverage.append(np.mean(critical[test] >= largest_lambda(critical[calibration])))
        if resplit < DEPLOYED:
            masker = calibrated(drawn, name, calibration)
            new = triplets_of(drawn, PROMISES[name][0], test)
            made = np.stack([np.asarray(masker(triplet)) for triplet in new])
            errors = np.stack([abs(triplet.truth() - triplet.y_hat)[0] for triplet in new])
            within = ((made * errors).mean(axis=(1, 2)) <= THRESHOLD).reshape(len(test), -1)
            deployed.append(np.mean(within if name == "random" else within.all(axis=1)))
            hidden.append(1 - made.mean())
    n, rank = len(calibration), int((len(calibration) + 1) * (1 - CONFIDENCE) + 1e-9)
    law = stats.betabinom(len(test), n + 1 - rank, rank)
    return {
        "hidden": float(np.mean(hidden)),
        "coverage": float(np.mean(coverage)),
        "coverage_std": float(np.std(coverage)),
        "deployed": [float(each) for each in deployed],
        "law_mean": float(law.mean() / len(test)),
        "law_std": float(law.std() / len(test)),
    }


def largest_lambda(critical: np.ndarray) -> float:
    """The largest lambda at which the mean over groups of the share that fails, and one more that does, is
    at most 1 - CONFIDENCE; where a group is one image, this is split conformal prediction."""
    groups, samples = critical.shape
    failing = samples * ((groups + 1) * (1 - CONFIDENCE) - 1) + 1e-9
    return float(np.sort(critical, axis=None)[int(failing)])


def draw_picture(drawn: Mapping[str, np.ndarray], y: np.ndarray, samples: np.ndarray) -> None:
    """Truth, two samples and the mean; below, the spread, and the three under masks of their promises."""
    shown = {"x": shrunk(torch.from_numpy(y)[None]).numpy(), "y": y[None], "samples": samples[None]}
    outputs, spread = (samples[0], samples[1], samples.mean(axis=0)), samples.std(axis=0)
    tiles = [
        *(as_bytes(image[None]) for image in (y, *outputs)),
        heat(as_bytes((spread / spread.max())[None])),
    ]
    for name, output in zip(("one", "all", "mean"), outputs, strict=True):
        masker = calibrated(drawn, name, np.arange(len(drawn["y"])))
        mask = np.asarray(masker(triplets_of(shown, PROMISES[name][0], np.arange(1))[0]))
        tiles.append(overlay(as_bytes(output[None]), as_bytes(mask[None])))
    canvas = Image.new("RGB", (4 * TILE + 3 * GAP, 2 * TILE + GAP), "white")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, 4)
        picture = Image.fromarray(np.squeeze(tile)).convert("RGB").resize((TILE, TILE))
        canvas.paste(picture, (column * (TILE + GAP), row * (TILE + GAP)))
    canvas.quantize(128).save(PICTURE, optimize=True)


if __name__ == "__main__":
    {"train": train, "draw": draw, "measure": measure}[sys.argv[1]](*map(Path, sys.argv[2:]))
