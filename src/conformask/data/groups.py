"""Groups of triplets, found by the names of images or in their files."""

import re
from collections.abc import Callable
from typing import Literal

from conformask.data.formats.header import Header
from conformask.errors import InvalidArgumentError

Role = Literal["x", "y_hat", "y"]
Find = Callable[[str, Callable[[Role], Header]], str]
"""Function (name of a triplet, function that returns the header of its image in a role) -> group."""


def pattern(text: str) -> Find:
    """Return a Find that takes from a name what the one group, in brackets, of a regular expression matches.

    Raises:
        InvalidArgumentError: it is not such an expression; later, if a name does not match it.
    """
    try:
        expression = re.compile(text)
    except re.error as error:
        raise InvalidArgumentError(f"group_from {text!r} is not a regular expression: {error}") from error
    if expression.groups != 1:
        raise InvalidArgumentError(
            f"group_from {text!r} has {expression.groups} groups in brackets; give exactly one, such as "
            "sub-([^_]+)"
        )

    def find(name: str, header: Callable[[Role], Header]) -> str:
        match = expression.search(name)
        if match is None or not match[1]:
            raise InvalidArgumentError(f"group_from {text!r} does not match the name {name!r}")
        return match[1]

    return find


def patient_of(name: str, header: Callable[[Role], Header]) -> str:
    """Return the hash of the patient that the file of y_hat names or, where it names none, the file of x.

    Raises:
        InvalidArgumentError: neither names a patient.
    """
    patient = header("y_hat").patient or header("x").patient
    if patient is None:
        raise InvalidArgumentError(
            f"the files of x and y_hat of {name!r} name no patient: group_from patient reads the PatientID "
            "of DICOM files; give a regular expression for the names instead, such as sub-([^_]+)"
        )
    return patient
