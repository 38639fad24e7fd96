"""Score and mask of one image in onnxruntime, from an exported file, beside the same in PyTorch."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from conformask.extras.export.onnx import export
from conformask.losses import loss
from conformask.masker.masker import Masker
from conformask.masks.critical import NO_GRID
from conformask.masks.families import FAMILIES, family
from conformask.promises.promise import Promise
from conformask.promises.rules import ConstantLambda
from conformask.records.card import CalibrationCard
from conformask.records.loss import LossTerms
from conformask.scores.network_scorer import MaskNetwork, NetworkScorer, ScorerCard, ready
from conformask.scores.untrained import packaged_network

SIDE, REPEATS, THREADS, LAM = 256, 9, 2, 0.02
OUT = Path(__file__).parent / "results" / "exported.json"


def masker(name: str) -> Masker:
    """The packaged network with a family."""
    sizes, chosen, used = ((SIDE, SIDE),), family(name), loss("l1")
    network = ready(packaged_network(3, 3, 2))
    card = ScorerCard(
        scorer="mask", loss=LossTerms(distance="l1"), channels=3, x_channels=3, per_channel=False,
        sizes=sizes, unet=network.settings, trained_on=(),
    )  # fmt: skip
    calibration = CalibrationCard(
        threshold=0.02, promise=Promise(), claim="", loss=LossTerms(distance="l1"),
        family=chosen.settings(), rule=ConstantLambda(LAM), exact=True, exploratory=False, thresholds=None,
        n_calibration=1, n_groups=None, n_effective=None, channels=3, sizes=sizes, population=None,
        calibrated="", calibrated_on=(),
    )  # fmt: skip
    scorer = NetworkScorer(network, MaskNetwork(used), card)
    return Masker(scorer, used, chosen, ConstantLambda(LAM), calibration, np.full(len(NO_GRID), LAM), None)


def alternating(*actions: Callable[[], object]) -> list[float]:
    """The shortest time of each in seconds, taken in turn."""
    times = []
    for _ in range(REPEATS):
        for action in actions:
            started = time.perf_counter()
            action()
            times.append(time.perf_counter() - started)
    return [min(times[place :: len(actions)]) for place in range(len(actions))]


def measured(name: str, folder: Path) -> dict[str, float]:
    """Seconds an image, and their ratio."""
    made = masker(name)
    export(made, folder / "masker.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(folder / "masker.onnx", options)
    x, y_hat = torch.rand(2, 1, 3, SIDE, SIDE)
    given = {"x": x.numpy(), "y_hat": y_hat.numpy(), "lam": np.array([LAM])}
    pytorch, onnx = alternating(lambda: made.masks(x, y_hat), lambda: session.run(None, given))
    return {"pytorch": pytorch, "onnxruntime": onnx, "ratio": onnx / pytorch}


def main() -> None:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        found = {name: measured(name, Path(folder)) for name in FAMILIES}
    for name, row in found.items():
        print(f"{name:14s} " + "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    head = {"side": SIDE, "threads": THREADS, "cores": os.cpu_count()}
    OUT.write_text(json.dumps({**head, "families": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
