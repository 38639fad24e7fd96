"""Small volumes of a patient that lies oddly in its files."""

from pathlib import Path

import nibabel
import numpy as np

HU = (-1024.0, 3071.0)
SPACE = (10, 14, 18)
"""(D, H, W) of the volumes."""
RIGHT, SUPERIOR, POSTERIOR = 3.0, 1.5, 2.0
"""Their steps along z, y and x, in mm."""
AFFINE = np.array([[0, 0, RIGHT, 5], [-POSTERIOR, 0, 0, 7], [0, SUPERIOR, 0, 9], [0, 0, 0, 1]])
"""x runs to posterior, y to superior, z to right."""


def volume(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """y and y_hat in HU, int16 (D, H, W): structures that are smooth in y_hat, most of them in one slice."""
    generator = np.random.default_rng(seed)
    y = generator.normal(0, 60, SPACE)
    y[7] += generator.normal(0, 400, SPACE[1:])
    y_hat = (y + np.roll(y, 1, 1) + np.roll(y, 1, 2)) / 3
    return y.round().astype(np.int16), y_hat.round().astype(np.int16)


def write_volumes(folder: Path, seeds: range, affine: np.ndarray | None) -> None:
    for seed in seeds:
        y, y_hat = volume(seed)
        for role, image in (("x", y_hat), ("y_hat", y_hat), ("y", y)):
            path = folder / role / f"v{seed}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(image.T, affine).to_filename(path)
