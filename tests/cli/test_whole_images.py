"""Whole images by the command line: calibrate --tiled, and masks from OME-Zarr to OME-Zarr."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from conformask.images.read import write_image
from photographs import packaged_photographs

AXES = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
LARGE = (1100, 96)


def write_zarr(path: Path, image: np.ndarray) -> None:
    described = {"axes": AXES, "datasets": [{"path": "0"}]}
    group = zarr.create_group(path, attributes={"ome": {"version": "0.5", "multiscales": [described]}})
    group.create_array("0", data=image, chunks=(1, 256, 256))


def halved(image: np.ndarray, times: int) -> np.ndarray:
    channels, height, width = image.shape
    return image.reshape(channels, height // times, times, width // times, times).mean(axis=(2, 4))


@pytest.fixture
def whole(own: Path) -> Path:
    """whole/ holds photographs of mixed sizes, new/ a large OME-Zarr; x is four times smaller."""
    for index, (name, pixels) in enumerate(packaged_photographs().items()):
        for turn in range(2):
            y = np.moveaxis(np.rot90(pixels, turn)[100 : 164 + 8 * (index % 4), 100:180] / 255, -1, 0)
            x = halved(y, 4)
            y_hat = x.repeat(4, axis=1).repeat(4, axis=2)
            for role, image in (("x", x), ("y_hat", y_hat), ("y", y)):
                write_image(own / "whole" / role / f"{name}{turn}.png", image)
    y_hat = np.random.default_rng(0).integers(0, 256, (3, *LARGE), dtype=np.uint8)
    write_zarr(own / "new" / "x" / "slide.ome.zarr", np.rint(halved(y_hat, 4)).astype(np.uint8))
    write_zarr(own / "new" / "y_hat" / "slide.ome.zarr", y_hat)
    return own


def test_calibrated_whole_it_masks_whole(conformask, whole):
    how = ("--threshold", "0.03", "--confidence", "0.8", "--tiled", "--json")
    calibrated = conformask("calibrate", whole / "run", whole / "whole", *how)
    assert calibrated.status == 0, calibrated.err
    assert "for whole images, like the" in calibrated.record["formula"]
    assert calibrated.record["tiles"] == [1024, 64]
    masked = conformask("mask", whole / "run", whole / "new", whole / "out", "--json")
    assert masked.status == 0
    assert "covers only whole images of 64 x 80 to 88 x 80 pixels, with sides up to 2 times" in masked.err
    written = zarr.open_group(whole / "out" / "masks" / "slide.ome.zarr", mode="r")["0"][:]
    assert written.shape == (1, *LARGE)
    assert masked.record["mask_size"] == pytest.approx(1 - written.mean() / 65535, abs=1e-4)
    recalibrated = conformask("recalibrate", whole / "run", "--threshold", "0.05", "--json")
    assert recalibrated.record["tiles"] == [1024, 64]
    assert conformask("evaluate", whole / "run", whole / "data").status == 0


def test_calibrated_on_tiles_it_warns(conformask, whole):
    masked = conformask("mask", whole / "run", whole / "new", whole / "out")
    assert masked.status == 0
    assert "covers only images of 32 x 32 pixels, not whole images scored by tiles" in masked.err
    assert (whole / "out" / "masks" / "slide.ome.zarr").is_dir()


def test_tiles_without_images_are_bad_usage(conformask, whole):
    answer = conformask("calibrate", whole / "run", "--threshold", "0.1", "--tiled")
    assert answer.status == 2
    assert (
        f"no DATA is given: for what needs no images, use conformask recalibrate {whole / 'run'}"
        in answer.err
    )


def test_a_missing_chunk_stops_it_at_once(conformask, whole):
    (whole / "new" / "y_hat" / "slide.ome.zarr" / "0" / "c" / "1" / "2" / "0").unlink()
    answer = conformask("mask", whole / "run", whole / "new", whole / "out", "--json")
    assert answer.status == 1
    assert answer.record.keys() == {"error"}
    assert "slide.ome.zarr is missing chunks c/1/2/0 of array '0'" in answer.err
    assert "Traceback" not in answer.err
    assert not (whole / "out").exists()
