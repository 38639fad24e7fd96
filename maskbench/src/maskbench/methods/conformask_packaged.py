"""conformask as it comes: the packaged score, and a level for each image fitted on forty of the user's."""

from pathlib import Path

import conformask as cm
from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._conformask import SELECTION, SPARE, levelled
from maskbench.triplets import Triplets

TITLE, PAPER, IMAGES = "conformask, packaged score", "conformask 0.3", SELECTION


def fit(learn: Triplets, aim: Aim, work: Path) -> Score:
    """Return the packaged score; nothing is trained but the level."""
    selected, spare = learn.take(range(SELECTION)), learn.take(range(SELECTION, SELECTION + SPARE))
    return levelled(cm.packaged_scorer(), selected, spare, aim)
