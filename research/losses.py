"""Which score and which family give the smallest masks for each loss.

    python research/losses.py WORK --photos DIR --cells DIR

For super-resolution, colorization and completion of photographs and super-resolution of cells a regressor is
trained, and beside it one network with an output for each thing that a score could learn: the mean error, the
probability that a pixel is wrong, the mean and an upper quantile of the error around it, and 1 - SSIM. The
same network for all, so that nothing but what is learnt differs. Scores are crossed with families: on the
selection images, dealt to two halves, to choose by; and on the test images, after calibration on others, to
report. WORK keeps networks and scores; research/results/losses.json what was measured, loss by loss, and a
killed run goes on there. research/losses_page.py makes research/results/losses.md of it. About an hour on two
cores.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders import Data, trained
from torch import Tensor

from conformask.arrays import Batch, Images, PerImage, Score
from conformask.extras.make.regressor import fit_predictor
from conformask.extras.make.tasks import task as task_by_name
from conformask.extras.make.triplets import TrueImages, write_triplets
from conformask.extras.train import TrainingConfig
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.losses.base import Loss
from conformask.losses.means import FalseOmissionRate, MeanShown, MissRate
from conformask.losses.of_images import around
from conformask.losses.perceptual import Ssim
from conformask.losses.window import MaskedWindow
from conformask.masks.critical import critical_lambdas, lambda_grid, loss_under, mask_size, unmasked_loss
from conformask.masks.families import Power, Reciprocal, TrustedMean, WaterFilling
from conformask.masks.family import Family
from conformask.promises.order import marginal_rank, smallest
from conformask.scores.network_scorer import MaskNetwork, network_input
from conformask.scores.simple import local_spread

RESULTS = Path(__file__).parent / "results" / "losses.json"
SETTINGS = (
    ("super_resolution", "photos"),
    ("colorization", "photos"),
    ("completion", "photos"),
    ("super_resolution", "cells"),
)
SIZE, WIDTH, PREDICTOR_EPOCHS, EPOCHS, LEVELS = 96, 16, 10, 16, 4
WINDOW, TOLERANCE, WRONG_SSIM, UPPER = 9, 0.1, 0.3, 0.9
CONFIDENCE, DEALS, MOST = 0.9, 50, 200
THRESHOLDS: Mapping[str, tuple[float, ...]] = {
    "image": (0.02, 0.03),
    "trusted": (0.03, 0.05),
    "window": (0.1, 0.15),
    "missed": (0.2, 0.5),
    "wrong": (0.05, 0.1),
    "ssim_map": (0.1, 0.2),
}
"""What a person might ask for; those of cells are a third of it for errors, which are as much smaller."""
LEARNT = ("mean error", "probability of wrong", "mean around", "upper quantile around", "1 - SSIM")


@dataclass(frozen=True)
class Several:
    """A head with an output for each of LEARNT, all but the quantile by least squares on one scale."""

    scale: Tensor
    name = "several"
    family = "water_filling"
    fitted_for = None
    start = 0.0

    def outputs(self, channels: int, per_channel: bool) -> int:
        return len(LEARNT)

    def loss(self, output: Images, y: Images, y_hat: Images) -> PerImage:
        targets = targets_of(y, y_hat)
        squares = ((output - targets).square() / self.scale).mean(dim=(2, 3))
        excess = targets[:, 3] - output[:, 3]
        pinball = torch.maximum(UPPER * excess, (UPPER - 1) * excess).mean(dim=(1, 2))
        return squares[:, [0, 1, 2, 4]].sum(dim=1) + 2 * pinball / self.scale[0, 3].sqrt().squeeze()

    def score(self, output: Images) -> Images:
        return MaskNetwork(loss("l1")).score(output)


def targets_of(y: Images, y_hat: Images) -> Images:
    """What each output should be, (N, len(LEARNT), H, W)."""
    error = (y - y_hat).abs().mean(dim=1, keepdim=True)
    near = around(error, WINDOW)
    ssim = Ssim().error_map(y, y_hat).mean(dim=1, keepdim=True)
    return torch.cat([error, (error > TOLERANCE).float(), near, near, ssim], dim=1)


def triplets_of(work: Path, task: str, data: str, folder: Path) -> Triplets:
    """Made by a regressor that is trained first."""
    where = work / f"{task}-{data}"
    if not (where / "data" / "manifest.csv").is_file():
        stride, split = (SIZE, "tile") if data == "cells" else (None, "file")
        images = TrueImages.from_folder(folder, SIZE, stride, split, 0, colour=True)
        predictor = fit_predictor(
            images.part("train"),
            images.part("selection"),
            task=task_by_name(task),
            size=SIZE,
            out=where / "predictor",
            training=TrainingConfig(epochs=PREDICTOR_EPOCHS, resume=True),
            width=WIDTH,
        )
        write_triplets(images, where / "data", task=predictor.task, predictor=predictor)
    return Triplets.from_folder(where / "data")


def tensors(triplets: Triplets) -> Batch:
    """All of a part, at most MOST where it is to be judged."""
    batches = list(triplets.batches(64))
    x, y_hat, y = (torch.cat([getattr(b, name) for b in batches]) for name in ("x", "y_hat", "y"))
    return Batch(tuple(name for b in batches for name in b.names), x, y_hat, y)


def data_of(batch: Batch) -> Data:
    x = network_input(batch.x, batch.y_hat)[:, : batch.x.shape[1]] / 2 + 0.5
    return x, batch.y_hat, batch.truth()


def scores_of(work: Path, task: str, data: str, triplets: Triplets) -> dict[str, tuple[Batch, Tensor]]:
    """Of each part the images and their scores, (N, len(LEARNT), H, W)."""
    parts = {name: triplets.part(name) for name in ("selection", "calibration", "test")}
    batches = {name: tensors(part.select(range(min(MOST, len(part))))) for name, part in parts.items()}
    kept = work / f"{task}-{data}" / "scores.pt"
    if not kept.is_file():
        x, y_hat, y = data_of(tensors(triplets.part("train")))
        targets = torch.cat([targets_of(*pair) for pair in zip(y.split(64), y_hat.split(64), strict=True)])
        head = Several(targets.square().mean(dim=(0, 2, 3), keepdim=True))
        with torch.enable_grad():
            how = {"width": WIDTH, "levels": LEVELS, "residual": True, "symmetric": True}
            network = trained(head, (x, y_hat, y), EPOCHS, **how)
        torch.save({name: predicted(network, head, batch) for name, batch in batches.items()}, kept)
    scores = torch.load(kept, weights_only=True)
    return {name: (batches[name], scores[name]) for name in batches}


def predicted(network: torch.nn.Module, head: Several, batch: Batch) -> Tensor:
    seen = network_input(data_of(batch)[0], batch.y_hat)
    return torch.cat([head.score(network(some).float()) for some in seen.split(32)])


def losses() -> Iterator[tuple[str, Loss]]:
    yield "image", loss("l1")
    yield "trusted", MeanShown("l1")
    yield "window", MaskedWindow("l1", WINDOW)
    yield "missed", MissRate("l1", TOLERANCE)
    yield "wrong", FalseOmissionRate("l1", TOLERANCE)
    yield "ssim_map", loss("ssim_map")


def contenders(name: str, scores: Tensor, batch: Batch) -> Iterator[tuple[str, Tensor]]:
    """Scores for a loss, by what they learnt; and two that learn nothing."""
    learnt = {
        "trusted": (0, 1), "window": (0, 2, 3), "missed": (0, 1), "wrong": (0, 1), "ssim_map": (4, 0),
    }.get(name, (0,))  # fmt: skip
    for place in learnt:
        yield LEARNT[place], scores[:, place : place + 1]
    if name == "window":
        yield "mean error, smoothed", around(scores[:, :1], WINDOW)
    yield "local spread", local_spread(batch.x, batch.y_hat)


def families() -> Iterator[tuple[str, Family]]:
    yield "reciprocal", Reciprocal()
    yield "power 4 -0.25", Power()
    yield "threshold", Power(10.0, kappa=0.0)
    for kappa in (-0.25, 0.0, 1.0):
        yield f"water_filling {kappa:g}", WaterFilling(kappa=kappa)
    for kappa in (-0.25, 0.0):
        yield f"trusted_mean {kappa:g}", TrustedMean(kappa)


def measured(used: Loss, family: Family, parts: Mapping[str, Batch], threshold: float) -> dict[str, float]:
    """Mean sizes and coverage on halves of the selection images, and on the test images."""
    grid = np.array([0.0, np.inf])
    if not used.monotone:
        grid = lambda_grid(family, used, [parts["selection"]])
    known = ("selection", "calibration")
    critical = {name: critical_lambdas(parts[name], family, used, grid, threshold) for name in known}
    lam = smallest(critical["calibration"], marginal_rank(len(critical["calibration"]), CONFIDENCE))
    score = parts["test"].score.map
    mask = family.apply(score, family.level(score, torch.full((len(score),), lam, dtype=torch.float64)))
    met = loss_under(used, mask, parts["test"]).numpy() <= threshold * (1 + 1e-6)
    hardest = score.mean(dim=(1, 2, 3)).argsort().numpy()[-max(1, len(score) // 5) :]
    return {
        "size": float(mask_size(mask).mean()),
        "coverage": float(met.mean()),
        "hardest": float(met[hardest].mean()),
        "chosen by": on_halves(family, parts["selection"].score.map, critical["selection"]),
    }


def on_halves(family: Family, score: Tensor, critical: np.ndarray) -> float:
    """The mean mask size of one half at the lambda of the other, over DEALS deals."""
    generator, n = np.random.default_rng(0), len(critical)
    orders = [generator.permutation(n) for _ in range(DEALS)]
    lambdas = [smallest(critical[o[: n // 2]], marginal_rank(n // 2, CONFIDENCE)) for o in orders]
    grid = np.unique([0.0, *lambdas, np.inf])
    sizes = family.curve(score, torch.zeros_like(score), 1.0, grid)[1]
    places = np.searchsorted(grid, lambdas)
    return float(np.mean([sizes[o[n // 2 :], at].mean() for o, at in zip(orders, places, strict=True)]))


def explore(setting: str, parts: Mapping[str, tuple[Batch, Tensor]], results: dict[str, Any]) -> None:
    """Every loss at its thresholds, every score with every family."""
    test, scores = parts["test"]
    for name, used in losses():
        for threshold in thresholds(name, setting):
            row = results.setdefault(f"{setting}|{name}|{threshold:g}", {})
            best = used.of_batch(test, 1).oracle(threshold)
            row["oracle"] = None if best is None else float(mask_size(best).mean())
            row["unmasked"] = float((unmasked_loss(used, test).numpy() <= threshold).mean())
            for title, _ in contenders(name, scores, test):
                scored = {
                    part: batch.with_score(Score(dict(contenders(name, of_part, batch))[title]))
                    for part, (batch, of_part) in parts.items()
                }
                for family_title, family in families():
                    key = f"{title}|{family_title}"
                    if key not in row:
                        row[key] = measured(used, family, scored, threshold)
                RESULTS.write_text(json.dumps(results, indent=1))
            print(f"{setting}: {name} {threshold:g}", flush=True)


def thresholds(name: str, setting: str) -> list[float]:
    smaller = "cells" in setting and name in ("image", "trusted", "window")
    return [round(asked / 3, 4) if smaller else asked for asked in THRESHOLDS[name]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--cells", type=Path, required=True)
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for task, data in SETTINGS:
        triplets = triplets_of(options.work, task, data, vars(options)[data])
        explore(f"{task}, {data}", scores_of(options.work, task, data, triplets), results)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
