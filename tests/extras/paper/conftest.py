"""A few real images in folders of their own, and made ones in the folders of Places365."""

import numpy as np
import pytest
from PIL import Image

from real_images import CELLS, PHOTOS, Folders, some


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    return Folders(some("photos", PHOTOS, root / "photos"), some("cells", CELLS, root / "cells"))


@pytest.fixture(scope="session")
def made_photos(tmp_path_factory):
    """Coloured noise over gradients, in the nested folders of Places365: always at hand."""
    root = tmp_path_factory.mktemp("places")
    for index in range(90):
        draw = np.random.default_rng(index)
        slope = np.linspace(0, 1, 48)[:, None, None] * draw.random(3) + draw.random((48, 48, 3)) / 3
        path = root / "data_large_standard" / "abcdef"[index % 6] / "airfield" / f"{index:08d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * slope.clip(0, 1)).astype(np.uint8)).save(path)
    return root
