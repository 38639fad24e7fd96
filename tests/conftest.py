"""What all tests share; `make types` has shapes and types checked inside conformask as well."""

import gc
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from leaves import LEAVES
from warm import WarmPython

TYPES = os.environ.get("CONFORMASK_TYPES") == "1"
"""Whether every call inside conformask is checked, which takes nearly twice as long."""
if TYPES:
    from jaxtyping import install_import_hook

    install_import_hook("conformask", "typechecked.typechecked")

gc.disable()  # until all tests are collected: a third of the time goes into collections that find nothing

SIDE = 128
"""Pixels along a side of the photographs of `made`."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.hookimpl(tryfirst=True)  # before -m takes its choice
def pytest_collection_modifyitems(items):
    """Of a table marked `quick(n)`, the rows after the first n are thorough."""
    rows = Counter()
    for item in items:
        if (mark := item.get_closest_marker("quick")) is None or not mark.args:
            continue
        table = item.nodeid.partition("[")[0]
        rows[table] += 1
        if rows[table] > mark.args[0]:
            item.add_marker("thorough")


def pytest_collection_finish():
    """Collect garbage again, but not what all tests share."""
    gc.freeze()
    gc.enable()


def pytest_runtest_setup(item):
    """Skip what also asks leaves, in a tree from which one of them was deleted: see leaves.py.

    PyTorch's generator begins anew, so that no test depends on those that ran before it in its process.
    """
    ask(*(leaf for mark in item.iter_markers("leaf") for leaf in mark.args))
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


def ask(*leaves):
    for leaf in leaves:
        if leaf not in LEAVES:
            pytest.skip(f"without the leaf {leaf}")


@pytest.fixture(scope="session")
def browser():
    """Chromium; tests with it are in the group `viewer`, since there may be one in a process."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed (make browser)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=list(QUIET))
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def warm():
    """Runs code in a process of its own that has imported conformask."""
    python = WarmPython()
    yield python
    python.close()


@pytest.fixture(scope="session")
def demonstration(tmp_path_factory, warm):
    """A folder with demo/ as `make demo` leaves it without a terminal, and what that printed.

    Do not write into it. Tests with it are in the group `demo`, since it takes a while.
    """
    folder: Path = tmp_path_factory.mktemp("demonstration")
    done = warm.run("from conformask.cli import main; main(['demo', '--out', 'demo'])", folder)
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "printed.txt").write_text(done.stdout, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The built site; tests with it are in the group `site`, so that it is built once."""
    pytest.importorskip("zensical", reason="zensical is not installed: pip install 'conformask[check]'")
    built: Path = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(Path(__file__).parents[1] / "docs" / "build.py"), str(built)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return built


@pytest.fixture
def found_in(monkeypatch):
    """Lets this process find the packages of a folder, perhaps instead of those of another."""
    from conformask.extensions import _claims

    folders: list[Path] = []

    def forget():
        _claims.cache_clear()
        for name in {module.stem for folder in folders for module in folder.glob("*.py")}:
            sys.modules.pop(name, None)

    def find(folder, instead_of=None):
        if instead_of is not None:
            sys.path.remove(str(instead_of))
        monkeypatch.syspath_prepend(str(folder))
        folders.append(folder)
        forget()

    yield find
    forget()


@dataclass(frozen=True)
class Answer:
    """What a command left: exit status and both streams."""

    status: int
    out: str
    err: str

    @property
    def record(self):
        return json.loads(self.out)


@pytest.fixture
def conformask(capfd):
    """Runs the command line in this process."""

    def run(*tokens):
        capfd.readouterr()
        status = _status(tokens)
        return Answer(status, *capfd.readouterr())

    return run


def _status(tokens):
    from conformask.cli import main

    try:
        main([str(token) for token in tokens])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def write_photographs(folder):
    """The middle of each packaged photograph as a PNG."""
    from conformask.images.read import write_image
    from real_images import packaged_photographs

    for name, pixels in packaged_photographs().items():
        top, left = ((side - SIDE) // 2 for side in pixels.shape[:2])
        middle = pixels[top : top + SIDE, left : left + SIDE].astype(np.float32) / 255
        write_image(folder / f"{name}.png", np.moveaxis(middle, -1, 0))


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder with images/, data/ and the calibrated run/, by the command line; do not write into it."""
    ask("make", "train")
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
def own(made, tmp_path):
    """A copy of it that a test may spoil."""
    for name in ("data", "run"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path
