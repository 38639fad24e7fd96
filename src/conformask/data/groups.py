"""Whose image it is, by its name or its file."""

import re
from collections.abc import Callable
from typing import Literal

from conformask.data.formats.opened import Header
from conformask.errors import InvalidArgumentError

Role = Literal["x", "y_hat", "y"]
Find = Callable[[str, Callable[[Role], Header]], str]
"""(name of a triplet, what reads the header of an image) -> its group."""


def pattern(text: str) -> Find:
    """What a regular expression with one group, in brackets, finds in the name.

    Raises:
        InvalidArgumentError: it is none; later, that it is not found in a name.
    """
    try:
        expression = re.compile(text)
    except re.error as error:
        raise InvalidArgumentError(f"group_from {text!r} is no regular expression: {error}") from error
    if expression.groups != 1:
        raise InvalidArgumentError(
            f"group_from {text!r} has {expression.groups} groups in brackets; give one, such as sub-([^_]+)"
        )

    def find(name: str, header: Callable[[Role], Header]) -> str:
        match = expression.search(name)
        if match is None or not match[1]:
            raise InvalidArgumentError(f"group_from {text!r} is not found in the name {name!r}")
        return match[1]

    return find


def patient_of(name: str, header: Callable[[Role], Header]) -> str:
    """The hash of the patient that the file of y_hat or, where it names none, that of x names.

    Raises:
        InvalidArgumentError: it names none.
    """
    patient = header("y_hat").patient or header("x").patient
    if patient is None:
        raise InvalidArgumentError(
            f"x and y_hat of {name!r} name no patient: group_from patient reads the PatientID of DICOM "
            "files; give a regular expression for the names instead, such as sub-([^_]+)"
        )
    return patient
