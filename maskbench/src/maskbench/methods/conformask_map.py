"""conformask trained further on all triplets and the network's own map, with a level."""

from pathlib import Path

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._conformask import levelled, parts, trained
from maskbench.splits import LEARN
from maskbench.triplets import Triplets

TITLE, PAPER, IMAGES, CUE = "conformask, all triplets and the map", "conformask 0.3", LEARN, "network"


def fit(learn: Triplets, aim: Aim, work: Path) -> Score:
    """Train on all images that are for training, the map among the channels of x."""
    train, selected, spare = parts(learn)
    return levelled(trained(train, work, cues=True), selected, spare, aim, cues=True)
