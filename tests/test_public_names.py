"""Importing conformask does nothing; its names resolve when asked for."""

import subprocess
import sys

import pytest

import conformask

QUIET = """
import os, random, sys
before = set(os.listdir("."))
random.seed(7)
state = random.getstate()
import conformask, conformask.cli, conformask.results, conformask.report.page, conformask.conformal.guarantees
heavy = [name for name in ("torch", "lightning", "skimage", "scipy.optimize") if name in sys.modules]
assert random.getstate() == state
assert set(os.listdir(".")) == before
import numpy
numpy.random.seed(7)
state = numpy.random.get_state()[1].tolist()
import torch
torch.manual_seed(7)
torch_state = torch.get_rng_state()
for name in conformask.__all__:
    getattr(conformask, name)
assert numpy.random.get_state()[1].tolist() == state
assert torch.equal(torch.get_rng_state(), torch_state)
assert set(os.listdir(".")) == before
import logging
assert not logging.getLogger().handlers and not logging.getLogger("conformask").handlers
print(heavy)
"""


def test_every_name_resolves():
    assert len(set(conformask.__all__)) == len(conformask.__all__)
    for name in conformask.__all__:
        assert callable(getattr(conformask, name)), name


def test_dir_lists_them():
    assert dir(conformask) == sorted(conformask.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'fit_everything'"):
        conformask.fit_everything  # noqa: B018


def test_importing_does_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", QUIET], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
