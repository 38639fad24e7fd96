"""Places365 as torchvision lays it out: its loader and ours find the same images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conformask.extras.paper.reproduce import reproduce
from conformask.images.read import list_images

Places365 = pytest.importorskip("torchvision.datasets", reason="torchvision is not installed").Places365
CLASSES = ("/a/airfield", "/b/bar", "/y/youth_hostel")


class Made(Places365):
    """The loader, without the hashes of the real lists of files."""

    _CATEGORIES_META = ("categories_places365.txt", None)
    _FILE_LIST_META = {"val": ("places365_val.txt", None)}  # noqa: RUF012


@pytest.fixture
def root(tmp_path):
    """The validation images of the small version, as torchvision unpacks them, and its lists."""
    root = tmp_path / "places"
    (root / "val_256").mkdir(parents=True)
    names = [f"Places365_val_{index:08d}.jpg" for index in range(1, 91)]
    for index, name in enumerate(names):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "val_256" / name)
    categories = "\n".join(f"{name} {index}" for index, name in enumerate(CLASSES))
    (root / "categories_places365.txt").write_text(categories)
    listed = "\n".join(f"{name} {index % len(CLASSES)}" for index, name in enumerate(names))
    (root / "places365_val.txt").write_text(listed)
    return root


def test_its_images_are_ours(root):
    theirs = Made(str(root), split="val", small=True)
    assert {Path(path) for path, _ in theirs.imgs} == set(list_images(root, recursive=True))


@pytest.mark.thorough
def test_its_folder_is_taken_as_it_is(root, tmp_path):
    done = reproduce(tmp_path / "out", preset="smoke", photos=root, rows=[9])
    assert done.finished[0].images["calibration"] == 12
