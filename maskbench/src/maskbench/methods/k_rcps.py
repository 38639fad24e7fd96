"""K-RCPS, without training: how far apart calibrated quantiles of a network's draws are.

An interval of K-RCPS is [low - lambda, high + lambda], with a lambda of its own for each of K groups of
pixels. Groups are places in images that are aligned with one another; those of the benchmark are not, so
that there is one group, and the order of the widths is that of high - low.
"""

from pathlib import Path

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.triplets import Floats, Maps, Triplets

TITLE, PAPER, IMAGES, CUE = "K-RCPS, width of intervals", "arXiv 2302.03791", 0, "low"


def fit(learn: Triplets, aim: Aim, work: Path) -> Score:
    """Return the width of the interval of each pixel."""

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        return cues["high"] - cues["low"]

    return score
