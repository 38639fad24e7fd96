"""The question whether two of the folders x, y_hat and y were swapped."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from conformask.arithmetic import resized
from conformask.storage.as_arrays import Array
from conformask.types import Triplet

SWAPPED = 0.9
"""Share of images from which the question is asked; see `swap_question`."""


class RoleDistances(NamedTuple):
    """Mean absolute differences between the images of a triplet in its region, in units of [0, 1]."""

    x_to_y_hat: float
    x_to_y: float
    y_hat_to_y: float
    """0 where x has another size than y: then it is not swapped with y_hat."""


def role_distances(triplet: Triplet) -> RoleDistances | None:
    """Return the distances of a triplet, x resized to y; None where x has other channels.

    Raises:
        ValueError: the truth is unknown.
    """
    x, y_hat, y, region = triplet.x, triplet.y_hat, triplet.truth(), triplet.region
    if len(x) != len(y):
        return None
    error = mean_difference(y_hat, y, region) if x.shape == y.shape else 0.0
    x = resized(torch.from_numpy(x)[None], torch.from_numpy(y)[None])[0].numpy()
    return RoleDistances(mean_difference(x, y_hat, region), mean_difference(x, y, region), error)


def mean_difference(a: Array, b: Array, region: Array | None) -> float:
    """Return the mean of |a - b| of images (C, *space) over a region (1, *space), or everywhere."""
    return float(np.average(np.abs(a - b).mean(axis=0), weights=None if region is None else region[0]))


def swap_question(distances: Sequence[RoleDistances | None]) -> str | None:
    """Ask whether two folders were swapped, where SWAPPED of the images say so; None where they do not.

    A network should bring y_hat nearer to y than x is, and y_hat should be nearer to x than y is, because it
    is made from x. The bound was measured (research/swaps.py) on 24 sets of 40 to 48 crops: real noise (FMD,
    PolyU, OCT), and noise, blur, JPEG and x4 enlargement of photographs, cells and nuclei, each with six
    simple predictors. In the 87 cases in which the predictor helps in 80 % of the images or more, 0.9 asks
    about x and y_hat without need in none and finds all of their swaps (0.95: 95 %); it asks about y and
    y_hat without need in 5 % (0.95: 1 %) and finds 66 % of their swaps (0.95: 62 %). A needless question
    costs less than a swap that is missed. Of a predictor that replaces detail by other detail it asks about
    y and y_hat in 9 of 10 cases, at either bound.
    """
    known = [each for each in distances if each is not None]
    if not known:
        return None
    to_y_hat, to_y, error = np.array(known).T
    if (nearer := np.mean(to_y < error)) >= SWAPPED:
        return f"x is nearer to y than y_hat is in {nearer:.0%} of the images: are x and y_hat swapped?"
    if (nearer := np.mean(to_y < to_y_hat)) >= SWAPPED:
        return (
            f"x is nearer to y than to y_hat in {nearer:.0%} of the images, as if y were the network's "
            "output: are y and y_hat swapped? A network that invents detail can look like that too"
        )
    return None
