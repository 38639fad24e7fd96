"""Networks of MONAI, held to what MONAI itself makes of the same files."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from conformask.cli import main
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError
from conformask.extras.make.monai import from_bundle, from_inferer
from conformask.extras.make.triplets import add_outputs
from conformask.images.triplets import Triplets
from conformask.masker.calibrate import calibrate
from conformask.records.reading import Reading
from conformask.scores.scorer import Heuristic
from conformask.scores.untrained import GivenScorer
from synthetic_triplets import noisy_pairs

pytest.importorskip("monai", reason="the extra monai is not installed")

from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import Compose, Flipd, Invertd, LoadImage, LoadImaged, Spacingd

from conformask.extras.make.monai_transform import ConformalMaskd

WINDOW = {"roi_size": [8, 16], "overlap": 0.25}
"""Along (X, Y): longer along Y."""


def settings_of_unet(dimensions):
    sizes = {"in_channels": 1, "out_channels": 1, "channels": [4, 8], "strides": [2]}
    return {"spatial_dims": dimensions, **sizes}


def unet(dimensions=2, seed=0):
    torch.manual_seed(seed)
    return UNet(**settings_of_unet(dimensions)).eval()


def write_bundle(folder, network, value_range=(-1, 1), **config):
    image = {"type": "image", "num_channels": 1, "value_range": value_range}
    meta = {
        "version": "0.1.0",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": image}},
    }
    inference = {
        "imports": ["$import torch"],
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": {"_target_": "UNet", **settings_of_unet(2)},
        "network": "$@network_def.to(@device)",
        "inferer": {"_target_": "SlidingWindowInferer", **WINDOW},
        **config,
    }
    for path, content in (("inference.json", inference), ("metadata.json", meta)):
        (folder / "configs").mkdir(parents=True, exist_ok=True)
        (folder / "configs" / path).write_text(json.dumps(content))
    (folder / "models").mkdir(exist_ok=True)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder


@torch.no_grad()
def of_monai(network, path, dimensions):
    """The network's output of a file in [0, 255] or [0, 1] as MONAI reads it, in the range of the bundle."""
    image = LoadImage(image_only=True, ensure_channel_first=True)(path).as_tensor()[None]
    return SlidingWindowInferer(**WINDOW)(2 * image / (255 if dimensions == 2 else 1) - 1, network) / 2 + 0.5


def test_a_bundle_by_command_line(tmp_path, capsys):
    network = unet()
    data, bundle = noisy_pairs(tmp_path / "data", (12, 20)), write_bundle(tmp_path / "sharpen", network)
    main(["triplets", str(data), "--predictor", f"monai:{bundle}", "--json"])
    assert json.loads(capsys.readouterr().out)["n"] == 3
    triplets = Triplets.from_folder(data)
    for triplet in triplets:
        expected = of_monai(network, data / "x" / f"{triplet.name}.png", 2)[0].transpose(1, 2).clamp(0, 1)
        np.testing.assert_allclose(triplet.y_hat, expected, atol=2e-5)
        assert triplet.y_hat.std() > 0.01, "it says something"
    assert triplets.network is not None
    assert triplets.network.name == "sharpen"


def test_a_bundle_is_known_by_its_weights_and_settings(tmp_path):
    ranges = {"input_range": (-1, 1), "output_range": (-1, 1)}
    inferer = SlidingWindowInferer(**WINDOW)
    bundle = from_bundle(write_bundle(tmp_path / "one", unet()))
    assert from_bundle(write_bundle(tmp_path / "moved", unet())).fingerprint == bundle.fingerprint
    assert from_inferer(inferer, unet(), **ranges).fingerprint == bundle.fingerprint
    others = [
        from_bundle(write_bundle(tmp_path / "retrained", unet(seed=1))),
        from_bundle(write_bundle(tmp_path / "range", unet(), (0, 1))),
        from_inferer(SlidingWindowInferer([8, 16], overlap=0.5), unet(), **ranges),
        from_inferer(inferer, unet(), **ranges, reversed_axes=False),
    ]
    assert len({bundle.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_volumes_lie_as_monai_reads_them(tmp_path):
    (tmp_path / "x").mkdir()
    values = np.random.default_rng(0).random((8, 12, 10), np.float32)
    path = tmp_path / "x" / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0])), path)
    network = unet(3)
    inferer = SlidingWindowInferer([8, 8, 6], overlap=0.25)
    assert add_outputs(tmp_path, from_inferer(inferer, network)) == 1
    with torch.no_grad():
        expected = inferer(torch.from_numpy(values)[None, None], network)[0, 0].clamp(0, 1)
    written = nibabel.load(tmp_path / "y_hat" / "scan.nii.gz")
    np.testing.assert_allclose(written.get_fdata(), expected, atol=1e-5)
    np.testing.assert_array_equal(written.affine, np.diag([1.0, 2.0, 3.0, 1.0]))


