"""ConformalMaskd in a pipeline of MONAI."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from conformask.arrays import Images
from conformask.errors import ImageError, MismatchError
from conformask.images.triplets import Triplets
from conformask.masker.calibrate import calibrate
from conformask.masker.masker import Masker
from conformask.records.reading import Reading
from conformask.scores.given import GivenScorer
from conformask.scores.scorer import Heuristic

pytest.importorskip("monai", reason="the extra monai is not installed")

from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, Invertd, LoadImaged, Spacingd

from conformask.extras.make.monai_transform import ConformalMaskd

KEYS = ("x", "y_hat")


def steep(x: Images, y_hat: Images) -> Images:
    """Larger along the last axis, so that axes in another order are noticed."""
    return x * torch.linspace(0.1, 1, x.shape[-1])


def masker_of(*size: int) -> Masker:
    generator = np.random.default_rng(0)
    x, y, noise = generator.random((3, 30, *size), np.float32)
    y_hat = (y + 0.5 * x * (noise - 0.5)).clip(0, 1)
    reading = Reading(axes="ZYX"[-len(size) :])
    triplets = Triplets.from_arrays(x, y_hat, y, reading=reading)
    return calibrate(Heuristic(steep, channels=1), triplets, threshold=0.03, loss="l1")


def pair(*shape: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {key: torch.rand(shape, generator=generator) for key in KEYS}


def test_the_mask_of_files_is_that_of_conformask(tmp_path: Path) -> None:
    """Read by MONAI, as (C, X, Y, Z), and by conformask, as (C, Z, Y, X)."""
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])
    for key, image in pair(6, 5, 4).items():
        (tmp_path / key).mkdir()
        nibabel.save(nibabel.Nifti1Image(image.numpy(), affine), tmp_path / key / "scan.nii.gz")
    masker = masker_of(4, 5, 6)
    files = {key: str(tmp_path / key / "scan.nii.gz") for key in KEYS}
    found = Compose([LoadImaged(KEYS, ensure_channel_first=True), ConformalMaskd(masker)])(files)
    triplet = Triplets.from_folder(tmp_path)[0]
    expected = masker.masks(*(torch.from_numpy(image)[None] for image in (triplet.x, triplet.y_hat)))[0]
    torch.testing.assert_close(found["mask"].as_tensor(), expected.permute(0, 3, 2, 1))
    assert 0.01 < expected.mean() < 0.99, "it says something"
    assert set(found) == {*KEYS, "mask"}
    np.testing.assert_array_equal(found["mask"].affine, affine)
    assert found["mask"].meta["filename_or_obj"] == found["y_hat"].meta["filename_or_obj"]


def test_what_y_hat_went_through_is_inverted_of_the_mask_too() -> None:
    images = {key: MetaTensor(image) for key, image in pair(1, 12, 8).items()}
    steps = Compose([Spacingd(KEYS, (2, 1)), Flipd(KEYS, 0)])
    found = ConformalMaskd(masker_of(8, 6))(steps(images))
    back = Invertd("mask", steps, orig_keys="y_hat", nearest_interp=False)(found)
    assert found["mask"].shape == (1, 6, 8)
    np.testing.assert_array_equal(found["mask"].affine, found["y_hat"].affine)
    assert [step["class"] for step in found["mask"].applied_operations] == ["SpatialResample", "Flip"]
    assert back["mask"].shape == (1, 12, 8)
    np.testing.assert_array_equal(back["mask"].affine, np.eye(4))


def test_planes_in_the_order_of_the_calibration_and_without_metadata() -> None:
    masker, images = masker_of(8, 6), pair(1, 8, 6)
    transform = ConformalMaskd(masker, keys=KEYS, mask_key="trusted", reversed_axes=False)
    expected = masker.masks(*(image[None] for image in images.values()))[0]
    torch.testing.assert_close(transform(images)["trusted"].as_tensor(), expected)


def test_maps_beside_y_hat_have_a_key_of_their_own() -> None:
    masker, images = masker_of(6, 8), pair(1, 8, 6)
    reads_maps = replace(masker, scorer=GivenScorer("distrusted", zero=0.0, channels=1, cue_channels=1))
    spread = steep(images["x"].mT, images["y_hat"]).mT
    transform = ConformalMaskd(reads_maps, keys=(*KEYS, "spread"))
    found = transform({**images, "spread": MetaTensor(spread)})["mask"].as_tensor()
    x, y_hat, cues = (image.permute(0, 2, 1)[None] for image in (*images.values(), spread))
    expected = reads_maps.masks(x, y_hat, cues=cues)[0]
    assert 0.01 < expected.mean() < 0.99, "it says something"
    torch.testing.assert_close(found, expected.permute(0, 2, 1))
    with pytest.raises(MismatchError, match="comes without the maps"):
        ConformalMaskd(reads_maps)(images)


def test_values_outside_are_refused() -> None:
    images = pair(1, 8, 6)
    with pytest.raises(ImageError, match=r"y_hat has values outside \[0, 1\]"):
        ConformalMaskd(masker_of(6, 8))({**images, "y_hat": 2 * images["y_hat"]})
    with pytest.raises(KeyError, match="y_hat"):
        ConformalMaskd(masker_of(6, 8))({"x": images["x"]})
