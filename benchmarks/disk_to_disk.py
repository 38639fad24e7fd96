"""Masks of 2,000 small images from disk to disk, beside the bare network, and beside the disk without it.

    python benchmarks/disk_to_disk.py [--images 2000] [--before CHECKOUT]

Images of 256x256, 8-bit PNG and 16-bit TIFF, each way in a process of its own on all cores. "network" scores
tensors in memory, as torch alone does; "disk" writes the same files with a score that costs nothing; "two"
are two processes of one thread each, the second's start counted; --before also runs another checkout of
conformask. Writes benchmarks/results/disk_to_disk.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import conformask as cm
from conformask.images.read import write_image
from conformask.images.triplets import BATCH_SIZE
from conformask.records.record import write_json
from conformask.scores.scorer import Scorer

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "disk_to_disk.json"
SIDE = 256


def smooth(generator: np.random.Generator) -> np.ndarray:
    """An image that compresses like one: (1, H, W) in [0, 1]."""
    coarse = torch.from_numpy(generator.random((1, 1, 32, 32), dtype=np.float32))
    image = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)[0].numpy()
    return np.clip(image + 0.01 * generator.standard_normal(image.shape, dtype=np.float32), 0, 1)


def write_images(folder: Path, n: int, suffix: str) -> None:
    generator = np.random.default_rng(0)
    for index in range(n):
        image = smooth(generator)
        noisy = np.clip(image + 0.05 * generator.standard_normal(image.shape, dtype=np.float32), 0, 1)
        for role, each in (("x", noisy), ("y_hat", image)):
            write_image(folder / role / f"{index:05d}{suffix}", each, bits=16 if suffix == ".tif" else 8)


def masker_of(scorer: Scorer) -> cm.Masker:
    generator = np.random.default_rng(1)
    x, y_hat = (generator.random((20, SIDE, SIDE), dtype=np.float32) for _ in range(2))
    known = cm.Triplets.from_arrays(x, y_hat, 0.9 * y_hat)
    return cm.calibrate(scorer, known, threshold=0.02, loss="l1")


def network_scorer() -> Scorer:
    generator = np.random.default_rng(1)
    y_hat = generator.random((4, SIDE, SIDE), dtype=np.float32)
    return cm.packaged_scorer().of(cm.Triplets.from_arrays(y_hat, y_hat, 0.9 * y_hat))


def timed(way: str, folder: Path) -> float:
    """Seconds of one way."""
    if way == "network":
        scorer = network_scorer()
        images = cm.Triplets.from_folder(folder)
        x, y_hat = (torch.rand(BATCH_SIZE, 1, SIDE, SIDE) for _ in range(2))
        with torch.no_grad():
            scorer(x, y_hat)
            started = time.perf_counter()
            for _ in range(0, len(images), BATCH_SIZE):
                scorer(x, y_hat)
        return time.perf_counter() - started
    nothing = cm.Heuristic(lambda x, y_hat: (x - y_hat).abs(), channels=1)
    masker = masker_of(nothing if way == "disk" else network_scorer())
    started = time.perf_counter()
    cm.write_masks(
        masker,
        cm.Triplets.from_folder(folder),
        folder / way,
        compute=cm.Compute(devices=2 if way == "two" else 1),
    )
    return time.perf_counter() - started


def in_a_process(way: str, folder: Path, source: Path) -> float:
    """Seconds of one way, by the conformask of a checkout."""
    command = [sys.executable, str(Path(__file__).resolve()), "--way", way, "--folder", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(source / "src")}
    environment |= {"OMP_NUM_THREADS": "1"} if way == "two" else {}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(timed(options.way, options.folder))
        return
    results: dict[str, object] = {"images": options.images, "threads": torch.get_num_threads()}
    for suffix in (".png", ".tif"):
        with tempfile.TemporaryDirectory() as name:
            write_images(Path(name), options.images, suffix)
            seconds = {
                way: in_a_process(way, Path(name), HERE.parent) for way in ("network", "disk", "masks", "two")
            }
            if options.before:
                seconds["before"] = in_a_process("before", Path(name), options.before)
        slower = max(seconds["network"], seconds["disk"])
        results[suffix] = {
            "images_per_s": {way: options.images / taken for way, taken in seconds.items()},
            "of_the_slower_of_network_and_disk": {way: slower / taken for way, taken in seconds.items()},
        }
        print(suffix, json.dumps(results[suffix], indent=2))
    write_json(RESULTS, results)


if __name__ == "__main__":
    main()
