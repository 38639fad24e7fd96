"""Coverage of the worst slab: the least covered fifth of the images along any direction of simple features.

A slab {a <= v . features <= b} is found on half of the test images and counted on the other half (Cauchois,
Gupta, Duchi, "Knowing what you know", 2021).
"""

import numpy as np
from numpy.typing import NDArray

from maskbench.triplets import Floats, Triplets

SHARE, DIRECTIONS = 0.2, 100


def features_of(triplets: Triplets) -> Floats:
    """Return what is simple to say of each image, standardised, (n, 5)."""
    grey = triplets.y_hat.mean(axis=3)
    down, right = (np.abs(np.diff(grey, axis=axis)) for axis in (1, 2))
    factor = grey.shape[1] // triplets.x.shape[1]
    small = grey.reshape(len(grey), triplets.x.shape[1], factor, -1, factor).mean(axis=(2, 4))
    columns = [
        grey.mean(axis=(1, 2)),
        grey.std(axis=(1, 2)),
        down.mean(axis=(1, 2)) + right.mean(axis=(1, 2)),
        down.max(axis=(1, 2)) + right.max(axis=(1, 2)),
        np.abs(small - triplets.x.mean(axis=3)).mean(axis=(1, 2)),
    ]
    features = np.stack(columns, axis=1)
    spread = features.std(axis=0)
    standardised: Floats = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return standardised


def worst_slab(features: Floats, kept: NDArray[np.bool_], seed: int) -> float:
    """Return the coverage of the worst slab of one half of the images, measured on the other half."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(kept))
    first, second = order[::2], order[1::2]
    directions = generator.standard_normal((DIRECTIONS, features.shape[1]))
    projected = features @ directions.T
    count = max(1, round(SHARE * len(first)))
    ranks = np.argsort(projected[first], axis=0)
    sums = np.cumsum(np.vstack([np.zeros((1, DIRECTIONS)), kept[first][ranks]]), axis=0)
    start, direction = np.unravel_index(
        np.argmin(sums[count:] - sums[:-count]), (len(first) - count + 1, DIRECTIONS)
    )
    slab = projected[first[ranks[[start, start + count - 1], direction]], direction]
    inside = (projected[second, direction] >= slab[0]) & (projected[second, direction] <= slab[1])
    return float(kept[second][inside].mean()) if inside.any() else float(kept[second].mean())
