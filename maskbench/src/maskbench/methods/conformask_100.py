"""conformask trained further on a hundred triplets, with a level."""

from pathlib import Path

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._conformask import SELECTION, levelled, parts, trained
from maskbench.triplets import Triplets

COUNT = 100
TITLE, PAPER, IMAGES = "conformask, 100 triplets", "conformask 0.3", COUNT + SELECTION


def fit(learn: Triplets, aim: Aim, work: Path) -> Score:
    """Train on the first hundred images that are for training."""
    train, selected, spare = parts(learn)
    return levelled(trained(train.take(range(min(COUNT, len(train)))), work), selected, spare, aim)
