"""conformask triplets: a folder of true images -> x, y_hat and y."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from conformask.cli.options import AsJson, DataRange, Split, TaskName
from conformask.cli.output import show


def triplets(
    images: Path,
    data: Path,
    *,
    task: TaskName,
    predictor: Annotated[str, Parameter(help="bicubic, biharmonic, or the run folder of a predictor.")],
    size: int,
    stride: int | None = None,
    split: Split = "file",
    seed: int = 0,
    data_range: DataRange = None,
    json: AsJson = False,
) -> None:
    """Make triplets from true images: degrade them, run a predictor, write x/, y_hat/, y/ and manifest.csv.

    Parameters
    ----------
    images
        A folder of true images.
    data
        Where the triplets go.
    size
        Side of the images in pixels: the short side is scaled to it and the centre cut out.
    stride
        Cut tiles of that size every so many pixels instead.
    seed
        Decides the split; the same as the predictor's.
    """
    from conformask.preparation import population_of, predictor_named, true_images, write_triplets
    from conformask.tasks import task as task_by_name

    source = true_images(images, size, stride, split, seed, data_range)
    made = predictor_named(predictor, task_by_name(task))
    population = population_of(stride, split)
    n = write_triplets(source, data, task=task_by_name(task), predictor=made, population=population)
    record = {"data": str(data), "n": n, "task": task, "predictor": predictor}
    show(record, f"{n} triplets in {data}", as_json=json)
