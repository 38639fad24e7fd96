"""Which score with which family gives the smallest masks, on the selection images of a paper run.

    python research/smaller_masks.py RUN --photos DIR --cells DIR [--rows 1,2,5] [--preset long]

RUN is the folder of a `conformask paper`, with the folders of images that it was given; its predictors and
triplets are taken, and no calibration or test image is looked at. For L1 and L2 every score is trained here,
on the same images and for as many epochs; for SSIM and LPIPS the mask network of the run is crossed with the
families. On all rows the two networks of the run, each trained to its end, are compared with one family. Row
9 also says what more images, epochs or width would give, what other networks would, and what the best
possible masks are in a world whose errors are known.

The selection images are dealt 200 times to two halves: one gives lambda, the other the mean mask size,
coverage, and coverage by fifth of difficulty (the mean score of the run's mask network, for all contenders
alike). Lambdas between grid points are interpolated, so that no contender gains or loses by the grid. With
kappa an image's lambda is lambda * (its mean score)^kappa. Writes research/results/smaller_masks/row-N.json
after each contender, and goes on there; research/smaller_masks_page.py makes a page of it.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders import (
    Data,
    ErrorRegression,
    JointTotal,
    LinearErrorRegression,
    PlainClip,
    UpperError,
    attentive,
    fine_tuned,
    symmetry,
    trained,
    undone,
)
from torch import Tensor

from conformask.arrays import Batch, Score
from conformask.background import Compute
from conformask.extras.make.predictors import NetworkPredictor
from conformask.extras.paper.images import collections_of
from conformask.extras.paper.measures import threshold_of
from conformask.extras.paper.rows import Row, distances_of
from conformask.extras.paper.scorers import trained_scorer
from conformask.extras.paper.settings import CONFIDENCE, PRESETS, QUANTILE, rows_of
from conformask.extras.paper.stages import Cache, plan_row, points
from conformask.extras.train.fit import LEVELS
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.losses.base import Loss
from conformask.masks.critical import GRID_POINTS, curves, features_of, lambda_grid
from conformask.masks.families import Power, Reciprocal, WaterFilling
from conformask.masks.family import Family
from conformask.masks.kernels import KAPPA
from conformask.promises.axes import quantile_regression
from conformask.promises.data import Curves
from conformask.promises.order import between_grid_points, marginal_rank, smallest
from conformask.records.record import Array
from conformask.scores.network_scorer import Head, MaskNetwork, Quantile, network_input
from conformask.scores.networks import UNet, levels_for

RESULTS = Path(__file__).parent / "results" / "smaller_masks"
DEALS, SEED, FIFTHS, FOLDS = 200, 0, 5, 5
EPOCHS, LONGER = 8, 24
CROSSED = (1, 2, 5, 6, 8, 9, 10, 12, 13, 16)
"""Rows on which every score is crossed with every family."""
AS_DEFAULT = "the same, trained on flips and turns"
PASSES = 9
"""Times are medians of so many."""
KAPPAS = (0.0, KAPPA, 2 * KAPPA)
MEASURED = 64
"""Selection images, where the distance is measured mask by mask."""
VARIED = (6, 9)
"""Rows on which the training of the mask network is varied; on the second errors are known, too."""
UNSEEN = (0.0, 0.2, 0.4)
"""Standard deviations of the log of an image's error that nothing tells, in the known world."""


