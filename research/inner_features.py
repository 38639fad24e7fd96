"""Levels of images by what the packaged network sees inside, beside those by today's features of images.

    python research/inner_features.py DATA WORK TASK ...

DATA has the folders of MaskBench's tasks, WORK keeps what it makes of them. Of each stage of the network, the
means and standard deviations over the image are features. A level is fitted on the first 40 or 80 images to
learn from (on quarters, too, of 40), whether or not it pays; the hidden share of the pool is the mean over 40
deals into calibration and test images at confidence 0.9, and is divided by that of one lambda.
"""

import sys
from itertools import product
from pathlib import Path

import numpy as np
import torch

import conformask as cm
from conformask.promises import kernel_ridge
from conformask.promises.order import marginal_rank, smallest
from conformask.scores.level import level_features
from conformask.scores.network_scorer import network_input
from maskbench import tasks
from maskbench.aim import Aim
from maskbench.calibration import READINGS, Scored
from maskbench.methods._conformask import scores_of, triplets_of
from maskbench.methods._images import enlarged, planes
from maskbench.splits import deals, learn_and_pool

BEYOND, BATCH, SIZES, DEALS, CONFIDENCE = 4.0, 16, (40, 80), 40, 0.9
QUARTERED = 60
WHOLE = np.s_[:, :, :]


def inner(scorer, x, y_hat, _maps):
    """Means and standard deviations of what each stage puts out."""
    network, ranges, seen = scorer.network, scorer.card.cue_ranges, []
    stages = [network.refined, *network.down, *network.up, network.fine]
    hooks = [
        stage.register_forward_hook(
            lambda _stage, _inputs, out: seen.append(
                torch.cat([out.mean(dim=(2, 3)), out.std(dim=(2, 3))], 1)
            )
        )
        for stage in stages
    ]
    rows = []
    with torch.inference_mode():
        for at in range(0, len(x), BATCH):
            seen.clear()
            some = slice(at, at + BATCH)
            network(network_input(planes(x[some]), planes(y_hat[some]), None, ranges))
            rows.append(torch.cat(seen, 1).double().numpy())
    for hook in hooks:
        hook.remove()
    return np.concatenate(rows)


def today(_scorer, x, y_hat, maps):
    """The features of a level as it is."""
    rows = []
    for at in range(0, len(x), BATCH):
        some = slice(at, at + BATCH)
        scores = torch.from_numpy(maps[some])[:, None]
        rows.append(level_features(planes(x[some]), planes(y_hat[some]), scores).numpy())
    return np.concatenate(rows)


def both(*images):
    return np.concatenate([inner(*images), today(*images)], axis=1)


def critical(maps, errors, threshold):
    """Logarithms of critical lambdas, finite ones for images that need no mask, too."""
    flat, of_pixels = (each.reshape(len(maps), -1) for each in (maps, errors))
    lambdas = Scored(flat, of_pixels, threshold).critical_lambdas
    room = np.clip(threshold / np.maximum(of_pixels.mean(1), 1e-300), 1, BEYOND)
    return np.log(np.maximum(np.where(np.isfinite(lambdas), lambdas, flat.max(1) * room), 1e-12))


def hidden(maps, errors, threshold, groups, levels=1.0):
    """The hidden share of the pool with scores divided by levels."""
    divided, shares = maps.reshape(len(maps), -1) / np.reshape(levels, (-1, 1)), []
    for read in READINGS.values():
        scored = Scored(read(divided), errors.reshape(len(maps), -1), threshold)
        parts = list(deals(groups))[:DEALS]
        ranks = [marginal_rank(len(calibration), CONFIDENCE) for calibration, _ in parts]
        critical_lambdas = scored.critical_lambdas
        lambdas = [
            float(smallest(critical_lambdas[calibration], rank))
            for (calibration, _), rank in zip(parts, ranks, strict=True)
        ]
        along = scored.hidden_shares(np.array(lambdas))
        shares.append(np.mean([along[test, place].mean() for place, (_, test) in enumerate(parts)]))
    return min(shares)


def images_of(triplets, aim, scorer):
    maps = scores_of(scorer, triplets.x, triplets.y_hat).astype(np.float32)
    x = (
        triplets.x
        if triplets.x.shape[1:3] == triplets.y_hat.shape[1:3]
        else enlarged(triplets.x, triplets.y_hat)
    )
    return x, triplets.y_hat, maps, triplets.errors.astype(np.float32), aim.threshold


def level_of(features, scorer, learn, groups, n):
    """Fit a level on the first n images; return the model."""
    x, y_hat, maps, errors, threshold = learn
    half = [side // 2 for side in maps.shape[1:3]]
    windows = [WHOLE]
    if n < QUARTERED:
        windows += [
            np.s_[:, top * half[0] : (top + 1) * half[0], left * half[1] : (left + 1) * half[1]]
            for top, left in product((0, 1), repeat=2)
        ]
    x, y_hat, maps, errors = (each[:n] for each in (x, y_hat, maps, errors))
    rows = np.concatenate([features(scorer, x[at], y_hat[at], maps[at]) for at in windows])
    logs = np.concatenate([critical(maps[at], errors[at], threshold) for at in windows])
    return kernel_ridge.fitted(rows, logs, np.tile(groups[:n], len(windows)), np.arange(len(rows)) < n)[0]


def main():
    data, work, *names = sys.argv[1:]
    kernel_ridge.PAYS = 1e9
    for name in names:
        learn_triplets, pool_triplets = learn_and_pool(tasks.triplets_of(name, Path(data), Path(work)))
        aim = Aim.of(learn_triplets)
        scorer = cm.packaged_scorer().of(triplets_of(learn_triplets, "l"))
        learn, pool = (images_of(each, aim, scorer) for each in (learn_triplets, pool_triplets))
        one = hidden(*pool[2:], pool_triplets.groups)
        for n in SIZES:
            line = f"{name:22} {n} images, one lambda {one:.3f}; times it:"
            for features in (today, inner, both):
                ridge = level_of(features, scorer, learn, learn_triplets.groups, n)
                kernel = kernel_ridge._kernel(
                    (features(scorer, *pool[:3]) - ridge.centre) / ridge.scale, ridge.points, ridge.width
                )
                levels = np.exp(kernel @ ridge.weights)
                line += f" {features.__name__} {hidden(*pool[2:], pool_triplets.groups, levels) / one:.3f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
