"""What the packaged score hides, untrained, on tasks and networks of which its pre-training knows none.

    python research/pretraining/unseen.py DATA [WORK]

WORK holds what unseen_networks.py wrote. Choices about the packaged score were made on these: the pairs of
research/results/minute.md stay untouched. Beside the score: the steepness of y_hat, the local spread,
|x - y_hat| and a constant, all calibrated on the same half of the images at 90 % and the 0.1-quantile of the
losses. Writes research/pretraining/results/unseen.json.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import tifffile
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter
from scipy.signal import wiener
from skimage.restoration import denoise_nl_means

import conformask as cm
from conformask.errors import CalibrationError
from conformask.records.record import write_json
from conformask.scores.networks import NEAR, averaged, steps_of
from conformask.scores.simple import local_spread
from conformask.scores.untrained import packaged_network

RESULTS = Path(__file__).parent / "results" / "unseen.json"
TILE, MOST, SEED = 128, 400, 1
QUANTILE, CONFIDENCE = 0.1, 0.9
SMOOTH, NOISE, PHOTONS, KEPT, CENTRE = 1.3, 0.03, 20, 0.2, 0.12
MEAN_OF_NEIGHBOURS = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
Pairs = Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]
"""x, y_hat and y, (H, W) or (H, W, 3) in [0, 1]."""
Function = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def filtered_micrographs(data: Path) -> Pairs:
    """Real noise of microscopes, by Wiener's filter."""
    for path in sorted((data / "fmd").glob("*_noisy1.png")):
        clean = path.with_name(path.name.replace("noisy1", "clean"))
        x, y = (np.asarray(Image.open(each).convert("L")) / 255 for each in (path, clean))
        yield from tiles(x, wiener(x, 5).clip(0, 1), y, side=TILE)


def dithered(data: Path) -> Pairs:
    """Photographs in black and white dots, smoothed."""
    for photograph in photographs(data, "L"):
        x = np.asarray(photograph.convert("1")).astype(float)
        yield x, gaussian_filter(x, SMOOTH).clip(0, 1), np.asarray(photograph) / 255


def mosaics(data: Path) -> Pairs:
    """One colour for each pixel and a little noise, as a camera has them; bilinear between."""
    generator = np.random.default_rng(SEED)
    for photograph in photographs(data, "RGB"):
        y = np.asarray(photograph) / 255
        known = np.zeros_like(y)
        known[0::2, 0::2, 0] = known[0::2, 1::2, 1] = known[1::2, 0::2, 1] = known[1::2, 1::2, 2] = 1
        x = known * (y + NOISE * generator.standard_normal(y.shape)).clip(0, 1)
        sums, counts = (
            np.stack([convolve(image[..., c], MEAN_OF_NEIGHBOURS) for c in range(3)], axis=-1)
            for image in (x, known)
        )
        yield x, (sums / np.maximum(counts, 1e-6)).clip(0, 1), y


