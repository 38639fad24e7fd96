"""What has to work without torch, which takes seconds to load."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conformask.masker.run_folder import StoredMasker, write_stored
from synthetic_card import card

FOLDER = Path(__file__).parents[1] / "src" / "conformask" / "promises"
PROMISES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
LIGHT = ("conformask.records.evaluation", "conformask.records.sealed", "conformask.errors")
MODULES = (*(f"conformask.promises.{name}" for name in PROMISES), *LIGHT)
REPORT = ("conformask.extras.view.page", "conformask.extras.view.figures", "conformask.images.pictures")


def without_torch(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process, which ends with 77 if it has loaded torch."""
    ending = (
        "import atexit, os, sys\natexit.register(lambda: os._exit(77) if 'torch' in sys.modules else 0)\n"
    )
    command = [sys.executable, "-c", ending + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_numbers_and_reports_load_no_torch() -> None:
    done = without_torch("import " + ", ".join((*MODULES, *REPORT)))
    assert done.returncode == 0, done.stderr


def test_the_check_sees_torch() -> None:
    assert without_torch("sys.modules['torch'] = None").returncode == 77


def test_promises_are_not_empty() -> None:
    assert {"promise", "procedures", "order"} < set(PROMISES)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["info", "RUN"], ["info", "RUN", "--json"], ["plan"], ["plan", "--json"]]
)
def test_light_verbs_load_no_torch(arguments: list[str], tmp_path: Path) -> None:
    write_stored(tmp_path, StoredMasker(card(), "3f9a-07c1-55be-d20e", np.ones(1), None, None, None))
    given = [argument.replace("RUN", str(tmp_path)) for argument in arguments]
    done = without_torch("from conformask.cli import main; main()", *given)
    assert done.returncode == 0, done.stderr
    said = {"--help": "calibrate", "info": "P(l1 <= 0.02)", "plan": "marginal"}[arguments[0]]
    assert said in done.stdout
