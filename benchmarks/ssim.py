"""SSIM of grey images beside torchmetrics, on one thread, and how far both are from float64.

    python benchmarks/ssim.py

Writes benchmarks/results/ssim.json.
"""

import json
from pathlib import Path
from statistics import median
from time import process_time

import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from conformask.cli import keep_memory
from conformask.losses.perceptual import Ssim

RESULT = Path(__file__).parent / "results" / "ssim.json"
SIDES = (64, 256, 1024)
PIXELS = 2**20
REPEATS = 9


def ours(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return Ssim()(a, b)


def theirs(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return 1 - structural_similarity_index_measure(a, b, reduction="none", data_range=1.0).reshape(-1)


def main() -> None:
    torch.set_num_threads(1)
    keep_memory()
    results = []
    for side in SIDES:
        a, noise = torch.rand(2, PIXELS // side**2, 1, side, side, generator=torch.Generator().manual_seed(0))
        b = (a + 0.1 * noise).clamp(0, 1)
        exact = theirs(a.double(), b.double())
        row: dict[str, float] = {"side": side, "images": len(a)}
        taken: dict[str, list[float]] = {"ours": [], "torchmetrics": []}
        for _ in range(1 + REPEATS):
            for name, ssim in (("ours", ours), ("torchmetrics", theirs)):
                started = process_time()
                row[f"{name}_error"] = float((ssim(a, b) - exact).abs().max())
                taken[name].append(process_time() - started)
        row |= {f"{name}_ms": 1000 * median(times[1:]) / len(a) for name, times in taken.items()}
        row["ratio"] = row["torchmetrics_ms"] / row["ours_ms"]
        results.append(row)
        print(*(f"{key} {value:.3g}" for key, value in row.items()), flush=True)
    RESULT.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
