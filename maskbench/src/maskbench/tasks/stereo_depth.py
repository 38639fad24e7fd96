"""Disparities of a pair of photographs, by semi-global matching.

The network is OpenCV's semi-global matching; x is the left photograph. Disparities are divided by the
largest true one. Where the truth is unknown, 7 % of the pixels, y is y_hat: their errors count as none. The
promise is about new places of this one scene.
"""

from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter
from skimage.data import stereo_motorcycle

from maskbench.tasks import Made
from maskbench.tasks._images import tiles
from maskbench.tasks._networks import package
from maskbench.triplets import BYTE, Floats

TITLE, NETWORK = "disparities of two photographs", "semi-global matching"
DEGRADATION, LICENCE, VERSION = "real", "CC0 (Middlebury 2014, Scharstein et al.)", 1
DISPARITIES, WINDOW, SIXTEENTHS = 80, 5, 16
SIDE, BLOCK = 32, 96


def make(data: Path, work: Path) -> Made:
    """Yield tiles, in blocks of nine, with the left-right check averaged over the window of the matching."""
    left, right, true_disparity = stereo_motorcycle()
    disparity, mirrored = matched(left, right), matched(right[:, ::-1], left[:, ::-1])[:, ::-1]
    rows, columns = np.mgrid[: disparity.shape[0], : disparity.shape[1]]
    seen_from_right = mirrored[rows, (columns - np.rint(disparity).astype(int)).clip(min=0)]
    cue = uniform_filter(np.abs(disparity - seen_from_right), WINDOW)
    known = np.isfinite(true_disparity)
    largest = true_disparity[known].max()
    y_hat = (disparity / largest).clip(0, 1)
    y = np.where(known, true_disparity / largest, y_hat)
    images = (left.astype(np.float32) / BYTE, y_hat, y, cue, rows, columns)
    for *roles, spread, row, column in tiles(*(each[:, DISPARITIES:] for each in images), side=SIDE):
        block = f"{row[0, 0] // BLOCK}-{(column[0, 0] - DISPARITIES) // BLOCK}"
        yield block, *roles, {"network": spread}


def matched(left: Floats, right: Floats) -> Floats:
    """Return the disparity of each pixel of the left photograph."""
    cv2 = package("cv2")
    smoothness = left.shape[2] * WINDOW**2
    matcher = cv2.StereoSGBM_create(
        numDisparities=DISPARITIES, blockSize=WINDOW, P1=8 * smoothness, P2=32 * smoothness,
        mode=cv2.STEREO_SGBM_MODE_HH,
    )  # fmt: skip
    padded = [
        np.pad(np.ascontiguousarray(image), ((0, 0), (DISPARITIES, 0), (0, 0)), mode="edge")
        for image in (left, right)
    ]
    found = matcher.compute(*padded)[:, DISPARITIES:].astype(np.float32) / SIXTEENTHS
    return found.clip(min=0)
