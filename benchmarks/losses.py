"""Critical lambdas of each loss, in read-throughs of the data.

    python benchmarks/losses.py [--images 300] [--size 256]

One thread; scores and errors of one channel, each loss with the family that suits it. A read-through is the
sum of both, as torch takes it. What is solved exactly (image, missed) goes through the kernels, window
from one worst window to the next, trusted and wrong through curves on a grid of 130 lambdas. Writes
benchmarks/results/losses.json.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from conformask.arrays import Batch, Score
from conformask.losses import loss
from conformask.losses.base import Loss
from conformask.losses.means import FalseOmissionRate, MeanShown, MissRate
from conformask.losses.window import MaskedWindow
from conformask.masks.critical import critical_lambdas, lambda_grid, unmasked_loss
from conformask.masks.families import family

RESULT = Path(__file__).parent / "results" / "losses.json"
LOSSES = (
    loss("l1"),
    MissRate("l1", 0.05),
    MaskedWindow("l1", 9),
    MeanShown("l1"),
    FalseOmissionRate("l1", 0.05),
)


def simulate(n: int, size: int) -> Batch:
    """Scores smooth and lognormal, errors score * exponential."""
    generator = np.random.default_rng(0)
    noise = gaussian_filter(generator.normal(size=(n, 1, size, size)), (0, 0, 4, 4))
    score = np.exp(noise / noise.std() - 4).astype(np.float32)
    error = np.minimum(score * generator.standard_exponential(score.shape), 1).astype(np.float32)
    y = torch.zeros(n, 1, size, size)
    return Batch(("",) * n, y, torch.from_numpy(error), y).with_score(Score(torch.from_numpy(score)))


def seconds(function: Callable[[], object]) -> float:
    """The fastest of three runs."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def measured(used: Loss, item: Batch, read: float) -> dict[str, object]:
    chosen = family(used.traits.family or "water_filling")
    threshold = float(unmasked_loss(used, item).median()) / 2
    grid = np.array([0.0, np.inf]) if used.traits.monotone else lambda_grid(chosen, used, [item])
    taken = seconds(lambda: critical_lambdas(item, chosen, used, grid, threshold))
    return {
        "loss": used.name,
        "family": chosen.name,
        "seconds": taken,
        "read_throughs": taken / read,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    item = simulate(options.images, options.size)
    read = seconds(lambda: item.score.map.sum() + item.y_hat.sum())
    rows = [measured(used, item, read) for used in LOSSES]
    result = {"images": options.images, "size": options.size, "read_through_seconds": read, "losses": rows}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"{options.images} images of {options.size}x{options.size}; one read-through {read:.4f} s")
    for row in rows:
        print(
            f"{row['loss']:22} {row['family']:14} {row['seconds']:7.2f} s {row['read_throughs']:8.0f} reads"
        )


if __name__ == "__main__":
    main()
