"""What should a score learn for local promises: the error, its local mean, or a high quantile of that?

    python research/local_scores.py DATA [--tasks photos,cells]

Images, networks and thresholds as in research/local.py. Of each task's images, groups whole, 36 % train, 9 %
select, 30 % calibrate, 25 % test. From the packaged network's weights, the same training with three targets:
the error of each pixel (the score is then averaged over the window, which is what conformask does), the mean
error in the window around it, and the 0.9-quantile of that mean (pinball loss).
Writes research/results/local_scores/TASK.json after each task, goes on there, and in the end writes the page
research/results/local-scores.md.
"""

import copy
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from local import TASKS, WINDOW, WithoutSmoothing, measure, run
from torch import Tensor, nn

import conformask as cm
from conformask.arrays import Images
from conformask.extras.train.fit import FROM_PACKAGED
from conformask.losses.of_images import local_means
from conformask.scores.network_scorer import network_input, ready
from conformask.scores.untrained import packaged_network

RESULTS = Path(__file__).parent / "results" / "local_scores"
PAGE = Path(__file__).parent / "results" / "local-scores.md"
STEPS, BATCH, LEVEL, FLOOR = 800, 8, 0.9, 1e-4
ROLES = ("x", "y_hat", "y")
LEARNED_FROM = ("photos", "cells", "nuclei", "polyu", "mr_t1")
Objective = Callable[[Tensor, Tensor, Tensor], Tensor]


def squares(output: Tensor, errors: Tensor, means: Tensor) -> Tensor:
    return (output - errors).square()


def squares_of_means(output: Tensor, errors: Tensor, means: Tensor) -> Tensor:
    return (output - means).square()


def pinball_of_means(output: Tensor, errors: Tensor, means: Tensor) -> Tensor:
    beyond = means - output
    return torch.maximum(LEVEL * beyond, (LEVEL - 1) * beyond)


OBJECTIVES: dict[str, tuple[Objective, bool]] = {
    "error, averaged": (squares, True),
    "local mean": (squares_of_means, False),
    "0.9-quantile of the local mean": (pinball_of_means, False),
}
"""Training losses of each pixel, and whether the score is averaged over the window afterwards."""


def maps_of(images: cm.Triplets, side: int) -> list[Tensor]:
    """Inputs of the network, errors, their local means, and 1 inside the region, (N, C, H, W) each."""
    x, y_hat, y = (torch.from_numpy(np.stack([getattr(each, role) for each in images])) for role in ROLES)
    region = (
        torch.from_numpy(np.stack([each.layers["region"] for each in images])) if images.has_regions else None
    )
    errors = (y - y_hat).abs().mean(dim=1, keepdim=True)
    means, inside = local_means(errors, region, (side, side))
    return [network_input(x, y_hat), errors, means.float(), inside.float()]


def mean_loss(network: nn.Module, objective: Objective, maps: list[Tensor]) -> Tensor:
    """A promise is about its region alone, and so is what its score learns."""
    inputs, *targets, inside = maps
    return (objective(network(inputs), *targets) * inside).sum() / inside.sum()


def learned(train: cm.Triplets, selection: cm.Triplets, objective: Objective, side: int) -> nn.Module:
    """Train the packaged network for the objective, with flips and turns; the rate falls to 0.

    The weights are those of the smallest loss on the selection images, at every fiftieth step.
    """
    torch.manual_seed(0)
    maps, held_out = maps_of(train, side), maps_of(selection, side)
    network = packaged_network(train[0].x.shape[0], train[0].y_hat.shape[0], 2).train()
    best, weights = float("inf"), copy.deepcopy(network.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), FROM_PACKAGED)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        if step % 50 == 0:
            with torch.no_grad():
                found = float(mean_loss(network.eval(), objective, held_out))
            network.train()
            if found < best:
                best, weights = found, copy.deepcopy(network.state_dict())
        chosen = torch.randint(len(maps[0]), (BATCH,))
        turns, flipped = int(torch.randint(4, ())), bool(torch.randint(2, ()))
        optimizer.zero_grad()
        mean_loss(network, objective, [turned(each[chosen], turns, flipped) for each in maps]).backward()
        optimizer.step()
        schedule.step()
    network.load_state_dict(weights)
    return ready(network)


def turned(images: Tensor, turns: int, flipped: bool) -> Tensor:
    images = images.rot90(turns, (-2, -1))
    return images.flip(-1) if flipped else images


