"""conformask triplets: a folder of true images -> x, y_hat and y."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from conformask.cli.options import AsJson, DataRange, Images, Size, Split, Stride, TaskName
from conformask.cli.output import show


def triplets(
    images: Images,
    data: Path,
    /,
    *,
    task: TaskName,
    predictor: Annotated[str, Parameter(help="bicubic, biharmonic, or the run folder of a predictor.")],
    size: Size,
    stride: Stride = None,
    split: Split = "file",
    seed: int = 0,
    data_range: DataRange = None,
    json: AsJson = False,
) -> None:
    """Make triplets from true images: degrade them, run a predictor, write x/, y_hat/, y/ and manifest.csv.

    Parameters
    ----------
    data
        A new folder for the triplets.
    seed
        Decides the split; give the predictor's.
    """
    from conformask.preparation import population_of, predictor_named, true_images, write_triplets
    from conformask.tasks import task as task_by_name

    source = true_images(images, size, stride, split, seed, data_range)
    made = predictor_named(predictor, task_by_name(task))
    population = population_of(stride, split)
    n = write_triplets(source, data, task=task_by_name(task), predictor=made, population=population)
    record = {"data": str(data), "n": n, "task": task, "predictor": predictor, "population": population}
    show(record, f"{n} triplets in {data}", f"Next: conformask check {data}", as_json=json)
