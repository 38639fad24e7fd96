"""Exact critical lambdas against reading the data once, a compiled grid, plain torch and lightning-uq-box.

    python benchmarks/critical_lambda.py [--images 1000] [--size 256]

One thread. Every time is for all images, read from memory; what is measured on fewer images is scaled up.
Writes benchmarks/results/critical_lambda.json.
"""

import argparse
import json
import math
import platform
import resource
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numba
import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from conformask.masks.families import Reciprocal, WaterFilling

RESULT = Path(__file__).parent / "results" / "critical_lambda.json"
TARGETS = {"reciprocal": 20, "water_filling": 30}
STEPS, FEW, DISTINCT = 1000, 3, 20


def simulate(n: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores smooth and lognormal, |y - y_hat| = score * exponential; (n, 3, size, size) float32 each."""
    generator = np.random.default_rng(0)
    noise = gaussian_filter(generator.normal(size=(DISTINCT, 3, size, size)), (0, 0, 4, 4))
    base = np.exp(noise / noise.std() - 4).astype(np.float32)
    score, error = np.empty((2, n, 3, size, size), np.float32)
    for i in range(n):
        score[i] = base[i % DISTINCT] * generator.uniform(0.5, 2)
        error[i] = score[i] * generator.standard_exponential(score[i].shape, np.float32)
    return torch.from_numpy(score), torch.from_numpy(error)


def seconds(function: Callable[[], object], repeat: int = 3) -> float:
    """The fastest of `repeat` runs."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def reciprocal_grid(score, error, grid, exponent, goal):  # type: ignore[no-untyped-def]
    """The last lambda of the grid to pass; compiled with the kernels' own settings."""
    last = 0.0
    for lam in grid:
        total = 0.0
        for i in range(score.size):
            mask = min(np.float32(1), np.float32(lam) / (np.float32(1e-3) + score[i]))
            total += error[i] * (mask if exponent == 1 else mask * mask)
        if total > goal:
            break
        last = lam
    return last


def grid_scan(score: torch.Tensor, error: torch.Tensor, exponent: int, threshold: float) -> None:
    """Every one of STEPS lambdas for each image: from the small ones up, none passed over."""
    grid = np.geomspace(1e-4, 1e-3 + float(score.max()), STEPS)
    for s, e in zip(score.numpy(), error.numpy(), strict=True):
        reciprocal_grid(
            s.ravel(), e.ravel(), grid, exponent, math.inf if threshold < 0 else threshold * e.size
        )


def torch_newton(score: torch.Tensor, error: torch.Tensor, exponent: int, threshold: float) -> torch.Tensor:
    """The same Newton iteration as one would write it in torch."""
    found = []
    for s, e in zip(score, error, strict=True):
        limit, weight, u = (1e-3 + s.double()) ** exponent, e.double(), 0.0
        while weight.sum() > threshold * e.numel():
            rising = limit > u
            step = float(
                (threshold * e.numel() - weight[~rising].sum()) / (weight[rising] / limit[rising]).sum()
            )
            if step <= u:
                break
            u = step
        found.append(u ** (1 / exponent))
    return torch.tensor(found)


def full_sort(score: torch.Tensor) -> None:
    """What a water_filling that sorts pays before anything else."""
    for s in score.numpy():
        np.argsort(s.ravel())


def lightning_uq_box(score: torch.Tensor, error: torch.Tensor) -> tuple[float, int] | None:
    """Seconds of its image-to-image calibration as it is, and its number of lambdas; None if absent."""
    try:
        from lightning_uq_box.uq_methods import Img2ImgConformal
    except Exception as error_found:
        print(f"lightning-uq-box: skipped ({type(error_found).__name__}: {error_found})")
        return None
    try:
        with tempfile.TemporaryDirectory() as folder:
            module = Img2ImgConformal(torch.nn.Identity(), alpha=0.999)  # tries every lambda
            zero = torch.zeros_like(score)
            error = error.clone()
            error[..., 0, 0] = 1e3  # its bound fails where an image has no pixel outside the interval
            module.model_logits, module.labels = [torch.stack([zero, zero, score], dim=1)], [error]
            trainer = SimpleNamespace(default_root_dir=folder)
            with mock.patch.object(Img2ImgConformal, "trainer", trainer):
                return seconds(module.on_train_end, 1), int(module.num_lambdas)
    except Exception as error_found:
        print(f"lightning-uq-box: skipped ({type(error_found).__name__}: {error_found})")
        return None


def growth(function: Callable[[], object]) -> tuple[float, float]:
    """Peak MiB that a call adds: as tracemalloc sees Python and numpy, and of the whole process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    function()
    traced = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return traced, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10


def case(family: Reciprocal | WaterFilling, exponent: int, score: torch.Tensor, error: torch.Tensor) -> dict:
    """Seconds and memory for one family and distance."""
    n, threshold = len(score), 0.3 * float(error.double().mean())
    run = lambda some: lambda: family.critical_lambda(score[:some], error[:some], float(exponent), threshold)  # noqa: E731
    run(FEW)()
    traced, resident = growth(run(n))
    few_traced, _ = growth(run(max(1, n // 10)))
    return {
        "family": family.name,
        "exponent": exponent,
        "seconds": seconds(run(n)),
        "peak_mib": traced,
        "peak_mib_tenth_of_images": few_traced,
        "resident_growth_mib": resident,
    }


def alternatives(exponent: int, score: torch.Tensor, error: torch.Tensor) -> dict[str, float]:
    """Seconds for all images, measured on a few."""
    n, threshold = len(score), 0.3 * float(error.double().mean())
    few, few_error = score[:FEW], error[:FEW]
    grid_scan(score[:1, :, :8, :8].contiguous(), error[:1, :, :8, :8].contiguous(), exponent, threshold)
    scale = n / FEW
    return {
        "grid_all_steps": scale * seconds(lambda: grid_scan(few, few_error, exponent, -1), 1),
        "grid_stops_at_threshold": scale * seconds(lambda: grid_scan(few, few_error, exponent, threshold), 1),
        "torch_newton": scale * seconds(lambda: torch_newton(few, few_error, exponent, threshold)),
        "argsort_alone": scale * seconds(lambda: full_sort(few)),
    }


def measure(n: int, size: int) -> dict:
    """All numbers of one run."""
    score, error = simulate(n, size)
    both = (score.numpy(), error.numpy())
    reads = [
        seconds(lambda: [image.sum() for array in both for image in array], 5),
        seconds(lambda: [array.sum() for array in both], 5),
        seconds(lambda: [tensor.sum() for tensor in (score, error)], 5),
    ]
    cases, others = [], {}
    for exponent in (1, 2):
        error_p = error if exponent == 1 else error.square_()
        families = (Reciprocal(), WaterFilling(float(exponent)))
        cases += [case(family, exponent, score, error_p) for family in families]
        others[f"l{exponent}"] = alternatives(exponent, score, error_p)
    return {"read_through_seconds": min(reads), "cases": cases, "alternatives": others} | rival(
        score, error, n
    )


def rival(score: torch.Tensor, error: torch.Tensor, n: int) -> dict:
    """lightning-uq-box on a few images, scaled up."""
    found = lightning_uq_box(score[:FEW], error[:FEW])
    return {"lightning_uq_box": found and {"seconds": found[0] * n / FEW, "lambdas": found[1]}}


def table(result: dict) -> None:
    """Print the numbers as ratios."""
    read = result["read_through_seconds"]
    print(f"{result['images']} images of 3x{result['size']}x{result['size']}; one read-through {read:.3f} s")
    print(
        f"{'':24}{'seconds':>9}{'read-throughs':>15}{'grid / it':>11}{'torch / it':>12}"
        f"{'MiB':>7}{'MiB n/10':>10}"
    )
    for row in result["cases"]:
        other = result["alternatives"][f"l{row['exponent']}"]
        own = row["seconds"]
        mark = "ok" if own / read <= TARGETS[row["family"]] else f"over {TARGETS[row['family']]}"
        print(
            f"{row['family'] + ' l' + str(row['exponent']):24}{own:9.2f}{own / read:15.1f}"
            f"{other['grid_all_steps'] / own:11.0f}{other['torch_newton'] / own:12.1f}{row['peak_mib']:7.1f}"
            f"{row['peak_mib_tenth_of_images']:10.1f}  {mark}"
        )
    for name, other in result["alternatives"].items():
        print(name, ", ".join(f"{key} {value:.1f} s" for key, value in other.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    where = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    versions = {name: version(name) for name in ("numpy", "numba", "torch")}
    result = {"images": asked.images, "size": asked.size, "grid_steps": STEPS, **where, **versions}
    result |= measure(asked.images, asked.size)
    table(result)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
