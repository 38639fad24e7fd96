"""conformask export, on the calibrated run."""

import numpy as np
import onnxruntime
import pytest

from conformask.images.triplets import Triplets
from conformask.masker.load import load
from onnx_predictors import enlarging


@pytest.mark.thorough
def test_the_file_gives_the_masks_of_the_run(conformask, made, tmp_path) -> None:
    out = tmp_path / "new" / "masker.onnx"
    answer = conformask("export", made / "run", out, "--json")
    assert answer.status == 0, answer.err
    record = answer.record
    masker = load(made / "run")
    assert record["sentence"] == masker.sentence
    assert record["lambda"] == masker.rule.lam
    assert record["sizes"] == [[32, 32], [32, 64]]
    assert max(record["difference"].values()) <= record["tolerance"]
    batch = next(Triplets.from_folder(made / "data").part("test").batches(4))
    wanted = masker.masks(batch.x, batch.y_hat).numpy()
    lam = np.full(len(batch.names), record["lambda"])
    given = {"x": batch.x.numpy(), "y_hat": batch.y_hat.numpy(), "lam": lam}
    mask, _ = onnxruntime.InferenceSession(out).run(None, given)
    np.testing.assert_allclose(mask.mean((1, 2, 3)), wanted.mean((1, 2, 3)), atol=1e-5)
    assert (np.abs(mask - wanted) > 1e-3).mean() < 1e-3


def test_what_is_refused(conformask, own) -> None:
    for tokens, words in (
        (["export", own / "run", own / "masker.pt"], "must end with .onnx"),
        (["export", own / "data", own / "masker.onnx"], "calibrate it first"),
    ):
        answer = conformask(*tokens)
        assert answer.status == 1
        assert words in answer.err
        assert not tokens[2].exists()


def test_another_network_is_refused_as_mask_refuses_it(conformask, made, tmp_path) -> None:
    network = enlarging(tmp_path / "network.onnx", 4, 3)
    answer = conformask("export", made / "run", tmp_path / "whole.onnx", "--predictor", network)
    assert answer.status == 1
    assert "about outputs of bicubic, but these were made by network.onnx" in answer.err
    assert "--allow-network-mismatch" in answer.err
    assert not (tmp_path / "whole.onnx").exists()


def test_a_folder_says_what_nobody_gave(conformask, made, tmp_path) -> None:
    answer = conformask(
        "export", made / "run", tmp_path / "hub", "--format", "huggingface", "--author", "Ada L."
    )
    assert answer.status == 0, answer.err
    assert "Missing, because only you know it: license (--license), cite (--cite)." in answer.out
    assert load(tmp_path / "hub").sentence == load(made / "run").sentence
    whole = ("--license", "MIT", "--cite", "Doe 10.1000/182", "--author", "Ada L.", "--author", "Bo M.")
    answer = conformask("export", made / "run", tmp_path / "two", "--format", "huggingface", *whole, "--json")
    assert answer.record["missing"] == []
    assert "Authors: Ada L., Bo M." in (tmp_path / "two" / "README.md").read_text()


def test_options_of_another_form_are_bad_usage(conformask, made, tmp_path) -> None:
    for tokens, words in (
        (["--license", "MIT"], "describe a folder"),
        (
            ["--format", "huggingface", "--predictor", "network.onnx"],
            "--predictor puts a network into an ONNX file",
        ),
        (["--format", "zoo"], "onnx"),
    ):
        answer = conformask("export", made / "run", tmp_path / "out", *tokens)
        assert answer.status == 2
        assert words in answer.err
    assert not list(tmp_path.iterdir())
