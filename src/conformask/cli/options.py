"""Options that several verbs share."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from conformask import names

if TYPE_CHECKING:
    from conformask.data.triplets import Triplets
    from conformask.records.reading import ReadAs, Reading
    from conformask.types import Loss

AsJson = Annotated[
    bool,
    Parameter(name="--json", show_default=False, help="Print one JSON object on standard output, no text."),
]
DataRange = Annotated[
    tuple[float, float] | None,
    Parameter(
        name="--data-range", help="Values of black and white, where the file type does not define them."
    ),
]


@dataclass(frozen=True)
class ReadingOptions:
    """How images are read where their files do not say it."""

    data_range: DataRange = None
    x_range: Annotated[
        tuple[float, float] | None,
        Parameter(help="Values of black and white in x, if they differ from those of y_hat and y."),
    ] = None
    axes: Annotated[
        str | None,
        Parameter(
            help="Of npy and files that do not say it: letters of TCZYX in their order, as ZYX for a stack."
        ),
    ] = None
    clip: Annotated[
        Literal["x", "all"] | None,
        Parameter(help="Whose values outside the range are clipped to it; others are refused."),
    ] = None
    nan: Annotated[
        Literal["outside"] | None,
        Parameter(help="outside: NaN is outside the region of an image, which the promise is about."),
    ] = None
    empty_chunks: Annotated[
        bool,
        Parameter(
            name="--empty-chunks", show_default=False, help="Read chunks that a zarr leaves out as empty."
        ),
    ] = False
    group_from: Annotated[
        str | None,
        Parameter(
            help="Where groups come from: a regular expression for names with one part in brackets, such as "
            r"'sub-([^_]+)', or patient, for the PatientID of DICOM files."
        ),
    ] = None

    def triplets(self, folder: Path, network: str | None = None, like: "ReadAs | None" = None) -> "Triplets":
        """The triplets of a folder; what is not given here is taken from `like`."""
        from conformask.data.triplets import Triplets

        reading = self.reading(like)
        return Triplets.from_folder(folder, reading=reading, network=network, group_from=self.group_from)

    def reading(self, like: "ReadAs | None" = None) -> "Reading":
        """What is given here; the rest is taken from `like`."""
        from conformask.records.reading import Reading

        base = Reading() if like is None else like.reading
        return Reading(
            self.data_range or base.data_range,
            self.x_range or base.x_range,
            self.axes or base.axes,
            self.clip or base.clip,
            self.nan or base.nan,
            self.empty_chunks,
        )


Read = Annotated[ReadingOptions, Parameter(name="*")]
AS_FILES_SAY = ReadingOptions()
Images = Annotated[Path, Parameter(help="A folder of true images, with the folders in it.")]
Size = Annotated[
    int,
    Parameter(help="Side in pixels: the short side is scaled to it and the centre cut out."),
]
Stride = Annotated[
    int | None, Parameter(help="Cut tiles of --size at this stride in pixels instead, without scaling.")
]
TaskName = Annotated[
    names.Task,
    Parameter(help="How x is made from a true image."),
]
Split = Annotated[
    names.Split,
    Parameter(
        help="What is assigned to the parts: whole files; with --stride also tiles, for calibration and test "
        "(within) or for all four (tile)."
    ),
]
Epochs = Annotated[
    int | None,
    Parameter(
        help="How many times to see every image; if neither --max-minutes nor --patience is given 30, of few "
        "images more."
    ),
]
MaxMinutes = Annotated[
    float | None,
    Parameter(help="Time limit of the training, in minutes; with --resume those before it count."),
]
Patience = Annotated[
    int | None,
    Parameter(help="Stop when the selection loss has not improved for this many epochs."),
]
BatchSize = Annotated[int, Parameter(help="Images per step, on each device.")]
Resume = Annotated[
    bool,
    Parameter(
        show_default=False, help="Resume a training run that was stopped, or make a finished one longer."
    ),
]
Devices = Annotated[str, Parameter(help="Number of devices, or which; passed to Lightning.")]
Nodes = Annotated[int, Parameter(help="Number of machines; passed to Lightning.")]
Confidence = Annotated[float | None, Parameter(help="The promised probability (the paper's beta); 0.9.")]
Delta = Annotated[
    float | None,
    Parameter(
        help="Share of calibration sets for which the promise may fail, for guarantees that take one; 0.05."
    ),
]
GuaranteeName = Annotated[
    names.Guarantee,
    Parameter(help="What is promised: docs/promises.md says which to choose."),
]
UnitName = Annotated[
    names.Unit | None,
    Parameter(
        help="What is counted: images, groups of which enough images are fine, or images of new groups "
        "(member); the guarantee's own if not given."
    ),
]
Share = Annotated[
    float | None,
    Parameter(help="For --unit group: the share of a group's images that have to be fine; 1 if not given."),
]
Within = Annotated[
    bool | None,
    Parameter(name="--within", help="Promise it in each category by itself."),
]
NetworkName = Annotated[
    str | None,
    Parameter(
        name="--network", help="Name of the network that made y_hat, where triplets.json does not say."
    ),
]
OtherNetwork = Annotated[
    bool,
    Parameter(
        name="--other-network",
        show_default=False,
        help="Continue although another network made y_hat than the one that the promise is about.",
    ),
]
WeightsPath = Annotated[
    Path | None,
    Parameter(
        name="--weights-path",
        help="For distances with a network: the file of its weights, or the folder, where there is no "
        "internet.",
    ),
]
DistanceName = Annotated[
    str,
    Parameter(
        help=f"What the promise is about: {', '.join(names.DISTANCES)}, or another exponent such as l1.5."
    ),
]
OverName = Annotated[
    names.Over | None,
    Parameter(
        help="What of an error map the threshold is about: its mean over the image, its mean over what is "
        "shown (trusted), its largest mean in a window of what is shown, the share of the wrong pixels that "
        "is shown (missed), or the share of what is shown that is wrong; see docs/promises.md."
    ),
]
WindowSide = Annotated[
    str | None,
    Parameter(help="For --over window: its side in pixels, or as 5mm or 20um where images have a spacing."),
]
Tolerance = Annotated[
    float | None,
    Parameter(help="For --over missed and wrong: the error above which a pixel is wrong."),
]


def loss_of(run: Path, weights_path: Path | None, record: str = "calibration.json") -> "Loss | None":
    """The loss of a run's record where weights were given; None leaves it to the run."""
    if weights_path is None or not (run / record).is_file():
        return None
    from conformask.losses import loss, stored_window
    from conformask.records.loss import LossTerms
    from conformask.storage.as_json import read_json
    from conformask.storage.typed import from_dict

    terms = from_dict(LossTerms, read_json(run / record, ["distance"]), run / record)
    return loss(terms.distance, terms.over, stored_window(terms), terms.tolerance, weights_path=weights_path)
