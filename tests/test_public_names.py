"""What has to work without torch, which takes seconds to load."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import conformask
from conformask.masker.run_folder import StoredMasker, write_stored
from synthetic_card import card

FOLDER = Path(__file__).parents[1] / "src" / "conformask" / "promises"
PROMISES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
LIGHT = ("conformask.records.evaluation", "conformask.records.sealed", "conformask.errors")
MODULES = (*(f"conformask.promises.{name}" for name in PROMISES), *LIGHT)
REPORT = ("conformask.extras.view.page", "conformask.extras.view.figures", "conformask.images.pictures")


def without_torch(code, *arguments):
    """Run code in a fresh process, which ends with 77 if it has loaded torch."""
    ending = (
        "import atexit, os, sys\natexit.register(lambda: os._exit(77) if 'torch' in sys.modules else 0)\n"
    )
    command = [sys.executable, "-c", ending + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_numbers_and_reports_load_no_torch():
    done = without_torch("import " + ", ".join((*MODULES, *REPORT)))
    assert done.returncode == 0, done.stderr


def test_the_check_sees_torch():
    assert without_torch("sys.modules['torch'] = None").returncode == 77


def test_promises_are_not_empty():
    assert {"promise", "procedures", "order"} < set(PROMISES)


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    "arguments", [["--help"], ["info", "RUN"], ["info", "RUN", "--json"], ["plan"], ["plan", "--json"]]
)
def test_light_verbs_load_no_torch(arguments, tmp_path):
    write_stored(tmp_path, StoredMasker(card(), "3f9a-07c1-55be-d20e", np.ones(1), None, None, None))
    given = [argument.replace("RUN", str(tmp_path)) for argument in arguments]
    done = without_torch("from conformask.cli import main; main()", *given)
    assert done.returncode == 0, done.stderr
    said = {"--help": "calibrate", "info": "P(l1 <= 0.02)", "plan": "marginal"}[arguments[0]]
    assert said in done.stdout


# Importing conformask does nothing; its names resolve when asked for


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