@dataclass(frozen=True)
class Judge:
    """The selection images of a row."""

    batch: Batch
    loss: Loss
    threshold: float
    difficulty: Array
    points: int

    def crossed(self, score: Tensor) -> Iterator[tuple[str, dict[str, object]]]:
        """What a score gives with each family."""
        for title, family in families(self.loss.exponent):
            found = self.curves(score, family)
            for kappa in KAPPAS[:1] if title == "reciprocal" else KAPPAS:
                yield f"{title} {kappa:+g}" if kappa else title, self.judged(score, found, kappa)

    def default(self, score: Tensor, *, adaptive: bool = False) -> dict[str, object]:
        """What a score gives with the default family; adaptive: with lambda by quantile regression."""
        exponent = self.loss.exponent
        family = Power(kappa=0.0) if exponent is None else WaterFilling(exponent, kappa=0.0)
        found = self.curves(score, family)
        return self.judged(score, found, KAPPA / (exponent or 1.0), adaptive=adaptive)

    def curves(self, score: Tensor, family: Family) -> Curves:
        items = [self.batch.with_score(Score(score))]
        return curves(items, family, self.loss, lambda_grid(family, self.loss, items, self.points))

    def judged(
        self, score: Tensor, found: Curves, kappa: float, *, adaptive: bool = False
    ) -> dict[str, object]:
        """Means over random halves."""
        critical = between_grid_points(found.grid, found.loss, self.threshold)
        share = score.mean(dim=(1, 2, 3)).double().numpy() ** kappa
        features, generator = features_of(Score(score)), np.random.default_rng(SEED)
        dealt = []
        for _ in range(DEALS):
            order = generator.permutation(len(critical))
            calibration, rest = np.split(order, [len(order) // 2])
            scale = _adapted(critical, features, calibration) if adaptive else share
            lam = smallest((critical / scale)[calibration], marginal_rank(len(calibration), CONFIDENCE))
            met = (critical / scale)[rest] >= lam
            sizes = [_size(found, place, lam * scale[place]) for place in rest]
            fifths = np.array_split(met[np.argsort(self.difficulty[rest])], FIFTHS)
            dealt.append([np.mean(sizes), met.mean(), *(fifth.mean() for fifth in fifths)])
        means, spread = np.mean(dealt, axis=0), np.quantile(np.array(dealt)[:, 0], (0.025, 0.975))
        known = [_size(found, place, critical[place]) for place in range(len(critical))]
        return {
            "size": float(means[0]),
            "range": spread.tolist(),
            "coverage": float(means[1]),
            "by_fifth": means[2:].tolist(),
            "size_if_lambda_were_known": float(np.mean(known)),
        }


def _size(found: Curves, place: int, lam: float) -> float:
    grid = found.grid[1:-1]
    return float(np.interp(np.log(max(lam, grid[0])), np.log(grid), found.size[place, 1:-1]))


def _adapted(critical: Array, features: Array, calibration: Array) -> Array:
    """exp h of every image, h never fitted on the image itself."""
    scale = np.ones(len(critical))
    outside = np.setdiff1d(np.arange(len(critical)), calibration)
    for held in (*np.array_split(calibration, FOLDS), outside):
        used = np.setdiff1d(calibration, held)
        used = used[np.isfinite(critical[used]) & (critical[used] > 0)]
        model = quantile_regression(features[used], np.log(critical[used]), 1 - CONFIDENCE)
        scale[held] = np.exp(model.intercept + features[held] @ np.array(model.coefficients))
    return scale


def families(exponent: float | None) -> Iterator[tuple[str, Family]]:
    """Name and family, without kappa."""
    yield "reciprocal", Reciprocal()
    for gamma in (2.0, 4.0, 10.0):
        yield f"power {gamma:g}", Power(gamma, kappa=0.0)
    yield "water_filling", WaterFilling(exponent or 1.0, kappa=0.0)


def whole(triplets: Triplets) -> Batch:
    """All of them in one batch, however many."""
    parts = list(triplets.batches(64))
    x, y_hat, y = (
        torch.cat(images) for images in zip(*((p.x, p.y_hat, p.truth()) for p in parts), strict=True)
    )
    return Batch(tuple(name for part in parts for name in part.names), x, y_hat, y)


def data_of(batch: Batch) -> Data:
    """As the contenders are trained on it."""
    size = batch.y_hat.shape[-2:]
    x = batch.x if batch.x.shape[-2:] == size else torch.nn.functional.interpolate(
        batch.x, size=size, mode="bilinear", antialias=False
    )  # fmt: skip
    return x, batch.y_hat, batch.truth()


def scored(network: UNet, head: Head, data: Data, *, turned: bool = False) -> Tensor:
    """The score of each image; turned: its mean over the eight symmetries."""
    turns = [(flip, quarters) for flip in (False, True) for quarters in range(4)] if turned else [(False, 0)]
    maps = []
    for x, y_hat in zip(data[0].split(16), data[1].split(16), strict=True):
        seen = [
            undone(*turn)(head.score(network(network_input(symmetry(*turn)(x), symmetry(*turn)(y_hat)))))
            for turn in turns
        ]
        maps.append(torch.stack(seen).mean(dim=0))
    return torch.cat(maps)


@dataclass(frozen=True)
class Notebook:
    """The file of a row, written after each contender."""

    path: Path

    def once(self, title: str, made: Callable[[], Mapping[str, object]]) -> None:
        """Make what is not there yet."""
        known = json.loads(self.path.read_text()) if self.path.exists() else {}
        if title not in known:
            known[title] = made()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(known, indent=1) + "\n")
            for name, found in known[title].items():
                print(f"  {title:28}{name:24}{found['size']:.3f}  {found['by_fifth'][-1]:.2f}", flush=True)


def lp_scores(notebook: Notebook, judge: Judge, train: Data) -> None:
    """Every score with every family."""
    held = data_of(judge.batch)
    heads = [head(judge.loss) for head in (MaskNetwork, ErrorRegression, LinearErrorRegression, UpperError)]

    def made(head: Head) -> dict[str, object]:
        return dict(judge.crossed(scored(_with_gradients(trained, head, train, EPOCHS), head, held)))

    for head in (*heads, Quantile()):
        notebook.once(head.name, partial(made, head))


def variants(notebook: Notebook, judge: Judge, train: Data) -> None:
    """The mask network with the default family, trained otherwise."""
    head, held, fit = MaskNetwork(judge.loss), data_of(judge.batch), partial(_with_gradients, trained)
    told = partial(by_default, judge, head, held)

    plain = cache(lambda: fit(head, train, EPOCHS))
    tuned = partial(_with_gradients, fine_tuned)
    ways: dict[str, Callable[[], dict[str, object]]] = {
        "as it is": lambda: told(plain()),
        "mean over flips and turns": lambda: told(plain(), turned=True),
        "lambda by quantile regression": lambda: {
            "default": judge.default(scored(plain(), head, held), adaptive=True)
        },
        "trained on flips and turns": lambda: told(fit(head, train, EPOCHS, symmetric=True)),
        "ensemble of three": lambda: {
            "default": judge.default(
                torch.stack([scored(fit(head, train, EPOCHS, seed=k), head, held) for k in range(3)]).mean(0)
            )
        },
        "three times the epochs": lambda: told(fit(head, train, LONGER)),
        "conformal fine-tuning": lambda: told(
            tuned(fit(head, train, EPOCHS), head, train, judge.threshold, KAPPA, EPOCHS // 2)
        ),
    }
    for title, made in ways.items():
        notebook.once(title, made)


def limits(notebook: Notebook, judge: Judge, train: Data) -> None:
    """The default on fewer images, for as many steps, and at other widths."""
    mask, held = MaskNetwork(judge.loss), data_of(judge.batch)

    def made(share: int, width: int) -> dict[str, object]:
        x, y_hat, y = (images[::share] for images in train)
        network = default_network(mask, (x, y_hat, y), share * LONGER, width=width)
        return {"limit": judge.default(scored(network, mask, held))}

    for title, share, width in (
        ("half the images", 2, 16),
        ("a quarter of the images", 4, 16),
        ("width 8", 1, 8),
        ("width 32", 1, 32),
    ):
        notebook.once(title, partial(made, share, width))


def default_network(head: Head, data: Data, epochs: int, **how: Any) -> UNet:
    """The network of the default, trained as the default is."""
    return _with_gradients(trained, head, data, epochs, levels=LEVELS, residual=True, symmetric=True, **how)


def clips(notebook: Notebook, judge: Judge, train: Data) -> None:
    """The mask network with either clip, with the default family."""
    held = data_of(judge.batch)

    def told(head: Head) -> dict[str, object]:
        return by_default(judge, head, held, _with_gradients(trained, head, train, EPOCHS))

    notebook.once("as it is", lambda: told(MaskNetwork(judge.loss)))
    notebook.once("gradients through the clip both ways", lambda: told(PlainClip(judge.loss)))


def by_default(judge: Judge, head: Head, held: Data, network: UNet, **how: bool) -> dict[str, object]:
    """What a network's score gives with the default family."""
    return {"default": judge.default(scored(network, head, held, **how))}


def networks(notebook: Notebook, judge: Judge, train: Batch, shop: Row) -> None:
    """Other networks for the same score, with the default family."""
    mask, plain = MaskNetwork(judge.loss), (data_of(train), data_of(judge.batch))
    predictor = NetworkPredictor.load(shop.cache.folder(shop.plan.predictor))

    def told(head: Head, data: tuple[Data, Data], epochs: int = EPOCHS, **how: Any) -> dict[str, object]:
        return of(_with_gradients(trained, head, data[0], epochs, **how), head, data)

    def of(network: UNet, head: Head, data: tuple[Data, Data]) -> dict[str, object]:
        learnt, held = data
        scores = scored(network, head, learnt), scored(network, head, held)
        spread = {
            f"spread_{part}": spread_of(score, judge.loss.error_map.error_map(y, y_hat))
            for part, score, (_, y_hat, y) in zip(("train", "selection"), scores, data, strict=True)
        }
        return {"default": judge.default(scores[1]) | spread | cost(network, plain[1], held)}

    def of_the_run(method: str) -> dict[str, object]:
        network: UNet = shop._load_scorer(method).network  # type: ignore[assignment]
        return of(network, mask, plain)

    def seen(batch: Batch) -> Data:
        x, y_hat, y = data_of(batch)
        return torch.cat([x, features(predictor, batch.x)], dim=1), y_hat, y

    short: dict[str, Any] = {"levels": LEVELS, "residual": True}
    ways: dict[str, Callable[[], dict[str, object]]] = {
        "U-Net": lambda: told(mask, plain),
        "four levels, residual blocks": lambda: told(mask, plain, **short),
        "joint head for the image's error": lambda: told(JointTotal(mask), plain),
        "residual blocks": lambda: told(mask, plain, residual=True),
        "attention": lambda: told(mask, plain, changed=attentive),
        "features of the predictor": lambda: told(mask, (seen(train), seen(judge.batch))),
        "four levels": lambda: told(mask, plain, levels=LEVELS),
        "four levels, residual blocks, three times the epochs": lambda: told(mask, plain, LONGER, **short),
        AS_DEFAULT: lambda: of(default_network(mask, plain[0], LONGER), mask, plain),
        "U-Net, three times the epochs": lambda: told(mask, plain, LONGER),
        "U-Net of the run, trained to the end": lambda: of_the_run("mask"),
        "default of the run, trained to the end": lambda: of_the_run("default"),
    }
    for title, made in ways.items():
        notebook.once(title, made)


def networks_of_the_run(judge: Judge, shop: Row) -> Iterator[tuple[str, dict[str, object]]]:
    """The U-Net and the default's network, each trained to its end, both with the default family."""
    for title, method in (("U-Net", "mask"), ("own network", "default")):
        yield title, judge.default(_scores_of_the_run(shop, method, judge.batch))


def spread_of(score: Tensor, error: Tensor) -> float:
    """The standard deviation, over images, of the log of error / mean score."""
    return float((error.mean(dim=(1, 2, 3)) / score.mean(dim=(1, 2, 3))).log().std())


def features(predictor: NetworkPredictor, x: Tensor) -> Tensor:
    """What the predictor's last layer sees, in [0, 1] as images are."""
    found: list[Tensor] = []
    hook = predictor.network.out.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    for some in x.split(16):
        predictor(some)
    hook.remove()
    return torch.cat(found).clamp(0, 1)


def cost(network: UNet, plain: Data, held: Data) -> dict[str, object]:
    """Its parameters, and the time of a pass forth and back beside that of the U-Net."""
    channels = plain[1].shape[1]
    usual = UNet(plain[0].shape[1] + channels, channels, width=16, levels=levels_for(plain[1].shape[-1]))
    timed = [
        (each, network_input(x[:16], y_hat[:16])) for each, (x, y_hat, _) in ((network, held), (usual, plain))
    ]
    seconds = np.array([[_pass_seconds(*one) for one in timed] for _ in range(PASSES)])
    slower = float(np.median(seconds[:, 0] / seconds[:, 1]))
    return {"parameters": sum(weights.numel() for weights in network.parameters()), "slower": slower}


@torch.enable_grad()
def _pass_seconds(network: UNet, images: Tensor) -> float:
    network.to(memory_format=torch.channels_last).requires_grad_(True)  # type: ignore[call-overload]
    started = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(images.contiguous(memory_format=torch.channels_last))
    output.float().square().mean().backward()
    return time.perf_counter() - started


def known_world(notebook: Notebook, judge: Judge, train: Data) -> None:
    """Errors that are Laplace noise of a scale that x and y_hat tell, times a factor that nothing tells."""
    loss, held = judge.loss, data_of(judge.batch)

    def world(data: Data, unseen: float, seed: int) -> tuple[Data, Tensor]:
        x, y_hat, _ = data
        generator = np.random.default_rng(seed)
        scale = known_scale(y_hat)
        factor = np.exp(unseen * generator.standard_normal((len(x), 1, 1, 1)))
        noise = generator.laplace(size=tuple(y_hat.shape)) * factor
        return (x, y_hat, y_hat + scale * torch.from_numpy(noise).float()), scale

    def made(unseen: float) -> dict[str, object]:
        (learnt, _), (seen, scale) = world(train, unseen, 1), world(held, unseen, 2)
        batch = Batch(judge.batch.names, judge.batch.x, seen[1], seen[2])
        threshold = float(
            np.quantile(loss.on(seen[2], seen[1], None, 1).of(torch.ones_like(scale)).numpy(), QUANTILE)
        )
        difficulty = scale.mean(dim=(1, 2, 3)).double().numpy()
        here = Judge(batch, loss, threshold, difficulty, judge.points)
        head = MaskNetwork(loss)
        learnt_score = scored(default_network(head, learnt, LONGER), head, seen)
        return {"learnt": here.default(learnt_score), "known": here.default(scale)}

    for unseen in UNSEEN:
        notebook.once(f"known world, {unseen:g}", partial(made, unseen))


def known_scale(y_hat: Tensor) -> Tensor:
    """More at edges, and on images of a low mean."""
    across, down = (torch.diff(y_hat, dim=dim, append=y_hat.narrow(dim, -1, 1)).abs() for dim in (2, 3))
    dark = torch.exp(2 * (0.5 - y_hat.mean(dim=(1, 2, 3), keepdim=True)))
    return (0.01 + 0.3 * (across + down)) * dark


def _with_gradients(made: Callable[..., UNet], *what: object, **how: object) -> UNet:
    with torch.enable_grad():
        return made(*what, **how)


def judge_of(shop: Row) -> Judge:
    """The selection images of a row, and how hard the run's mask network finds them."""
    images = shop.data().part("selection")
    if shop.distance.exponent is None and len(images) > MEASURED:
        images = images.select(np.linspace(0, len(images) - 1, MEASURED).round().astype(int).tolist())
    batch = whole(images)
    difficulty = _scores_of_the_run(shop, "mask", batch).mean(dim=(1, 2, 3)).double().numpy()
    threshold = threshold_of(loss(shop.distance), images)
    return Judge(
        batch, loss(shop.distance), threshold, difficulty, points(shop.row, shop.preset) or GRID_POINTS
    )


def _scores_of_the_run(shop: Row, method: str, batch: Batch) -> Tensor:
    network = trained_scorer(shop, method)
    pairs = zip(batch.x.split(16), batch.y_hat.split(16), strict=True)
    return torch.cat([network(x, y_hat).map for x, y_hat in pairs])


def explore(shop: Row) -> None:
    """All that is asked of a row."""
    row, judge = shop.row, judge_of(shop)
    notebook = Notebook(RESULTS / f"row-{row.number}.json")
    print(f"\nrow {row.number}: {row.task} of {row.data}, {row.network}, {row.distance}", flush=True)
    notebook.once("networks of the run", lambda: dict(networks_of_the_run(judge, shop)))
    if row.number not in CROSSED:
        return
    if shop.distance.exponent is None:
        notebook.once("mask", lambda: dict(judge.crossed(_scores_of_the_run(shop, "mask", judge.batch))))
        if row.number in VARIED:
            clips(notebook, judge, data_of(whole(shop.data().part("train"))))
        return
    learnt = whole(shop.data().part("train"))
    train = data_of(learnt)
    lp_scores(notebook, judge, train)
    if row.number in VARIED:
        variants(notebook, judge, train)
        networks(notebook, judge, learnt, shop)
        limits(notebook, judge, train)
        known_world(notebook, judge, train)


def shops(given: argparse.Namespace) -> Iterator[Row]:
    """The rows of the run."""
    rows = rows_of([int(number) for number in given.rows.split(",")] if given.rows else None)
    how, cache = PRESETS[given.preset], Cache(given.run / "stages")
    folders = {"photos": given.photos, "cells": given.cells}
    collections, distances = collections_of(rows, how, folders, "within"), distances_of(rows, how, None)
    for row in rows:
        plan = plan_row(row, how, collections[row.data].stage(row.data))
        yield Row(plan, how, cache, collections[row.data], distances[row.distance], Compute("auto"))


def run_options() -> argparse.ArgumentParser:
    """What tells which rows of which run, and on which images."""
    options = argparse.ArgumentParser()
    options.add_argument("run", type=Path)
    options.add_argument("--photos", type=Path)
    options.add_argument("--cells", type=Path)
    options.add_argument("--rows")
    options.add_argument("--preset", choices=PRESETS, default="long")
    return options


def main() -> None:
    for shop in shops(run_options().parse_args()):
        if all(shop.cache.done(shop.plan.scorers[method]) for method in ("mask", "default")):
            explore(shop)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
