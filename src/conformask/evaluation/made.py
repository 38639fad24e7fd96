"""How an evaluation came about: on which images, with what, by which command."""

import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

from conformask.records.card import CalibrationCard
from conformask.records.evaluation import Made

LIBRARIES = ("conformask", "torch", "numpy")
"""Those whose version can change a measurement."""


def made(card: CalibrationCard, images: str) -> Made:
    """That of an evaluation by this process, on images of this hash."""
    versions = {"Python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    return Made(card.calibrated, images, versions, _command())


def _command() -> str | None:
    """The one by which this process was started; None where it is a notebook's or was typed into Python."""
    program, *arguments = sys.argv or [""]
    if Path(program).stem == "conformask":
        return shlex.join(["conformask", *arguments])
    if program.endswith(".py") and "ipykernel" not in sys.modules:
        return shlex.join(["python", program, *arguments])
    return None
