"""The verb train, and the options of training."""

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from conformask.cli.options import (
    AS_FILES_SAY,
    DEFAULT_DEVICES,
    SAME_LOSS,
    SCORE_NETWORK,
    TRAINING,
    AboutLoss,
    AsJson,
    Devices,
    NetworkName,
    Read,
    opened,
)
from conformask.cli.output import show
from conformask.cli.verb import Verb
from conformask.extras.train import NetworkOptions, TrainingConfig
from conformask.records import names

Training = Annotated[
    TrainingConfig, Parameter(name="*", group=TRAINING, parse=re.compile("^(?!grid_points$)"))
]
BY_DEFAULT, BUILT_IN = TrainingConfig(), NetworkOptions()
"""What is meant where no option of training or of the network is given."""
NOT_KNOWN = "How well the score performs is not known: too few selection images, or some without any error"


def train(
    data: Path,
    run: Path,
    /,
    *,
    about: AboutLoss = SAME_LOSS,
    scorer: Annotated[
        names.Scorer | None,
        Parameter(
            help="The score to train: laplace, how the truth lies around the output, from the packaged "
            "network; mask, the paper's mask network; error, least squares of the error map, or with --over "
            "missed of whether a pixel is wrong; quantile, widths of intervals, fitted without a distance. "
            "Scores that need no training: packaged, the network that comes with conformask; residual, "
            "|x - y_hat|; gradient and spread, of y_hat. If not given, laplace is trained for losses of "
            "|y - y_hat|, else error, or mask for distances of the paper's form."
        ),
    ] = None,
    score_network: Annotated[
        NetworkOptions, Parameter(name="*", group=SCORE_NETWORK, parse=re.compile("^(?!module$)"))
    ] = BUILT_IN,
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
    training: Training = BY_DEFAULT,
    read: Read = AS_FILES_SAY,
    network: NetworkName = None,
    devices: Devices = DEFAULT_DEVICES,
    json: AsJson = False,
) -> None:
    """Fit a scorer to triplets.

    Uses their training and selection parts; if they are not split, all of them, a tenth for selection.

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

    collection = opened(data, replace(read, cues=cues), network)
    fitted = fit_scorer(
        collection.part("train"),
        out=run,
        selection=collection.part("selection") if collection.has_split else None,
        loss=about.chosen(Mean("l1"), collection.values),
        scorer=scorer,
        network=score_network,
        threshold=threshold,
        training=training,
        compute=devices,
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


TRAIN = Verb(
    train,
    group="Train",
    order=0,
    example="train images runs/first --loss l1",
    common=("--scorer", "--threshold", "--loss", "--epochs", "--max-minutes", "--resume"),
    resumes="--resume",
    renamed={"--scratch": "--from-scratch"},
)
