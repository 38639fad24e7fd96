"""Images of few objects in cells of a grid, with scores that tie and overlaps of exactly one half."""

import numpy as np

import conformask as cm

CELL, GRID = 5, 3


def objects(count, seed, levels=6, numbers=(0, 1, 2, GRID**2)):
    """x is the score, of so many levels; where it is high, y often lacks the object or hardly meets it.

    An image has one of these numbers of objects.
    """
    generator = np.random.default_rng(seed)
    side = CELL * GRID
    images = {
        role: np.zeros((count, side, side), np.float32) for role in ("x", "y_hat", "y", "labels", "y_labels")
    }
    for image in range(count):
        bias = generator.uniform(0, 1)
        number = generator.choice(numbers)
        for place in generator.permutation(GRID**2)[:number]:
            row, column = (CELL * int(each) for each in divmod(place, GRID))
            level = int(generator.integers(levels))
            wrong = generator.random() < bias * (level + 0.5) / levels
            whole = np.s_[image, row : row + 4, column : column + 4]
            images["labels"][whole] = place + 1
            images["x"][whole] = (level + 1) / (2 * levels)
            # of 16 pixels, 8 have the IoU 1/2, and 4 less
            kept = generator.choice([0, 1]) if wrong else generator.choice([2, 4])
            images["y_labels"][image, row : row + kept, column : column + 4] = 20 - place
    noise = generator.uniform(0, 0.2, images["x"].shape)
    images["y_hat"] += 0.6 * (images["labels"] > 0) + noise
    images["y"] += 0.6 * (images["y_labels"] > 0) + noise
    return {role: image.astype(np.float32) for role, image in images.items()}


def triplets(count, seed, *world, **more):
    """The objects of a world, as triplets."""
    return cm.Triplets.from_arrays(**objects(count, seed, *world), **more)


def of_x(x, y_hat):
    return x


SCORER = cm.Heuristic(of_x, channels=1)
