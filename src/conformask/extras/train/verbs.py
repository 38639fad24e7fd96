"""The verb train, and the options of training."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from conformask.cli.options import (
    AS_FILES_SAY,
    DEFAULT_DEVICES,
    SAME_LOSS,
    SCORE_NETWORK,
    TRAINING,
    WHOLE_NUMBER,
    AboutLoss,
    AsJson,
    Devices,
    NetworkName,
    Read,
)
from conformask.cli.output import show
from conformask.records import names

if TYPE_CHECKING:
    from conformask.extras.train.fit import NetworkOptions
    from conformask.extras.train.training import TrainingConfig


@dataclass(frozen=True)
class TrainingOptions:
    """How long to train, and how."""

    epochs: Annotated[
        int | None,
        WHOLE_NUMBER,
        Parameter(
            help="Number of passes over the images; 30 if neither --max-minutes nor --patience is given, "
            "more if there are few images."
        ),
    ] = None
    max_minutes: Annotated[
        float | None,
        Parameter(help="Time limit for training, in minutes; with --resume, including the time before."),
    ] = None
    patience: Annotated[
        int | None,
        WHOLE_NUMBER,
        Parameter(help="Stop when the selection loss has not improved for this many epochs."),
    ] = None
    batch_size: Annotated[int, WHOLE_NUMBER, Parameter(help="Images per step, on each device.")] = 16
    learning_rate: Annotated[
        float | None,
        Parameter(
            help="The largest learning rate, 5e-4 from random weights and 1e-2 from the packaged network; it "
            "decays as a cosine, or with --patience in steps."
        ),
    ] = None
    seed: Annotated[int, WHOLE_NUMBER, Parameter(help="Seed of the weights and of the order of images.")] = 0
    resume: Annotated[
        bool,
        Parameter(
            show_default=False, help="Resume a stopped training run, or train a finished one for longer."
        ),
    ] = False

    def config(self) -> "TrainingConfig":
        """Return the training settings."""
        from conformask.extras.train.training import TrainingConfig

        return TrainingConfig(**vars(self))


Training = Annotated[TrainingOptions, Parameter(name="*", group=TRAINING)]
DEFAULT_TRAINING = TrainingOptions()


NOT_KNOWN = "How well the score performs is not known: too few selection images, or some without any error"


@dataclass(frozen=True)
class ScoreNetworkOptions:
    """The score network to train."""

    per_channel: Annotated[
        bool,
        Parameter(show_default=False, help="Make a mask with the channels of y_hat instead of one channel."),
    ] = False
    volume_mode: Annotated[
        names.VolumeMode | None,
        Parameter(
            show_default=False,
            help="How the network sees volumes: slice by slice (if trained from scratch, each with its "
            "neighbours), or in three dimensions (volume). Slices if not given.",
        ),
    ] = None
    paper_form: Annotated[
        bool,
        Parameter(show_default=False, help="Use the U-Net of the paper, with transposed convolutions."),
    ] = False
    width: Annotated[
        int | None, WHOLE_NUMBER, Parameter(help="Channels of the first level of a U-Net from scratch.")
    ] = None
    from_scratch: Annotated[
        bool,
        Parameter(
            show_default=False,
            help="Train a U-Net from random weights. Otherwise, training starts from the packaged network "
            "where it fits: for the scorers mask and error, without --width, --per-channel and --volume-mode "
            "volume.",
        ),
    ] = False

    def options(self) -> "NetworkOptions":
        """Return the options of the network."""
        from conformask.extras.train.fit import NetworkOptions

        return NetworkOptions(**vars(self))


def train(
    data: Path,
    run: Path,
    /,
    *,
    about: AboutLoss = SAME_LOSS,
    scorer: Annotated[
        names.Scorer | None,
        Parameter(
            show_default=False,
            help="The score to train: mask, the paper's mask network; error, least squares of the error map, "
            "or with --over missed of whether a pixel is wrong; quantile, the width of intervals, fitted "
            "without a distance. Scores that need no training: packaged, the network that comes with "
            "conformask; residual, |x - y_hat|; gradient and spread, of y_hat. If not given, mask is trained "
            "for l1 and for distances of the paper's form, else error.",
        ),
    ] = None,
    score_network: Annotated[
        ScoreNetworkOptions, Parameter(name="*", group=SCORE_NETWORK)
    ] = ScoreNetworkOptions(),
    cues: Annotated[
        str | None,
        Parameter(
            help="Maps beside y_hat, of any range, that the network takes as inputs too, such as a variance "
            "or a confidence: the folder in DATA, or the column of its manifest, that has one for each image."
        ),
    ] = None,
    threshold: Annotated[
        str, Parameter(help="Threshold at which the score is judged, in the form that calibrate takes.")
    ] = "q0.1",
    training: Training = DEFAULT_TRAINING,
    read: Read = AS_FILES_SAY,
    network: NetworkName = None,
    devices: Devices = DEFAULT_DEVICES,
    json: AsJson = False,
) -> None:
    """Train a scorer on triplets: on their training part, or on nine tenths if they are not split.

    Parameters
    ----------
    data
        A folder with x/, y_hat/ and y/, or a manifest.csv.
    run
        A new folder for the scorer and its training run.
    """
    from conformask.extras.train.fit import fit_scorer
    from conformask.losses.means import Mean
    from conformask.records.words import comparison_text, judged_text

    collection = read.triplets(data, network, cues=cues)
    fitted = fit_scorer(
        collection.part("train"),
        out=run,
        selection=collection.part("selection") if collection.has_split else None,
        loss=about.chosen(Mean("l1"), collection.values),
        scorer=scorer,
        network=score_network.options(),
        threshold=threshold,
        training=training.config(),
        compute=devices.for_training(),
    )
    comparison = None if fitted.selection is None else fitted.selection.comparison
    record = {
        "run": str(run), "scorer": fitted.name, "loss": fitted.card.loss.to_json(),
        "per_channel": fitted.per_channel,
        "comparison": None if comparison is None else asdict(comparison),
    }  # fmt: skip
    target = data if collection.has_split else "DATA"
    show(
        record,
        f"{run} contains a scorer ({fitted.name}, {fitted.card.loss.name})",
        *([NOT_KNOWN] if comparison is None else [judged_text(comparison), comparison_text(comparison)]),
        f"Next: conformask thresholds {run}, to choose a threshold T, and conformask calibrate {run} "
        f"{target} --threshold T, with triplets that the scorer has not seen",
        as_json=json,
    )
