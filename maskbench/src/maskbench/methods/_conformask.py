"""What the rows of conformask share: its score with a level for each image, by its public functions."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

import conformask as cm
from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._images import planes
from maskbench.triplets import Floats, Maps, Triplets

SELECTION, SPARE = 40, 12
"""Images for choices, and images that only complete the call of `calibrate`: the benchmark has its own."""
BATCH = 32


def parts(learn: Triplets) -> tuple[Triplets, Triplets, Triplets]:
    """Return images to train on, for choices, and spare ones; groups are whole, but for one at each cut."""
    cuts = len(learn) - SPARE - SELECTION, len(learn) - SPARE
    order = np.argsort(learn.groups, kind="stable")
    return tuple(learn.take(part) for part in np.split(order, cuts))  # type: ignore[return-value]


def triplets_of(images: Triplets, title: str, *, cues: bool = False, groups: bool = True) -> cm.Triplets:
    """Return images as conformask takes them, with the network's map where it is asked for.

    Images of a single group are dealt one by one, or nothing could be held out.
    """
    further: dict[str, Any] = {"cues": list(images.cues["network"])} if cues else {}
    if groups and len(np.unique(images.groups)) > 1:
        further["groups"] = list(images.groups)
    names = [f"{title}-{at}" for at in range(len(images))]
    return cm.Triplets.from_arrays(list(images.x), list(images.y_hat), list(images.y), names=names, **further)


def levelled(scorer: object, selected: Triplets, spare: Triplets, aim: Aim, *, cues: bool = False) -> Score:
    """Return the score divided by the level of each image, which the selected images fit.

    The call needs calibration images, the spare ones, whose lambda is not used: the benchmark finds its own.
    """
    selection = triplets_of(selected, "s", cues=cues)
    images = triplets_of(spare, "c", cues=cues, groups=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masker = cm.calibrate(scorer, images, threshold=aim.threshold, loss="l1", selection=selection)  # type: ignore[arg-type]

    def score(x: Floats, y_hat: Floats, maps: Maps) -> Floats:
        return scores_of(masker.scorer, x, y_hat, maps["network"] if cues else None)

    return score


@torch.inference_mode()
def scores_of(scorer: object, x: Floats, y_hat: Floats, cue: Floats | None = None) -> Floats:
    """Return the score of each image, (n, H, W)."""
    images = [planes(x), planes(y_hat)]
    if cue is not None:
        images.append(torch.from_numpy(cue)[:, None])
    batches = zip(*(torch.split(each, BATCH) for each in images), strict=True)
    return np.concatenate([scorer(*batch).map[:, 0].numpy() for batch in batches])  # type: ignore[operator]


def trained(train: Triplets, work: Path, *, cues: bool = False) -> object:
    """Return the packaged score trained further, as `conformask train` does by default."""
    images = triplets_of(train, "t", cues=cues)
    return cm.fit_scorer(images, loss="l1", out=work, training=cm.TrainingConfig(resume=True))
