"""What the viewer's tests show: an evaluation, and volumes of a patient that lies oddly in its files."""

import math
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from conformask.records.evaluation import Evaluation, Example, ImageRecords
from synthetic_card import TERMS, card

HU = (-1024.0, 3071.0)
SPACE = (10, 14, 18)
"""(D, H, W) of the volumes."""
RIGHT, SUPERIOR, POSTERIOR = 3.0, 1.5, 2.0
"""Their steps along z, y and x, in mm."""
AFFINE = np.array([[0, 0, RIGHT, 5], [-POSTERIOR, 0, 0, 7], [0, SUPERIOR, 0, 9], [0, 0, 0, 1]])
"""x runs to posterior, y to superior, z to right."""


def volume(seed):
    """y and y_hat in HU, int16 (D, H, W): structures that are smooth in y_hat, most of them in one slice."""
    generator = np.random.default_rng(seed)
    y = generator.normal(0, 60, SPACE)
    y[7] += generator.normal(0, 400, SPACE[1:])
    y_hat = (y + np.roll(y, 1, 1) + np.roll(y, 1, 2)) / 3
    return y.round().astype(np.int16), y_hat.round().astype(np.int16)


def write_volumes(folder, seeds, affine):
    for seed in seeds:
        y, y_hat = volume(seed)
        for role, image in (("x", y_hat), ("y_hat", y_hat), ("y", y)):
            path = folder / role / f"v{seed}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(image.T, affine).to_filename(path)


Array = np.ndarray[Any, np.dtype[Any]]
THRESHOLD = 0.02


def smooth(rng, height, width):
    coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def blurred(y, factor=6):
    """A low-resolution input and its enlargement."""
    height, width = y.shape[:2]
    x = Image.fromarray(y).resize((width // factor, height // factor), Image.Resampling.BOX)
    return np.asarray(x), np.asarray(x.resize((width, height), Image.Resampling.BICUBIC))


def example(y, kind, name, oracle_size=0.09, strict=1.0):
    x, y_hat = blurred(y)
    error = np.abs(y.astype(float) - y_hat).reshape(*y.shape[:2], -1).mean(axis=-1) / 255
    scale = float(np.quantile(error, 0.99)) + 1e-6
    size = max(error.shape)
    spread = Image.fromarray((error * 255).astype(np.uint8)).resize(
        (size // 4, size // 4), Image.Resampling.BOX
    )
    guess = np.asarray(spread.resize(error.shape[::-1], Image.Resampling.BICUBIC)) / 255
    mask = np.minimum(1, 0.025 * strict / (0.004 + guess))
    return Example(
        name=name,
        kind=kind,
        x=x,
        y=y,
        y_hat=y_hat,
        mask=np.floor(255 * mask).astype(np.uint8),
        error=np.rint(255 * np.minimum(error / scale, 1)).astype(np.uint8),
        error_scale=scale,
        size=float((1 - mask).mean()),
        loss=float((mask * error).mean()),
        oracle_size=oracle_size,
    )


def records(n, rng):
    unmasked = rng.gamma(6, 0.007, n)
    exact = np.clip(1 - (THRESHOLD / unmasked) ** 0.55, 0, 1) * 0.5
    size = np.clip(exact * 1.15 + 0.02 + rng.normal(0, 0.022, n), 0, 1)
    masked = np.where(unmasked < THRESHOLD, unmasked, THRESHOLD * np.exp(rng.normal(-0.22, 0.165, n)))
    return ImageRecords(
        name=np.array([f"image-{i:04d}.png" for i in range(n)]),
        loss=masked,
        unmasked_loss=unmasked,
        size=size,
        oracle_size=exact,
        paper_oracle_size=np.clip(exact * 1.3, 0, 1),
        critical_lambda=np.where(unmasked < THRESHOLD, np.inf, rng.gamma(3, 0.1, n)),
        difficulty=unmasked * np.exp(rng.normal(0, 0.15, n)),
    )


def deciles(values, difficulty):
    parts = np.array_split(values[np.argsort(difficulty)], 10)
    return tuple(float(part.mean()) if part.size else math.nan for part in parts)


def evaluation(n=400, seed=0, examples=None, **changes):
    rng = np.random.default_rng(seed)
    terms = {name: changes.pop(name) for name in TERMS & changes.keys()}
    images: ImageRecords = changes.pop("images", None) or records(n, rng)
    met = images.loss <= THRESHOLD * (1 + 1e-6)
    coverage, size, oracle = float(met.mean()), float(images.size.mean()), float(images.oracle_size.mean())
    if examples is None:
        kinds = [("best", (64, 64)), ("typical", (64, 48)), ("worst", (240, 320))]
        examples = [example(smooth(rng, *shape), kind, f"{kind}-0.png") for kind, shape in kinds]
    margin = 1.96 * math.sqrt(coverage * (1 - coverage) / n) + 0.5 / n
    thresholds = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4]
    values: dict[str, Any] = {
        "card": card(family={"name": "water_filling"}, **terms),
        "fingerprint": "3f9a-07c1-55be-d20e",
        "scorer": "mask",
        "n_test": n,
        "coverage": coverage,
        "coverage_interval": (max(coverage - margin, 0.0), min(coverage + margin, 1.0)),
        "mask_size": size,
        "mask_size_interval": (0.93 * size, 1.07 * size),
        "mask_size_oracle": oracle,
        "mask_size_paper_oracle": 1.3 * oracle,
        "n_paper_oracle": n,
        "ratio_to_oracle": size / oracle if oracle else None,
        "correlation_size_loss": 0.87,
        "correlation_size_oracle": 0.91,
        "spearman_size_loss": 0.88,
        "spearman_size_oracle": 0.92,
        "coverage_by_difficulty": deciles(met, images.difficulty),
        "size_by_difficulty": deciles(images.size, images.difficulty),
        "size_by_threshold": tuple((THRESHOLD * t, 0.42 * math.exp(-0.9 * t)) for t in thresholds),
        "images": images,
        "examples": tuple(examples),
        "mean_loss": float(images.loss.mean()) if n else math.nan,
        "mean_loss_interval": (0.9 * float(images.loss.sum() / max(n, 1)), THRESHOLD),
    }
    return Evaluation(**{**values, **changes})
