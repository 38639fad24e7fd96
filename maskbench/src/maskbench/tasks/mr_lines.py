"""MR slices of heads from a third of the lines of their Fourier transform, then total variation."""

from pathlib import Path

import nibabel
import numpy as np
from skimage.restoration import denoise_tv_chambolle

from maskbench.tasks import Made
from maskbench.tasks._images import middle

TITLE, NETWORK = "MR slices, a third of the lines", "zero filling and total variation"
DEGRADATION, LICENCE, VERSION = "35 % of the lines and the middle", "CC BY-SA 3.0 (IXI)", 1
LINES, MIDDLE, SIDE = 0.35, 0.06, 64


def make(data: Path, work: Path) -> Made:
    """Yield twelve slices of each head, the middle 64 x 64 pixels."""
    generator = np.random.default_rng(2)
    for path in sorted((data / "mr_t1").glob("*_t1.nii.gz")):
        scan = nibabel.load(path).get_fdata(dtype=np.float32)
        for y in np.moveaxis((scan / np.quantile(scan, 0.999)).clip(0, 1)[..., 20:68:4], -1, 0):
            known = (generator.random(len(y)) < LINES) | (np.abs(np.fft.fftfreq(len(y))) < MIDDLE)
            x = np.abs(np.fft.ifft2(np.fft.fft2(y) * known[:, None])).clip(0, 1)
            y_hat = denoise_tv_chambolle(x, 0.03)
            yield path.name[:6], *(middle(each, SIDE) for each in (x, y_hat, y)), {}
