"""Real photographs, which come with scikit-image."""

from pathlib import Path

import numpy as np
import skimage

from conformask.images.read import decode

NAMES = (
    "astronaut.png", "chelsea.png", "coffee.png", "ihc.png", "motorcycle_left.png", "rocket.jpg",
    "brick.png", "camera.png", "coins.png", "grass.png", "gravel.png", "moon.png",
)  # fmt: skip


def packaged_photographs():
    """Twelve photographs by name, uint8 (H, W, 3); grey ones are repeated to three channels."""
    read = {Path(name).stem: decode(Path(skimage.__file__).parent / "data" / name) for name in NAMES}
    return {
        name: np.broadcast_to(np.atleast_3d(array), (*array.shape[:2], 3)) for name, array in read.items()
    }
