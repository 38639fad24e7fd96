"""Packages with entry points, installed into a folder as pip leaves them, without building them."""

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from synthetic_triplets import arrays

WHITE = 60000
EXAMPLE = Path(__file__).parent / "example_package"
EntryPoints = Mapping[str, Mapping[str, str]]
"""Objects by group and name."""


class FoundIn(Protocol):
    """Lets this process find the packages of a folder, perhaps instead of those of another."""

    def __call__(self, folder, instead_of=None): ...


def install(folder, package, entry_points, module=None):
    """Write the metadata of a package, and its module, which has the name of the package."""
    metadata = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    sections = [
        "\n".join([f"[{group}]", *(f"{name} = {place}" for name, place in places.items()), ""])
        for group, places in entry_points.items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(sections))
    if module is not None:
        (folder / f"{package.replace('-', '_')}.py").write_text(module)


def install_example(folder, without=None):
    """Install the example package, perhaps without a group of its entry points."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    groups = {group: names for group, names in project["entry-points"].items() if group != without}
    install(folder, project["name"], groups)
    shutil.copy(EXAMPLE / "conformask_pgm.py", folder)


def write_example(folder, count, seed):
    """Write triplets of 16 x 16 pixels as PGM, which the example package reads."""
    for role, images in zip(("x", "y_hat", "y"), arrays(count, seed, (16, 16)), strict=True):
        (folder / role).mkdir(parents=True)
        for index, image in enumerate(images):
            pixels = np.rint(WHITE * image).astype(">u2").tobytes()
            (folder / role / f"{index:02d}.pgm").write_bytes(f"P5\n16 16\n{WHITE}\n".encode() + pixels)
