"""Whether promises are kept where they are issued: every combination of the theorem table, on deployed masks.

    python tests/campaigns/promises_issued.py --sets 300

Writes research/results/promises_issued.json after each combination; the same command takes it up again. A
calibration set that only closed masks keep is issued as any other, so that nothing selects lucky sets. Masks
are judged by numpy alone, by what the sentences say.
"""

import argparse
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import conformask as cm
from conformask.background import tracked
from conformask.errors import CalibrationError
from conformask.losses.means import MeanShown
from conformask.masks.families import family as family_by_name
from conformask.records.record import read_json, write_json
from conformask.scores.scoring import selection_record

RESULT = Path(__file__).parents[2] / "research" / "results" / "promises_issued.json"
CONFIDENCE, DELTA, SIDE = 0.8, 0.1, 6
NEW = 600
"""New images of each calibration set."""
GROUP = 4
"""Images of a group at most: a group of four is three times as hard as one of one."""
TRUTHS = 40
"""Of each input, where a promise is about the mean over them."""
RATIO = np.array([0.3 / 0.7, 0.7 / 0.3])
"""Likelihood ratios of the two kinds of images, of which the new ones are mostly of the second."""
Arrays = Mapping[str, np.ndarray]
Judge = Callable[["World", np.ndarray, float], float]


@dataclass(frozen=True)
class World:
    """Images (N, 6, 6) with the group, kind and truth of each."""

    x: np.ndarray
    y_hat: np.ndarray
    y: np.ndarray
    group: np.ndarray
    kind: np.ndarray
    more_truths: np.ndarray | None = None
    """(N, TRUTHS, 6, 6)."""


@dataclass(frozen=True)
class Combination:
    """A promise, the images that it takes, and what its sentence says of masks on new ones."""

    name: str
    asked: Mapping[str, Any]
    judge: Judge
    n: int = 30
    columns: tuple[str, ...] = ()
    threshold: float = 0.02
    delta: float | None = None
    """Of calibration sets, where the promise is kept but for so many; None where it is kept on average."""
    mean: bool = False
    """Whether the judge gives a mean loss, at most the threshold, and no share of at least CONFIDENCE."""


def world(generator, n, *, alone, tilted=False, truths=0):
    """Errors beyond what the score sees: heavy-tailed, harder in large groups and of the second kind.

    About a tenth of the groups is wrong where the score is least, so that no open mask saves them. Where
    images have to be independent, each is `alone`: one of its group.
    """
    sizes = generator.integers(1, GROUP + 1, n)
    group = np.arange(n) if alone else np.repeat(np.arange(n), sizes)[:n]
    count = int(group[-1]) + 1
    kind = (generator.random(count) < (0.7 if tilted else 0.3)).astype(int)[group]
    members = sizes if alone else np.bincount(group)
    hard = members[group] * generator.lognormal(0, 0.4, count)[group] * np.array([0.5, 1.2])[kind]
    y_hat = generator.uniform(0.3, 0.7, (n, SIDE, SIDE))
    spread = generator.exponential(0.04, y_hat.shape).clip(0.001, 0.25)
    blind = (generator.random(count) < 0.12)[group][:, None, None]

    def error():
        seen = 0.3 * spread * hard[:, None, None] * np.abs(generator.standard_t(4, y_hat.shape))
        return np.where(blind, 0.2 - 0.5 * spread, seen).clip(0, 0.29)

    more = np.stack([y_hat - error() for _ in range(truths)], axis=1) if truths else None
    return World(y_hat + spread, y_hat, y_hat - error(), group, kind, more)


def trusted(mask, world_, y=None):
    """sum(m |y - y_hat|) / sum(m), 0 where nothing is shown: (N,)."""
    error = np.abs((world_.y if y is None else y) - world_.y_hat)
    shown = mask.sum((1, 2))
    return (mask * error).sum((1, 2)) / np.where(shown > 0, shown, 1)


def met(mask, world_, threshold):
    """Which images are within the threshold."""
    return trusted(mask, world_) <= threshold * (1 + 1e-6)


