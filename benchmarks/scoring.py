"""Megapixels a second of scores in use: the packaged network, which is the default, beside the one before it.

    python benchmarks/scoring.py [--side 512] [--images 1]

Before it the default was a U-Net of width 32 with residual blocks. Weights do not change the time, so that
those of the U-Net are random. Both score the same images in float32, in turns: first as torch alone does,
which gives memory back after each batch, then as in use, where it is kept. Writes
benchmarks/results/scoring.json.
"""

import argparse
import json
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import nn

from conformask.arrays import full_precision
from conformask.cli import keep_memory
from conformask.records.record import write_json
from conformask.scores.network_scorer import network_input, ready
from conformask.scores.networks import UNet
from conformask.scores.untrained import packaged_network

RESULTS = Path(__file__).parent / "results" / "scoring.json"
REPEATS = 5


def seconds(network: nn.Module, inputs: torch.Tensor) -> float:
    started = perf_counter()
    with torch.no_grad(), full_precision(inputs):
        network(inputs)
    return perf_counter() - started


def compared(channels: int, images: int, side: int) -> dict[str, float]:
    """Megapixels a second of both, and how many times the packaged one is faster."""
    x, y_hat = torch.rand(2, images, channels, side, side)
    inputs = network_input(x, y_hat)
    networks = {
        "packaged": ready(packaged_network(channels, channels, 2)),
        "unet_of_width_32": ready(UNet(2 * channels, 1, width=32, levels=4, residual=True)),
    }
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(1 + REPEATS):
        for name, network in networks.items():
            times[name].append(seconds(network, inputs))
    speeds = {name: images * side**2 / 1e6 / median(taken[1:]) for name, taken in times.items()}
    return {**speeds, "times_faster": speeds["packaged"] / speeds["unet_of_width_32"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--images", type=int, default=1)
    options = parser.parse_args()
    results: dict[str, Any] = {"threads": torch.get_num_threads()}
    for memory in ("given back", "kept"):
        if memory == "kept":
            keep_memory()
        for channels in (1, 3):
            key = f"channels_{channels}, memory {memory}"
            results[key] = compared(channels, options.images, options.side)
    write_json(RESULTS, results)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
