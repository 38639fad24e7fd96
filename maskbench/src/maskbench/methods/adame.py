"""Masks of Adame et al. 2025, without training: the variance of draws, averaged around each pixel."""

from pathlib import Path

from scipy.ndimage import uniform_filter

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.triplets import Floats, Maps, Triplets

TITLE, PAPER, IMAGES, CUE = "local variance of draws", "arXiv 2502.09664", 0, "low"
WINDOW = (0, 7, 7)


def fit(learn: Triplets, aim: Aim, work: Path) -> Score:
    """Return the mean of the variance of the draws in windows of 7 x 7 pixels."""

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        averaged: Floats = uniform_filter(cues["network"] ** 2, WINDOW).clip(min=0)
        return averaged

    return score
