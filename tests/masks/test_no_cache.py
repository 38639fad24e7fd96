"""The kernels compile where nothing can be cached, and say what keeps them from being compiled."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import conformask

USE = """
import torch
from conformask.masks import kernels
from conformask.masks.families import WaterFilling
assert kernels.__file__.startswith({place!r}), kernels.__file__
score, error = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
print(WaterFilling(1.0).critical_lambda(score, error, 1.0, 0.1).isfinite().all().item())
"""


@pytest.mark.slow
def test_no_folder_for_a_cache(tmp_path: Path) -> None:
    """As root may write anywhere, files stand where the folders would be made."""
    source = Path(conformask.__file__).parent
    shutil.copytree(source, tmp_path / "conformask", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "conformask" / "masks" / "__pycache__").write_text("in the way")
    (tmp_path / "home").write_text("in the way")
    here = {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    left_out = ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in left_out} | here
    command = [sys.executable, "-c", USE.format(place=str(tmp_path))]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.thorough
def test_a_number_of_threads_that_is_none() -> None:
    command = [sys.executable, "-c", "import conformask.masks.kernels"]
    environment = {**os.environ, "NUMBA_NUM_THREADS": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "InvalidArgumentError: the environment variable NUMBA_NUM_THREADS is not valid" in done.stderr
