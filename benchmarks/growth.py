"""Calibration as the set grows: time and memory, beside a plain grid, and what each guarantee adds.

    python benchmarks/growth.py [--only l1] [--most 10000]

One thread, 64-pixel images made on the fly (never all in memory), parts kept on disk as for `conformask
calibrate`. Each size runs in a process of its own, so that its peak memory is its own. Beside it the plain
way: 1000 lambdas one after the other over the pixels, without curves, on a few images and scaled up.
LPIPS takes TORCH_HOME with torchvision's SqueezeNet. Sizes that are in the result already are not run again.
Writes benchmarks/results/growth.json.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from conformask.arrays import Batch
from conformask.background import Compute
from conformask.losses import loss
from conformask.masks.critical import NO_GRID, calibration_data, lambda_grid, measures
from conformask.masks.families import family
from conformask.promises.order import Curves
from conformask.promises.promise import GUARANTEES, Promise
from conformask.records.reading import PLAIN, Reading
from conformask.scores.scorer import Heuristic
from conformask.scores.scoring import gathered

RESULT = Path(__file__).parent / "results" / "growth.json"
SIDE, THRESHOLD_QUANTILE, SEED = 64, 0.1, 0
SIZES = {"l1": (100, 1000, 10_000, 50_000), "ssim": (100, 1000, 10_000), "lpips": (100, 1000)}
PLAIN_IMAGES = {"l1": 20, "ssim": 4, "lpips": 1}
PLAIN_LAMBDAS = 1000
MB = 1024


@dataclass(frozen=True)
class Stream:
    """Triplets made when they are asked for."""

    start: int
    stop: int
    reading: Reading = PLAIN

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{index:06d}" for index in range(self.start, self.stop))

    def __len__(self) -> int:
        return self.stop - self.start

    def select(self, places: range) -> "Stream":
        return Stream(self.start + places.start, self.start + places.stop)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        for start in range(self.start, self.stop, batch_size):
            stop = min(start + batch_size, self.stop)
            yield _batch(start, stop)


def _batch(start: int, stop: int) -> Batch:
    """x is the scale of the error, up to a heavy-tailed factor for each image."""
    generator = torch.Generator().manual_seed(SEED + start)
    shape = (stop - start, 1, SIDE, SIDE)
    coarse = torch.rand((stop - start, 1, 8, 8), generator=generator)
    scale = 0.1 * torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
    factor = torch.randn((stop - start, 1, 1, 1), generator=generator).mul(0.7).exp()
    y = torch.rand(shape, generator=generator)
    y_hat = (y + factor * scale * torch.randn(shape, generator=generator)).clamp(0, 1)
    names = tuple(f"{index:06d}" for index in range(start, stop))
    return Batch(names, scale, y_hat, y)


SCORER = Heuristic(lambda x, y_hat: x + 1e-3, channels=1)


def calibrate(name: str, n: int) -> dict[str, float]:
    """Curves and critical lambdas of n images, and the rule of each guarantee."""
    used, chosen = loss(name), family("water_filling")
    selection = next(Stream(10**6, 10**6 + 64).batches(64))
    grid = lambda_grid(chosen, used, [selection.with_score(SCORER(selection.x, selection.y_hat))])
    threshold = float(torch.quantile(used(selection.truth(), selection.y_hat).double(), THRESHOLD_QUANTILE))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MB
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        found = gathered(
            SCORER,
            Stream(0, n),  # type: ignore[arg-type]
            lambda item: measures(item, chosen, used, grid, threshold),
            "calibrating",
            name,
            Compute(parts=Path(folder) / "parts"),
        )
        elapsed = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MB
    critical = found.pop("critical_lambda")
    curves = Curves.from_arrays(found | {"grid": grid})
    seen = calibration_data(curves, threshold, used, critical)
    return {
        "n": n,
        "seconds": elapsed,
        "ms_an_image": 1e3 * elapsed / n,
        "peak_mb_above_start": peak - before,
        "images_mb": n * 3 * SIDE * SIDE * 4 / 2**20,
        "rules_ms": rules(curves, seen),
    }


def rules(curves: Curves, seen: object) -> dict[str, float]:
    """Milliseconds that each guarantee takes to its rule, from the curves."""
    n, times = len(curves.names), {}
    labels = {
        "group": np.array([f"{k % max(n // 10, 1)}" for k in range(n)]),
        "category": np.array([f"{k % 3}" for k in range(n)]),
        "weight": 0.5 + (np.arange(n) % 7) / 7,
    }
    for name in GUARANTEES:
        wanted = Promise(name)
        if wanted.axes.statement.bounds_a_mean and seen.upper_bound is None:  # type: ignore[attr-defined]
            continue
        with_labels = type(seen)(**{**vars(seen), "curves": type(curves)(**{**vars(curves), **labels})})
        fixed = wanted.fit_on_selection(with_labels, n)
        started = time.perf_counter()
        fixed.rule(with_labels)
        times[name] = 1e3 * (time.perf_counter() - started)
    return times


def plain(name: str) -> float:
    """ms an image of 1000 lambdas one after the other, until the threshold is crossed at the latest."""
    used, chosen, count = loss(name), family("water_filling"), PLAIN_IMAGES[name]
    batch = _batch(0, count)
    item = batch.with_score(SCORER(batch.x, batch.y_hat))
    grid = np.geomspace(1e-6, 1, PLAIN_LAMBDAS)
    measures(item, chosen, used, NO_GRID)
    started = time.perf_counter()
    for lam in grid:
        level = chosen.level(item.score.map, torch.full((count,), float(lam), dtype=torch.float64))
        mask = chosen.apply(item.score.map, level)
        used(mask * batch.truth(), mask * batch.y_hat)
    return 1e3 * (time.perf_counter() - started) / count


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--only", choices=SIZES)
    options.add_argument("--most", type=int, default=10**9)
    options.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args()
    torch.set_num_threads(1)
    if given.one:
        name, n = given.one
        print(json.dumps(calibrate(name, int(n)) if int(n) else {"plain_ms_an_image": plain(name)}))
        return
    record = json.loads(RESULT.read_text()) if RESULT.exists() else {"machine": platform.machine()}
    for name in [given.only] if given.only else SIZES:
        rows = record.setdefault(name, {})
        for n in (0, *SIZES[name]):
            if n <= given.most and str(n) not in rows:
                command = [sys.executable, __file__, "--one", name, str(n)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                rows[str(n)] = json.loads(done.stdout)
                RESULT.write_text(json.dumps(record, indent=2) + "\n")
                print(name, n, {k: v for k, v in rows[str(n)].items() if k != "rules_ms"}, flush=True)


if __name__ == "__main__":
    main()
