"""conformask's packaged score with one lambda for all images, which needs no images of the user's."""

from pathlib import Path

import conformask as cm
from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._conformask import scores_of, triplets_of
from maskbench.triplets import Triplets

TITLE, PAPER, IMAGES = "conformask, packaged score, one lambda", "conformask 0.2", 0


def fit(learn: Triplets, aim: Aim, work: Path) -> Score:
    """Return the packaged score."""
    scorer = cm.packaged_scorer().of(triplets_of(learn, "l"))
    return lambda x, y_hat, cues: scores_of(scorer, x, y_hat)
