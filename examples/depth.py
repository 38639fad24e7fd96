# %% [markdown]
# # Depth: from which value on is a confidence map right?
#
# Run it as `python examples/depth.py`, or cell by cell. It makes `depth-calibration/` and `depth-new/` of the
# Middlebury stereo pair in scikit-image: depth by semi-global matching, and two confidence maps beside it.

# %%
import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter
from skimage import color, data

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, default=Path("."))
out = parser.parse_args([] if "ipykernel" in sys.modules else None).out
FOCAL, BASELINE, OFFSET = 994.978, 0.193001, 31.086
"""Of the cameras, in pixels, metres and pixels."""
DISPARITIES, SIDE, LIDAR = 70, 24, 0.05
SMALL, LARGE = 0.02, 0.2
"""Costs of a step of one disparity between neighbours, and of a larger one."""
generator = np.random.default_rng(0)


def depth(disparity: np.ndarray) -> np.ndarray:
    """Return the depth in metres."""
    return (FOCAL * BASELINE / (disparity + OFFSET)).astype(np.float32)


# %% [markdown]
# ## 1. Semi-global matching
#
# The cost of a disparity is how much windows of both images differ. Along four directions, each pixel adds
# the least cost of its neighbour, with a penalty for another disparity. The depth is that of the least sum.


# %%
def matching_costs(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the costs of all disparities, (H, W, D)."""
    costs = np.full((*left.shape, DISPARITIES), 1, np.float32)
    for disparity in range(DISPARITIES):
        other = left[:, : left.shape[1] - disparity]
        apart = np.abs(left[:, disparity:] - right[:, : other.shape[1]])
        costs[:, disparity:, disparity] = uniform_filter(np.minimum(apart, 0.1), 3)
    return costs


def along(costs: np.ndarray) -> np.ndarray:
    """Return costs with those of the path that leads down the first axis."""
    summed = costs.copy()
    for row in range(1, len(costs)):
        before = summed[row - 1]
        least = before.min(axis=1, keepdims=True)
        padded = np.pad(before, ((0, 0), (1, 1)), constant_values=np.inf)
        step = np.minimum(padded[:, :-2], padded[:, 2:]) + SMALL
        summed[row] += np.minimum(np.minimum(before, step), least + LARGE) - least
    return summed


def semi_global(costs: np.ndarray) -> np.ndarray:
    """Return the sum of the costs along four directions."""
    across = costs.transpose(1, 0, 2)
    down, right = along(costs), along(across).transpose(1, 0, 2)
    up, left = along(costs[::-1])[::-1], along(across[::-1])[::-1].transpose(1, 0, 2)
    return down + up + right + left


def least(costs: np.ndarray) -> np.ndarray:
    """Return the disparity of the least cost, between two by the parabola through three costs."""
    best = costs.argmin(axis=2).clip(1, DISPARITIES - 2)
    before, here, after = (
        np.take_along_axis(costs, best[..., None] + step, axis=2)[..., 0] for step in (-1, 0, 1)
    )
    curvature = before - 2 * here + after
    return best + np.where(curvature > 0, (before - after) / (2 * curvature.clip(min=1e-9)), 0).clip(
        -0.5, 0.5
    )


left, right, true_disparity = data.stereo_motorcycle()
left_grey, right_grey = color.rgb2gray(left), color.rgb2gray(right)
costs = semi_global(matching_costs(left_grey, right_grey))
disparity = least(costs)

# %% [markdown]
# ## 2. Confidence maps
#
# Two that stereo matching has always had. Left-right check: how far the disparity of the right image, at the
# place where the left one points, is from that of the left. Cost ratio: the least cost divided by the least
# of disparities further away, near 1 where two are equally good. Of both, higher is less trusted.

# %%
mirrored = semi_global(matching_costs(right_grey[:, ::-1], left_grey[:, ::-1]))
of_right = least(mirrored)[:, ::-1]
rows, columns = np.indices(disparity.shape)
left_right = np.abs(disparity - of_right[rows, np.maximum(columns - np.rint(disparity).astype(int), 0)])
near = np.abs(np.arange(DISPARITIES) - disparity[..., None]) <= 1
ratio = costs.min(axis=2) / np.where(near, np.inf, costs).min(axis=2)

# %% [markdown]
# ## 3. Crops
#
# Crops are assigned at random to calibration and to new ones: the promise is about new crops of this scene.
# Where the truth is unknown it is 0. `depth-lidar/` has the crops of the calibration with the truth at one
# pixel in twenty, as a laser scanner would have it.

# %%
truth = np.where(np.isfinite(true_disparity), depth(true_disparity), 0)
dense = {
    "x": left,
    "y_hat": depth(disparity),
    "y": truth,
    "left_right": left_right.astype(np.float32),
    "ratio": ratio.astype(np.float32),
}
sparse = dense | {"y": np.where(generator.random(truth.shape) < LIDAR, truth, 0)}
wrong = np.abs(np.log(dense["y_hat"] / np.where(truth > 0, truth, dense["y_hat"]))) > np.log(1.25)
broken: list[bool] = []
for row in range(0, truth.shape[0] - SIDE + 1, SIDE):
    for column in range(0, truth.shape[1] - SIDE + 1, SIDE):
        window = np.s_[row : row + SIDE, column : column + SIDE]
        is_new = generator.random() < 0.5
        if not sparse["y"][window].any():
            continue
        for part, images in (
            {"new": dense}.items() if is_new else {"calibration": dense, "lidar": sparse}.items()
        ):
            for role, image in images.items():
                folder = out / f"depth-{part}" / role
                folder.mkdir(parents=True, exist_ok=True)
                np.save(folder / f"{row:03d}_{column:03d}.npy", image[window])
        shown = (left_right[window] <= 1) & (truth[window] > 0)
        broken += [wrong[window][shown].mean() > 0.05] if is_new and shown.any() else []
for part in ("calibration", "lidar", "new"):
    print(f"depth-{part}/", len(list((out / f"depth-{part}" / "y").iterdir())), "crops")
print(f"{100 * wrong[truth > 0].mean():.1f} % of the pixels are off by more than a factor of 1.25;")
shown = (left_right <= 1) & (truth > 0)
print(
    f"of the {100 * shown.sum() / (truth > 0).sum():.0f} % that pass the left-right check at 1 pixel, "
    f"{100 * wrong[shown].mean():.1f} %;"
)
print(f"in {sum(broken)} of {len(broken)} new crops, of more than 5 % of those shown")
