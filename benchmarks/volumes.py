"""Masks of volumes from disk to disk: megavoxels a second beside the bare network, and peak memory for 2 GB.

    python benchmarks/volumes.py [--depth 120] [--side 1500] [--large 1024]

The network is the default one for volumes, slice by slice, with random weights. Bare means: from an array in
memory to an array in memory, in slabs of 64 slices, without tiles, lambda, mask or file.
"""

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
import zarr

import conformask as cm
from conformask.networks.slices import SliceWise, channels_of
from conformask.networks.unet import UNet
from conformask.scorers.tiled import tiled

SLAB = 64
UNIT = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]


class Score:
    """A random network as a score: the error that it would estimate."""

    def __init__(self, width: int) -> None:
        planes = UNet(channels_of(2), 1, width=width, levels=4, residual=True)
        self.network = SliceWise(planes).eval().requires_grad_(False)

    def __call__(self, x: torch.Tensor, y_hat: torch.Tensor) -> torch.Tensor:
        return self.network(2 * torch.cat([x, y_hat], dim=1) - 1).abs()


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
    return cm.calibrate(tiled(scorer, 3), known, threshold=0.04, distance="l1", family="water_filling")


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


def throughput(shape: tuple[int, ...], width: int) -> None:
    score = Score(width)
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
    voxels = np.prod(shape) / 1e6
    print(
        f"{shape}, width {width}: bare {voxels / bare:.2f} MV/s, disk to disk {voxels / whole:.2f} MV/s, "
        f"ratio {bare / whole:.2f}"
    )


def memory(side: int) -> None:
    masker = masker_of(cm.Heuristic(lambda x, y_hat: (x - y_hat).abs(), channels=1))
    with tempfile.TemporaryDirectory() as folder:
        data = triplets(Path(folder), (side,) * 3)
        peak = Peak()
        peak.start()
        started = time.perf_counter()
        cm.write_masks(masker, data, Path(folder) / "out")
        seconds, peak.stopped = time.perf_counter() - started, True
    print(
        f"{side}^3 uint16, {2 * side**3 / 1e9:.2f} GB, a score that costs nothing: {seconds:.0f} s, "
        f"{side**3 / 1e6 / seconds:.1f} MV/s, peak {peak.bytes / 1e9:.2f} GB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--depth", type=int, default=120)
    parser.add_argument("--side", type=int, default=1500)
    parser.add_argument("--large", type=int, default=1024)
    options = parser.parse_args()
    for width in (8, 16):
        throughput((options.depth, options.side, options.side), width)
    memory(options.large)


if __name__ == "__main__":
    main()
