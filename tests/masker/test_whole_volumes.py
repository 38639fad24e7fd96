"""Masks of whole volumes by tiles in three axes: the same as in one pass, and in their place."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool3d, pad

import conformask as cm
from conformask.images.read import decode, read_header
from conformask.images.triplets import Triplets
from conformask.masker.write import write_masks
from conformask.records.reading import Reading
from conformask.scores.scorer import Heuristic
from conformask.scores.steps import Tiled
from leaves import asking

zarr = pytest.importorskip("zarr")
ZYX = Reading(axes="ZYX")


def smoothed(x: torch.Tensor, y_hat: torch.Tensor) -> torch.Tensor:
    """Looks three pixels far along each axis; x is brought to the size of y_hat by repeating."""
    for axis in range(2, 5):
        x = x.repeat_interleave(y_hat.shape[axis] // x.shape[axis], dim=axis)
    return avg_pool3d(pad((x - y_hat).abs(), (3,) * 6, mode="replicate"), 7, stride=1)


def pair(size: tuple[int, ...], factors: tuple[int, ...] = (1, 1, 1), seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(
        1, 1, *(side // factor for side, factor in zip(size, factors, strict=True)), generator=generator
    )
    return x, torch.rand(1, 1, *size, generator=generator)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("size", "factors"),
    [
        ((40, 300, 130), (1, 1, 1)),
        ((128, 128, 160), (4, 1, 1)),
        ((6, 260, 192), (1, 2, 4)),
        ((260, 8, 9), (1, 1, 1)),
    ],
)
def test_blended_tiles_are_the_score_of_one_pass(size, factors) -> None:
    scorer = Heuristic(smoothed, channels=1)
    x, y_hat = pair(size, factors)
    whole = Tiled(scorer, 512, 64)(x, y_hat).map
    by_tiles = Tiled(scorer, 128, 32)(x, y_hat).map
    torch.testing.assert_close(by_tiles, whole, rtol=0, atol=1e-5)


def triplets(count: int, size: tuple[int, ...], seed: int) -> Triplets:
    pairs = [[image[0, 0].numpy() for image in pair(size, seed=seed + index)] for index in range(count)]
    x, y_hat = zip(*pairs, strict=True)
    return Triplets.from_arrays(x, y_hat, [0.9 * image for image in y_hat], reading=ZYX)


def ome_zarr(path: Path, array: np.ndarray) -> None:
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    scale = [{"type": "scale", "scale": [2.0, 0.5, 0.25]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    group = zarr.create_group(path, attributes={"ome": {"version": "0.5", "multiscales": [image]}})
    stored = group.create_array("0", shape=array.shape, chunks=(16, 64, 64), dtype=array.dtype)
    stored[...] = array


@pytest.fixture(scope="module")
def masker() -> cm.Masker:
    scorer = Tiled(Heuristic(smoothed, channels=1, family="water_filling"), 128, 32)
    return cm.calibrate(scorer, triplets(10, (6, 140, 132), 0), threshold=0.02, loss="l1")


@pytest.mark.leaf("formats")
def test_from_zarr_to_zarr(masker: cm.Masker, tmp_path: Path) -> None:
    images = dict(zip(("x", "y_hat"), pair((10, 200, 170), seed=77), strict=True))
    for role, image in images.items():
        (tmp_path / role).mkdir()
        ome_zarr(tmp_path / role / "a.ome.zarr", image[0, 0].numpy())
    given = Triplets.from_folder(tmp_path)
    written = write_masks(masker, given, tmp_path / "out")
    path = tmp_path / "out" / "masks" / "a.ome.zarr"
    header = read_header(path)
    assert header.space == (10, 200, 170)
    assert (header.geometry.spacing, header.geometry.unit) == ((2.0, 0.5, 0.25), "µm")
    expected = masker.masks(images["x"], images["y_hat"])[0, 0].numpy()
    values = decode(path).reshape(expected.shape) / 65535
    assert (values <= expected + 1e-7).all()
    np.testing.assert_allclose(values, expected, atol=1.1 / 65535)
    assert written.sizes["a"] == pytest.approx(float(1 - expected.mean()), abs=1e-6)


@pytest.mark.parametrize("suffix", [".npy", asking("formats", ".nii.gz"), ".ome.tif"])
def test_of_any_type_a_mask_is_that_of_the_arrays(tmp_path: Path, suffix: str) -> None:
    small = cm.calibrate(
        Heuristic(smoothed, channels=1), triplets(10, (5, 20, 30), 0), threshold=0.02, loss="l1"
    )
    images = dict(zip(("x", "y_hat"), pair((5, 20, 30), seed=5), strict=True))
    for role, image in images.items():
        (tmp_path / role).mkdir()
        save(tmp_path / role / f"a{suffix}", image[0, 0].numpy())
    reading = ZYX if suffix == ".npy" else Reading()
    write_masks(small, Triplets.from_folder(tmp_path, reading=reading), tmp_path / "out")
    (path,) = (tmp_path / "out" / "masks").iterdir()
    assert path.name == {".npy": "a.ome.tif"}.get(suffix, f"a{suffix}")
    expected = small.masks(images["x"], images["y_hat"])[0, 0].numpy()
    values = decode(path).astype(np.float64) / (1 if suffix == ".nii.gz" else 65535)
    assert (values <= expected + 1e-7).all()
    np.testing.assert_allclose(values, expected, atol=1e-4)


def save(path: Path, array: np.ndarray) -> None:
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".tif":
        import tifffile

        tifffile.imwrite(path, array, metadata={"axes": "ZYX"})
    else:
        nibabel = pytest.importorskip("nibabel")
        nibabel.Nifti1Image(array.T, np.eye(4)).to_filename(path)


@pytest.mark.leaf("formats")
def test_another_spacing_is_said_by_name_wherever_it_comes(tmp_path: Path) -> None:
    """Of new NIfTI volumes the second has slices twice as thick."""
    rng = np.random.default_rng(0)
    for folder, thick in (("known", ()), ("new", (1,))):
        for index in range(10 if folder == "known" else 2):
            for role in ("x", "y_hat", "y"):
                path = tmp_path / folder / role / f"p{index}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                step = 4.0 if index in thick else 2.0
                nibabel.Nifti1Image(rng.random((8, 8, 4), np.float32), np.diag([1, 1, step, 1])).to_filename(
                    path
                )
    known, new = (cm.Triplets.from_folder(tmp_path / name) for name in ("known", "new"))
    masker = cm.calibrate(cm.Heuristic(cm.local_spread, 1), known, threshold=0.05, loss="l1")
    with pytest.warns(UserWarning, match=r"p1: a spacing of 4 x 1 x 1 mm: .* on 2 x 1 x 1 mm"):
        cm.write_masks(masker, new, tmp_path / "masks")
    with pytest.warns(UserWarning, match="p1: a spacing"):
        cm.evaluate(masker, new)
