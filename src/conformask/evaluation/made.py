"""Provenance of an evaluation: its images, software and command."""

import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

from conformask.records.card import CalibrationCard
from conformask.records.evaluation import Made

LIBRARIES = ("conformask", "torch", "numpy")
"""Libraries whose version can change a measurement."""


def made(card: CalibrationCard, images: str) -> Made:
    """Return the provenance of an evaluation by this process, on images with this hash."""
    versions = {"Python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    return Made(card.calibrated, images, versions, _command())


def _command() -> str | None:
    """Return the command that started this process; None in a notebook or an interactive session."""
    program, *arguments = sys.argv or [""]
    if Path(program).stem == "conformask":
        return shlex.join(["conformask", *arguments])
    if program.endswith(".py") and "ipykernel" not in sys.modules:
        return shlex.join(["python", program, *arguments])
    return None