def test_axes_that_are_not_reversed():
    x, network = torch.rand(1, 1, 8, 12), unet()
    with torch.no_grad():
        torch.testing.assert_close(
            from_inferer(SimpleInferer(), network, reversed_axes=False)(x), network(x).clamp(0, 1)
        )


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (
            {"network_def": {"_target_": "UNet", **settings_of_unet(3)}},
            "does not contain the weights of UNet",
        ),
        ({"network_def": {"_target_": "NoSuchNet"}}, "its configuration failed"),
        ({"value_range": []}, "value_range"),
    ],
)
def test_a_bundle_that_is_not_complete(tmp_path, config, told):
    with pytest.raises(MismatchError, match=told):
        from_bundle(write_bundle(tmp_path, unet(), **config))


@pytest.mark.parametrize("missing", ["configs/inference.json", "configs/metadata.json", "models/model.pt"])
def test_a_bundle_without_a_file(tmp_path, missing):
    (write_bundle(tmp_path, unet()) / missing).unlink()
    with pytest.raises(MissingFileError, match=f"{Path(missing).name} does not exist"):
        from_bundle(tmp_path)


def test_transforms_of_a_bundle_are_named(tmp_path):
    transforms = [{"_target_": name, "keys": "image"} for name in ("LoadImaged", "ScaleIntensityd")]
    preprocessing = {"_target_": "Compose", "transforms": transforms}
    with pytest.warns(UserWarning, match=r": its transforms ScaleIntensityd are not run"):
        from_bundle(write_bundle(tmp_path, unet(), preprocessing=preprocessing))


class Two(nn.Module):
    def forward(self, x):
        return x, x


def test_what_cannot_be_run_is_named():
    with pytest.raises(InvalidArgumentError, match="UNet is not an Inferer of MONAI"):
        from_inferer(unet(), unet())
    with pytest.raises(ImageError, match="Two returned tuple, not one tensor"):
        from_inferer(SimpleInferer(), Two())(torch.rand(1, 1, 4, 4))


# ConformalMaskd in a pipeline of MONAI


KEYS = ("x", "y_hat")


def steep(x, y_hat):
    """Larger along the last axis, so that axes in another order are noticed."""
    return x * torch.linspace(0.1, 1, x.shape[-1])


def masker_of(*size):
    generator = np.random.default_rng(0)
    x, y, noise = generator.random((3, 30, *size), np.float32)
    y_hat = (y + 0.5 * x * (noise - 0.5)).clip(0, 1)
    reading = Reading(axes="ZYX"[-len(size) :])
    triplets = Triplets.from_arrays(x, y_hat, y, reading=reading)
    return calibrate(Heuristic(steep, channels=1), triplets, threshold=0.03, loss="l1")


def pair(*shape):
    generator = torch.Generator().manual_seed(1)
    return {key: torch.rand(shape, generator=generator) for key in KEYS}


def test_the_mask_of_files_is_that_of_conformask(tmp_path):
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


def test_what_y_hat_went_through_is_inverted_of_the_mask_too():
    images = {key: MetaTensor(image) for key, image in pair(1, 12, 8).items()}
    steps = Compose([Spacingd(KEYS, (2, 1)), Flipd(KEYS, 0)])
    found = ConformalMaskd(masker_of(8, 6))(steps(images))
    back = Invertd("mask", steps, orig_keys="y_hat", nearest_interp=False)(found)
    assert found["mask"].shape == (1, 6, 8)
    np.testing.assert_array_equal(found["mask"].affine, found["y_hat"].affine)
    assert [step["class"] for step in found["mask"].applied_operations] == ["SpatialResample", "Flip"]
    assert back["mask"].shape == (1, 12, 8)
    np.testing.assert_array_equal(back["mask"].affine, np.eye(4))


def test_planes_in_the_order_of_the_calibration_and_without_metadata():
    masker, images = masker_of(8, 6), pair(1, 8, 6)
    transform = ConformalMaskd(masker, keys=KEYS, mask_key="trusted", reversed_axes=False)
    expected = masker.masks(*(image[None] for image in images.values()))[0]
    torch.testing.assert_close(transform(images)["trusted"].as_tensor(), expected)


def test_maps_beside_y_hat_have_a_key_of_their_own():
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


def test_values_outside_are_refused():
    images = pair(1, 8, 6)
    with pytest.raises(ImageError, match=r"y_hat has values outside \[0, 1\]"):
        ConformalMaskd(masker_of(6, 8))({**images, "y_hat": 2 * images["y_hat"]})
    with pytest.raises(KeyError, match="y_hat"):
        ConformalMaskd(masker_of(6, 8))({"x": images["x"]})
