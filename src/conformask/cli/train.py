"""conformask train: fit a scorer to triplets."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from conformask import names
from conformask.cli.loss_options import SAME_LOSS, AboutLoss
from conformask.cli.options import (
    AS_FILES_SAY,
    DEFAULT_DEVICES,
    SCORE_NETWORK,
    WHOLE_NUMBER,
    AsJson,
    Devices,
    NetworkName,
    Read,
)
from conformask.cli.output import show
from conformask.cli.training_options import DEFAULT_TRAINING, Training

if TYPE_CHECKING:
    from conformask.scorers.initial_network import NetworkOptions

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
        from conformask.scorers.initial_network import NetworkOptions

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
            "for l1 and for distances of the paper's form, else error, and the run ends with it only where "
            "it hides less than all those that need no training, and than the maps of --cues.",
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
    from conformask.records.loss import LossTerms
    from conformask.scorers.fit import fit_scorer
    from conformask.wording.scores import comparison_text, judged_text

    collection = read.triplets(data, network, cues=cues)
    fitted = fit_scorer(
        collection.part("train"),
        out=run,
        selection=collection.part("selection") if collection.has_split else None,
        loss=about.loss(LossTerms(distance="l1"), collection.values),
        scorer=scorer,
        network=score_network.options(),
        threshold=threshold,
        training=training.config(),
        compute=devices.for_training(),
    )
    comparison = None if fitted.selection is None else fitted.selection.comparison
    record = {
        "run": str(run), "scorer": fitted.name, "loss": fitted.card.loss,
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
