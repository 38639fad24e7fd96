"""Image-to-image models of transformers, held to what processor and model make of the same images."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from conformask.cli import main
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError
from conformask.extras.make.transformers import from_folder, from_model
from conformask.images.triplets import Triplets
from synthetic_triplets import noisy_pairs

transformers = pytest.importorskip("transformers", reason="the extra transformers is not installed")


def swin2sr(seed=0):
    torch.manual_seed(seed)
    config = transformers.Swin2SRConfig(
        image_size=16, embed_dim=8, depths=[1], num_heads=[2], window_size=4, upscale=2
    )
    return transformers.Swin2SRForImageSuperResolution(config).eval()


def saved(folder, model):
    model.save_pretrained(folder)
    transformers.Swin2SRImageProcessor().save_pretrained(folder)
    return folder


def test_super_resolution_by_command_line(tmp_path, capsys):
    model, processor = swin2sr(), transformers.Swin2SRImageProcessor()
    data = noisy_pairs(tmp_path / "data", (26, 36), channels=3, factor=2)
    main(["triplets", str(data), "--predictor", f"transformers:{saved(tmp_path / 'sr', model)}", "--json"])
    assert json.loads(capsys.readouterr().out)["n"] == 3
    made = Triplets.from_folder(data)
    for triplet in made:
        assert triplet.x.shape == (3, 13, 18)
        given = processor(Image.open(data / "x" / f"{triplet.name}.png"), return_tensors="pt")
        with torch.no_grad():
            expected = model(**given).reconstruction[0, :, :26, :36].clamp(0, 1)
        np.testing.assert_allclose(triplet.y_hat, expected, atol=2e-5)
        assert triplet.y_hat.std() > 0.001, "it says something"
    assert made.network is not None
    assert made.network.name == "sr"


def test_a_model_is_known_by_its_weights_wherever_it_lies(tmp_path):
    here, there = (from_folder(saved(tmp_path / name, swin2sr())) for name in ("here", "there"))
    processor = transformers.Swin2SRImageProcessor()
    assert here.fingerprint == there.fingerprint == from_model(swin2sr(), processor).fingerprint
    assert from_model(swin2sr(1), processor).fingerprint != here.fingerprint
    wider = transformers.Swin2SRImageProcessor(size_divisor=16)
    assert from_model(swin2sr(), wider).fingerprint != here.fingerprint


def test_a_model_in_half_precision_runs_in_float32(tmp_path):
    predictor = from_folder(saved(tmp_path, swin2sr().half()))
    assert predictor(torch.rand(1, 3, 8, 8)).dtype == torch.float32


def bert():
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return transformers.BertModel(transformers.BertConfig(vocab_size=20, **sizes))


def test_other_models_are_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"contains no config\.json"):
        from_folder(tmp_path)
    with pytest.raises(MismatchError, match=r"contains no image-to-image model .*BertConfig"):
        from_folder(saved(tmp_path / "bert", bert()))
    with pytest.raises(InvalidArgumentError, match="BertModel is not an image-to-image model"):
        from_model(bert(), None)
    with pytest.raises(ImageError, match="Swin2SRForImageSuperResolution takes planes"):
        from_model(swin2sr(), transformers.Swin2SRImageProcessor())(torch.rand(1, 3, 4, 8, 8))


def test_code_in_the_folder_is_not_run(tmp_path):
    saved(tmp_path, swin2sr())
    config = json.loads((tmp_path / "config.json").read_text())
    auto = {"AutoConfig": "mine.Config", "AutoModelForImageToImage": "mine.Model"}
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "mine", "auto_map": auto}))
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    with pytest.raises(MismatchError, match="contains no image-to-image model"):
        from_folder(tmp_path)
    assert not (tmp_path / "run").exists()


def test_missing_weights_are_not_made_up(tmp_path):
    from safetensors.torch import load_file, save_file

    path = saved(tmp_path, swin2sr()) / "model.safetensors"
    weights = load_file(path)
    del weights["swin2sr.conv_after_body.bias"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(MismatchError, match=r"lacks weights of Swin2SR.*: swin2sr\.conv_after_body\.bias"):
        from_folder(tmp_path)
