"""Slices across thick slices of MR volumes, filled in by cubic splines."""

from pathlib import Path

import nibabel
import numpy as np
from scipy.ndimage import zoom

from maskbench.tasks import Made

TITLE, NETWORK = "hippocampi, thick slices", "cubic splines"
DEGRADATION, LICENCE, VERSION = "means of 4 slices", "CC BY-SA 4.0 (Medical Segmentation Decathlon)", 1
THICK, SIDE, PLACES = 4, 32, 8


def make(data: Path, work: Path) -> Made:
    """Yield planes of each volume, the first 32 x 32 pixels, with the distance to the middle of the slice."""
    for path in sorted((data / "hippocampus").glob("*_image.nii.gz")):
        scan = nibabel.load(path).get_fdata(dtype=np.float32)
        y = (scan / np.quantile(scan, 0.999)).clip(0, 1)[:SIDE, :, : scan.shape[2] // THICK * THICK]
        if y.shape[0] < SIDE or y.shape[2] < SIDE - THICK:
            continue
        thick = y.reshape(*y.shape[:2], -1, THICK).mean(axis=3)
        x = np.repeat(thick, THICK, axis=2)
        y_hat = zoom(thick, (1, 1, THICK), order=3, mode="nearest", grid_mode=True).clip(0, 1)
        distance = np.abs(np.arange(SIDE - THICK) % THICK - (THICK - 1) / 2)
        cue = np.broadcast_to(distance, (SIDE, SIDE - THICK)).astype(np.float32)
        for place in np.linspace(4, y.shape[1] - 5, PLACES).astype(int):
            planes = (volume[:, place, : SIDE - THICK] for volume in (x, y_hat, y))
            yield path.name.split("_")[0], *planes, {"network": cue}