def undersampled(data: Path) -> Pairs:
    """Slices of MR of which a third of the lines were measured, the others taken for zero; x is y_hat."""
    generator = np.random.default_rng(SEED)
    for path in sorted((data / "mr_t1").rglob("*.nii*")):
        if "label" in path.name or "seg" in path.name:
            continue
        volume = nibabel.load(path).get_fdata()
        for place in (30, 40, 50):
            y = (volume[:, :, place] / np.quantile(volume, 0.999)).clip(0, 1)
            lines = np.arange(len(y))
            kept = (abs(lines - len(y) // 2) < len(y) * CENTRE) | (generator.random(len(y)) < KEPT)
            spectrum = np.fft.fftshift(np.fft.fft2(y)) * kept[:, None]
            x = abs(np.fft.ifft2(np.fft.ifftshift(spectrum))).clip(0, 1)
            yield x, x, y


def few_photons(data: Path) -> Pairs:
    """Planes of stacks with Poisson noise, by non-local means."""
    generator = np.random.default_rng(SEED)
    for name in ("golgi", "nuclei3d", "nuclear_envelope", "chromosomes"):
        stack = tifffile.imread(data / "stacks" / f"{name}.tif").astype(float)
        for plane in (stack / np.quantile(stack, 0.999)).clip(0, 1)[::2]:
            x = (generator.poisson(PHOTONS * plane) / PHOTONS).clip(0, 1)
            y_hat = denoise_nl_means(x, patch_size=3, patch_distance=4, h=0.15).clip(0, 1)
            yield from tiles(x, y_hat, plane, side=TILE // 2)


def by_network(path: Path) -> Pairs:
    """What unseen_networks.py wrote, x brought to the size of y_hat."""
    roles = np.load(path)
    for x, y_hat, y in zip(roles["x"], roles["y_hat"], roles["y"], strict=True):
        brought = F.interpolate(
            torch.from_numpy(x).permute(2, 0, 1)[None] / 255, y.shape[:2], mode="bilinear"
        )
        yield brought[0].permute(1, 2, 0).numpy(), y_hat / 255, y / 255


def photographs(data: Path, mode: str) -> Iterator[Image.Image]:
    """The middle of some."""
    paths = sorted(path for path in (data / "photos").rglob("*") if path.suffix in (".png", ".jpg", ".jpeg"))
    for place in np.random.default_rng(SEED).permutation(len(paths))[:MOST]:
        image = Image.open(paths[place]).convert(mode)
        if min(image.size) >= TILE:
            left, top = ((side - TILE) // 2 for side in image.size)
            yield image.crop((left, top, left + TILE, top + TILE))


def tiles(*images: np.ndarray, side: int) -> Pairs:
    rows, columns = (length // side for length in images[0].shape)
    for top in range(0, rows * side, side):
        for left in range(0, columns * side, side):
            x, y_hat, y = (image[top : top + side, left : left + side] for image in images)
            yield x, y_hat, y


def scores(x_channels: int, channels: int) -> dict[str, Function]:
    network = packaged_network(x_channels, channels, 2).eval().requires_grad_(False)
    return {
        "packaged": lambda x, y_hat: network(2 * torch.cat([x, y_hat], dim=1) - 1),
        "steepness": lambda x, y_hat: averaged(steps_of(y_hat), NEAR) + 1e-3,
        "local spread": local_spread,
        "|x - y_hat|": lambda x, y_hat: (x - y_hat).abs().mean(dim=1, keepdim=True) + 1e-3,
        "constant": lambda x, y_hat: torch.ones_like(y_hat[:, :1]),
    }


def hidden(pairs: Pairs) -> dict[str, float]:
    """The share that each score hides on half of the images, calibrated on the other half."""
    images = [np.stack(each).astype(np.float32) for each in zip(*pairs, strict=True)]
    order = np.random.default_rng(SEED).permutation(len(images[0]))[:MOST]
    x, y_hat, y = (each[order] for each in images)
    axes = tuple(range(1, y.ndim))
    threshold = float(np.quantile(np.abs(y - y_hat).mean(axis=axes), QUANTILE))
    triplets = cm.Triplets.from_arrays(x, y_hat, y)
    half = len(triplets) // 2
    calibration, test = triplets.select(range(half)), triplets.select(range(half, 2 * half))
    channels = len(triplets[0].y_hat)
    sizes = {}
    for name, function in scores(channels, channels).items():
        scorer = cm.Heuristic(function, channels=channels)
        terms = {"threshold": threshold, "confidence": CONFIDENCE, "family": "water_filling"}
        try:
            masker = cm.calibrate(scorer, calibration, loss="l1", **terms)
        except CalibrationError:
            sizes[name] = 1.0  # it has to hide everything
        else:
            sizes[name] = round(cm.evaluate(masker, test).mask_size, 4)
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path, nargs="?")
    options = parser.parse_args()
    tasks = (filtered_micrographs, dithered, mosaics, undersampled, few_photons)
    found = {task.__name__: hidden(task(options.data)) for task in tasks}
    for path in sorted(options.work.glob("*.npz")) if options.work else []:
        found[path.stem] = hidden(by_network(path))
    names = next(iter(found.values()))
    found["geometric mean"] = {
        name: round(float(np.exp(np.mean([np.log(sizes[name]) for sizes in found.values()]))), 4)
        for name in names
    }
    write_json(RESULTS, found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
