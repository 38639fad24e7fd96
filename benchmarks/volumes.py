"""Masks of volumes from disk to disk: megavoxels a second beside the bare network, and peak memory for 2 GB.

    python benchmarks/volumes.py [--depth 72] [--side 600 1500] [--large 1024]

The network is the packaged one, slice by slice. Bare means: from an array in memory to an array in memory, in
slabs of 64 slices, without tiles, lambda, mask or file. Writes benchmarks/results/volumes.json.
"""

import argparse
import json
import math
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

import conformask as cm
from conformask.records.record import write_json
from conformask.scores.scorer import tiled
from conformask.scores.untrained import packaged_network

RESULTS = Path(__file__).parent / "results" / "volumes.json"
SLAB = 64
UNIT = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]


class Score:
    """The packaged network as a score."""

    def __init__(self) -> None:
        self.network = packaged_network(1, 1, 3).eval().requires_grad_(False)

    def __call__(self, x: torch.Tensor, y_hat: torch.Tensor) -> torch.Tensor:
        return self.network(2 * torch.cat([x, y_hat], dim=1) - 1)


def write_zarr(path: Path, shape: tuple[int, ...], seed: int) -> None:
    """An OME-Zarr of uint16, slab by slab."""
    image = {
        "axes": UNIT,
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0] * 3}]}],
    }
    group = zarr.create_group(path, attributes={"ome": {"version": "0.5", "multiscales": [image]}})
    array = group.create_array("0", shape=shape, chunks=(32, 256, 256), dtype="uint16")
    generator = np.random.default_rng(seed)
    for start in range(0, shape[0], 32):
        stop = min(start + 32, shape[0])
        array[start:stop] = generator.integers(0, 2**12, (stop - start, *shape[1:]), np.uint16) * 16


def triplets(folder: Path, shape: tuple[int, ...]) -> cm.Triplets:
    for seed, role in enumerate(("x", "y_hat")):
        (folder / role).mkdir(parents=True)
        write_zarr(folder / role / "a.ome.zarr", shape, seed)
    return cm.Triplets.from_folder(folder)


def masker_of(scorer: object) -> cm.Masker:
    generator = np.random.default_rng(0)
    x, y_hat = (generator.random((10, 8, 40, 40), dtype=np.float32) for _ in range(2))
    known = cm.Triplets.from_arrays(x, y_hat, 0.9 * y_hat, reading=cm.Reading(axes="ZYX"))
    return cm.calibrate(tiled(scorer, 3), known, threshold=0.04, loss="l1", family="water_filling")


class Peak(threading.Thread):
    """Samples what this process holds that the system cannot drop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes, self.stopped = 0, False

    def run(self) -> None:
        while not self.stopped:
            for line in Path(f"/proc/{os.getpid()}/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    self.bytes = max(self.bytes, 1024 * int(line.split()[1]))
            time.sleep(0.02)


def throughput(shape: tuple[int, ...]) -> dict[str, float]:
    score = Score()
    scorer = cm.Heuristic(score, channels=1)
    object.__setattr__(scorer, "network", score.network)
    masker = masker_of(scorer)
    with tempfile.TemporaryDirectory() as folder:
        data = triplets(Path(folder), shape)
        x, y_hat = (torch.from_numpy(data[0].x)[None], torch.from_numpy(data[0].y_hat)[None])
        started = time.perf_counter()
        for start in range(0, shape[0], SLAB):
            with torch.no_grad():
                score(x[:, :, start : start + SLAB], y_hat[:, :, start : start + SLAB])
        bare = time.perf_counter() - started
        started = time.perf_counter()
        cm.write_masks(masker, data, Path(folder) / "out")
        whole = time.perf_counter() - started
    voxels = math.prod(shape) / 1e6
    return {
        "bare_megavoxels_per_s": voxels / bare,
        "whole_megavoxels_per_s": voxels / whole,
        "ratio": bare / whole,
    }


def memory(side: int) -> dict[str, float]:
    masker = masker_of(cm.Heuristic(lambda x, y_hat: (x - y_hat).abs(), channels=1))
    with tempfile.TemporaryDirectory() as folder:
        data = triplets(Path(folder), (side,) * 3)
        peak = Peak()
        peak.start()
        started = time.perf_counter()
        cm.write_masks(masker, data, Path(folder) / "out")
        seconds, peak.stopped = time.perf_counter() - started, True
    return {
        "gigabytes": 2 * side**3 / 1e9,
        "megavoxels_per_s_of_a_score_that_costs_nothing": side**3 / 1e6 / seconds,
        "anonymous_peak_gigabytes": peak.bytes / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--depth", type=int, default=72)
    parser.add_argument("--side", type=int, nargs="+", default=[600, 1500])
    parser.add_argument("--large", type=int, default=1024)
    options = parser.parse_args()
    results: dict[str, Any] = {"threads": torch.get_num_threads()}
    for side in options.side:
        shape = (options.depth, side, side)
        results["x".join(map(str, shape))] = throughput(shape)
    results[f"{options.large} cubed"] = memory(options.large)
    write_json(RESULTS, results)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
