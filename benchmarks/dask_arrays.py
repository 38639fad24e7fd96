"""The mask of one plane by dask, by threads and two processes, beside `conformask mask`: megapixels a second.

    python benchmarks/dask_arrays.py [--side 8192]

From zarr to zarr with the packaged network, on all cores; and with a score that costs nothing, which leaves
what dask, files and levels take. Writes benchmarks/results/dask_arrays.json.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dask.array as da
import numpy as np
import torch
import zarr
from distributed import Client, LocalCluster

import conformask as cm
from conformask.records.record import write_json
from conformask.scores.scorer import Scorer, tiled

RESULTS = Path(__file__).parent / "results" / "dask_arrays.json"
CHUNK = 1024


def write_plane(path: Path, side: int, seed: int) -> None:
    scale = [{"type": "scale", "scale": [1.0, 1.0]}]
    image = {
        "axes": [{"name": axis, "type": "space"} for axis in "yx"],
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    group = zarr.create_group(path, attributes={"ome": {"version": "0.5", "multiscales": [image]}})
    array = group.create_array("0", shape=(side, side), chunks=(CHUNK, CHUNK), dtype="uint16")
    generator = np.random.default_rng(seed)
    for top in range(0, side, CHUNK):
        array[top : top + CHUNK] = generator.integers(0, 2**12, (CHUNK, side), np.uint16) * 16


def masker_of(scorer: Scorer) -> cm.Masker:
    generator = np.random.default_rng(0)
    y_hat = generator.random((10, 64, 64), dtype=np.float32)
    known = cm.Triplets.from_arrays(y_hat, y_hat, 0.9 * y_hat)
    return cm.calibrate(tiled(scorer, 2), known, threshold=0.04, loss="l1")


def packaged() -> Scorer:
    y_hat = np.random.default_rng(0).random((4, 64, 64), dtype=np.float32)
    return cm.packaged_scorer().of(cm.Triplets.from_arrays(y_hat, y_hat, 0.9 * y_hat))


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def rates(scorer: Scorer, folder: Path, side: int) -> dict[str, float]:
    masker, images = masker_of(scorer), [folder / role / "a.zarr" for role in ("x", "y_hat")]
    mask = cm.masked(masker, *(da.from_zarr(str(image), component="0") for image in images))

    def with_dask(name: str) -> None:
        mask.to_zarr(str(folder / name), overwrite=True)

    def by_processes() -> None:
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster),
        ):
            with_dask("processes.zarr")

    pixels = side**2 / 1e6
    data = cm.Triplets.from_folder(folder)
    return {
        "tasks": len(mask.__dask_graph__()),
        "mask": pixels / timed(lambda: cm.write_masks(masker, data, folder / f"masks-{scorer.name}")),
        "threads": pixels / timed(lambda: with_dask("threads.zarr")),
        "two_processes_with_their_start": pixels / timed(by_processes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=8192)
    side = parser.parse_args().side
    results: dict[str, object] = {"side": side, "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as name:
        for seed, role in enumerate(("x", "y_hat")):
            (Path(name) / role).mkdir()
            write_plane(Path(name) / role / "a.zarr", side, seed)
        nothing = cm.Heuristic(difference, channels=1)
        for what, scorer in (("packaged network", packaged()), ("score that costs nothing", nothing)):
            results[what] = rates(scorer, Path(name), side)
            print(what, json.dumps(results[what], indent=2))
    write_json(RESULTS, results)


def difference(x: torch.Tensor, y_hat: torch.Tensor) -> torch.Tensor:
    return (x - y_hat).abs()


if __name__ == "__main__":
    main()
