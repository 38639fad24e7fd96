"""Masks of a whole folder of images, onto disk."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from conformask.data.images import write_image
from conformask.data.triplets import Triplets
from conformask.masker.masker import Masker
from conformask.progress import tracked
from conformask.report.pictures import as_bytes, overlay
from conformask.results import whole_file
from conformask.types import Array

MASK_SUFFIXES = {".tif": ".tif", ".tiff": ".tiff"}
BATCH_SIZE = 16


def write_masks(masker: Masker, triplets: Triplets, out: str | Path) -> dict[str, float]:
    """Write masks/NAME (16 bits, rounded down), overlays/NAME.png and sizes.csv; y is not needed.

    Returns the mask size of each image.

    Raises:
        OutputError: out cannot be written to.
        ImageError: an image that cannot be used.
        MismatchError: other channels than those of the calibration images.
    """
    out = Path(out)
    suffixes = dict(zip(triplets.names, triplets.suffixes, strict=True))
    sizes: dict[str, float] = {}
    for batch in tracked(triplets.batches(BATCH_SIZE), "masks", len(triplets), BATCH_SIZE):
        masks = masker.masks(batch.x, batch.y_hat, weight=batch.weight, category=batch.category)[1].numpy()
        for name, mask, y_hat in zip(batch.names, masks, batch.y_hat.numpy(), strict=True):
            suffix = MASK_SUFFIXES.get(suffixes[name], ".png")
            write_image(out / "masks" / f"{name}{suffix}", mask, bits=16, round_down=True)
            _write_overlay(out / "overlays" / f"{name}.png", y_hat, mask)
            sizes[name] = float(1 - mask.mean(dtype=np.float64))
    _write_sizes(out / "sizes.csv", sizes)
    return sizes


def _write_overlay(path: Path, y_hat: Array, mask: Array) -> None:
    with whole_file(path) as aside:
        Image.fromarray(overlay(as_bytes(y_hat), as_bytes(mask))).save(aside)


def _write_sizes(path: Path, sizes: dict[str, float]) -> None:
    with whole_file(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "mask_size"))
        writer.writerows((name, f"{size:.6f}") for name, size in sizes.items())
