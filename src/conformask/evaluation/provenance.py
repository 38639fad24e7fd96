"""Provenance of an evaluation: its images, software and command."""

import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

from conformask.records.card import CalibrationCard
from conformask.records.evaluation import EvaluationProvenance

LIBRARIES = ("conformask", "torch", "numpy")
"""Libraries whose version can change a measurement."""


def provenance_of_evaluation(card: CalibrationCard, images: str) -> EvaluationProvenance:
    """Return the provenance of an evaluation by this process, on images with this hash."""
    versions = {"Python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    return EvaluationProvenance(card.calibrated, images, versions, _command())


def _command() -> str | None:
    """Return the command that started this process; None in a notebook or an interactive session."""
    program, *arguments = sys.argv or [""]
    if Path(program).stem == "conformask":
        return shlex.join(["conformask", *arguments])
    if program.endswith(".py") and "ipykernel" not in sys.modules:
        return shlex.join(["python", program, *arguments])
    return None
