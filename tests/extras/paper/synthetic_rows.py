"""Synthetic results of the paper's rows: masks near the oracle's, a few pictures, any of it left out."""

import math
from typing import Any

import numpy as np
from PIL import Image

from conformask.extras.paper.settings import ROWS, RowResult, TableRow
from conformask.records.evaluation import Evaluation, Example, ImageRecords
from synthetic_card import card

Array = np.ndarray[Any, np.dtype[Any]]
THRESHOLDS = {"l1": 0.02, "l2": 0.002, "ssim": 0.15, "lpips": 0.08}
NOISE = {"mask": (1.2, 0.02), "quantile": (1.7, 0.05), "default": (1.1, 0.015)}
"""How much larger than the oracle's a method's masks are, and how scattered."""


def example(rng: np.random.Generator, name: str, kind: str, side: int = 24) -> Example:
    coarse = rng.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    y = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
    flat = y[..., 0]
    return Example(name, kind, y[::2, ::2], y, y[::-1], flat, flat, 0.3, 0.2, 0.019, None)


def evaluation(row: TableRow, method: str, images: ImageRecords, examples: tuple[Example, ...]) -> Evaluation:
    threshold = THRESHOLDS[row.distance]
    coverage, size = float((images.loss <= threshold).mean()), float(images.size.mean())
    return Evaluation(
        card=card(threshold=threshold, distance=row.distance, n_calibration=100),
        fingerprint="",
        scorer=method,
        n_test=len(images.size),
        coverage=coverage,
        coverage_interval=(max(coverage - 0.05, 0.0), min(coverage + 0.05, 1.0)),
        mask_size=size,
        mask_size_interval=(0.9 * size, 1.1 * size),
        mask_size_oracle=None,
        mask_size_paper_oracle=None,
        n_paper_oracle=0,
        ratio_to_oracle=None,
        correlation_size_loss=None,
        correlation_size_oracle=None,
        spearman_size_loss=None,
        spearman_size_oracle=None,
        coverage_by_difficulty=(),
        size_by_difficulty=(),
        size_by_threshold=(),
        images=images,
        examples=examples,
    )


def row_result(row: TableRow, n: int = 40, opt: float = 1.0, side: int = 24) -> RowResult:
    """A finished row; `opt` is the share of test images on which Opt was computed."""
    rng, threshold = np.random.default_rng(row.number), THRESHOLDS[row.distance]
    unmasked = threshold * rng.gamma(6, 0.35, n)
    exact = np.clip(0.5 * (1 - np.minimum(threshold / unmasked, 1) ** 0.5), 0, 1)
    names = np.array([f"image-{i:04d}.png" for i in range(n)])
    methods = {}
    for method, (larger, noise) in NOISE.items():
        size = np.clip(larger * exact + 0.01 + rng.normal(0, noise, n), 0, 1)
        spread = 0.16 if method != "quantile" else 0.3
        masked = np.where(
            unmasked < threshold, unmasked, threshold * np.exp(rng.normal(-1.28 * spread, spread, n))
        )
        nothing = np.full(n, np.nan)
        records = ImageRecords(names, masked, unmasked, size, nothing, nothing, nothing, unmasked)
        pictures = np.random.default_rng(row.number)
        shown = tuple(
            example(pictures, str(names[i]), kind, side)
            for i, kind in enumerate(("best", "typical", "worst", "typical")[:n])
        )
        methods[method] = evaluation(row, method, records, shown)
    there = np.arange(n) < math.ceil(opt * n)
    oracle = row.distance in ("l1", "l2")
    return RowResult(
        row=row,
        threshold=threshold,
        methods=methods,
        opt_size=np.where(there, np.clip(1.05 * exact, 0, 1), np.nan),
        exact_size=exact if oracle else np.full(n, np.nan),
        exact_distance=np.minimum(unmasked, threshold) if oracle else np.full(n, np.nan),
        opt_distance=np.where(there, np.minimum(unmasked, threshold), np.nan),
    )


def all_rows(n: int = 40) -> list[RowResult]:
    """All sixteen; Opt on half of the images where the distance is costly."""
    return [row_result(row, n, 1.0 if row.distance in ("l1", "l2") else 0.5) for row in ROWS]
