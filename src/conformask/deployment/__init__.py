"""Masks of a whole folder of images, onto disk."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from conformask.data.images import write_image
from conformask.data.triplets import Triplets
from conformask.deployment.whole import whole_images, write_whole
from conformask.masker.masker import Masker
from conformask.progress import tracked
from conformask.report.pictures import as_bytes, overlay
from conformask.storage.whole import whole_file
from conformask.types import Array

MASK_SUFFIXES = {
    ".tif": ".tif",
    ".tiff": ".tiff",
    ".ome.tif": ".ome.tif",
    ".ome.tiff": ".ome.tiff",
    ".zarr": ".ome.zarr",
    ".ome.zarr": ".ome.zarr",
}
"""By the suffix of y_hat; all others become PNG."""
BATCH_SIZE = 16


def write_masks(masker: Masker, triplets: Triplets, out: str | Path) -> dict[str, float]:
    """Write masks/NAME (16 bits, rounded down), overlays/NAME.png and sizes.csv; y is not needed.

    Images that no tile of 1024 pixels holds, and OME-Zarr, are masked whole, tile by tile, in bounded memory;
    their overlays are reduced. Those of the calibration's sizes are always scored in one pass.

    Returns the mask size of each image.

    Raises:
        OutputError: out cannot be written to.
        ImageError: an image that cannot be used.
        MismatchError: other channels than those of the calibration images.
    """
    out = Path(out)
    whole = whole_images(masker, triplets)
    places = dict(zip(triplets.names, _mask_files(out, triplets), strict=True))
    sizes: dict[str, float] = {}
    small = triplets.select(index for index in range(len(triplets)) if index not in whole)
    for batch in tracked(small.batches(BATCH_SIZE), "masks", len(small), BATCH_SIZE):
        masks = masker.masks(batch.x, batch.y_hat, weight=batch.weight, category=batch.category)[1].numpy()
        for name, mask, y_hat in zip(batch.names, masks, batch.y_hat.numpy(), strict=True):
            write_image(places[name], mask, bits=16, round_down=True)
            _write_overlay(out / "overlays" / f"{name}.png", y_hat, mask)
            sizes[name] = float(1 - mask.mean(dtype=np.float64))
    for image in whole.values():
        written = write_whole(masker, image, places[image.name])
        _write_overlay(out / "overlays" / f"{image.name}.png", written.y_hat, written.mask)
        sizes[image.name] = written.size
        _write_sizes(out / "sizes.csv", sizes)
    sizes = {name: sizes[name] for name in triplets.names}
    _write_sizes(out / "sizes.csv", sizes)
    return sizes


def _mask_files(out: Path, triplets: Triplets) -> Iterator[Path]:
    for name, suffix in zip(triplets.names, triplets.suffixes, strict=True):
        yield out / "masks" / f"{name}{MASK_SUFFIXES.get(suffix, '.png')}"


def _write_overlay(path: Path, y_hat: Array, mask: Array) -> None:
    with whole_file(path) as aside:
        Image.fromarray(overlay(as_bytes(y_hat), as_bytes(mask))).save(aside, compress_level=1)


def _write_sizes(path: Path, sizes: dict[str, float]) -> None:
    with whole_file(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "mask_size"))
        writer.writerows((name, f"{size:.6f}") for name, size in sizes.items())
