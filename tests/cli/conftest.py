"""A calibrated run on tiles of real photographs, made once by the command line itself."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from conformask.cli import main
from conformask.extras.make.look import packaged_photographs
from conformask.images.read import write_image

SIDE = 128


@dataclass(frozen=True)
class Answer:
    """What a command left: exit status and both streams."""

    status: int
    out: str
    err: str

    @property
    def record(self) -> dict:
        return json.loads(self.out)


@pytest.fixture
def conformask(capfd):
    """Runs the command line in this process."""

    def run(*tokens: object) -> Answer:
        capfd.readouterr()
        status = _status(tokens)
        return Answer(status, *capfd.readouterr())

    return run


def _status(tokens) -> int:
    try:
        main([str(token) for token in tokens])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def write_photographs(folder: Path) -> None:
    """The middle of each packaged photograph as a PNG."""
    for name, pixels in packaged_photographs().items():
        top, left = ((side - SIDE) // 2 for side in pixels.shape[:2])
        middle = pixels[top : top + SIDE, left : left + SIDE].astype(np.float32) / 255
        write_image(folder / f"{name}.png", np.moveaxis(middle, -1, 0))


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A folder with images/, data/ and the calibrated run/; do not write into it."""
    folder = tmp_path_factory.mktemp("made")
    write_photographs(folder / "images")
    tiles = ["--task", "super_resolution", "--size", "32", "--stride", "32", "--split", "tile"]
    images, data, run = (str(folder / name) for name in ("images", "data", "run"))
    for tokens in (
        ["triplets", images, data, "--predictor", "bicubic", *tiles],
        ["train", data, run, "--scorer", "mask", "--width", "4", "--epochs", "1"],
        ["calibrate", run, data, "--threshold", "q0.3", "--confidence", "0.8"],
    ):
        assert _status([*tokens, "--json"]) == 0
    return folder


@pytest.fixture
def own(made, tmp_path) -> Path:
    """A copy of it that a test may spoil."""
    for name in ("data", "run"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path
