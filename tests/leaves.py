"""Copies of this tree from which leaves of extras/ were deleted, and what has to go on in them.

    python tests/leaves.py FOLDER

makes one without any leaf; `make leaves` runs the tests of the heart there.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = Path("src", "conformask", "extras")
FOLDERS = {path.parent for path in (ROOT / EXTRAS).glob("*/__init__.py")}
LEAVES = sorted(path.stem for path in FOLDERS.union((ROOT / EXTRAS).glob("[a-z]*.py")))
COPIED = ("src", "tests", "docs", "examples", "benchmarks", "pyproject.toml", "CHANGELOG.md", "README.md")


def without(folder, *leaves):
    """Copy the tree into a folder, and delete these leaves with their tests; compiled code is copied too."""
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    for leaf in leaves:
        shutil.rmtree(folder / EXTRAS / leaf, ignore_errors=True)
        (folder / EXTRAS / f"{leaf}.py").unlink(missing_ok=True)
        # a folder named napari would hide the package
        (tests,) = (folder / "tests" / "extras").glob(f"{leaf}*")
        shutil.rmtree(tests)
    return folder


def asking(leaf, value):
    """Parametrize a test of the heart with what a leaf adds."""
    return pytest.param(value, marks=pytest.mark.leaf(leaf))


def python(tree, *arguments):
    """Run Python with a copy of the tree, in it; the entry points are those of the installation."""
    environment = {**os.environ, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree / 'tests'}"}
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    without(Path(sys.argv[1]), *LEAVES)
