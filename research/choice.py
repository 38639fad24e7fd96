"""Which score should training end with? The rule of extras/train/fit.py, tried on the tasks of minute.py.

    python research/choice.py WORK DATA

For each task: simple scores, the packaged one, and networks trained on 30 and 100 triplets, all measured on
the same several hundred images of other groups. Then, again and again, some of these images are drawn, group
by group, the rule takes a score on them alone, and what it hides on all of them is compared with the best
simple score and with the best of all. The rule takes the packaged score, or the trained one, where it hides
less than what is simpler in at least so many of the resampled sets. WORK keeps triplets, run folders and mask
sizes; research/results/choice.json what came of it; a killed run goes on.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
from minute import PAIRS, threshold_of, triplets_of

import conformask as cm
from conformask.extras.train.fit import winner
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.masks.critical import critical_lambdas, hidden_curves
from conformask.masks.families import family
from conformask.promises.order import marginal_rank, smallest
from conformask.scores.benchmark import CONFIDENCE, HiddenShares, counts_of
from conformask.scores.scoring import scored_batches
from conformask.scores.untrained import Untrained

RESULTS = Path(__file__).parent / "results" / "choice.json"
SIMPLE = ("residual", "gradient", "spread")
COUNTS = (30, 100)
SURE = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
LOOKS = (15, 30, 64)
"""Numbers of images on which the rule looks."""
TIMES = 200
L1 = loss("l1")
MASKS = family(L1.family, 1.0)


def curves_of(scorer: object, images: Triplets, threshold: float) -> dict[str, np.ndarray]:
    """Critical lambdas (n,), and the mask size of each image (rows) at each of these lambdas."""
    items = list(scored_batches(scorer, images))
    none = np.zeros(0)
    lambdas = np.concatenate([critical_lambdas(item, MASKS, L1, none, threshold) for item in items])
    order = np.argsort(lambdas)  # curves go along ascending lambdas
    sizes = np.concatenate([hidden_curves(item, MASKS, L1, lambdas[order]) for item in items])
    return {"lambdas": lambdas, "sizes": sizes[:, np.argsort(order)]}


def measured(name: str, work: Path, data: Path) -> dict[str, np.ndarray]:
    """The curves of all scores of a task, from the disk where they are there."""
    kept = work / "choice" / f"{name}.npz"
    if kept.exists():
        return dict(np.load(kept))
    parts = triplets_of(name, work, data)
    threshold = threshold_of(parts["selection"])
    pool = Triplets([*parts["calibration"]._rows, *parts["test"]._rows], parts["test"].reading)
    scorers = {each: Untrained(each).of(pool, L1) for each in (*SIMPLE, "packaged")}
    for count in COUNTS:
        run = work / "choice" / name / str(count)
        some = parts["train"].select(range(count))
        scorers[f"trained {count}"] = cm.fit_scorer(
            some, out=run, scorer="mask", training=cm.TrainingConfig(resume=True)
        )
    found = {"groups": np.array([each.rpartition("-")[0] for each in pool.names])}
    for each, scorer in scorers.items():
        found |= {f"{each}/{key}": value for key, value in curves_of(scorer, pool, threshold).items()}
        print(name, each, shares_of(found, each, np.arange(len(pool)), None).share, flush=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.savez(kept, **found)
    return found


def shares_of(
    found: dict[str, np.ndarray], score: str, chosen: np.ndarray, counts: np.ndarray | None
) -> HiddenShares:
    """As `hidden_of` computes it, on some of the images."""
    lambdas, sizes = found[f"{score}/lambdas"], found[f"{score}/sizes"]
    lam = smallest(lambdas[chosen], marginal_rank(len(chosen), CONFIDENCE))
    at = int(np.flatnonzero(lambdas == lam)[0])
    if counts is None:
        return HiddenShares(sizes[chosen, at], np.zeros(0))
    order = chosen[np.argsort(lambdas[chosen])]
    of_order = counts[:, np.argsort(lambdas[chosen])]
    before = of_order.cumsum(axis=1)
    ranks = np.array([marginal_rank(int(n), CONFIDENCE) for n in before[:, -1]])
    places = (before < ranks[:, None]).sum(axis=1)
    drawn = (counts * sizes[chosen][:, order[places]].T).sum(axis=1) / before[:, -1]
    return HiddenShares(sizes[chosen, at], np.where(ranks > 0, drawn, 1.0))


def tried(found: dict[str, np.ndarray], count: int, look: int) -> dict[str, list[float]]:
    """What the rule hides beyond the best simple score, as a share of it, for each SURE and draw."""
    generator = np.random.default_rng(0)
    everywhere = np.arange(len(found["groups"]))
    scores = {**{each: each for each in (*SIMPLE, "packaged")}, "trained": f"trained {count}"}
    truly = {each: shares_of(found, score, everywhere, None).share for each, score in scores.items()}
    best_simple = min(truly[each] for each in SIMPLE)
    names = np.unique(found["groups"])
    beyond: dict[str, list[float]] = {str(sure): [] for sure in SURE}
    for _ in range(TIMES):
        some = generator.permutation(names)[: -(-2 * len(names) // 3)]
        chosen = generator.permutation(np.flatnonzero(np.isin(found["groups"], some)))[:look]
        counts = counts_of(list(found["groups"][chosen]))
        shares = {each: shares_of(found, score, chosen, counts) for each, score in scores.items()}
        for sure in SURE:
            beyond[str(sure)].append(truly[winner(shares, sure)] / best_simple - 1)
    return {**beyond, "best": [min(truly.values()) / best_simple - 1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results = {}
    for name in PAIRS:
        found = measured(name, options.work, options.data)
        for count in COUNTS:
            for look in LOOKS:
                beyond = tried(found, count, look)
                results[f"{name}, {count} triplets, {look} images"] = {
                    sure: {"mean": float(np.mean(each)), "worst tenth": float(np.quantile(each, 0.9))}
                    for sure, each in beyond.items()
                }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    for sure in map(str, SURE):
        rows = [each[sure] for each in results.values()]
        print(sure, *(f"{np.mean([row[key] for row in rows]):.4f}" for key in ("mean", "worst tenth")))


if __name__ == "__main__":
    main()
