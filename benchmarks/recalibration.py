"""Recalibration of 1000 stored curves, and the start of the command line."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from conformask.losses import loss
from conformask.losses.means import Mean
from conformask.masker.masker import Masker
from conformask.masks.families import family
from conformask.promises.order import Curves
from conformask.promises.promise import Promise
from conformask.promises.rules import ConstantLambda
from conformask.records.card import CalibrationCard
from conformask.scores.scorer import Heuristic

CURVES, POINTS, REPEATS = 1000, 130, 50
OUT = Path(__file__).parent / "results" / "recalibration.json"


def masker() -> Masker:
    """A masker with rising random curves."""
    generator = np.random.default_rng(0)
    grid = np.concatenate([[0.0], np.geomspace(1e-5, 1, POINTS - 2), [np.inf]])
    rising = np.sort(generator.lognormal(-4, 1, (CURVES, POINTS)), axis=1)
    rising[:, 0] = 0
    size = np.broadcast_to(np.linspace(1, 0, POINTS), rising.shape)
    curves = Curves(np.array([str(k) for k in range(CURVES)]), grid, rising, size)
    scorer = Heuristic(lambda x, y_hat: torch.ones_like(y_hat), channels=1)
    chosen = family("reciprocal")
    card = CalibrationCard(
        threshold=0.02, promise=Promise(), claim="", loss=Mean("l1"),
        family=chosen.settings(), rule=ConstantLambda(0.1), exact=True, exploratory=False, thresholds=None,
        n_calibration=CURVES, n_groups=None, n_effective=None, channels=1, sizes=((64, 64),),
        population=None, calibrated="", calibrated_on=(),
    )  # fmt: skip
    return Masker(scorer, loss("l1"), chosen, ConstantLambda(0.1), card, np.ones(CURVES), curves)


def best(action: object, repeats: int) -> float:
    """The shortest time in seconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()  # type: ignore[operator]
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    made = masker()
    command = [sys.executable, "-c", "from conformask.cli import main; main(['--help'])"]
    nothing = [sys.executable, "-c", "pass"]
    record = {
        "recalibrate_1000_curves_ms": 1e3 * best(lambda: made.recalibrate(threshold=0.03), REPEATS),
        "help_s": best(lambda: subprocess.run(command, capture_output=True, check=True), 10),
        "python_pass_s": best(lambda: subprocess.run(nothing, capture_output=True, check=True), 10),
    }
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(record, indent=2) + "\n")
    for name, value in record.items():
        print(f"{name}: {value:.3f}")


if __name__ == "__main__":
    main()
