"""Which score with which family gives the smallest masks: every pair, on the selection images of a paper run.

    python benchmarks/smaller_masks.py RUN [--photos DIR] [--cells DIR] [--rows 1,5,9,13] [--preset cpu]

RUN is the folder of a finished `conformask paper`, with the folders of images that it was given; nothing is
trained here. No calibration or test image is looked at. The selection images are dealt 200 times to two
halves: one gives lambda, the other the mean mask size, coverage, and the coverage of its hardest fifth (by
the mean of the error regressor's score, for all contenders alike). Lambdas between grid points are
interpolated, so that no contender gains or loses by the grid. With kappa the budget of an image is lambda *
difficulty^kappa, so that hard images are given less. Writes benchmarks/results/smaller_masks.json.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from conformask.calibration import GRID_POINTS, curves, lambda_grid
from conformask.conformal.crossing import between_grid_points
from conformask.conformal.order import marginal_rank, smallest
from conformask.masks.power import Power
from conformask.masks.reciprocal import Reciprocal
from conformask.masks.threshold import Threshold
from conformask.masks.water_filling import WaterFilling
from conformask.paper.plan import plan_row, points
from conformask.paper.settings import CONFIDENCE, METHODS, PRESETS, QUANTILE
from conformask.paper.sources import collections_of, distances_of, rows_of
from conformask.paper.stages import Cache
from conformask.paper.work import Workshop
from conformask.results import Array, Curves
from conformask.scorers.scoring import scored
from conformask.types import Family

RESULT = Path(__file__).parent / "results" / "smaller_masks.json"
DEALS, SEED, HARDEST = 200, 0, 0.2
GAMMAS, KAPPAS = (2.0, 4.0), (-0.25, -0.5)
MEASURED = 64
"""Selection images, where the distance is measured mask by mask."""


@dataclass(frozen=True)
class Contender:
    """What the selection images say of a score and a family."""

    curves: Curves
    critical: Array
    difficulty: Array
    kappa: float

    def dealt(self) -> dict[str, float]:
        """Means over random halves."""
        scale = self.difficulty**self.kappa
        normalised, generator = self.critical / scale, np.random.default_rng(SEED)
        found = [self._half(normalised, scale, generator) for _ in range(DEALS)]
        return dict(
            zip(("size", "coverage", "coverage_hardest"), np.mean(found, axis=0).tolist(), strict=True)
        )

    def _half(self, normalised: Array, scale: Array, generator: np.random.Generator) -> tuple[float, ...]:
        order = generator.permutation(len(scale))
        calibration, rest = np.split(order, [len(order) // 2])
        shared = smallest(normalised[calibration], marginal_rank(len(calibration), CONFIDENCE))
        met = normalised[rest] >= shared
        hardest = self.difficulty[rest] >= np.quantile(self.difficulty[rest], 1 - HARDEST)
        sizes = [self._size(place, shared * scale[place]) for place in rest]
        return float(np.mean(sizes)), float(met.mean()), float(met[hardest].mean())

    def _size(self, place: int, lam: float) -> float:
        grid = self.curves.grid[1:-1]
        return float(np.interp(np.log(max(lam, grid[0])), np.log(grid), self.curves.size[place, 1:-1]))


def families(exponent: float | None) -> Iterator[tuple[str, Family, float]]:
    """(name, family, kappa)."""
    yield "reciprocal", Reciprocal(), 0.0
    for gamma in GAMMAS:
        yield f"power {gamma:g}", Power(gamma), 0.0
    yield "threshold", Threshold(), 0.0
    for kappa in (0.0, *KAPPAS):
        yield "water_filling" + (f" {kappa:+g}" if kappa else ""), WaterFilling(exponent or 1.0), kappa


def contenders(shop: Workshop) -> Iterator[tuple[str, str, dict[str, float]]]:
    """(score, family, what it gives)."""
    distance, images = shop.distance, shop.data().part("selection")
    if distance.exponent is None:
        images = images.select(range(min(MEASURED, len(images))))
    items = {method: list(scored(shop._loaded(method), images, method)) for method in METHODS}
    difficulty = torch.cat([item.score.map.mean(dim=(1, 2, 3)) for item in items["default"]]).double().numpy()
    unmasked = torch.cat([distance(item.batch.truth(), item.batch.y_hat) for item in items["default"]])
    threshold = float(np.quantile(unmasked.double().numpy(), QUANTILE))
    for method, name in METHODS.items():
        known: dict[Family, Curves] = {}
        for title, family, kappa in families(distance.exponent):
            if family not in known:
                count = points(shop.row, shop.preset) or GRID_POINTS
                grid = lambda_grid(family, distance, items[method], count)
                known[family] = curves(items[method], family, distance, grid)
            found = known[family]
            critical = between_grid_points(found.grid, found.distance, threshold)
            yield name, title, Contender(found, critical, difficulty, kappa).dealt()


def shops(given: argparse.Namespace) -> Iterator[Workshop]:
    """The finished rows of the run."""
    rows = rows_of([int(number) for number in given.rows.split(",")] if given.rows else None)
    how, cache = PRESETS[given.preset], Cache(given.run / "stages")
    folders = {"photos": given.photos, "cells": given.cells}
    collections, distances = collections_of(rows, how, folders, "within"), distances_of(rows, how, None)
    for row in rows:
        plan = plan_row(row, how, collections[row.data].stage(row.data))
        if all(cache.done(stage) for stage in plan.scorers.values()):
            yield Workshop(plan, how, cache, collections[row.data], distances[row.distance], "auto", 1)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("run", type=Path)
    options.add_argument("--photos", type=Path)
    options.add_argument("--cells", type=Path)
    options.add_argument("--rows")
    options.add_argument("--preset", choices=PRESETS, default="cpu")
    given = options.parse_args()
    record: dict[str, list[Mapping[str, object]]] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for shop in shops(given):
        row, lines = shop.row, []
        print(f"\nrow {row.number}: {row.task} of {row.data}, {row.network}, {row.distance}")
        for score, family, found in contenders(shop):
            lines.append({"score": score, "family": family, **found})
            told = "  ".join(f"{name} {value:.3f}" for name, value in found.items())
            print(f"  {score:9}{family:22}{told}", flush=True)
        record[str(row.number)] = lines
        RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
