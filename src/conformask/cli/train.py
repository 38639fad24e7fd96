"""conformask train: fit a scorer to triplets."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from conformask import names
from conformask.cli.options import (
    AS_FILES_SAY,
    AsJson,
    BatchSize,
    Devices,
    DistanceName,
    Epochs,
    MaxMinutes,
    NetworkName,
    Nodes,
    OverName,
    Patience,
    Read,
    Resume,
    Tolerance,
    WeightsPath,
    WindowSide,
)
from conformask.cli.output import show

NOT_KNOWN = "How well the score performs is not known: too few selection images, or some without any error"


def train(
    data: Path,
    run: Path,
    /,
    *,
    distance: DistanceName = "l1",
    over: OverName = None,
    window: WindowSide = None,
    tolerance: Tolerance = None,
    scorer: Annotated[names.Scorer | None, Parameter(show_default=False)] = None,
    per_channel: Annotated[bool, Parameter(show_default=False)] = False,
    by: Annotated[names.By | None, Parameter(show_default=False)] = None,
    paper_form: Annotated[bool, Parameter(show_default=False)] = False,
    width: Annotated[
        int | None, Parameter(help="Channels of the first level of a U-Net from scratch.")
    ] = None,
    scratch: Annotated[bool, Parameter(show_default=False)] = False,
    threshold: Annotated[
        str, Parameter(help="Threshold at which the score is judged, in the form that calibrate takes.")
    ] = "q0.1",
    epochs: Epochs = None,
    max_minutes: MaxMinutes = None,
    patience: Patience = None,
    batch_size: BatchSize = 16,
    learning_rate: Annotated[
        float | None,
        Parameter(
            help="The largest learning rate, 5e-4 from scratch and 1e-2 otherwise; it decays as a cosine, or "
            "with --patience in steps."
        ),
    ] = None,
    seed: int = 0,
    read: Read = AS_FILES_SAY,
    network: NetworkName = None,
    weights_path: WeightsPath = None,
    devices: Devices = "auto",
    nodes: Nodes = 1,
    resume: Resume = False,
    json: AsJson = False,
) -> None:
    """Train a scorer on triplets: on their training part, or on nine tenths if they are not split.

    Parameters
    ----------
    data
        A folder with x/, y_hat/ and y/, or a manifest.csv.
    run
        A new folder for the scorer and its training run.
    scorer
        mask: the paper's mask network; error: least squares of the error map, or with --over missed of
        whether a pixel is wrong; quantile: the width of intervals, fitted without a distance. Scores that
        need no training: packaged, the network that comes with conformask; residual, |x - y_hat|; gradient
        and spread, of y_hat. If not given, mask for l1 and for distances of the paper's form, else error.
    per_channel
        Make a mask with the channels of y_hat instead of one channel.
    by
        How the network sees volumes: slice by slice (if trained from scratch, each with its neighbours), or
        in three dimensions (volume). Slices if not given.
    paper_form
        Use the U-Net of the paper, with transposed convolutions.
    scratch
        Train a U-Net from random weights. Otherwise, training starts from the packaged network if it fits,
        that is, for the scorers mask and error, without --width, --per-channel and --by volume.
    seed
        Seed of the weights and of the order of images.
    """
    from conformask.losses import loss
    from conformask.report.benchmark import comparison_text
    from conformask.scorers.fit import fit_scorer

    collection = read.triplets(data, network)
    used = loss(distance, over, collection.window(window), tolerance, weights_path=weights_path)
    fitted = fit_scorer(
        collection.part("train"),
        selection=collection.part("selection") if collection.has_split else None,
        distance=used,
        out=run,
        scorer=scorer,
        per_channel=per_channel,
        by=by,
        paper_form=paper_form,
        width=width,
        scratch=scratch,
        threshold=threshold,
        epochs=epochs,
        max_minutes=max_minutes,
        patience=patience,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        devices=devices,
        nodes=nodes,
        resume=resume,
    )
    comparison = None if fitted.selection is None else fitted.selection.comparison
    record = {
        "run": str(run), "scorer": fitted.name, **vars(used.terms), "per_channel": per_channel,
        "comparison": None if comparison is None else asdict(comparison),
    }  # fmt: skip
    target = data if collection.has_split else "DATA"
    show(
        record,
        f"{run} contains a scorer ({fitted.name}, {used.terms.loss_name})",
        NOT_KNOWN if comparison is None else comparison_text(comparison),
        f"Next: conformask calibrate {run} {target}, with triplets that the scorer has not seen",
        as_json=json,
    )
