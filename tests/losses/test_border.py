"""A loss near the border, added to count the files that a loss takes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from conformask.cli import main
from conformask.losses.border import BorderMean
from synthetic_triplets import arrays


def test_only_the_border_counts() -> None:
    errors = torch.zeros(1, 1, 8, 8)
    errors[..., 3:5, 3:5], errors[..., 0, :] = 1.0, 0.5
    of_images = BorderMean("l1", 2).on(errors, torch.zeros_like(errors), None, 1)
    inside = np.ones((8, 8), bool)
    inside[2:-2, 2:-2] = False
    expected = errors[0, 0].numpy()[inside].mean()
    assert np.isclose(float(of_images.of(torch.ones_like(errors))[0]), expected)


def test_the_command_line_takes_it(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for role, images in zip(("x", "y_hat", "y"), arrays(20, 0), strict=True):
        (tmp_path / "data" / role).mkdir(parents=True)
        for index, image in enumerate(images):
            np.save(tmp_path / "data" / role / f"{index}.npy", image)
    data, run = str(tmp_path / "data"), str(tmp_path / "run")
    options = ["--loss", "l1", "--over", "border", "--width", "2", "--threshold", "0.05"]
    main(["calibrate", "--scorer", "residual", data, *options, "--out", run, "--json"])
    stated = json.loads(capsys.readouterr().out)
    assert stated["loss"]["width"] == 2
    assert "within 2 pixels of the border" in stated["sentence"]
