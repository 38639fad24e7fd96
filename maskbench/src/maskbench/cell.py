"""One cell of the table: a method on a task, measured over all splits, as a JSON record."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import process_time
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask.promises.order import marginal_rank, smallest
from maskbench import methods, tasks
from maskbench.aim import Aim, unmasked_losses
from maskbench.calibration import READINGS, Scored, smallest_masks
from maskbench.slabs import features_of, worst_slab
from maskbench.splits import deals, learn_and_pool
from maskbench.triplets import Floats, Triplets

HARDEST = 0.1
"""The share of test images with the largest losses without a mask."""
DEALS_OF_MASKS = 20
"""Splits for a method that calibrates its masks itself."""
PACKAGES = ("conformask", "maskbench", "numpy", "torch")
MEGAPIXEL = 1e6
Json = dict[str, Any]


def measured(task: str, method: str, data: Path, work: Path) -> Json | None:
    """Return what a method hides, for whom and at what cost; None where the task lacks the map it needs."""
    triplets, module = tasks.triplets_of(task, data, work), methods.method(method)
    cue = getattr(module, "CUE", None)
    if cue is not None and cue not in triplets.cues:
        return None
    learn, pool = learn_and_pool(triplets)
    aim, folder = Aim.of(learn), work / "fits" / task / method
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "task": task,
        "method": method,
        "triplets": triplets.fingerprint,
        "versions": {name: _version(name) for name in PACKAGES},
        "threshold": aim.threshold,
        "confidence": aim.confidence,
        "n": {"learn": len(learn), "calibration and test": len(pool), "groups": len(np.unique(pool.groups))},
        "images": module.IMAGES,
    }
    of_track = _of_masks if hasattr(module, "masks") else _of_score
    return record | of_track(module, learn, pool, aim, folder)


def _of_score(module: ModuleType, learn: Triplets, pool: Triplets, aim: Aim, folder: Path) -> Json:
    started = process_time()
    score = module.fit(learn, aim, folder)
    minutes = (process_time() - started) / 60
    started = process_time()
    maps = _checked(score(pool.x, pool.y_hat, pool.cues), pool)
    seconds = (process_time() - started) / (maps.size / MEGAPIXEL)
    reading = _reading(_checked(score(learn.x, learn.y_hat, learn.cues), learn), learn, aim)
    errors = _flat(pool.errors)
    scored = Scored(READINGS[reading](_flat(maps)), errors, aim.threshold)
    dealt = list(deals(pool.groups))
    critical = scored.critical_lambdas
    lambdas = np.array([_split_conformal(critical[calibration], aim) for calibration, _ in dealt])
    hidden, kept = scored.hidden_shares(lambdas), critical[:, None] >= lambdas
    return {
        "reading": reading,
        "minutes": round(minutes, 3),
        "seconds per megapixel": round(seconds, 3),
        **summary(hidden, kept, [test for _, test in dealt], pool),
        "area": round(scored.area, 4),
        "own best": round(float(scored.own_best.mean()), 4),
        "oracle": round(float(smallest_masks(errors, aim.threshold).mean()), 4),
    }


def _of_masks(module: ModuleType, learn: Triplets, pool: Triplets, aim: Aim, folder: Path) -> Json:
    dealt = list(deals(pool.groups))[:DEALS_OF_MASKS]
    errors, hidden, kept = _flat(pool.errors), np.zeros((len(pool), len(dealt))), []
    started = process_time()
    for at, (calibration, test) in enumerate(dealt):
        masks = module.masks(learn, pool.take(calibration), aim, folder)
        part = pool.take(test)
        of_test = _flat(masks(part.x, part.y_hat, part.cues))
        hidden[test, at] = 1 - of_test.mean(axis=1)
        met = np.zeros(len(pool), bool)
        met[test] = (of_test * errors[test]).mean(axis=1) <= aim.threshold * (1 + 1e-9)
        kept.append(met)
    return {
        "minutes": round((process_time() - started) / 60 / len(dealt), 3),
        **summary(hidden, np.stack(kept, axis=1), [test for _, test in dealt], pool),
        "oracle": round(float(smallest_masks(errors, aim.threshold).mean()), 4),
    }


def summary(hidden: Floats, kept: NDArray[np.bool_], tests: list[NDArray[np.int_]], pool: Triplets) -> Json:
    """Return what is hidden and kept of test images; hidden and kept are (n, splits)."""
    losses, features = unmasked_losses(pool), features_of(pool)
    of_splits: dict[str, list[float]] = {"hidden": [], "coverage": [], "hardest tenth": [], "worst slab": []}
    for at, test in enumerate(tests):
        hard = test[losses[test] >= np.quantile(losses[test], 1 - HARDEST)]
        of_splits["hidden"].append(float(hidden[test, at].mean()))
        of_splits["coverage"].append(float(kept[test, at].mean()))
        of_splits["hardest tenth"].append(float(kept[hard, at].mean()))
        of_splits["worst slab"].append(worst_slab(features[test], kept[test, at], seed=at))
    low, high = np.quantile(of_splits["hidden"], (0.025, 0.975))
    return {
        **{name: round(float(np.mean(values)), 4) for name, values in of_splits.items()},
        "interval": [round(float(low), 4), round(float(high), 4)],
        "hidden of splits": [round(value, 4) for value in of_splits["hidden"]],
    }


def _split_conformal(critical: Floats, aim: Aim) -> float:
    return float(smallest(critical, marginal_rank(len(critical), aim.confidence)))


def _reading(maps: Floats, learn: Triplets, aim: Aim) -> str:
    """Return the reading with which the images to learn from are hidden least."""
    hidden = {}
    for name, read in READINGS.items():
        scored = Scored(read(_flat(maps)), _flat(learn.errors), aim.threshold)
        lam = _split_conformal(scored.critical_lambdas, aim)
        hidden[name] = float(scored.hidden_shares(np.array([lam])).mean())
    return min(hidden, key=hidden.__getitem__)


def _checked(maps: Floats, triplets: Triplets) -> Floats:
    expected = triplets.y_hat.shape[:3]
    if maps.shape != expected:
        raise ValueError(f"the score has shape {maps.shape}: expected {expected}, one value for each pixel")
    if not (np.isfinite(maps).all() and (maps >= 0).all()):
        raise ValueError("the score has values below 0, or that are not finite: expected values from 0 on")
    return maps


def _flat(maps: Floats) -> Floats:
    return maps.reshape(len(maps), -1)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
