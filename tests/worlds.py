"""Worlds of known truth: finite populations of images, from which calibration sets are drawn independently.

What a lambda does to the whole population is known exactly, so that only the calibration sets are random.
Distances are at most 1, the threshold is THRESHOLD, and a curve is a left-continuous step function between
grid points unless critical lambdas are exact.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from conformask.promises.order import (
    CalibrationData,
    Curves,
    ImageCovariates,
    first_crossing,
    meets_threshold,
)

THRESHOLD = 0.1
GRID = np.array([0.0, *np.geomspace(0.02, 20, 18), math.inf])
IMAGES = 20_000


@dataclass(frozen=True)
class World:
    """A population of images."""

    name: str
    distance: np.ndarray
    """(M, G), raw."""
    bound: np.ndarray
    """(M, G): no truth could give more than this at or below a lambda."""
    hardness: np.ndarray
    """(M,): what a score could know of an image beforehand; features, categories, weights are made of it."""
    critical: np.ndarray | None = None
    """(M,) exact; read off the grid if there are none."""
    monotone: bool = True

    @cached_property
    def names(self):
        return np.array([f"image {place}" for place in range(len(self.distance))])

    @cached_property
    def critical_lambdas(self):
        exact = self.critical is not None
        return self.critical if exact else first_crossing(GRID, self.distance, THRESHOLD)

    @cached_property
    def features(self):
        noise = np.random.default_rng(8).normal(size=(len(self.hardness), 2))
        return np.column_stack([self.hardness + 0.3 * noise[:, 0], noise[:, 1]])

    @cached_property
    def category(self):
        return np.where(self.hardness > np.median(self.hardness), "hard", "easy")

    @cached_property
    def weight(self):
        return np.exp(np.clip(self.hardness, -1.5, 1.5))

    def draw(self, generator, n):
        return generator.integers(len(self.distance), size=n)

    def draw_tilted(self, generator, n):
        """From the population whose likelihood ratio is the weight."""
        cumulated = self.weight.cumsum()
        return np.searchsorted(cumulated, generator.random(n) * cumulated[-1])

    def evidence(self, places, **columns):
        rows = {"features": self.features, "category": self.category, "weight": self.weight}
        given = {name: values[places] for name, values in rows.items()} | columns
        distance, names = self.distance[places], given.pop("names", self.names[places])
        curves = Curves(names, GRID, distance, distance, **given)
        return CalibrationData(THRESHOLD, self.critical_lambdas[places], curves, 1.0, monotone=self.monotone)

    def facts(self, places):
        category = tuple(self.category[places].tolist())
        known = {"features": self.features[places], "bound_curve": self.bound[places]}
        return ImageCovariates(len(places), weight=self.weight[places], category=category, **known)

    def passing(self, places, lam):
        """Whether these images keep the threshold at these lambdas."""
        if self.critical is not None:
            return lam <= self.critical[places]
        return meets_threshold(self.risk(places, lam), THRESHOLD)

    def risk(self, places, lam):
        """The distance of these images at these lambdas."""
        return self.distance[places, np.searchsorted(GRID, lam)]

    @cached_property
    def _sorted(self):
        return np.sort(self.critical_lambdas)

    @cached_property
    def _passing(self):
        return meets_threshold(self.distance, THRESHOLD).mean(axis=0)

    @cached_property
    def mean_risk(self):
        """(G,): the mean distance of the population."""
        return self.distance.mean(axis=0)

    def coverage_of_all(self, lam):
        """The share of the population that keeps the threshold at a lambda."""
        if self.critical is not None:
            return 1 - np.searchsorted(self._sorted, lam) / len(self._sorted)
        return float(self._passing[np.searchsorted(GRID, lam)])

    def risk_of_all(self, lam):
        """The mean distance of the population at a lambda."""
        return float(self.mean_risk[np.searchsorted(GRID, lam)])


def smooth_curves(error, scale):
    """error * min(1, lam / scale)."""
    return error[:, None] * np.minimum(1, GRID / scale[:, None])


@lru_cache
def heavy_tailed(seed=0):
    """Pareto errors with a log-normal score; critical lambdas are exact and continuous."""
    generator = np.random.default_rng(seed)
    hardness = generator.normal(size=IMAGES)
    error = np.minimum(1, 0.04 * np.exp(0.6 * hardness) * generator.random(IMAGES) ** (-1 / 1.2))
    scale = 0.5 * np.exp(0.3 * hardness + 0.5 * generator.normal(size=IMAGES))
    critical = np.where(error <= THRESHOLD, math.inf, scale * THRESHOLD / error)
    possible = error + (1 - error) * 0.5 * generator.random(IMAGES)
    curves = smooth_curves(error, scale)
    return World("heavy-tailed errors", curves, smooth_curves(possible, scale), hardness, critical)


@lru_cache
def flat(seed=1):
    """Curves that are constant but for three jumps: nearly all critical lambdas tie, some are 0 or inf."""
    generator = np.random.default_rng(seed)
    hardness = generator.integers(-1, 2, size=IMAGES).astype(float)
    levels = np.array([0.0, 0.02, THRESHOLD, 0.3, 1.0])
    climb = generator.random((IMAGES, 4)) < (0.07 + 0.04 * hardness)[:, None] * np.array([1, 1, 2, 6])
    reached = levels[np.minimum(climb * generator.integers(1, 5, (IMAGES, 4)), 4)]
    stretch = np.searchsorted([4, 9, 14], np.arange(len(GRID)), side="right")
    curves = np.maximum.accumulate(reached, axis=1)[:, stretch]
    curves[:, 0] = 0
    bound = np.where(GRID > 0, np.minimum(1, curves + 0.2), 0)
    return World("flat curves", curves, bound, hardness)


@lru_cache
def non_monotone(seed=2):
    """Curves that fail in a window, pass beyond it, and mostly fail for good later."""
    generator = np.random.default_rng(seed)
    hardness = generator.normal(size=IMAGES)
    easiness = np.exp(-0.5 * hardness)[:, None]
    start = easiness * np.exp(generator.normal(0.5, 1.2, (IMAGES, 1)))
    stop = start * generator.uniform(1.5, 6, (IMAGES, 1))
    end = start * np.exp(generator.normal(1.5, 1.0, (IMAGES, 1)))
    curves = np.where(generator.random((IMAGES, 1)) < 0.8, 0.02, 0.08) * np.minimum(1, GRID)
    curves = np.where((start < GRID) & (stop >= GRID), 0.3, curves)
    curves = np.where((end < GRID) & (generator.random((IMAGES, 1)) < 0.9), 0.6, curves)
    bound = np.where(GRID > 0, np.minimum(1, np.maximum.accumulate(curves, axis=1) + 0.1), 0)
    return World("non-monotone distances", curves, bound, hardness, monotone=False)


@lru_cache
def flickering(seed=3):
    """At each grid point another 13 % of images fail: the more are looked at, the better the best seems."""
    generator = np.random.default_rng(seed)
    curves = np.where(generator.random((IMAGES, len(GRID))) < 0.13, 0.5, 0.0)
    curves[:, 0] = 0
    bound = np.where(GRID > 0, np.ones((IMAGES, 1)), 0)
    return World("flickering distances", curves, bound, generator.normal(size=IMAGES), monotone=False)


@lru_cache
def staircase():
    """Distances jump from nothing to everything, evenly along the grid."""
    jump = np.arange(IMAGES) % (3 * len(GRID))
    curves = np.where((np.arange(len(GRID)) > jump[:, None]) & (GRID > 0), 1.0, 0.0)
    return World("a staircase", curves, curves, -jump.astype(float))


@lru_cache
def constant_risk(rate, height=1.0):
    """From the first lambda to the last the same images fail."""
    fails = np.arange(IMAGES) < rate * IMAGES
    curves = np.where(fails[:, None] & (GRID > 0), height, 0.0)
    return World("constant risk", curves, curves, np.zeros(IMAGES))


@lru_cache
def swinging(rate):
    """Each lambda has unlucky images of its own: the best of many lambdas seems safe."""
    fails = np.random.default_rng(5).random((IMAGES, len(GRID))) < rate
    curves = np.where(fails & (GRID > 0), 1.0, 0.0)
    bound = np.where(GRID > 0, np.ones((IMAGES, 1)), 0)
    return World("swinging", curves, bound, np.zeros(IMAGES), monotone=False)


@lru_cache
def without_error():
    """Everything passes unmasked."""
    nothing, bound = np.zeros((IMAGES, len(GRID))), np.where(GRID > 0, np.full((IMAGES, 1), 0.05), 0)
    return World("no error", nothing, bound, np.zeros(IMAGES), np.full(IMAGES, math.inf))


@lru_cache
def hopeless():
    """Everything fails under every mask that opens anything."""
    curves = np.where(GRID > 0, np.ones((IMAGES, 1)), 0)
    return World("nothing feasible", curves, curves, np.zeros(IMAGES))


RANDOM: dict[str, Callable[[], World]] = {
    "heavy_tailed": heavy_tailed,
    "flat": flat,
    "non_monotone": non_monotone,
    "flickering": flickering,
}
CERTAIN: dict[str, Callable[[], World]] = {"without_error": without_error, "hopeless": hopeless}
WORLDS = RANDOM | CERTAIN


@dataclass(frozen=True)
class Fields:
    """A world cut into groups of like images: the larger a group, the easier."""

    world: World
    group: np.ndarray
    """(M,): 0, 1, 2, ... in the order of the images."""

    @classmethod
    def of(cls, world, seed=4):
        generator = np.random.default_rng(seed)
        wanted = np.sort(generator.choice([1, 2, 4, 12, 40], size=IMAGES // 10))[::-1]
        group = np.repeat(np.arange(len(wanted)), wanted)[-len(world.distance) :]
        group -= group[0]
        order = np.argsort(world.hardness - 1e-3 * world.critical_lambdas.clip(0, 1e3), kind="stable")
        place_of = np.empty(len(order), dtype=int)
        place_of[order] = np.arange(len(order))
        return cls(world, group[place_of])

    @cached_property
    def members(self):
        order = np.argsort(self.group, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.group))[:-1])

    def evidence(self, generator, k):
        """All images of k groups."""
        drawn = [self.members[g] for g in generator.integers(len(self.members), size=k)]
        group = np.repeat([f"field {place}" for place in range(k)], [len(images) for images in drawn])
        return self.world.evidence(np.concatenate(drawn), group=group)

    def coverage_of_all(self, lam):
        """For an image of a new group: the mean over groups of the mean within."""
        everywhere = np.arange(len(self.group))
        kept = self.world.passing(everywhere, np.full(len(everywhere), lam))
        count = np.bincount(self.group)
        return float((np.bincount(self.group, kept) / count).mean())


def evidence_of(critical, **columns):
    """Critical lambdas without curves, at a threshold of 1."""
    nothing, ends = np.zeros((len(critical), 4)), np.array([0.0, 1e-9, 1e9, math.inf])
    names = np.full(len(critical), "image")
    return CalibrationData(1.0, critical, Curves(names, ends, nothing, nothing, **columns))


def last_passing(grid, distance, threshold):
    """What a search for the largest lambda that passes finds: wrong."""
    ok = meets_threshold(distance, threshold)
    return grid[len(grid) - 1 - ok[:, ::-1].argmax(axis=1)]
