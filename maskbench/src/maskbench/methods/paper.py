"""The mask network of "What's Behind the Mask" (Kutiel, Cohen, Elad, Freedman 2022), from random weights."""

from pathlib import Path

import conformask as cm
from conformask.scores.network_scorer import NetworkScorer
from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._conformask import scores_of, triplets_of
from maskbench.splits import LEARN
from maskbench.triplets import Triplets

TITLE, PAPER, IMAGES = "mask network of the paper", "arXiv 2211.15211", LEARN
WIDTH = 16


def trained(learn: Triplets, work: Path) -> NetworkScorer:
    """Return the paper's U-Net, trained on its loss, equation (6)."""
    return cm.fit_scorer(
        triplets_of(learn, "t"), loss="l1", out=work, scorer="mask", training=cm.TrainingConfig(resume=True),
        network=cm.NetworkOptions(paper_form=True, width=WIDTH),
    )  # fmt: skip


def fit(learn: Triplets, aim: Aim, work: Path) -> Score:
    """Train the network; its output is the score."""
    scorer = trained(learn, work)
    return lambda x, y_hat, cues: scores_of(scorer, x, y_hat)