def scorer_of(network: nn.Module, channels: int) -> cm.Heuristic:
    def scores(x: Images, y_hat: Images) -> Images:
        with torch.no_grad():
            output = network(network_input(x, y_hat))
        # as conformask's own heads have it: what is estimated below the floor keeps its order
        return torch.where(output > FLOOR, output, FLOOR**2 / (2 * FLOOR - output.clamp(max=FLOOR)))

    return cm.Heuristic(scores, channels=channels)


def of_task(name: str, data: Path) -> dict[str, object]:
    x, y_hat, y, regions, groups = zip(*TASKS[name](data), strict=True)
    within = {} if regions[0] is None else {"regions": regions}
    images = cm.Triplets.from_arrays(x, y_hat, y, groups=groups, **within)
    rest, test = images.holdout(0.25)
    rest, calibration = rest.holdout(0.4)
    train, selection = rest.holdout(0.2)
    unit = "image_of_new_group" if len(set(test.groups)) < len(test) else None
    how = {"selection": selection, "promise": cm.Promise(confidence=0.9, unit=unit)}
    loss = cm.Local("l1", WINDOW).in_regions(calibration.has_regions)
    packaged = cm.calibrate(cm.packaged_scorer(), calibration, threshold="q0.2", loss=loss, **how)
    threshold = float(packaged.card.threshold)
    rows: dict[str, object] = {}
    for label, (objective, averaged) in OBJECTIVES.items():
        started = time.monotonic()
        scorer = scorer_of(learned(train, selection, objective, WINDOW), train[0].y_hat.shape[0])
        seconds = time.monotonic() - started
        plain = cm.Local if averaged else WithoutSmoothing
        losses = {"local": (plain("l1", WINDOW), threshold)}
        for share in (0.01, 0.05):
            share_loss = cm.LocalShare if averaged else ShareWithoutSmoothing
            losses[f"local_share {share}"] = (share_loss("l1", WINDOW, threshold), share)
        for promise, (used, level) in losses.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of masks that hide much
                masker = cm.calibrate(scorer, calibration, threshold=level, loss=used, **how)
            rows[f"{promise}, {label}"] = measure(masker, test, threshold, WINDOW)
            print(name, promise, label, rows[f"{promise}, {label}"], f"{seconds:.0f} s", flush=True)
    parts = (train, selection, calibration, test)
    return {"threshold": threshold, "images": [len(part) for part in parts], "rows": rows}


class ShareWithoutSmoothing(cm.LocalShare):
    """The same loss, with masks of the score itself."""

    score_window = None


TEXT = """# What a score should learn for local promises

`local` and `local_share` are about the mean error around each pixel. A score network is trained with the
error of each pixel, and its score is averaged over the window. Would it be better to train it with the
local mean itself, or with a high quantile of it, since one pixel decides over an image? Written by
`research/local_scores.py`; nothing but the words around the table is typed by hand.

Images, networks and thresholds are those of [How much local promises hide](local.md). The packaged network
was trained three times from its weights, {steps} steps of {batch} images, with the same images, flips and
turns; the weights are the best on the selection images. The numbers are hidden shares of test images, in
brackets the share of these in which the sentence is true.

{table}

{conclusion}
"""


def page() -> str:
    """The page of documentation, from the results."""
    found = {
        name: json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in LEARNED_FROM
    }
    promises = ("local", "local_share 0.01", "local_share 0.05")
    lines = [
        "| images | train + selection + calibration + test | promise | " + " | ".join(OBJECTIVES) + " |",
        "|---" * (3 + len(OBJECTIVES)) + "|",
    ]
    wins: dict[str, list[float]] = {label: [] for label in OBJECTIVES}
    for name, task in found.items():
        for promise in promises:
            cells = [name, " + ".join(map(str, task["images"])), promise]
            kept = f"at_most_{promise.split()[1]}_beyond" if " " in promise else "kept"
            for label in OBJECTIVES:
                row = task["rows"][f"{promise}, {label}"]
                cells.append(f"{row['hidden']:.3f} ({row[kept]:.2f})")
                wins[label].append(row["hidden"])
            lines.append("| " + " | ".join(cells) + " |")
    means = [f"{label} {sum(shares) / len(shares):.3f}" for label, shares in wins.items()]
    conclusion = f"Mean hidden share over the rows: {', '.join(means)}. conformask does the first: "
    conclusion += "no target wins on all images."
    return TEXT.format(table="\n".join(lines), conclusion=conclusion, steps=STEPS, batch=BATCH)


if __name__ == "__main__":
    run(__doc__, LEARNED_FROM, RESULTS, of_task, lambda: PAGE.write_text(page(), encoding="utf-8"))
