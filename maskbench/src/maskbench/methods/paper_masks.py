"""The masks of "What's Behind the Mask": the reciprocal of the score, and the paper's lambda."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import conformask as cm
from maskbench.aim import Aim
from maskbench.methods import Score, paper
from maskbench.methods._conformask import triplets_of
from maskbench.methods._heads import AT_ONCE
from maskbench.methods._images import planes
from maskbench.triplets import Floats, Maps, Triplets

TITLE, PAPER, IMAGES = "masks of the paper, its own calibration", paper.PAPER, paper.IMAGES


def masks(learn: Triplets, calibration: Triplets, aim: Aim, work: Path) -> Score:
    """Find lambda for min(1, lambda / (epsilon + score)); the network is that of `paper`.

    Each image is a group: the benchmark has dealt images that are independent of each other.
    """
    scorer = paper.trained(learn, work.with_name("paper"))
    dealt = replace(calibration, groups=np.array([f"c-{at}" for at in range(len(calibration))]))
    masker = cm.calibrate(
        scorer, triplets_of(dealt, "c"), threshold=aim.threshold, loss="l1", family="reciprocal",
        promise=cm.Promise(confidence=aim.confidence), level="one",
    )  # fmt: skip

    def shown(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        batches = zip(*(torch.split(planes(each), AT_ONCE) for each in (x, y_hat)), strict=True)
        return np.concatenate([masker(*batch)[:, 0].numpy() for batch in batches])

    return shown
