"""Who learns, who calibrates and who tests: whole groups, dealt by the benchmark."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from maskbench.triplets import Triplets

LEARN = 240
"""Images with a truth that methods may learn from, or two fifths of the images where that is less."""
SPLITS = 200
BY_GROUP = 40
"""Least number of groups with which calibration and test images have no group in common."""


def learn_and_pool(triplets: Triplets) -> tuple[Triplets, Triplets]:
    """Return the images to learn from, and those to be dealt to calibration and test; no group is in both."""
    groups = triplets.groups
    order = np.random.default_rng(1).permutation(np.unique(groups))
    sizes = np.array([np.count_nonzero(groups == group) for group in order])
    count = int(np.searchsorted(sizes.cumsum(), min(LEARN, 0.4 * len(groups)), side="right")) or 1
    learns = np.isin(groups, order[:count])
    return triplets.take(np.flatnonzero(learns)), triplets.take(np.flatnonzero(~learns))


def deals(groups: NDArray[np.str_]) -> Iterator[tuple[NDArray[np.int_], NDArray[np.int_]]]:
    """Yield places of calibration and test images, SPLITS times.

    Whole groups are dealt, and one image of each calibration group is drawn, so that calibration images are
    independent. Where there are fewer than BY_GROUP groups, images are dealt one by one, and the promise is
    about new images of these groups.
    """
    generator = np.random.default_rng(2)
    unique = np.unique(groups)
    members = [np.flatnonzero(groups == group) for group in unique]
    for _ in range(SPLITS):
        if len(unique) < BY_GROUP:
            calibration, test = np.array_split(generator.permutation(len(groups)), 2)
        else:
            first, second = np.array_split(generator.permutation(len(unique)), 2)
            calibration = np.array([generator.choice(members[at]) for at in first])
            test = np.concatenate([members[at] for at in second])
        yield calibration, test
