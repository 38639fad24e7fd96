"""CAREamics, held to what `predict` returns. Its pins need an environment of their own: make careamics."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from conformask.cli import main
from conformask.errors import InvalidArgumentError, MismatchError, MissingFileError
from conformask.extras.make.careamics import from_careamist, from_checkpoint
from conformask.images.read import read_image
from conformask.images.triplets import Triplets
from synthetic_triplets import noisy_pairs

pytest.importorskip("careamics", reason="CAREamics is not installed: make careamics")

import careamics
from careamics.config import create_care_config, create_n2v_config

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "libraries.md"
COMMON = {"data_type": "array", "patch_size": (32, 32), "batch_size": 8, "num_epochs": 1, "num_steps": 2}
pytestmark = pytest.mark.filterwarnings("ignore")


def trained(folder, kind="care", white=255):
    """A CAREamist that has seen two batches of images from 0 to white."""
    images = np.random.default_rng(0).uniform(0, white, (4, 64, 64)).astype(np.float32)
    create = {"care": create_care_config, "n2v": create_n2v_config}[kind]
    config = create(experiment_name=kind, axes="SYX", n_val_patches=2, **COMMON)
    careamist = careamics.CAREamist(config, work_dir=folder, enable_progress_bar=False)
    target = {"train_data_target": images} if kind == "care" else {}
    careamist.train(train_data=images, **target)
    return careamist


def test_the_snippets_of_the_documentation_run(tmp_path, monkeypatch):
    trained(tmp_path / "first")
    (checkpoint,) = (tmp_path / "first").rglob("*_last.ckpt")
    (tmp_path / "work").mkdir()
    checkpoint.rename(tmp_path / "work" / "denoise_last.ckpt")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"^```(py|sh)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert [language for language, _ in snippets] == ["sh", "py"]
    for language, text in snippets:
        data = noisy_pairs(tmp_path / "noisy", (16, 20))
        if language == "sh":
            main(text.split()[1:])
        else:
            exec(text, {})
        assert len(Triplets.from_folder(data, (0, 255))) == 3
        shutil.rmtree(data)


@pytest.mark.parametrize("kind", ["care", "n2v"])
def test_a_checkpoint_by_command_line(tmp_path, kind, capfd):
    careamist = trained(tmp_path / "work", kind)
    (checkpoint,) = (tmp_path / "work").rglob("*_last.ckpt")
    data = noisy_pairs(tmp_path / "data", (16, 20))
    capfd.readouterr()
    command = ["triplets", str(data), "--predictor", f"careamics:{checkpoint}", "--data-range", "0", "255"]
    main([*command, "--json"])
    assert json.loads(capfd.readouterr().out)["n"] == 3
    made = Triplets.from_folder(data, (0, 255))
    for triplet in made:
        x = 255 * read_image(data / "x" / f"{triplet.name}.png")
        (expected,), _ = careamist.predict(x, axes="CYX", output_axes="CYX" if kind == "care" else None)
        np.testing.assert_allclose(triplet.y_hat, (expected / 255).clip(0, 1), atol=2e-5)
        assert triplet.y_hat.std() > 1e-3, "it says something"
    assert made.network is not None
    assert made.network.name == checkpoint.name


def test_sides_that_the_network_cannot_halve(tmp_path):
    careamist = trained(tmp_path, white=1)
    x = torch.rand(2, 1, 15, 18)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (0, 1), (0, 2)), mode="reflect")
    (expected,), _ = careamist.predict(padded, axes="SCYX", output_axes="SCYX")
    found = from_careamist(careamist)(x)
    np.testing.assert_allclose(found, expected[:, :, :15, :18].clip(0, 1), atol=1e-5)


def test_a_careamist_is_known_by_its_weights(tmp_path):
    careamist = trained(tmp_path / "one")
    made = from_careamist(careamist, (0, 255))
    (checkpoint,) = (path for path in tmp_path.rglob("*.ckpt") if "_last" not in path.name)
    assert made.name == "care"
    assert from_checkpoint(checkpoint, (0, 255)).fingerprint == made.fingerprint
    assert from_careamist(trained(tmp_path / "two"), (0, 255)).fingerprint != made.fingerprint
    assert from_careamist(careamist, (0, 300)).fingerprint != made.fingerprint


def test_what_is_refused(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"trained on values such as 12\d.*--data-range 0 65535"):
        from_careamist(trained(tmp_path))
    config = create_care_config(experiment_name="new", axes="YX", **COMMON)
    with pytest.raises(MismatchError, match="this CAREamist is not trained"):
        from_careamist(careamics.CAREamist(config, work_dir=tmp_path, enable_progress_bar=False))
    with pytest.raises(InvalidArgumentError, match="Linear is not a CAREamist"):
        from_careamist(torch.nn.Linear(1, 1))
    with pytest.raises(MissingFileError, match="does not exist"):
        from_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "damaged.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(
        MismatchError, match=r"damaged\.ckpt is damaged, or is not a checkpoint of a CAREamist"
    ):
        from_checkpoint(tmp_path / "damaged.ckpt")