def of_groups(values, group, of_one):
    """One number of each group, whose images follow each other."""
    return np.asarray(of_one.reduceat(values.astype(float), np.flatnonzero(np.diff(group, prepend=-1))))


def means_of_groups(values, group):
    """The mean of each group."""
    return of_groups(values, group, np.add) / of_groups(np.ones(len(group)), group, np.add)


def images_met(world_, mask, threshold):
    """The share of images."""
    return float(met(mask, world_, threshold).mean())


def groups_met(world_, mask, threshold):
    """The share of groups all of whose images are within the threshold."""
    return float(of_groups(met(mask, world_, threshold), world_.group, np.minimum).mean())


def members_met(world_, mask, threshold):
    """The mean over groups of the share of their images."""
    return float(means_of_groups(met(mask, world_, threshold), world_.group).mean())


def mean_loss(world_, mask, threshold):
    """Over images."""
    return float(trusted(mask, world_).mean())


def largest_loss(world_, mask, threshold):
    """The mean over groups of their largest loss."""
    return float(of_groups(trusted(mask, world_), world_.group, np.maximum).mean())


def member_loss(world_, mask, threshold):
    """The mean over groups of their mean loss."""
    return float(means_of_groups(trusted(mask, world_), world_.group).mean())


def conditional_means_met(world_, mask, threshold):
    """The share of inputs whose loss, averaged over their truths, is within the threshold."""
    assert world_.more_truths is not None
    losses = [trusted(mask, world_, truth) for truth in np.moveaxis(world_.more_truths, 1, 0)]
    return float((np.mean(losses, axis=0) <= threshold * (1 + 1e-6)).mean())


def worst_category(judge, kind):
    """The same, in one category."""

    def within(world_, mask, threshold):
        own = world_.kind == kind
        names = ("x", "y_hat", "y", "group", "kind")
        return judge(World(**{name: getattr(world_, name)[own] for name in names}), mask[own], threshold)

    return within


def combinations():
    """All of the table; of those in each category both categories."""
    made = [
        _one("marginal", images_met, 19),
        _one("adaptive", images_met, 60),
        _one("pac", images_met, 40),
        _one("ltt", images_met, 40),
        _one("simultaneous", images_met, 90, threshold=0.03),
        _one("expected", mean_loss, 60, threshold=0.05),
        _one("rcps", mean_loss, 150, threshold=0.06),
        _one("rcps_hb", mean_loss, 150, threshold=0.08),
        _one("conditional_mean", conditional_means_met, 150, threshold=0.15),
        _one("weighted", images_met, 40, columns=("weights",)),
    ]
    grouped = [
        _one("marginal", groups_met, 60, "group", threshold=0.03),
        _one("pac", groups_met, 120, "group", threshold=0.03),
        _one("ltt", groups_met, 120, "group", threshold=0.03),
        _one("simultaneous", groups_met, 240, "group", threshold=0.05),
        _one("expected", largest_loss, 150, "group", threshold=0.05),
        _one("rcps", largest_loss, 300, "group", threshold=0.1),
        _one("weighted", groups_met, 100, "group", columns=("weights",), threshold=0.03),
        _one("marginal", members_met, 60, "image_of_new_group"),
        _one("pac", members_met, 150, "image_of_new_group"),
        _one("expected", member_loss, 150, "image_of_new_group", threshold=0.05),
        _one("rcps", member_loss, 300, "image_of_new_group", threshold=0.1),
    ]
    made += [replace(each, columns=(*each.columns, "groups")) for each in grouped]
    apart = [
        replace(
            each,
            name=f"{each.name}, in category {kind}",
            asked={**each.asked, "per_category": True},
            judge=worst_category(each.judge, kind),
            columns=(*each.columns, "categories"),
            n=4 * each.n,
        )
        for each in made
        if not each.name.startswith(("adaptive", "weighted", "conditional"))
        for kind in (0, 1)
    ]
    return made + apart


def _one(guarantee, judge, n, unit=None, **more):
    asked = {"guarantee": guarantee} | ({} if unit is None else {"unit": unit})
    sure = guarantee in ("pac", "ltt", "simultaneous", "rcps", "rcps_hb")
    asked |= {"delta": DELTA} if sure else {}
    mean = guarantee in ("expected", "rcps", "rcps_hb")
    asked |= {} if mean else {"confidence": CONFIDENCE}
    name = guarantee if unit is None else f"{guarantee}, {unit}"
    return Combination(name, asked, judge, n, delta=DELTA if sure else None, mean=mean, **more)


