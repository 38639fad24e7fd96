"""Images for the page that runs without an installation, by real networks.

    pip install pyoidn
    python research/try_networks.py WORK DATA

Open Image Denoise takes noise from the packaged photographs, to which it is added, and from cells, to which a
microscope added it (DATA/fmd); slices of brains (DATA/mr_t1) are enlarged twice by cubic splines. Writes x/,
y_hat/ and y/ of each case into WORK; try_page.py makes the page of them. Half a minute.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pyoidn
from PIL import Image
from scipy import ndimage
from skimage.io import imread

from conformask.extras.make.demonstration import middles
from conformask.records.record import Array

SIDE, SLICES = 256, (30, 40, 50)
Case = Iterator[tuple[str, Array, Array, Array]]
"""Name, x, y_hat and y, in [0, 1]."""


def denoised(x: Array) -> Array:
    colour = np.repeat(x, 3, axis=2) if x.shape[2] == 1 else x
    made = pyoidn.denoise(np.ascontiguousarray(colour, np.float32)).clip(0, 1)
    return made.mean(axis=2, keepdims=True) if x.shape[2] == 1 else made


def photographs() -> Case:
    """Crops with noise like that of a camera in the dark."""
    generator = np.random.default_rng(0)
    for name, middle in middles().items():
        for place in np.ndindex(middle.shape[0] // SIDE, middle.shape[1] // SIDE):
            row, column = (SIDE * number for number in place)
            y = middle[row : row + SIDE, column : column + SIDE] / 255
            x = (y + generator.normal(0, 0.02 + 0.06 * np.sqrt(y))).clip(0, 1)
            yield f"{name}-{row}-{column}", x, denoised(x), y


def cells(data: Path) -> Case:
    """Stained cells as a microscope sees them in one shot; the truth is the mean of fifty."""
    for path in sorted((data / "fmd").glob("*_clean.png")):
        shot, mean = (imread(each) / 255 for each in (str(path).replace("clean", "noisy1"), path))
        shot, mean = (image[..., None] if image.ndim == 2 else image for image in (shot, mean))
        for row, column in np.ndindex(2, 2):
            window = slice(SIDE * row, SIDE * (row + 1)), slice(SIDE * column, SIDE * (column + 1))
            x = shot[window]
            yield f"{path.stem.removesuffix('_clean')}-{row}{column}", x, denoised(x), mean[window]


def brains(data: Path) -> Case:
    """Slices of brains with half the resolution."""
    for path in sorted((data / "mr_t1").glob("*_t1.nii.gz")):
        scan = nibabel.load(path).get_fdata(dtype=np.float32)
        scan = (scan / np.quantile(scan, 0.999)).clip(0, 1)
        for z in SLICES:
            y = np.rot90(scan[:, :, z])[..., None]
            x = y.reshape(y.shape[0] // 2, 2, y.shape[1] // 2, 2, 1).mean(axis=(1, 3))
            y_hat = ndimage.zoom(x, (2, 2, 1), order=3, mode="nearest", grid_mode=True).clip(0, 1)
            yield f"{path.name[:6]}_{z}", x, y_hat, y


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    cases = {
        "photographs": photographs(),
        "cells": cells(options.data),
        "brains": brains(options.data),
    }
    for case, images in cases.items():
        for name, *triplet in images:
            for role, image in zip(("x", "y_hat", "y"), triplet, strict=True):
                path = options.work / case / role / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.rint(image.squeeze() * 255).astype(np.uint8)).save(path)


if __name__ == "__main__":
    main()
