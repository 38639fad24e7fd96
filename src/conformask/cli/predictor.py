"""conformask predictor: train a U-Net predictor, for users without a network."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from conformask import names
from conformask.cli.options import (
    AsJson,
    BatchSize,
    DataRange,
    Devices,
    Epochs,
    Images,
    MaxMinutes,
    Nodes,
    Patience,
    Resume,
    Size,
    Split,
    Stride,
    TaskName,
)
from conformask.cli.output import show


def predictor(
    images: Images,
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
    epochs: Epochs = None,
    max_minutes: MaxMinutes = None,
    patience: Patience = None,
    batch_size: BatchSize = 16,
    learning_rate: Annotated[
        float,
        Parameter(help="The largest learning rate; it decays as a cosine, or with --patience in steps."),
    ] = 5e-4,
    seed: int = 0,
    data_range: DataRange = None,
    devices: Devices = "auto",
    nodes: Nodes = 1,
    resume: Resume = False,
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
    seed
        Seed of the split, of the weights and of the order of images.
    """
    from conformask.predictors.regressor import fit_predictor
    from conformask.preparation import true_images
    from conformask.tasks import task as task_by_name
    from conformask.training.fit import TrainingConfig, default_epochs

    source = true_images(images, size, stride, split, seed, data_range)
    train, selection = source.part("train"), source.part("selection")
    epochs = default_epochs(epochs, max_minutes, patience, len(train))
    plan = TrainingConfig(epochs, max_minutes, batch_size, learning_rate, seed, devices, nodes, patience)
    fit_predictor(
        train,
        selection,
        task=task_by_name(task),
        size=size,
        out=run,
        plan=plan,
        kind=kind,
        width=width,
        paper_form=paper_form,
        resume=resume,
    )
    sizes = {"size": size, "n_images": len(source), "n_train": len(train)}
    record = {"run": str(run), "kind": kind, "task": task, **sizes}
    again = f"--task {task} --size {size}" + (f" --stride {stride} --split {split}" if stride else "")
    again += f" --seed {seed}" if seed else ""
    show(
        record,
        f"{run} contains a predictor ({kind}), trained on {len(train)} of {len(source)} images",
        f"Next: conformask triplets {images} DATA --predictor {run} {again}",
        as_json=json,
    )
