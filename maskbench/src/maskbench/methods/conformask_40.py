"""conformask trained further on the forty triplets that give the packaged score its level; without one."""

from pathlib import Path

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._conformask import SELECTION, parts, scores_of, trained
from maskbench.triplets import Floats, Maps, Triplets

TITLE, PAPER, IMAGES = "conformask, 40 triplets", "conformask 0.3", SELECTION


def fit(learn: Triplets, aim: Aim, work: Path) -> Score:
    """Train on the images for choices alone."""
    scorer = trained(parts(learn)[1], work)

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        return scores_of(scorer, x, y_hat)

    return score
