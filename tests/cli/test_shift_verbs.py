"""Masks of images that do not look like the calibration's say so, without a truth."""

from pathlib import Path

import numpy as np
import pytest

from conformask.images.read import write_image
from conformask.images.triplets import Triplets


def new_images(data: Path, out: Path, *, factor: float) -> Path:
    """x and y_hat of the test part, darker by a factor."""
    for triplet in Triplets.from_folder(data).part("test"):
        for role in ("x", "y_hat"):
            image = (factor * getattr(triplet, role)).astype(np.float32)
            write_image(out / role / f"{triplet.name}.png", image)
    return out


@pytest.mark.thorough
def test_masks_of_other_images_say_that_they_are_other_images(conformask, own: Path) -> None:
    alike = new_images(own / "data", own / "alike", factor=1)
    record = conformask("mask", own / "run", alike, own / "masks", "--json").record
    assert record["shift"] is None
    dark = new_images(own / "data", own / "dark", factor=0.1)
    answer = conformask("mask", own / "run", dark, own / "masks-of-dark")
    assert answer.status == 0
    assert "SHIFTED: these images do not look like the calibration images (p = " in answer.out
    assert f"conformask monitor {own / 'run'} {dark} describes the change." in answer.out
