"""Images in groups: places, means and order statistics for each group."""

import numpy as np
from jaxtyping import Float, Int, Shaped

Labels = Shaped[np.ndarray, "n"]
Places = Int[np.ndarray, "_"]


def members(groups: Labels) -> list[Places]:
    """Return the places of the images of each group, groups in the order of their labels."""
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(groups[order], return_index=True)
    return np.split(order, starts[1:])


def first_of_each(groups: Labels) -> Places:
    """Return the place of the first image of each group, ascending."""
    return np.sort(np.unique(groups, return_index=True)[1])


def group_means(values: Float[np.ndarray, "n *g"], groups: Labels) -> Float[np.ndarray, "k *g"]:
    """Return the mean of each group."""
    return np.stack([values[places].mean(axis=0) for places in members(groups)])


def kth_smallest(
    values: Float[np.ndarray, "n *g"], groups: Labels, share: float
) -> Float[np.ndarray, "k *g"]:
    """Return the k-th smallest value of each group, which at least this share of its values do not exceed."""
    ranks = [(places, _rank(share, len(places)) - 1) for places in members(groups)]
    return np.stack([np.partition(values[places], rank, axis=0)[rank] for places, rank in ranks])


def kth_largest(values: Float[np.ndarray, "n"], groups: Labels, share: float) -> Float[np.ndarray, "k"]:
    """Return the k-th largest value of each group, which at least this share of its values reach."""
    return -kth_smallest(-values, groups, share)


def _rank(share: float, n: int) -> int:
    """Return ceil(share * n), at least 1, tolerant of rounding."""
    return max(1, int(np.ceil(share * n - 1e-9)))
