"""Importing conformask does nothing; its names resolve when asked for."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import conformask

QUIET = """
import logging, os, random, sys
import numpy
before = set(os.listdir("."))
states = random.getstate(), numpy.random.get_state()[1].tolist()
import conformask, conformask.cli, conformask.records.evaluation, conformask.records.sealed
import conformask.extras.view.page, conformask.promises.promise
assert (random.getstate(), numpy.random.get_state()[1].tolist()) == states
assert set(os.listdir(".")) == before
assert not logging.getLogger().handlers
assert not logging.getLogger("conformask").handlers
print([name for name in ("torch", "lightning", "skimage") if name in sys.modules])
"""


def test_every_name_resolves():
    assert len(set(conformask.__all__)) == len(conformask.__all__)
    for name in conformask.__all__:
        assert callable(getattr(conformask, name)), name


def test_the_version_is_that_of_the_installed_package():
    assert conformask.__version__ == version("conformask")


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


def test_every_warning_can_be_filtered_by_its_category():
    source = Path(conformask.__file__).parent
    for path in source.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.count("warnings.warn(") == text.count("category=ConformaskWarning"), path
