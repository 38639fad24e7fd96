"""conformask trained further on all triplets that there are to learn from, with a level."""

from pathlib import Path

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._conformask import levelled, parts, trained
from maskbench.splits import LEARN
from maskbench.triplets import Triplets

TITLE, PAPER, IMAGES = "conformask, all triplets", "conformask 0.3", LEARN


def fit(learn: Triplets, aim: Aim, work: Path) -> Score:
    """Train on all images that are for training."""
    train, selected, spare = parts(learn)
    return levelled(trained(train, work), selected, spare, aim)
