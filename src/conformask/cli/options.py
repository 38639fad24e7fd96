"""Options that several verbs share."""

from typing import Annotated, Literal

from cyclopts import Parameter

AsJson = Annotated[
    bool, Parameter(name="--json", negative="", help="Print one JSON object and nothing else.")
]
DataRange = Annotated[
    tuple[float, float] | None,
    Parameter(name="--data-range", help="Values of black and white, where the file type does not say them."),
]
TaskName = Annotated[
    Literal["super_resolution", "completion", "colorization"],
    Parameter(help="How x is made from a true image."),
]
Split = Annotated[
    Literal["file", "within", "tile"],
    Parameter(help="With tiles: whole files, tiles within files not trained on, or any tiles."),
]
Epochs = Annotated[int | None, Parameter(help="How long to train.")]
MaxMinutes = Annotated[float | None, Parameter(help="How long to train, in minutes.")]
Resume = Annotated[bool, Parameter(negative="", help="Go on with a run that was stopped.")]
Devices = Annotated[str, Parameter(help="Handed to Lightning.")]
Nodes = Annotated[int, Parameter(help="Handed to Lightning.")]
