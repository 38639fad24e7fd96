"""Retinas in optical coherence tomography: one scan beside the mean of many, denoised by total variation."""

from pathlib import Path

from skimage.restoration import denoise_tv_chambolle

from maskbench.tasks import Made
from maskbench.tasks._images import read, tiles

TITLE, NETWORK = "retinas, optical coherence tomography", "total variation"
DEGRADATION, LICENCE, VERSION = "real", "research use (Duke SD-OCT, Fang et al. 2012)", 1


def make(data: Path, work: Path) -> Made:
    """Yield tiles of each eye."""
    for path in sorted((data / "oct").glob("*_noisy.png")):
        x, y = (read(path.with_name(path.name.replace("noisy", role)), "L") for role in ("noisy", "clean"))
        for tile in tiles(x, denoise_tv_chambolle(x, 0.25), y):
            yield path.name[:3], *tile, {}
