"""Networks of MONAI, held to what MONAI itself makes of the same files."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conformask.cli import main
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError
from conformask.extras.make.monai import from_bundle, from_inferer
from conformask.extras.make.triplets import add_outputs
from conformask.images.triplets import Triplets
from noisy_pairs import noisy_pairs

pytest.importorskip("monai", reason="the extra monai is not installed")

from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import LoadImage

WINDOW = {"roi_size": [8, 16], "overlap": 0.25}
"""Along (X, Y): longer along Y."""


def settings_of_unet(dimensions: int) -> dict[str, object]:
    sizes = {"in_channels": 1, "out_channels": 1, "channels": [4, 8], "strides": [2]}
    return {"spatial_dims": dimensions, **sizes}


def unet(dimensions: int = 2, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return UNet(**settings_of_unet(dimensions)).eval()


def write_bundle(folder: Path, network: nn.Module, value_range: object = (-1, 1), **config: object) -> Path:
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
def of_monai(network: nn.Module, path: Path, dimensions: int) -> Tensor:
    """The network's output of a file in [0, 255] or [0, 1] as MONAI reads it, in the range of the bundle."""
    image = LoadImage(image_only=True, ensure_channel_first=True)(path).as_tensor()[None]
    return SlidingWindowInferer(**WINDOW)(2 * image / (255 if dimensions == 2 else 1) - 1, network) / 2 + 0.5


def test_a_bundle_by_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_a_bundle_is_known_by_its_weights_and_settings(tmp_path: Path) -> None:
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


def test_volumes_lie_as_monai_reads_them(tmp_path: Path) -> None:
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


def test_axes_that_are_not_reversed() -> None:
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
def test_a_bundle_that_is_not_complete(tmp_path: Path, config: dict[str, object], told: str) -> None:
    with pytest.raises(MismatchError, match=told):
        from_bundle(write_bundle(tmp_path, unet(), **config))


@pytest.mark.parametrize("missing", ["configs/inference.json", "configs/metadata.json", "models/model.pt"])
def test_a_bundle_without_a_file(tmp_path: Path, missing: str) -> None:
    (write_bundle(tmp_path, unet()) / missing).unlink()
    with pytest.raises(MissingFileError, match=f"{Path(missing).name} does not exist"):
        from_bundle(tmp_path)


def test_transforms_of_a_bundle_are_named(tmp_path: Path) -> None:
    transforms = [{"_target_": name, "keys": "image"} for name in ("LoadImaged", "ScaleIntensityd")]
    preprocessing = {"_target_": "Compose", "transforms": transforms}
    with pytest.warns(UserWarning, match=r": its transforms ScaleIntensityd are not run"):
        from_bundle(write_bundle(tmp_path, unet(), preprocessing=preprocessing))


class Two(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def test_what_cannot_be_run_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match="UNet is not an Inferer of MONAI"):
        from_inferer(unet(), unet())
    with pytest.raises(ImageError, match="Two returned tuple, not one tensor"):
        from_inferer(SimpleInferer(), Two())(torch.rand(1, 1, 4, 4))
