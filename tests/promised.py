"""Whether a promise is kept, by simulation: one judge for the right rules and for those broken on purpose.

4 sigma of the Monte Carlo are allowed everywhere.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import config

from conformask.promises.order import CalibrationData
from conformask.promises.rules import ConstantLambda, Rule
from worlds import THRESHOLD, World

SIGMAS = 4
CONFIDENCE = 0.9
DELTA = 0.1
Deploy = Callable[[CalibrationData], Rule]


def sigma(values):
    """Of the mean."""
    return float(np.std(values) / math.sqrt(len(values)))


def falls_short(values, promised):
    """Whether the mean is below what was promised, beyond chance."""
    return float(np.mean(values)) < promised - SIGMAS * sigma(values) - 1e-12


def goes_beyond(values, promised):
    """Whether the mean is above what was promised, beyond chance."""
    return float(np.mean(values)) > promised + SIGMAS * sigma(values) + 1e-12


def too_often(missed, delta):
    """Whether more than a share delta of calibration sets miss, beyond chance."""
    chance = math.sqrt(delta * (1 - delta) / len(missed))
    return float(np.mean(missed)) > delta + SIGMAS * chance


def breaks_coverage(world, deploy, n, draws, *, tilted=False):
    """P(d <= threshold) >= CONFIDENCE over calibration and test image."""
    return falls_short(coverage(world, deploy, n, draws, tilted=tilted), CONFIDENCE)


def breaks_pac(world, deploy, n, draws, delta=DELTA):
    """With probability 1 - delta over calibration sets, P(d <= threshold) >= CONFIDENCE."""
    return too_often(coverage(world, deploy, n, draws) < CONFIDENCE - 1e-9, delta)


def breaks_mean(world, deploy, n, draws):
    """E d <= THRESHOLD over calibration and test image."""
    return goes_beyond(risk(world, deploy, n, draws), THRESHOLD)


def breaks_rcps(world, deploy, n, draws, delta=DELTA):
    """With probability 1 - delta over calibration sets, E d <= THRESHOLD."""
    return too_often(risk(world, deploy, n, draws) > THRESHOLD + 1e-9, delta)


def coverage(world, deploy, n, draws, *, seed=0, tests=20, tilted=False):
    """For each of many calibration sets the share of images that keep the threshold.

    Of the whole population where lambda is constant, of fresh test images otherwise.
    """
    return _measured(world, deploy, n, draws, seed, tests, tilted, World.coverage_of_all, World.passing)


def risk(world, deploy, n, draws, *, seed=0, tests=20):
    """As coverage: the mean distance."""
    return _measured(world, deploy, n, draws, seed, tests, False, World.risk_of_all, World.risk)


def _measured(world, deploy, n, draws, seed, tests, tilted, of_all, of_some):
    generator, found = np.random.default_rng([seed, n]), np.empty(draws)
    names = world.names[:n]  # not the images' own, which would order images drawn twice by what they are
    for place in simulated(draws):
        rule = deploy(world.evidence(world.draw(generator, n), names=names))
        if isinstance(rule, ConstantLambda) and not tilted:
            found[place] = of_all(world, rule.lam)
        else:
            draw = world.draw_tilted if tilted else world.draw
            images = draw(generator, tests)
            found[place] = of_some(world, images, rule(world.facts(images))).mean()
    return found


CHECKED = 2


def simulated(draws):
    """The numbers of the draws.

    Shapes and types are checked in the first ones only: simulations become five times as fast.
    """
    try:
        for place in range(draws):
            if place == CHECKED:
                config.update("jaxtyping_disable", True)
            yield place
    finally:
        config.update("jaxtyping_disable", False)