@dataclass
class Found:
    """What was measured of a combination."""

    values: list[float] = field(default_factory=list)
    hidden: int = 0
    refused: int = 0

    def of(self, combination):
        """In plain numbers: what was promised and measured, and by how many standard errors it is better."""
        values, kept = np.array(self.values), {"sets": len(self.values), "hides": self.hidden}
        kept["refused"] = self.refused
        spread = np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / NEW)  # of one set's share; means spread less
        if combination.delta is None:
            limit = combination.threshold if combination.mean else CONFIDENCE
            error = max(float(values.std() / math.sqrt(len(values))), 1e-9)
            better = (limit - values.mean() if combination.mean else values.mean() - limit) / error
            return {**kept, "promised": limit, "measured": float(values.mean()), "z": float(better)}
        if combination.mean:
            broken = float((values > combination.threshold * 1.03).mean())
        else:
            broken = float((values < CONFIDENCE - 2.5 * spread).mean())
        error = math.sqrt(combination.delta * (1 - combination.delta) / len(values))
        return {**kept, "promised": DELTA, "broken": broken, "z": float((DELTA - broken) / error)}


def measured(combination, sets, seed=0):
    """Calibrate so many sets, and judge the masks of new images by each."""
    generator, found = np.random.default_rng(seed), Found()
    used = MeanShown("l1")
    plain = cm.Heuristic(lambda x, y_hat: (x - y_hat).abs(), channels=1)
    alone = "groups" not in combination.columns
    selection = _triplets(world(generator, 60, alone=alone))
    kept = selection_record(plain, selection, used, [family_by_name("reciprocal")], 32)
    scorer, truths = replace(plain, selection=kept), TRUTHS * ("conditional" in combination.name)
    for _ in range(sets):
        calibration = world(generator, combination.n, alone=alone)
        tilted, count = "weights" in combination.columns, NEW if not truths else NEW // 2
        new = world(generator, count, alone=alone, tilted=tilted, truths=truths)
        try:
            with warnings.catch_warnings(action="ignore", category=UserWarning):  # of closed masks
                masker = cm.calibrate(
                    scorer,
                    _triplets(calibration, combination.columns),
                    threshold=combination.threshold,
                    loss=used,
                    promise=cm.Promise(**combination.asked),
                    family="reciprocal",
                )
        except CalibrationError:
            found.refused += 1
            continue
        found.hidden += masker.card.hides is not None
        found.values.append(combination.judge(new, _masks(masker, new), combination.threshold))
    return found.of(combination)


def _triplets(images, columns=()):
    given = {
        "groups": [f"group {each}" for each in images.group],
        "categories": [f"kind {each}" for each in images.kind],
        "weights": RATIO[images.kind].tolist(),
    }
    arrays = (each.astype(np.float32) for each in (images.x, images.y_hat, images.y))
    return cm.Triplets.from_arrays(*arrays, **{name: given[name] for name in columns})


def _masks(masker, images):
    x, y_hat = (torch.from_numpy(each.astype(np.float32))[:, None] for each in (images.x, images.y_hat))
    needs = masker.rule.needs
    weight = RATIO[images.kind].tolist() if "weight" in needs else None
    category = [f"kind {each}" for each in images.kind] if "category" in needs else None
    return masker(x, y_hat, weight=weight, category=category)[:, 0].double().numpy()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=int, default=300)
    sets = parser.parse_args().sets
    chosen = combinations()
    before = read_json(RESULT)["combinations"] if RESULT.exists() else {}
    found = {name: each for name, each in before.items() if each["sets"] + each["refused"] == sets}
    for each in tracked(chosen, "combinations", len(chosen)):
        found[each.name] = found.get(each.name) or measured(each, sets)
        write_json(RESULT, {"confidence": CONFIDENCE, "delta": DELTA, "new": NEW, "combinations": found})


if __name__ == "__main__":
    main()
