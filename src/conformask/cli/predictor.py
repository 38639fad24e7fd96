"""conformask predictor: train a U-Net predictor, for users without a network."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from conformask import names
from conformask.cli.options import (
    DEFAULT_DEVICES,
    AsJson,
    DataRange,
    Devices,
    Size,
    Split,
    Stride,
    TaskName,
    TrueImages,
)
from conformask.cli.output import show
from conformask.cli.training_options import DEFAULT_TRAINING, Training


def predictor(
    images: TrueImages,
    run: Path,
    /,
    *,
    task: TaskName,
    kind: names.Predictor = "regressor",
    size: Size,
    stride: Stride = None,
    split: Split = "file",
    paper_form: Annotated[bool, Parameter(show_default=False)] = False,
    width: Annotated[int, Parameter(help="Channels of the U-Net's first level.")] = 32,
    training: Training = DEFAULT_TRAINING,
    data_range: DataRange = None,
    devices: Devices = DEFAULT_DEVICES,
    json: AsJson = False,
) -> None:
    """Train a U-Net that recovers true images, on the training part of a folder.

    Parameters
    ----------
    run
        A new folder for the network and its training run.
    kind
        regressor: L1 loss; gan: adversarial loss plus 20 times L1.
    paper_form
        Use the U-Net of the paper, with transposed convolutions.
    """
    from conformask.predictors.regressor import fit_predictor
    from conformask.preparation import true_images
    from conformask.tasks import task as task_by_name

    source = true_images(images, size, stride, split, training.seed, data_range)
    train, selection = source.part("train"), source.part("selection")
    fit_predictor(
        train,
        selection,
        task=task_by_name(task),
        size=size,
        out=run,
        training=training.config(),
        compute=devices.for_training(),
        kind=kind,
        width=width,
        paper_form=paper_form,
    )
    sizes = {"size": size, "n_images": len(source), "n_train": len(train)}
    record = {"run": str(run), "kind": kind, "task": task, **sizes}
    again = f"--task {task} --size {size}" + (f" --stride {stride} --split {split}" if stride else "")
    again += f" --seed {training.seed}" if training.seed else ""
    show(
        record,
        f"{run} contains a predictor ({kind}), trained on {len(train)} of {len(source)} images",
        f"Next: conformask triplets {images} DATA --predictor {run} {again}",
        as_json=json,
    )
