"""What has to work without torch, which takes seconds to load."""

import subprocess
import sys
from pathlib import Path

import pytest

from conformask.results import CalibrationCard

CARD = CalibrationCard(
    threshold=0.02,
    confidence=0.9,
    guarantee="marginal",
    distance="l1",
    family={"name": "reciprocal"},
    rule={"kind": "constant", "lam": 0.5},
    exact=True,
    exploratory=False,
    n_calibration=40,
    channels=1,
    sizes=((8, 8),),
    data_range=None,
    population=None,
    calibrated="2025-01-01T00:00:00+00:00",
    calibrated_on=("0",),
)
CONFORMAL = ("crossing", "guarantees", "intervals", "marginal", "rules")
MODULES = (*(f"conformask.conformal.{name}" for name in CONFORMAL), "conformask.results", "conformask.errors")
REPORT = ("conformask.report.page", "conformask.report.figures", "conformask.report.pictures")


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


def test_every_module_of_conformal_is_tested() -> None:
    import conformask.conformal

    folder = Path(conformask.conformal.__path__[0])
    assert {path.stem for path in folder.glob("*.py")} == {*CONFORMAL, "__init__"}


def test_the_check_sees_torch() -> None:
    assert without_torch("sys.modules['torch'] = None").returncode == 77


@pytest.mark.parametrize("arguments", [["--help"], ["info", "RUN"], ["info", "RUN", "--json"]])
def test_light_verbs_load_no_torch(arguments: list[str], tmp_path: Path) -> None:
    CARD.save(tmp_path)
    given = [argument.replace("RUN", str(tmp_path)) for argument in arguments]
    done = without_torch("from conformask.cli import main; main()", *given)
    assert done.returncode == 0, done.stderr
    assert ("calibrate" if "--help" in arguments else "P(l1 <= 0.02)") in done.stdout
