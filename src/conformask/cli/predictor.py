"""conformask predictor: train a U-Net predictor, where the user has none."""

from pathlib import Path

from conformask.cli.options import (
    AsJson,
    DataRange,
    Devices,
    Epochs,
    MaxMinutes,
    Nodes,
    Resume,
    Split,
    TaskName,
)
from conformask.cli.output import show


def predictor(
    images: Path,
    run: Path,
    *,
    task: TaskName,
    size: int,
    stride: int | None = None,
    split: Split = "file",
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
    """Train a U-Net that recovers true images, on the training part of a folder.

    Parameters
    ----------
    images
        A folder of true images.
    run
        Where the network and its training go.
    size
        Side of the images in pixels: the short side is scaled to it and the centre cut out.
    stride
        Cut tiles of that size every so many pixels instead.
    width
        Channels of the U-Net's first level.
    batch_size
        Images a step.
    learning_rate
        The largest one; it falls as a cosine.
    seed
        Decides the split, the weights and the order.
    """
    from conformask.predictors.regressor import fit_predictor
    from conformask.preparation import true_images
    from conformask.tasks import task as task_by_name
    from conformask.training.fit import Plan

    source = true_images(images, size, stride, split, seed, data_range)
    plan = Plan(
        epochs if epochs or max_minutes else 30, max_minutes, batch_size, learning_rate, seed, devices, nodes
    )
    train, selection = source.part("train"), source.part("selection")
    fitted = fit_predictor(
        train, selection, task=task_by_name(task), size=size, out=run, plan=plan, width=width, resume=resume
    )
    record = {"run": str(run), "task": task, "size": size, "n_train": len(fitted.trained_on)}
    show(record, f"trained on {len(train)} images of {len(source)}; {run} holds the predictor", as_json=json)
