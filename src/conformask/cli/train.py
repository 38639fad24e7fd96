"""conformask train: fit a scorer to triplets."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from conformask.cli.options import AsJson, DataRange, Devices, Epochs, MaxMinutes, Nodes, Resume
from conformask.cli.output import show


def train(
    data: Path,
    run: Path,
    *,
    distance: Literal["l1", "l2", "ssim"] = "l1",
    scorer: Literal["error", "mask"] = "error",
    per_channel: Annotated[bool, Parameter(negative="")] = False,
    paper_form: Annotated[bool, Parameter(negative="")] = False,
    width: int = 32,
    epochs: Epochs = None,
    max_minutes: MaxMinutes = None,
    batch_size: int = 16,
    learning_rate: float = 5e-4,
    seed: int = 0,
    data_range: DataRange = None,
    devices: Devices = "auto",
    nodes: Nodes = 1,
    resume: Resume = False,
    json: AsJson = False,
) -> None:
    """Train a scorer on triplets: their training part, or nine tenths where they are not split.

    Parameters
    ----------
    data
        A folder with x/, y_hat/, y/, or a manifest.csv.
    run
        Where the scorer and its training go.
    distance
        The distance that masks will be calibrated for.
    scorer
        error: regression of the error; mask: the paper's mask network.
    per_channel
        A mask with the channels of y_hat instead of one.
    paper_form
        The U-Net of the paper, with transposed convolutions.
    width
        Channels of the U-Net's first level.
    batch_size
        Images a step.
    learning_rate
        The largest one; it falls as a cosine.
    seed
        Decides weights and order.
    """
    from conformask.data.triplets import Triplets
    from conformask.scorers.fit import fit_scorer

    collection = Triplets.from_folder(data, data_range)
    fitted = fit_scorer(
        collection.part("train"),
        selection=collection.part("selection") if collection.has_split else None,
        distance=distance,
        out=run,
        scorer=scorer,
        per_channel=per_channel,
        paper_form=paper_form,
        width=width,
        epochs=epochs,
        max_minutes=max_minutes,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        devices=devices,
        nodes=nodes,
        resume=resume,
    )
    record = {"run": str(run), "scorer": fitted.name, "distance": distance, "per_channel": per_channel}
    show(record, f"{run} holds the scorer; next: conformask calibrate {run} {data}", as_json=json)
