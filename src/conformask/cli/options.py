"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

AsJson = Annotated[
    bool,
    Parameter(name="--json", show_default=False, help="Print one JSON object on standard output, no text."),
]
DataRange = Annotated[
    tuple[float, float] | None,
    Parameter(name="--data-range", help="Values of black and white, where the file type does not say them."),
]
Images = Annotated[Path, Parameter(help="A folder of true images, with the folders in it.")]
Size = Annotated[
    int,
    Parameter(help="Side in pixels: the short side is scaled to it and the centre cut out."),
]
Stride = Annotated[
    int | None, Parameter(help="Cut tiles of --size every so many pixels instead, without scaling.")
]
TaskName = Annotated[
    Literal["super_resolution", "completion", "colorization"],
    Parameter(help="How x is made from a true image."),
]
Split = Annotated[
    Literal["file", "within", "tile"],
    Parameter(
        help="What is dealt to the parts: whole files; with --stride also tiles, for calibration and test "
        "(within) or for all four (tile)."
    ),
]
Width = Annotated[int, Parameter(help="Channels of the U-Net's first level.")]
Epochs = Annotated[
    int | None, Parameter(help="How many times to see every image; 30 if --max-minutes is not given either.")
]
MaxMinutes = Annotated[float | None, Parameter(help="How long to train, in minutes.")]
BatchSize = Annotated[int, Parameter(help="Images a step.")]
LearningRate = Annotated[float, Parameter(help="The largest one; it falls as a cosine.")]
Resume = Annotated[bool, Parameter(show_default=False, help="Go on with a training that was stopped.")]
Devices = Annotated[str, Parameter(help="How many devices, or which; handed to Lightning.")]
Nodes = Annotated[int, Parameter(help="How many machines; handed to Lightning.")]
